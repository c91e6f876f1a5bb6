//! `[[upstream]]`: the one that is called, its timers, and what it is to be asked and told.

use super::{Findings, Off, Span, access, file, is_name};
use crate::config::{Timeouts, Upstream, secret::Environment};

pub(super) fn the_upstream(
    mut upstreams: Vec<file::Upstream>,
    env: &Environment,
    findings: &mut Findings,
) -> Option<Upstream> {
    if upstreams.is_empty() {
        findings.add(
            "upstream",
            "is empty",
            "name one upstream, or leave it out for OpenAI",
        );
    }
    if upstreams.len() > 1 {
        findings.add(
            "upstream[1]",
            "is a second upstream; Refrain calls exactly one",
            "keep one `[[upstream]]`",
        );
    }
    let upstream = (!upstreams.is_empty()).then(|| upstreams.swap_remove(0))?;
    if !is_name(&upstream.name) {
        findings.add(
            "upstream.name",
            format!("`{}` is no name", upstream.name),
            "expected at most 64 of `a-z`, `0-9`, `_` and `-`, a letter or digit first",
        );
    }
    findings.positive(
        "upstream.pool_idle",
        upstream.pool_idle,
        "write the time an idle connection is kept, such as `15s`",
    );
    let timeouts = timeouts(&upstream.timeouts, findings);
    let base_url = findings.unless_ok("upstream.base_url", upstream.base_url.parse());
    let proof = findings.unless_ok("upstream.proof", upstream.proof.parse());
    let api_key = access::api_key(upstream.api_key, env, findings);
    access::check_identity(
        upstream.identity,
        proof.as_ref(),
        api_key.as_ref(),
        findings,
    );
    Some(Upstream {
        name: upstream.name,
        base_url: base_url?,
        api_key,
        http: upstream.http,
        timeouts,
        pool_idle: upstream.pool_idle.0,
        proof: proof.unwrap_or_default(),
        identity: upstream.identity,
    })
}

fn timeouts(timeouts: &file::Timeouts, findings: &mut Findings) -> Timeouts {
    let mut timer = |key: &str, timer: Off<Span>| {
        let span = timer.on()?;
        findings.positive(
            &format!("upstream.timeouts.{key}"),
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
