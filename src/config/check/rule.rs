//! `[[rule]]`: patterns that can match, values in their bounds, and nothing that says two things at once.

use std::{collections::BTreeMap, time::Duration};

use http::HeaderName;

use super::{
    super::{
        CREDENTIALS,
        glob::Glob,
        problem::Complaint,
        rule::{DIALECTS, MAX_NAME, MAX_TAGS, Match, Rule, Timer, Timers},
    },
    Findings, NAME, Off, Span, cache, failure, file,
    glob::globs,
    hint_for, is_name, item_key,
};

/// Checks the rules; `max_ttl` bounds their lifetimes.
pub(super) fn rules(rules: Vec<file::Rule>, max_ttl: Span, findings: &mut Findings) -> Vec<Rule> {
    let count = rules.len();
    let mut checked = Vec::new();
    for (i, rule) in rules.into_iter().enumerate() {
        let key = item_key("rule", i, count);
        check_ttl(&key, rule.ttl, max_ttl, findings);
        check_silence(&key, &rule, findings);
        let name = name(&key, rule.name, i, findings);
        if checked.iter().any(|earlier: &Rule| earlier.name == name) {
            findings.add(
                format!("{key}.name"),
                format!("`{name}` is the name of an earlier rule"),
                "give each rule a name of its own",
            );
        }
        checked.push(Rule {
            name,
            when: matching(&format!("{key}.match"), rule.when, findings),
            cache: rule.cache,
            scope: rule
                .scope
                .and_then(|scope| findings.unless_ok(&format!("{key}.scope"), scope.parse())),
            ttl: rule.ttl.map(|ttl| ttl.0),
            tags: tags(&format!("{key}.tags"), rule.tags, findings),
            stale_while_revalidate: rule.stale_while_revalidate.map(off_is_zero),
            stale_if_error: rule.stale_if_error.map(off_is_zero),
            timeouts: timers(&format!("{key}.timeouts"), &rule.timeouts, findings),
            fallback: failure::of_rule(&format!("{key}.fallback"), rule.fallback, findings),
        });
    }
    checked
}

fn name(key: &str, name: String, index: usize, findings: &mut Findings) -> String {
    if name.is_empty() {
        return format!("rule-{}", index + 1);
    }
    if !is_name(&name) {
        findings.add(format!("{key}.name"), format!("`{name}` is no name"), NAME);
    }
    name
}

fn check_ttl(key: &str, ttl: Option<Span>, max_ttl: Span, findings: &mut Findings) {
    let Some(ttl) = ttl else { return };
    let key = format!("{key}.ttl");
    findings.positive(&key, ttl, "to store nothing, write `cache = false`");
    if ttl > max_ttl {
        findings.clash(
            [&key, "cache.max_ttl"],
            format!("`ttl` ({ttl}) is longer than `max_ttl` ({max_ttl})"),
            "shorten the one or lengthen the other",
        );
    }
}

/// Notes what says something about entries where there are to be none.
fn check_silence(key: &str, rule: &file::Rule, findings: &mut Findings) {
    if rule.cache != Some(false) {
        return;
    }
    for (setting, is_said) in [
        ("scope", rule.scope.is_some()),
        ("ttl", rule.ttl.is_some()),
        ("tags", !rule.tags.is_empty()),
        (
            "stale_while_revalidate",
            rule.stale_while_revalidate.is_some(),
        ),
        ("stale_if_error", rule.stale_if_error.is_some()),
    ] {
        if is_said {
            findings.add(
                format!("{key}.{setting}"),
                "means nothing beside `cache = false`",
                "leave one of the two out",
            );
        }
    }
}

fn matching(key: &str, when: file::Match, findings: &mut Findings) -> Match {
    if let (Some(least), Some(greatest)) = (when.min_temperature, when.max_temperature)
        && least > greatest
    {
        findings.clash(
            [
                &format!("{key}.min_temperature"),
                &format!("{key}.max_temperature"),
            ],
            format!(
                "`min_temperature` ({least}) is greater than `max_temperature` ({greatest}), so no call fits"
            ),
            "exchange the two",
        );
    }
    let mut globs =
        |name: &str, patterns: &[String]| globs(&format!("{key}.{name}"), patterns, findings);
    let model = globs("model", &when.model);
    let path = globs("path", &when.path);
    let namespace = globs("namespace", &when.namespace);
    let caller = globs("caller", &when.caller);
    Match {
        model,
        path,
        namespace,
        caller,
        dialect: dialects(&format!("{key}.dialect"), when.dialect, findings),
        headers: headers(&format!("{key}.header"), &when.header, findings),
        min_temperature: when.min_temperature,
        max_temperature: when.max_temperature,
        tools: when.tools,
    }
}

fn dialects(key: &str, names: Vec<String>, findings: &mut Findings) -> Vec<String> {
    for (i, name) in names.iter().enumerate() {
        if !DIALECTS.contains(&name.as_str()) {
            findings.add(
                item_key(key, i, names.len()),
                format!("`{name}` is no dialect"),
                hint_for(name, &DIALECTS, str::to_owned),
            );
        }
    }
    names
}

fn headers(
    key: &str,
    headers: &BTreeMap<String, Vec<String>>,
    findings: &mut Findings,
) -> Vec<(HeaderName, Vec<Glob>)> {
    let mut checked = Vec::new();
    for (name, patterns) in headers {
        let key = format!("{key}.{name}");
        let globs = globs(&key, patterns, findings);
        let name = findings.unless_ok(&key, header(name));
        checked.extend(name.map(|name| (name, globs)));
    }
    checked
}

fn header(name: &str) -> Result<HeaderName, Complaint> {
    let header = cache::header_name(name)?;
    if CREDENTIALS.contains(&header.as_str()) {
        return Err(Complaint::new(
            format!("`{header}` is a credential, which has no place in a rule"),
            "name the caller as the log shows it: `caller`",
        ));
    }
    Ok(header)
}

fn tags(key: &str, mut tags: Vec<String>, findings: &mut Findings) -> Vec<String> {
    if tags.len() > MAX_TAGS {
        findings.add(key, "has more than 16 tags", "leave some out");
    }
    for (i, tag) in tags.iter().enumerate() {
        let is_plain = tag.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let fits = (1..=MAX_NAME).contains(&tag.len()) && tag.trim() == tag;
        // A caller could never name it: commas stand between tags in `X-Cache-Tags`.
        if !is_plain || !fits || tag.contains(',') {
            findings.add(
                item_key(key, i, tags.len()),
                format!("`{tag}` is no tag"),
                "expected 1 to 128 visible ASCII characters, no comma",
            );
        }
    }
    findings.distinct(key, &tags, String::eq);
    tags.sort_unstable();
    tags
}

fn timers(key: &str, timers: &file::Timers, findings: &mut Findings) -> Timers {
    let mut timer = |name: &str, timer: Option<Off<Span>>| {
        let Off::At(span) = timer? else {
            return Some(Timer::Off);
        };
        findings.positive(
            &format!("{key}.{name}"),
            span,
            "write `off` to wait for as long as it takes",
        );
        Some(Timer::After(span.0))
    };
    Timers {
        connect: timer("connect", timers.connect),
        first_byte: timer("first_byte", timers.first_byte),
        idle: timer("idle", timers.idle),
        total: timer("total", timers.total),
    }
}

fn off_is_zero(span: Off<Span>) -> Duration {
    span.on().map_or(Duration::ZERO, |span| span.0)
}

#[cfg(test)]
mod tests;
