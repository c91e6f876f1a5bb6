//! What can be done and can hardly be meant: a warning each. Pure, of a configuration that is otherwise fine.

use super::{Findings, hint_for, item_key, route};
use crate::config::{
    Config, Proof, Scope, Upstream, address,
    glob::Glob,
    rule::{Match, Rule},
};

/// Warns of what in `config` can hardly be meant.
pub(super) fn check(config: &Config, findings: &mut Findings) {
    route::check(config, findings);
    check_keys(config, findings);
    check_tenants("cache.scope", &config.cache.scope, config, findings);
    for (i, rule) in config.rules.iter().enumerate() {
        let key = item_key("rule", i, config.rules.len());
        if let Some(scope) = &rule.scope {
            check_tenants(&format!("{key}.scope"), scope, config, findings);
        }
        check_names(&format!("{key}.match.caller"), rule, config, findings);
        if i + 1 < config.rules.len() && is_any(&rule.when) {
            findings.warn(
                &[&key],
                "matches every call, so the rules behind it are never tried",
                "move it to the end, or say in `match` which calls it is for",
            );
        }
    }
}

/// Warns where the keys of the proxy's own callers leave the machine.
fn check_keys(config: &Config, findings: &mut Findings) {
    if config.callers.is_empty() {
        return;
    }
    let is_told = |upstream: &Upstream| {
        let stays = address::is_loopback(&upstream.base_url.address());
        upstream.api_key.is_none() && !stays
    };
    for (i, upstream) in config
        .upstreams
        .iter()
        .enumerate()
        .filter(|(_, it)| is_told(it))
    {
        let key = item_key("upstream", i, config.upstreams.len());
        findings.warn(
            &[&format!("{key}.api_key"), "caller"],
            format!(
                "without `api_key` the callers' keys, which are the proxy's own, are sent to `{}`",
                upstream.name
            ),
            "set `api_key`, which is sent in their place",
        );
    }
}

/// Warns where a caller reads entries that are hardly meant for it; `key` is the setting that says `scope`.
fn check_tenants(key: &str, scope: &Scope, config: &Config, findings: &mut Findings) {
    if !config.callers.is_empty() || *scope == Scope::Credential {
        return;
    }
    let mut upstreams = config.upstreams.iter();
    if upstreams.any(|it| it.proof == Proof::Off && it.api_key.is_none()) {
        findings.warn(
            &[key],
            format!("`{scope}` beside `proof = \"off\"` and without a `[[caller]]` protects nothing: any made-up key counts as proven, and whoever reaches the listener reads what others were answered"),
            "leave `proof` at `auto`, or name the callers",
        );
    } else if *scope != Scope::Shared {
        findings.warn(
            &[key],
            format!("`{scope}` without a `[[caller]]`: whoever the upstream accepts can name any tenant and read its entries"),
            "name the callers, or let something in front of Refrain set the value",
        );
    }
}

/// Warns of a pattern that fits none of the proxy's own callers.
fn check_names(key: &str, rule: &Rule, config: &Config, findings: &mut Findings) {
    let names: Vec<_> = config.callers.iter().map(|it| it.name.as_str()).collect();
    if names.is_empty() {
        return;
    }
    let patterns = &rule.when.caller;
    for (i, pattern) in patterns.iter().enumerate() {
        if !names.iter().any(|name| pattern.matches(name)) {
            findings.warn(
                &[&item_key(key, i, patterns.len())],
                format!("`{pattern}` fits no `[[caller]]`"),
                hint_for(&pattern.to_string(), &names, str::to_owned),
            );
        }
    }
}

/// Returns whether there is no call that it does not fit.
fn is_any(when: &Match) -> bool {
    let fits_all = |globs: &[Glob]| globs.is_empty() || globs.contains(&Glob::new("*"));
    let rest = Match {
        path: Vec::new(),
        namespace: Vec::new(),
        caller: Vec::new(),
        ..when.clone()
    };
    rest == Match::default()
        && [&when.path, &when.namespace, &when.caller].map(|globs| fits_all(globs)) == [true; 3]
}
