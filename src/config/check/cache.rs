//! `[cache]`: lifetimes that fit each other, directives that exist, headers that may be part of a key.

use std::time::Duration;

use http::HeaderName;

use super::{Findings, MEMORY_SHARE, file};
use crate::config::{
    CREDENTIALS, Cache, Directive, Scope,
    problem::Complaint,
    read::{hint_for, item_key},
};

pub(super) fn cache(cache: file::Cache, memory: u64, findings: &mut Findings) -> Cache {
    check_lifetimes(&cache, findings);
    findings.positive(
        "cache.stall",
        cache.stall,
        "write how long a reader may hold up others, such as `10s`",
    );
    findings.positive(
        "cache.proof_ttl",
        cache.proof_ttl,
        "write how long a credential needs not be asked about again, such as `1h`",
    );
    if cache.finish_reasons.is_empty() {
        findings.add(
            "cache.finish_reasons",
            "is empty, so nothing would be stored",
            "for that, write `enabled = false`",
        );
    }
    findings.distinct("cache.finish_reasons", &cache.finish_reasons, String::eq);
    Cache {
        enabled: cache.enabled,
        scope: findings
            .unless_ok("cache.scope", cache.scope.parse())
            .unwrap_or(Scope::Credential),
        ttl: cache.ttl.given().map(|ttl| ttl.0),
        max_ttl: cache.max_ttl.0,
        stale_while_revalidate: cache
            .stale_while_revalidate
            .on()
            .map_or(Duration::ZERO, |span| span.0),
        stale_if_error: cache
            .stale_if_error
            .on()
            .map_or(Duration::ZERO, |span| span.0),
        proof_ttl: cache.proof_ttl.0,
        max_entry: cache.max_entry.0.min(memory / MEMORY_SHARE),
        on_disconnect: cache.on_disconnect,
        stall: cache.stall.0,
        allow: directives(&cache.allow, findings),
        aliases: cache.aliases,
        litellm: cache.litellm,
        vary: vary(&cache.vary, findings),
        finish_reasons: cache.finish_reasons,
    }
}

fn check_lifetimes(cache: &file::Cache, findings: &mut Findings) {
    const NOTHING_STORED: &str = "to store nothing, write `enabled = false`";
    findings.positive("cache.max_ttl", cache.max_ttl, NOTHING_STORED);
    check_stale(cache, findings);
    let Some(ttl) = cache.ttl.given() else { return };
    findings.positive("cache.ttl", ttl, NOTHING_STORED);
    if ttl > cache.max_ttl {
        findings.clash(
            ["cache.ttl", "cache.max_ttl"],
            format!("`ttl` ({ttl}) is longer than `max_ttl` ({})", cache.max_ttl),
            "shorten the one or lengthen the other",
        );
    }
}

/// Warns of what `max_ttl` cuts, unless it is what holds where nothing is written.
fn check_stale(cache: &file::Cache, findings: &mut Findings) {
    let default = file::Cache::default();
    for (name, stale, default) in [
        (
            "stale_while_revalidate",
            cache.stale_while_revalidate,
            default.stale_while_revalidate,
        ),
        (
            "stale_if_error",
            cache.stale_if_error,
            default.stale_if_error,
        ),
    ] {
        let Some(span) = stale.on().filter(|span| *span > cache.max_ttl) else {
            continue;
        };
        if stale != default {
            findings.warn(
                &[&format!("cache.{name}"), "cache.max_ttl"],
                format!(
                    "`{name}` ({span}) is longer than `max_ttl` ({}), and cut to it",
                    cache.max_ttl
                ),
                "shorten the one or lengthen the other",
            );
        }
    }
}

fn directives(names: &[String], findings: &mut Findings) -> Vec<Directive> {
    findings.distinct("cache.allow", names, String::eq);
    let mut directives = Vec::new();
    for (i, name) in names.iter().enumerate() {
        match Directive::named(name) {
            Some(directive) => directives.push(directive),
            None => findings.add(
                item_key("cache.allow", i, names.len()),
                format!("`{name}` is no directive"),
                hint_for(name, &Directive::ALL.map(Directive::as_str), str::to_owned),
            ),
        }
    }
    directives
}

fn vary(names: &[String], findings: &mut Findings) -> Vec<HeaderName> {
    findings.distinct("cache.vary", names, |a, b| a.eq_ignore_ascii_case(b));
    let mut headers = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let key = item_key("cache.vary", i, names.len());
        headers.extend(findings.unless_ok(&key, keyable_header(name)));
    }
    headers
}

/// Reads the name of a request header that can be part of a key.
pub(in crate::config) fn keyable_header(name: &str) -> Result<HeaderName, Complaint> {
    let header = header_name(name)?;
    let refused = |what: &str| Err(Complaint::new(format!("`{header}` {what}"), "leave it out"));
    match header.as_str() {
        text if CREDENTIALS.contains(&text) => {
            refused("is a credential: whose entries a caller may read is not up to `vary`")
        }
        text if is_of_the_connection(text) => {
            refused("belongs to the connection and not to the call")
        }
        text if is_ours(text) => refused("is an instruction to Refrain and never part of a key"),
        _ => Ok(header),
    }
}

/// Reads the name of a header.
pub(super) fn header_name(name: &str) -> Result<HeaderName, Complaint> {
    name.parse().map_err(|_| {
        Complaint::new(
            format!("`{name}` is no header name"),
            "write it as in `openai-beta`, without colon or blank",
        )
    })
}

/// Returns whether a header belongs to the connection that a request comes by.
pub(super) fn is_of_the_connection(name: &str) -> bool {
    OF_THE_CONNECTION.contains(&name)
}

/// Returns whether a header steers Refrain.
pub(super) fn is_ours(name: &str) -> bool {
    OURS.contains(&name) || name.starts_with("x-cache-")
}

const OF_THE_CONNECTION: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const OURS: [&str; 3] = ["cache-control", "pragma", "x-fallback"];
