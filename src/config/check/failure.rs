//! `[retry]`, `[breaker]`, `[fallback]`, and what a rule says of the last.

use std::sync::Arc;

use super::{Findings, Span, file};
use crate::config::{Breaker, Fallback, FallbackMode, Retry, RuleFallback};

/// Checks how a call is tried again.
pub(super) fn retry(retry: &file::Retry, findings: &mut Findings) -> Retry {
    if retry.attempts.0 > MOST_ATTEMPTS {
        findings.add(
            "retry.attempts",
            format!("{} is too much", retry.attempts),
            "expected at most 10, or 0 for one try and no more",
        );
    }
    check_growth(
        "retry",
        [
            ("backoff", retry.backoff),
            ("max_backoff", retry.max_backoff),
        ],
        findings,
    );
    Retry {
        attempts: retry.attempts.0,
        budget: retry.budget,
        max_wait: retry.max_wait.0,
        backoff: retry.backoff.0,
        max_backoff: retry.max_backoff.0,
    }
}

/// Checks when a circuit trips, and for how long.
pub(super) fn breaker(breaker: &file::Breaker, findings: &mut Findings) -> Breaker {
    findings.positive(
        "breaker.window",
        breaker.window,
        "write how far back to look, such as `30s`",
    );
    findings.positive(
        "breaker.open",
        breaker.open,
        "write how long to wait before a probe, such as `5s`",
    );
    check_growth(
        "breaker",
        [("open", breaker.open), ("max_open", breaker.max_open)],
        findings,
    );
    if breaker.min_calls.0 == 0 {
        findings.add(
            "breaker.min_calls",
            "is zero, and of no calls none has failed",
            "write how many calls it takes to judge an upstream, such as 20",
        );
    }
    if breaker.ratio.get() <= 0.0 {
        findings.add(
            "breaker.ratio",
            "is zero, so a circuit would trip although nothing failed",
            "write the share of failures that trips it, such as 0.5",
        );
    }
    Breaker {
        window: breaker.window.0,
        min_calls: breaker.min_calls.0,
        ratio: breaker.ratio,
        open: breaker.open.0,
        max_open: breaker.max_open.0,
    }
}

/// Checks what a call gets that could not be answered.
pub(super) fn fallback(fallback: &file::Fallback, findings: &mut Findings) -> Fallback {
    check_text("fallback.text", &fallback.text, findings);
    Fallback {
        mode: fallback.mode,
        text: Arc::from(fallback.text.as_str()),
    }
}

/// Checks what calls under a rule get; `key` is the setting.
pub(super) fn of_rule(
    key: &str,
    fallback: file::RuleFallback,
    findings: &mut Findings,
) -> RuleFallback {
    let file::RuleFallback { mode, text } = fallback;
    if let Some(text) = &text {
        let key = format!("{key}.text");
        check_text(&key, text, findings);
        if mode == Some(FallbackMode::Error) {
            findings.add(
                key,
                "means nothing beside `mode = \"error\"`",
                "leave one of the two out",
            );
        }
    }
    RuleFallback {
        mode,
        text: text.map(Arc::from),
    }
}

/// Notes a time that is longer than what it may grow to.
fn check_growth(
    section: &str,
    [(first, span), (last, most)]: [(&str, Span); 2],
    findings: &mut Findings,
) {
    if span > most {
        findings.clash(
            [&format!("{section}.{first}"), &format!("{section}.{last}")],
            format!("`{first}` ({span}) is longer than `{last}` ({most})"),
            "shorten the one or lengthen the other",
        );
    }
}

fn check_text(key: &str, text: &str, findings: &mut Findings) {
    if text.trim().is_empty() {
        findings.add(
            key,
            "says nothing",
            "write what people are to read; for the error itself, write `mode = \"error\"`",
        );
    }
    if text.len() > LONGEST_TEXT {
        findings.add(key, "is too long", "an apology has at most 4096 bytes");
    }
}

/// More would keep a client waiting for nothing.
const MOST_ATTEMPTS: u32 = 10;
const LONGEST_TEXT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_cannot_work_is_told() {
        let text = r#"
[retry]
attempts = 11
budget = 1.5
backoff = "6s"
[breaker]
window = "0s"
min_calls = 0
ratio = 0
open = "2m"
[fallback]
mode = "silence"
text = " "
[[rule]]
fallback = { mode = "error", text = "never mind" }
"#;
        insta::assert_snapshot!(text.parse::<Config>().unwrap_err(), @r#"
        error: proxy.toml:3:12: retry.attempts: 11 is too much
          hint: expected at most 10, or 0 for one try and no more
        error: proxy.toml:4:10: retry.budget: `1.5` does not fit
          hint: expected a number from `0.0` to `1.0`
        error: proxy.toml:5:11: retry.backoff: `backoff` (6s) is longer than `max_backoff` (5s)
          hint: shorten the one or lengthen the other
        error: proxy.toml:7:10: breaker.window: `0s` is no time at all
          hint: write how far back to look, such as `30s`
        error: proxy.toml:8:13: breaker.min_calls: is zero, and of no calls none has failed
          hint: write how many calls it takes to judge an upstream, such as 20
        error: proxy.toml:9:9: breaker.ratio: is zero, so a circuit would trip although nothing failed
          hint: write the share of failures that trips it, such as 0.5
        error: proxy.toml:10:8: breaker.open: `open` (2m) is longer than `max_open` (1m)
          hint: shorten the one or lengthen the other
        error: proxy.toml:12:8: fallback.mode: `silence` does not fit
          hint: expected one of `apology`, `error`
        error: proxy.toml:13:8: fallback.text: says nothing
          hint: write what people are to read; for the error itself, write `mode = "error"`
        error: proxy.toml:15:37: rule.fallback.text: means nothing beside `mode = "error"`
          hint: leave one of the two out
        "#);
    }

    #[test]
    fn a_rule_says_otherwise_only_where_it_says_something() {
        let text = "[fallback]\ntext = 'Later.'\n[[rule]]\nfallback.text = 'Soon.'\n[[rule]]\nfallback.mode = 'error'\n[[rule]]\n";
        let config: Config = text.parse().unwrap();
        let held: Vec<_> = config
            .rules
            .iter()
            .map(|rule| rule.fallback.over(&config.fallback))
            .map(|fallback| (fallback.mode, fallback.text.to_string()))
            .collect();
        let expected = [
            (FallbackMode::Apology, "Soon."),
            (FallbackMode::Error, "Later."),
            (FallbackMode::Apology, "Later."),
        ];
        assert_eq!(held, expected.map(|(mode, text)| (mode, text.to_owned())));
    }
}
