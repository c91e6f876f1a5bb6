//! Rules: the first that matches a call decides how it is cached and how long it may take.

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{
    client::{Request, asking, assert_bypass, assert_refused, assert_verdict, chat, request},
    gate,
    house::{ask, house},
    proxy::{Proxy, proxy, proxy_to},
    upstream::{completion, upstream},
};

/// A chat call to `model`.
fn to(model: &str) -> Request {
    asking(&json!({"model": model, "messages": [{"role": "user", "content": "hi"}]}))
}

/// A chat call with this field beside model and messages.
fn with(field: &str, value: &Value) -> Request {
    asking(&json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], field: value}))
}

/// Asserts that `call` hits and has about `seconds` to live.
async fn assert_lifetime(proxy: &Proxy, call: &Request, seconds: u64) {
    let answer = proxy.send(call).await;
    assert_verdict(&answer, "HIT");
    let left: u64 = answer.expect("x-cache-ttl").parse().unwrap();
    assert!(left <= seconds && left + 30 >= seconds, "{left}");
}

#[tokio::test]
async fn the_first_rule_that_matches_sets_the_lifetime_and_is_in_the_log() {
    let (_up, proxy) = house(
        r#"
        [cache]
        ttl = "1m"
        [[rule]]
        name = "long"
        match = { model = "gpt-4*" }
        ttl = "2h"
        [[rule]]
        match = { model = ["gpt-*", "o3"] }
        ttl = "1h"
    "#,
    )
    .await;
    for (number, (model, rule, seconds)) in [
        ("gpt-4o", json!("long"), 7200),
        ("o3", json!("rule-2"), 3600),
        ("llama", Value::Null, 60),
    ]
    .into_iter()
    .enumerate()
    {
        ask(&proxy, &to(model), "MISS", number).await;
        assert_lifetime(&proxy, &to(model), seconds).await;
        for line in proxy
            .call_lines(2 * number + 2)
            .await
            .iter()
            .skip(2 * number)
        {
            assert_eq!(line["rule"], rule, "{line}");
        }
    }
}

#[tokio::test]
async fn a_callers_own_lifetime_counts_more_than_a_rules() {
    let rule = "[[rule]]\nttl = \"2h\"";
    let (_up, proxy) = house(rule).await;
    let asking = to("m").header("X-Cache-TTL", "10m");
    ask(&proxy, &asking, "MISS", 0).await;
    assert_lifetime(&proxy, &to("m"), 600).await;
    let (_up, proxy) = house(&format!("[cache]\nallow = []\n{rule}")).await;
    ask(&proxy, &asking, "MISS", 0).await;
    assert_lifetime(&proxy, &to("m"), 7200).await;
}

#[tokio::test]
async fn a_rule_takes_calls_out_of_the_cache() {
    let (up, proxy) = house("[[rule]]\nmatch.model = \"fast-*\"\ncache = false").await;
    for count in 1..=2 {
        assert_bypass(&proxy.send(&to("fast-1")).await, "rule");
        assert_eq!(up.count(), count);
    }
    let line = proxy.call_line(2).await;
    assert_eq!(line["rule"], "rule-1");
    assert_eq!(line["cache.reason"], "rule");
    ask(&proxy, &to("slow-1"), "MISS", 2).await;
    ask(&proxy, &to("slow-1"), "HIT", 2).await;
}

#[tokio::test]
async fn a_rule_may_allow_what_is_never_cached_by_itself() {
    let (up, proxy) = house("[[rule]]\nmatch.namespace = \"known\"\ncache = true").await;
    let stateful = with("store", &json!(true));
    let live = with("tools", &json!([{"type": "web_search"}]));
    assert_bypass(&proxy.send(&stateful).await, "stateful");
    assert_bypass(&proxy.send(&live).await, "live_tools");
    for (number, call) in [(2, stateful), (3, live)] {
        let call = call.header("X-Cache-Namespace", "known");
        ask(&proxy, &call, "MISS", number).await;
        ask(&proxy, &call, "HIT", number).await;
    }
    assert_eq!(up.count(), 4);
}

#[tokio::test]
async fn a_bypass_stays_one_whatever_a_rule_allows() {
    let (_up, proxy) = house("[[rule]]\ncache = true").await;
    let call = to("m").header("X-Cache-Bypass", "true");
    assert_bypass(&proxy.send(&call).await, "bypass");
    assert_eq!(proxy.call_line(1).await["rule"], "rule-1");
}

#[tokio::test]
async fn every_condition_is_read_off_the_call() {
    let (_up, proxy) = house(
        r#"
        [[rule]]
        name = "models"
        match.path = "/v1/models*"
        [[rule]]
        name = "tools"
        match.tools = true
        [[rule]]
        name = "cold"
        match.max_temperature = 0.2
        [[rule]]
        name = "hot"
        match.min_temperature = 1.5
        [[rule]]
        name = "space"
        match.namespace = "x*"
        [[rule]]
        name = "team"
        match.header = { X-Team = ["a", "b"] }
        [[rule]]
        name = "nobody"
        match = { caller = "anonymous", dialect = "chat" }
    "#,
    )
    .await;
    let plain = || to("m").with_bearer("sk-1");
    let function = json!([{"type": "function", "function": {"name": "f"}}]);
    let calls = [
        (request("GET", "/v1/models?limit=1"), json!("models")),
        (with("tools", &function), json!("tools")),
        (with("temperature", &json!(2e-1)), json!("cold")),
        (with("temperature", &json!(1.5)), json!("hot")),
        (plain().header("X-Cache-Namespace", "x1"), json!("space")),
        (plain().header("x-team", "b"), json!("team")),
        (to("m").without("authorization"), json!("nobody")),
        (plain(), Value::Null),
    ];
    for (number, (call, rule)) in calls.iter().enumerate() {
        assert_eq!(proxy.send(call).await.status, 200);
        let line = proxy.call_line(number + 1).await;
        assert_eq!(line["rule"], *rule, "{line}");
    }
}

#[tokio::test]
async fn a_rules_timer_counts_in_place_of_the_upstreams() {
    let never = gate();
    let up = upstream()
        .answers(completion("").after(&never))
        .answers(completion("hello"));
    let up = up.start().await;
    let config = "[[rule]]\nmatch.model = \"fast\"\ntimeouts.first_byte = \"2s\"";
    let proxy = proxy(&up).honest().with(config).start().await;
    assert_refused(&proxy.send(&to("fast")).await, 504, "upstream_timeout");
    up.abandoned(0).await;
    assert_verdict(&proxy.send(&to("fast")).await, "MISS");
}

#[tokio::test]
async fn a_rules_patience_for_a_connection_is_its_own() {
    // It takes connections and says nothing, so that no TLS session ever begins.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("https://{}/v1", silent.local_addr().unwrap());
    let config = "[[rule]]\nmatch.model = \"fast\"\ntimeouts.connect = \"150ms\"\n[[rule]]\ntimeouts.connect = \"250ms\"";
    let proxy = proxy_to(&base_url).honest().with(config).start().await;
    for (call, limit) in [(to("fast"), "150ms"), (chat("hi"), "250ms")] {
        let answer = proxy.send(&call).await;
        assert_refused(&answer, 504, "upstream_timeout");
        assert!(answer.text().contains(limit), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_rule_sets_the_scope_of_its_calls_alone() {
    let (up, proxy) = house("[[rule]]\nmatch.model = \"common\"\nscope = \"shared\"").await;
    let by = |model, key| to(model).with_bearer(key);
    // The upstream accepts each caller with this model before anything is shared with it.
    for (number, key) in ["sk-a", "sk-b"].into_iter().enumerate() {
        let known = by("common", key).header("X-Cache-Namespace", key);
        ask(&proxy, &known, "MISS", number).await;
    }
    ask(&proxy, &by("common", "sk-a"), "MISS", 2).await;
    ask(&proxy, &by("common", "sk-b"), "HIT", 2).await;
    ask(&proxy, &by("own", "sk-a"), "MISS", 3).await;
    ask(&proxy, &by("own", "sk-b"), "MISS", 4).await;
    assert_eq!(up.count(), 5);
}

#[tokio::test]
async fn a_client_cannot_nominate_away_the_header_that_a_rule_takes_the_tenant_from() {
    let (up, proxy) = house("[[rule]]\nscope = \"header:Tenant\"\n").await;
    let call = chat("hi")
        .header("Tenant", "acme")
        .header("Connection", "tenant");
    assert_verdict(&proxy.send(&call).await, "MISS");
    assert_eq!(up.last().headers.get("tenant"), Some("acme"));
}
