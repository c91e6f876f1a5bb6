//! `[[upstream]]`, one or several.

use super::{CALLER, checked, told, warnings};
use crate::config::{ApiKey, Config, Glob};

#[test]
fn several_upstreams_stand_in_the_order_of_the_file() {
    let config = checked(
        r#"
        [[upstream]]
        api_key = "${KEY}"
        max_concurrent = 100
        max_wait = "2s"
        keepalive = "off"
        pool_max_idle = 0

        [[upstream]]
        name = "azure"
        base_url = "https://a.openai.azure.com/openai/v1"
        models = ["gpt-4*", "o3"]
        rename = { "gpt-4.1" = "ours", o3 = "ours-too" }
        priority = 1
        weight = 3
        headers = { X-Team = "research", x-token = "Bearer ${KEY}" }
        hedge = "on"
        "#,
    )
    .unwrap();
    let [openai, azure] = config.upstreams.as_slice() else {
        panic!("{:?}", config.upstreams)
    };
    assert_eq!(
        openai.api_key.as_ref().map(ApiKey::expose),
        Some("sk-proxy")
    );
    assert_eq!(openai.models, [Glob::new("*")]);
    assert_eq!((openai.priority, openai.weight.get()), (0, 1));
    assert_eq!(openai.max_concurrent.map(u32::from), Some(100));
    assert_eq!((openai.max_wait.as_secs(), openai.keepalive), (2, None));
    assert_eq!((openai.pool_max_idle, openai.hedge), (0, false));
    assert_eq!(azure.name, "azure");
    assert_eq!((azure.priority, azure.weight.get()), (1, 3));
    assert!(azure.hedge && azure.max_concurrent.is_none());
    assert_eq!(azure.rename["gpt-4.1"], "ours");
    assert!(azure.serves("gpt-4o") && azure.serves("o3") && !azure.serves("o3-mini"));
    let headers: Vec<_> = azure.headers.iter().collect();
    assert_eq!(headers.len(), 2);
    assert!(azure.holds_key(), "the token is the operator's");
    let shown = format!("{config:?}");
    assert!(
        !shown.contains("sk-proxy") && !shown.contains("research"),
        "{shown}"
    );
}

#[test]
fn mistakes_in_upstreams_are_told_each_with_its_place_and_without_a_secret() {
    let told = checked(
        r#"
[[upstream]]
models = []
rename = { "gpt-*" = "x", "gpt-4.1" = "gpt-4.1", a = "" }
weight = 0
priority = -1
max_concurrent = 0
keepalive = "10ms"
[upstream.headers]
connection = "close"
Authorization = "Bearer sk-canary"
X-Cache-TTL = "1h"
accept-encoding = "gzip"
x-a = "${NONE}"
x-b = "sk-canary\n"
x-c = "${sk-canary}"
"x d" = ""
x-e = "1"
X-E = "2"
[[upstream]]
api_key = "sk-canary"
headers = { Authorization = "Bearer sk-canary", x-api-key = "sk-canary" }
models = ["*", "*", ""]
max_concurrent = "many"
hedge = true
[[upstream]]
name = "third"
headers = "Authorization: Bearer sk-canary"
"#,
    )
    .unwrap_err();
    assert!(!told.contains("canary"), "{told}");
    insta::assert_snapshot!(told, @r#"
        error: proxy.toml:3:10: upstream[0].models: is empty, so no call could go there
          hint: write `*` for every model
        error: proxy.toml:4:10: upstream[0].rename: `gpt-4.1` keeps its name
          hint: leave it out
        error: proxy.toml:4:22: upstream[0].rename.gpt-*: `gpt-*` is a pattern
          hint: name one model, and each of them on a line of its own
        error: proxy.toml:4:54: upstream[0].rename.a: has an empty name
          hint: write `{ "gpt-4o" = "my-gpt-4o" }`
        error: proxy.toml:5:10: upstream[0].weight: is zero
          hint: write at least 1; for an upstream that only takes over, raise `priority`
        error: proxy.toml:6:12: upstream[0].priority: `-1` does not fit
          hint: expected a whole number from 0 to a million, such as `20`
        error: proxy.toml:7:18: upstream[0].max_concurrent: is zero, so nothing would get through
          hint: write at least 1, or `off`
        error: proxy.toml:8:13: upstream[0].keepalive: `10ms` is less than a second
          hint: write `off`, or such as `30s`
        error: proxy.toml:10:14: upstream[0].headers.connection: `connection` is not the operator's to set
          hint: leave it out
        error: proxy.toml:11:17: upstream[0].headers.Authorization: `authorization` is a credential, and without `api_key` callers send their own
          hint: write the key as `api_key`; other credentials may stand beside it
        error: proxy.toml:12:15: upstream[0].headers.X-Cache-TTL: `x-cache-ttl` is not the operator's to set
          hint: leave it out
        error: proxy.toml:13:19: upstream[0].headers.accept-encoding: `accept-encoding` is not the operator's to set
          hint: leave it out
        error: proxy.toml:14:7: upstream[0].headers.x-a: the environment has no variable `NONE`, or an empty one
          hint: set it in the environment that this command runs in
        error: proxy.toml:15:7: upstream[0].headers.x-b: is no value that could be sent in a header
          hint: expected visible ASCII, with blanks only inside
        error: proxy.toml:16:7: upstream[0].headers.x-c: is no variable of the environment
          hint: write `${NAME}`, a name of letters, digits and `_`, and `}` behind it; what is written out holds no `${`
        error: proxy.toml:17:9: upstream[0].headers.x d: `x d` is no header name
          hint: write it as in `openai-beta`, without colon or blank
        error: proxy.toml:18:7: upstream[0].headers.x-e: `x-e` stands there twice
          hint: leave one of the two out
        error: proxy.toml:20:1: upstream[1]: `openai` is the name of an earlier upstream
          hint: give each upstream a `name` of its own; without one it is called `openai`
        error: proxy.toml:22:29: upstream[1].headers.Authorization: `authorization` is what `api_key` is sent in
          hint: leave one of the two out
        error: proxy.toml:23:16: upstream[1].models[1]: stands in the list twice
          hint: leave one of the two out
        error: proxy.toml:23:21: upstream[1].models[2]: is empty
          hint: write `*` for any text, or leave it out
        error: proxy.toml:24:18: upstream[1].max_concurrent: `many` does not fit
          hint: expected `off` or a whole number from 0 to a million, such as `20`
        error: proxy.toml:25:9: upstream[1].hedge: `true` does not fit
          hint: expected `off` or `on`
        error: proxy.toml:28:11: upstream[2].headers: `"..."` does not fit
          hint: expected a table such as `{ x-team = "research" }`
        "#);
}

#[test]
fn an_empty_list_of_upstreams_is_told() {
    insta::assert_snapshot!(told("upstream = []"), @r"
        error: proxy.toml:1:12: upstream: is empty
          hint: name one upstream, or leave it out for OpenAI
        ");
}

#[test]
fn tables_can_come_from_the_environment() {
    let from_env = |name: &str, value: &str| super::from_env(&[(name, value)]);
    let renamed = from_env("REFRAIN_UPSTREAM__RENAME", "gpt-4.1 = ours, o3=x=y").unwrap();
    let rename = &renamed.upstreams[0].rename;
    assert_eq!(
        (rename["gpt-4.1"].as_str(), rename["o3"].as_str()),
        ("ours", "x=y")
    );
    let headers = from_env("REFRAIN_UPSTREAM__HEADERS", "x-team=research").unwrap();
    assert_eq!(headers.upstreams[0].headers.iter().count(), 1);
    let refused = from_env("REFRAIN_UPSTREAM__HEADERS", "sk-canary").unwrap_err();
    insta::assert_snapshot!(refused, @r"
        error: environment REFRAIN_UPSTREAM__HEADERS: upstream.headers: is no table
          hint: expected `name=value`, separated by commas
        ");
}

#[test]
fn what_any_upstream_is_paid_with_is_kept_from_whoever_reaches_the_listener() {
    let first = "[[upstream]]\n[[upstream]]\nname = 'b'\n";
    for (secret, setting) in [
        ("api_key = 'sk-canary'", "upstream[1].api_key"),
        ("headers = { x-token = '${KEY}' }", "upstream[1].headers"),
    ] {
        let open = format!("listen = '0.0.0.0:80'\n{first}{secret}");
        let told = checked(&open).unwrap_err();
        assert!(
            told.contains(&format!("{setting}: the key could be spent")),
            "{told}"
        );
        assert!(checked(&format!("{open}{CALLER}")).is_ok());
        assert!(checked(&format!("{first}{secret}")).is_ok(), "on loopback");
    }
    let constant = format!("listen = '0.0.0.0:80'\n{first}headers = {{ x-team = 'research' }}");
    assert!(checked(&constant).is_ok());
}

#[test]
fn the_claims_of_tokens_are_checked_for_each_upstream() {
    let text = "[[upstream]]\nidentity = 'jwt'\n[[upstream]]\nname = 'b'\nidentity = 'jwt'\napi_key = 'sk-1'\n";
    let told = checked(text).unwrap_err();
    assert!(
        told.starts_with("error: proxy.toml:5:12: upstream[1].identity: nobody verifies"),
        "{told}"
    );
}

#[test]
fn upstreams_whose_turn_never_comes_are_warnings() {
    let upstream = |name: &str, more: &str| {
        format!("[[upstream]]\nname = '{name}'\nbase_url = 'https://{name}.example'\n{more}\n")
    };
    let first = upstream("a", "models = ['gpt-*', '*']");
    insta::assert_snapshot!(warnings(&(first.clone() + &upstream("b", "priority = 1"))), @r"
        warning: proxy.toml:8:12: upstream[1].priority: others go before `b` for all that it serves, and without `api_key` it takes over from none of them: no call but those to `/_u/b/` would reach it
          hint: set `api_key`, to whatever it takes if it asks for none, or lower `priority`
        ");
    for second in [
        "priority = 1\napi_key = 'any'",
        "",
        "priority = 0\nmodels = 'gpt-4'",
    ] {
        let told = warnings(&(first.clone() + &upstream("b", second)));
        assert_eq!(told, "", "{second}");
    }
    let beside = "[[upstream]]\nname = 'b'\nbase_url = 'https://a.example/other'\npriority = 1\n";
    assert_eq!(
        warnings(&(first + beside)),
        "",
        "callers' keys are good there"
    );
    let gpt = upstream("a", "models = 'gpt-*'");
    let never = |models: &str| {
        let second = upstream("b", &format!("priority = 1\nmodels = {models}"));
        warnings(&(gpt.clone() + &second + &upstream("c", "priority = 1")))
            .contains("others go before `b`")
    };
    assert!(never("['gpt-*', 'gpt-4']"));
    assert!(
        !never("['gpt-4*']"),
        "that takes more than a comparison of patterns"
    );
    assert!(!never("['gpt-4', 'o3']"));
}

#[test]
fn models_that_nobody_serves_or_asks_for_are_warnings() {
    let text = "[[upstream]]\nmodels = 'gpt-*'\nrename = { 'gpt-4.1' = 'x', 'o3' = 'y' }\n";
    insta::assert_snapshot!(warnings(text), @r"
        warning: proxy.toml:2:10: upstream.models: no upstream has `*` among its `models`: calls for other models are refused
          hint: write `*` in one of them
        warning: proxy.toml:3:36: upstream.rename.o3: `o3` is not among the upstream's `models`, so it is never asked for it
          hint: add it there, or leave it out here
        ");
    assert_eq!(
        warnings(&format!("{text}[[upstream]]\nname = 'b'\n"))
            .matches("warning")
            .count(),
        1
    );
}

#[test]
fn waiting_longer_for_a_turn_than_for_an_answer_is_a_warning() {
    let text = "upstream.max_wait = '2s'\nupstream.timeouts.first_byte = '1s'\n";
    assert_eq!(warnings(text), "", "nobody waits");
    insta::assert_snapshot!(warnings(&format!("{text}upstream.max_concurrent = 1")), @r"
        warning: proxy.toml:1:21: upstream.max_wait: a call would wait for its turn for longer than for its answer (`timeouts.first_byte`)
          hint: shorten `max_wait`: a client that is told at once can go elsewhere
        ");
}

#[test]
fn accepting_calls_until_the_end_is_a_warning() {
    insta::assert_snapshot!(warnings("limits.min_drain = '30s'"), @r"
        warning: proxy.toml:1:20: limits.min_drain: `min_drain` (30s) leaves nothing of `drain` (30s) for the last calls to end in
          hint: raise `drain` or lower `min_drain`
        ");
    assert_eq!(warnings("limits.drain = '0s'"), "");
    assert_eq!(warnings("limits.min_drain = '5s'"), "");
}

#[test]
fn connections_are_bounded_unless_that_is_switched_off() {
    let connections = |text: &str| {
        text.parse::<Config>()
            .map(|config| config.limits.connections.map(u32::from))
    };
    assert_eq!(connections(""), Ok(Some(10_000)));
    assert_eq!(connections("limits.connections = 7"), Ok(Some(7)));
    assert_eq!(connections("limits.connections = 'off'"), Ok(None));
    assert!(connections("limits.connections = 0").is_err());
    assert!(connections("limits.connections = 1.5").is_err());
}
