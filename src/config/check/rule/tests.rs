use super::*;
use crate::config::{Config, FallbackMode, RuleFallback, Scope, rule::Temperature};

fn rules_of(text: &str) -> Vec<Rule> {
    text.parse::<Config>().unwrap().rules
}

fn told(text: &str) -> String {
    text.parse::<Config>().unwrap_err().to_string()
}

#[test]
fn what_a_rule_says_is_what_holds() {
    let rules = rules_of(
        r#"
        [[rule]]
        name = "reports"
        match = { model = ["gpt-4*", "o3"], path = "/v1/*", dialect = "chat", namespace = "x*", header = { X-Team = "a*" }, caller = "c?", min_temperature = 0, max_temperature = 0.7, tools = false }
        cache = true
        scope = "header:X-Team"
        ttl = "7d"
        tags = ["b", "a"]
        stale_while_revalidate = "10m"
        stale_if_error = "off"
        timeouts = { connect = "1s", first_byte = "off" }
        fallback = { mode = "apology", text = "Later." }

        [[rule]]
    "#,
    );
    let globs = |patterns: &[&str]| patterns.iter().copied().map(Glob::new).collect::<Vec<_>>();
    let reports = Rule {
        name: "reports".to_owned(),
        when: Match {
            model: globs(&["gpt-4*", "o3"]),
            path: globs(&["/v1/*"]),
            dialect: vec!["chat".to_owned()],
            namespace: globs(&["x*"]),
            headers: vec![(HeaderName::from_static("x-team"), globs(&["a*"]))],
            caller: globs(&["c?"]),
            min_temperature: Temperature::parse("0"),
            max_temperature: Temperature::parse("0.7"),
            tools: Some(false),
        },
        cache: Some(true),
        scope: Some(Scope::Header(HeaderName::from_static("x-team"))),
        ttl: Some(Duration::from_secs(7 * 86_400)),
        tags: vec!["a".to_owned(), "b".to_owned()],
        stale_while_revalidate: Some(Duration::from_secs(600)),
        stale_if_error: Some(Duration::ZERO),
        timeouts: Timers {
            connect: Some(Timer::After(Duration::from_secs(1))),
            first_byte: Some(Timer::Off),
            ..Timers::default()
        },
        fallback: RuleFallback {
            mode: Some(FallbackMode::Apology),
            text: Some("Later.".into()),
        },
    };
    let silent = Rule {
        name: "rule-2".to_owned(),
        ..Rule::default()
    };
    assert_eq!(rules, [reports, silent]);
}

#[test]
fn every_mistake_in_a_rule_is_told_with_its_place() {
    insta::assert_snapshot!(told(r#"[[rule]]
name = "Reports"
match = { modle = "gpt-4*", dialect = ["chat", "chatt"], path = "" }
cache = "yes"
[[rule]]
match = { model = "gpt-{4,5}*", min_temperature = 1.5, max_temperature = 0.5 }
ttl = "90d"
tags = ["a,b", "", "c", "c"]
timeouts = { idle = "0s", conect = "1s" }
[[rule]]
name = "rule-2"
match = { header = { Authorization = "Bearer *", "a b" = "x" }, min_temperature = "hot" }
cache = false
ttl = "1h"
stale_if_error = "0s"
[[rule]]
match = "gpt-4*"
max_temperature = 1
scope = "team"
"#), @r#"
    error: proxy.toml:2:8: rule[0].name: `Reports` is no name
      hint: expected at most 64 of `a-z`, `0-9`, `_` and `-`, a letter or digit first
    error: proxy.toml:3:11: rule[0].match.modle: unknown key
      hint: did you mean `model`?
    error: proxy.toml:3:48: rule[0].match.dialect[1]: `chatt` is no dialect
      hint: did you mean `chat`?
    error: proxy.toml:3:65: rule[0].match.path: is empty
      hint: write `*` for any text, or leave it out
    error: proxy.toml:4:9: rule[0].cache: `yes` does not fit
      hint: expected `true` or `false`
    error: proxy.toml:6:19: rule[1].match.model: `gpt-{4,5}*` has brackets, which mean nothing in a pattern
      hint: `*` stands for any text and `?` for any character; several patterns are a list
    error: proxy.toml:6:51: rule[1].match.min_temperature: `min_temperature` (1.5) is greater than `max_temperature` (0.5), so no call fits
      hint: exchange the two
    error: proxy.toml:7:7: rule[1].ttl: `ttl` (90d) is longer than `max_ttl` (60d)
      hint: shorten the one or lengthen the other
    error: proxy.toml:8:9: rule[1].tags[0]: `a,b` is no tag
      hint: expected 1 to 128 visible ASCII characters, no comma
    error: proxy.toml:8:16: rule[1].tags[1]: `` is no tag
      hint: expected 1 to 128 visible ASCII characters, no comma
    error: proxy.toml:8:25: rule[1].tags[3]: stands in the list twice
      hint: leave one of the two out
    error: proxy.toml:9:21: rule[1].timeouts.idle: `0s` is no time at all
      hint: write `off` to wait for as long as it takes
    error: proxy.toml:9:27: rule[1].timeouts.conect: unknown key
      hint: did you mean `connect`?
    error: proxy.toml:11:8: rule[2].name: `rule-2` is the name of an earlier rule
      hint: give each rule a name of its own
    error: proxy.toml:12:38: rule[2].match.header.Authorization: `authorization` is a credential, which has no place in a rule
      hint: name the caller as the log shows it: `caller`
    error: proxy.toml:12:58: rule[2].match.header.a b: `a b` is no header name
      hint: write it as in `openai-beta`, without colon or blank
    error: proxy.toml:12:83: rule[2].match.min_temperature: `hot` does not fit
      hint: expected a number such as `0.7`
    error: proxy.toml:14:7: rule[2].ttl: means nothing beside `cache = false`
      hint: leave one of the two out
    error: proxy.toml:15:18: rule[2].stale_if_error: means nothing beside `cache = false`
      hint: leave one of the two out
    error: proxy.toml:17:9: rule[3].match: `gpt-4*` does not fit
      hint: expected a table such as `{ model = "gpt-4*" }`
    error: proxy.toml:18:1: rule[3].max_temperature: unknown key
      hint: expected one of `name`, `match`, `cache`, `scope`, `ttl`, `tags`, `stale_while_revalidate`, `stale_if_error`, `timeouts`, `fallback`
    error: proxy.toml:19:9: rule[3].scope: `team` is no scope
      hint: expected one of `credential`, `shared`, `header:NAME`, `body:/json/pointer`
    "#);
}

#[test]
fn one_rule_alone_needs_no_brackets() {
    assert_eq!(rules_of("[rule]\ncache = false")[0].cache, Some(false));
    insta::assert_snapshot!(told("[rule]\nttl = '0s'"), @"
    error: proxy.toml:2:7: rule.ttl: `0s` is no time at all
      hint: to store nothing, write `cache = false`
    ");
}

#[test]
fn a_rule_under_which_tenants_can_be_claimed_is_doubtful() {
    let config: Config = "[[rule]]\nmatch.tools = true\n[[rule]]\nscope = 'body:/user'"
        .parse()
        .unwrap();
    let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(warnings.join("\n"), @"
    warning: proxy.toml:4:9: rule[1].scope: `body:/user` without a `[[caller]]`: whoever the upstream accepts can name any tenant and read its entries
      hint: name the callers, or let something in front of Refrain set the value
    ");
}

/// The hint about an unknown key lists all keys: what it lists has to be documented.
#[test]
fn every_setting_of_a_rule_is_documented() {
    let told = told(
        "[[rule]]\nqqqqqqqqqqqqqqqqqqqqqqq = 1\n[[rule]]\nmatch = { qqqqqqqqqqqqqqqqqqqqqqq = 1 }\n[[rule]]\ntimeouts = { qqqqqqqqqqqqqqqqqqqqqqq = 1 }\n",
    );
    let hints = told
        .lines()
        .filter_map(|line| line.split_once("expected one of "));
    let settings: Vec<_> = hints.flat_map(|(_, list)| list.split(", ")).collect();
    assert!(settings.len() > 20, "{settings:?}");
    let file = include_str!("../../../../proxy.toml");
    let page = include_str!("../../../../docs/configuration.md");
    for setting in settings {
        let word = setting.trim_matches('`');
        let ways = [format!("{word} = "), format!("{word}.")];
        let is_set = |line: &str| {
            line.starts_with("# ") && ways.iter().any(|way| line.contains(way.as_str()))
        };
        assert!(file.lines().any(is_set), "{setting} is not in proxy.toml");
        assert!(
            page.contains(setting),
            "{setting} is not in configuration.md"
        );
    }
}

#[test]
fn the_example_in_the_documented_file_is_a_rule() {
    let file = include_str!("../../../../proxy.toml");
    let example = file.lines().skip_while(|line| *line != "# [[rule]]");
    let example: Vec<_> = example.map_while(|line| line.strip_prefix("# ")).collect();
    let rules = rules_of(&example.join("\n"));
    assert_eq!(rules.len(), 1);
    assert_ne!(rules[0].when, Match::default());
}
