//! Upstreams that hardly any call could reach, and models that none serves: a warning each.

use super::{Findings, item_key};
use crate::config::{Config, Glob, Upstream, address};

/// Warns of what among the upstreams can hardly be meant.
pub(super) fn check(config: &Config, findings: &mut Findings) {
    let upstreams = &config.upstreams;
    check_catch_all(upstreams, findings);
    for (i, upstream) in upstreams.iter().enumerate() {
        let key = item_key("upstream", i, upstreams.len());
        check_loop(&key, &config.listen, upstream, findings);
        check_turn(&key, upstream, upstreams, findings);
        check_renames(&key, upstream, findings);
        check_wait(&key, upstream, findings);
    }
}

/// Warns where a call for some model, or for none, has nowhere to go.
fn check_catch_all(upstreams: &[Upstream], findings: &mut Findings) {
    if !upstreams.iter().any(serves_all) {
        findings.warn(
            &["upstream.models", "upstream"],
            "no upstream has `*` among its `models`: calls for other models, and those for none, such as `GET /v1/models`, have nowhere to go",
            "write `*` in one of them",
        );
    }
}

/// Warns where Refrain would call itself.
fn check_loop(key: &str, listen: &[String], upstream: &Upstream, findings: &mut Findings) {
    let target = upstream.base_url.address();
    if let Some(own) = listen.iter().find(|own| address::leads_to(own, &target)) {
        findings.warn(
            &[&format!("{key}.base_url"), "listen"],
            format!("leads to `{own}` of `listen`: every call would come back to Refrain"),
            "name the API that calls are for",
        );
    }
}

/// Warns of an upstream whose turn never comes: others go first for all that it serves, and it has no key to take over with.
fn check_turn(key: &str, upstream: &Upstream, all: &[Upstream], findings: &mut Findings) {
    let first: Vec<_> = all
        .iter()
        .filter(|other| other.priority < upstream.priority)
        .collect();
    let is_never_first = upstream
        .models
        .iter()
        .all(|pattern| first.iter().any(|other| covers(other, pattern)));
    if is_never_first && upstream.api_key.is_none() {
        findings.warn(
            &[&format!("{key}.api_key"), &format!("{key}.priority"), key],
            format!(
                "others go before `{}` for all that it serves, and without `api_key` it takes over from none of them: no call but those to `/_u/{}/` would reach it",
                upstream.name, upstream.name
            ),
            "set `api_key`, to whatever it takes if it asks for none, or lower `priority`",
        );
    }
}

/// Warns of a name for a model that the upstream is never asked for.
fn check_renames(key: &str, upstream: &Upstream, findings: &mut Findings) {
    for asked in upstream
        .rename
        .keys()
        .filter(|asked| !upstream.serves(asked))
    {
        findings.warn(
            &[&format!("{key}.rename.{asked}"), &format!("{key}.rename")],
            format!("`{asked}` is not among the upstream's `models`, so it is never asked for it"),
            "add it there, or leave it out here",
        );
    }
}

/// Warns where a call could wait for its turn for longer than for its answer.
fn check_wait(key: &str, upstream: &Upstream, findings: &mut Findings) {
    let Some(first_byte) = upstream.timeouts.first_byte else {
        return;
    };
    if upstream.max_concurrent.is_some() && upstream.max_wait > first_byte {
        findings.warn(
            &[
                &format!("{key}.max_wait"),
                &format!("{key}.timeouts.first_byte"),
            ],
            "a call would wait for its turn for longer than for its answer (`timeouts.first_byte`)",
            "shorten `max_wait`: a client that is told at once can go elsewhere",
        );
    }
}

fn serves_all(upstream: &Upstream) -> bool {
    upstream.models.contains(&Glob::new("*"))
}

/// Returns whether `upstream` surely serves every model that fits `pattern`.
fn covers(upstream: &Upstream, pattern: &Glob) -> bool {
    let text = pattern.to_string();
    serves_all(upstream)
        || upstream.models.contains(pattern)
        || !text.contains(['*', '?']) && upstream.serves(&text)
}
