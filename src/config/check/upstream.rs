//! `[[upstream]]`: each by itself, its name among the others, its models, timers, headers, and what it is asked.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use http::{HeaderName, HeaderValue};

use super::{
    Count, Findings, NAME, Off, Span, Surroundings, access, cache, file, glob, is_name, item_key,
    tls,
};
use crate::config::{
    ApiKey, CREDENTIALS, Glob, Headers, Timeouts, Upstream, problem::Complaint, secret::Environment,
};

/// Checks the upstreams; returns them if all could be made.
pub(super) fn upstreams(
    upstreams: Vec<file::Upstream>,
    surroundings: &Surroundings,
    findings: &mut Findings,
) -> Option<Vec<Upstream>> {
    if upstreams.is_empty() {
        findings.add(
            "upstream",
            "is empty",
            "name one upstream, or leave it out for OpenAI",
        );
    }
    check_names(&upstreams, findings);
    let of = upstreams.len();
    let checked: Vec<_> = upstreams
        .into_iter()
        .enumerate()
        .map(|(i, upstream)| {
            the_upstream(
                upstream,
                &item_key("upstream", i, of),
                surroundings,
                findings,
            )
        })
        .collect();
    checked.into_iter().collect()
}

/// Returns the first setting that gives the proxy something of the operator's to spend.
pub(super) fn secret(upstreams: &[Upstream]) -> Option<String> {
    let (i, upstream) = upstreams
        .iter()
        .enumerate()
        .find(|(_, upstream)| upstream.holds_key())?;
    let key = item_key("upstream", i, upstreams.len());
    let setting = if upstream.api_key.is_some() {
        "api_key"
    } else {
        "headers"
    };
    Some(format!("{key}.{setting}"))
}

fn the_upstream(
    upstream: file::Upstream,
    key: &str,
    surroundings: &Surroundings,
    findings: &mut Findings,
) -> Option<Upstream> {
    let of = |setting: &str| format!("{key}.{setting}");
    findings.positive(
        &of("pool_idle"),
        upstream.pool_idle,
        "write the time an idle connection is kept, such as `15s`",
    );
    let base_url = findings.unless_ok(&of("base_url"), upstream.base_url.parse());
    let proof = findings.unless_ok(&of("proof"), upstream.proof.parse());
    let api_key = findings
        .unless_ok(&of("api_key"), upstream.api_key.resolved(&surroundings.env))
        .flatten();
    access::check_identity(
        key,
        upstream.identity,
        proof.as_ref(),
        api_key.as_ref(),
        findings,
    );
    tls::check_scheme(&of("tls"), &upstream.tls, base_url.as_ref(), findings);
    Some(Upstream {
        models: models(&of("models"), &upstream.models, findings),
        rename: rename(&of("rename"), upstream.rename, findings),
        priority: upstream.priority.0,
        weight: weight(&of("weight"), upstream.weight.0, findings),
        headers: headers(
            &of("headers"),
            &upstream.headers,
            api_key.as_ref(),
            &surroundings.env,
            findings,
        ),
        tls: tls::tls(&of("tls"), &upstream.tls, &surroundings.files, findings),
        timeouts: timeouts(&of("timeouts"), &upstream.timeouts, findings),
        max_concurrent: at_least_one(&of("max_concurrent"), upstream.max_concurrent, findings),
        keepalive: keepalive(&of("keepalive"), upstream.keepalive, findings),
        name: upstream.name,
        base_url: base_url?,
        api_key,
        http: upstream.http,
        pool_idle: upstream.pool_idle.0,
        pool_max_idle: upstream.pool_max_idle.0,
        max_wait: upstream.max_wait.0,
        hedge: upstream.hedge == file::Switch::On,
        proof: proof.unwrap_or_default(),
        identity: upstream.identity,
    })
}

fn check_names(upstreams: &[file::Upstream], findings: &mut Findings) {
    for (i, file::Upstream { name, .. }) in upstreams.iter().enumerate() {
        let upstream = item_key("upstream", i, upstreams.len());
        let key = format!("{upstream}.name");
        if !is_name(name) {
            findings.add(&key, format!("`{name}` is no name"), NAME);
        }
        if upstreams
            .iter()
            .take(i)
            .any(|earlier| earlier.name == *name)
        {
            findings.note(
                vec![key, upstream],
                Complaint::new(
                    format!("`{name}` is the name of an earlier upstream"),
                    "give each upstream a `name` of its own; without one it is called `openai`",
                ),
            );
        }
    }
}

fn models(key: &str, models: &[String], findings: &mut Findings) -> Vec<Glob> {
    if models.is_empty() {
        findings.add(
            key,
            "is empty, so no call could go there",
            "write `*` for every model",
        );
    }
    findings.distinct(key, models, String::eq);
    glob::globs(key, models, findings)
}

fn rename(
    key: &str,
    names: BTreeMap<String, String>,
    findings: &mut Findings,
) -> BTreeMap<String, String> {
    for (asked, sent) in &names {
        // A name may hold dots, which keys have between their parts: then the place is the table's.
        let keys = vec![format!("{key}.{asked}"), key.to_owned()];
        let complaint = if asked.contains(['*', '?']) {
            Complaint::new(
                format!("`{asked}` is a pattern"),
                "name one model, and each of them on a line of its own",
            )
        } else if asked.is_empty() || sent.is_empty() {
            Complaint::new(
                "has an empty name",
                "write `{ \"gpt-4o\" = \"my-gpt-4o\" }`",
            )
        } else if asked == sent {
            Complaint::new(format!("`{asked}` keeps its name"), "leave it out")
        } else {
            continue;
        };
        findings.note(keys, complaint);
    }
    names
}

fn weight(key: &str, weight: u32, findings: &mut Findings) -> NonZeroU32 {
    NonZeroU32::new(weight).unwrap_or_else(|| {
        findings.add(
            key,
            "is zero",
            "write at least 1; for an upstream that only takes over, raise `priority`",
        );
        NonZeroU32::MIN
    })
}

/// Returns a bound that lets something through.
pub(super) fn at_least_one(
    key: &str,
    bound: Off<Count>,
    findings: &mut Findings,
) -> Option<NonZeroU32> {
    let bound = bound.on()?;
    let checked = NonZeroU32::new(bound.0);
    if checked.is_none() {
        findings.add(
            key,
            "is zero, so nothing would get through",
            "write at least 1, or `off`",
        );
    }
    checked
}

fn keepalive(key: &str, keepalive: Off<Span>, findings: &mut Findings) -> Option<Duration> {
    let span = keepalive.on()?;
    // The system counts in seconds.
    if span.0.as_secs() == 0 {
        findings.add(
            key,
            format!("`{span}` is less than a second"),
            "write `off`, or such as `30s`",
        );
    }
    Some(span.0)
}

fn headers(
    key: &str,
    headers: &file::Headers,
    api_key: Option<&ApiKey>,
    env: &Environment,
    findings: &mut Findings,
) -> Headers {
    let mut checked: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (name, value) in &headers.0 {
        let key = format!("{key}.{name}");
        let name = findings.unless_ok(&key, header_name(name, api_key));
        let value = findings.unless_ok(&key, header_value(value, env));
        let (Some(name), Some(mut value)) = (name, value) else {
            continue;
        };
        if checked.iter().any(|(earlier, _)| *earlier == name) {
            findings.add(
                &key,
                format!("`{name}` stands there twice"),
                "leave one of the two out",
            );
        }
        value.set_sensitive(value.is_sensitive() || CREDENTIALS.contains(&name.as_str()));
        checked.push((name, value));
    }
    checked.into_iter().collect()
}

/// Reads the name of a header that may be the operator's to set: none that says how the call is to be read or answered,
/// since Refrain goes by what the client said there.
fn header_name(name: &str, api_key: Option<&ApiKey>) -> Result<HeaderName, Complaint> {
    let header = cache::header_name(name)?;
    let text = header.as_str();
    let refused = |what: &str, hint: &str| Err(Complaint::new(format!("`{header}` {what}"), hint));
    if CREDENTIALS.contains(&text) {
        return match api_key {
            None => refused(
                "is a credential, and without `api_key` callers send their own",
                "write the key as `api_key`; other credentials may stand beside it",
            ),
            Some(_) if OF_THE_KEY.contains(&text) => {
                refused("is what `api_key` is sent in", "leave one of the two out")
            }
            Some(_) => Ok(header),
        };
    }
    if cache::is_of_the_connection(text) || cache::is_ours(text) || OF_THE_BODY.contains(&text) {
        return refused("is not the operator's to set", "leave it out");
    }
    if text.starts_with("if-") || text.starts_with("sec-") || text.starts_with("x-refrain-") {
        return refused("is not the operator's to set", "leave it out");
    }
    Ok(header)
}

/// Reads the value of a header; it is marked as sensitive where it holds a secret, and never repeated.
fn header_value(value: &ApiKey, env: &Environment) -> Result<HeaderValue, Complaint> {
    let (text, is_secret) = env.fill(value.expose())?;
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.trim() == text;
    let read = HeaderValue::try_from(text).ok().filter(|_| is_plain);
    let mut value = read.ok_or_else(|| {
        Complaint::new(
            "is no value that could be sent in a header",
            "expected visible ASCII, with blanks only inside",
        )
    })?;
    value.set_sensitive(is_secret);
    Ok(value)
}

fn timeouts(key: &str, timeouts: &file::Timeouts, findings: &mut Findings) -> Timeouts {
    let mut timer = |name: &str, timer: Off<Span>| {
        let span = timer.on()?;
        findings.positive(
            &format!("{key}.{name}"),
            span,
            "write `off` to wait for as long as it takes",
        );
        Some(span.0)
    };
    Timeouts {
        connect: timer("connect", timeouts.connect),
        first_byte: timer("first_byte", timeouts.first_byte),
        idle: timer("idle", timeouts.idle),
        total: timer("total", timeouts.total),
    }
}

/// Headers that `api_key` may be sent in.
const OF_THE_KEY: [&str; 2] = ["authorization", "api-key"];

/// Headers that say how a body is to be read, or in what form an answer is wanted.
const OF_THE_BODY: [&str; 6] = [
    "accept",
    "accept-encoding",
    "content-encoding",
    "content-type",
    "range",
    "x-request-id",
];
