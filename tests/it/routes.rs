//! Several upstreams behind one URL: each call goes where its model, the operator's order and its own bytes lead it, and
//! nobody's key goes anywhere else.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::{
    client::{Request, asking, asking_bytes, assert_refused, assert_verdict, chat, request},
    proxy::{Proxy, proxy},
    upstream::{Upstream, completion, upstream},
};

/// Two upstreams, and the proxy in front of both.
struct House {
    one: Upstream,
    two: Upstream,
    proxy: Proxy,
}

/// A house whose upstreams `one` and `two` have these settings.
async fn house(of_one: &str, of_two: &str) -> House {
    house_with("", of_one, of_two).await
}

async fn house_with(config: &str, of_one: &str, of_two: &str) -> House {
    let one = upstream().answers(completion("of one")).start().await;
    let two = upstream().answers(completion("of two")).start().await;
    let section = |name: &str, up: &Upstream, settings: &str| {
        let base_url = up.base_url();
        format!("[[upstream]]\nname = \"{name}\"\nbase_url = \"{base_url}\"\n{settings}\n")
    };
    let proxy = proxy(&one)
        .with(config)
        .with(&section("one", &one, of_one))
        .with(&section("two", &two, of_two))
        .start()
        .await;
    House { one, two, proxy }
}

impl House {
    /// Asserts that `call` is answered by the upstream called `name`, as this verdict.
    async fn goes_to(&self, call: &Request, name: &str, verdict: &str) {
        let answer = self.proxy.send(call).await;
        assert_verdict(&answer, verdict);
        assert_eq!(answer.expect("x-upstream"), name);
    }

    /// Returns how many calls each has had.
    fn counts(&self) -> (usize, usize) {
        (self.one.count(), self.two.count())
    }
}

/// A chat call to `model`.
fn to(model: &str) -> Request {
    asking(&json!({"model": model, "messages": [{"role": "user", "content": "hi"}]}))
}

/// The same call at another path.
fn at(path: &str, model: &str) -> Request {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
    post(path, &body)
}

fn post(path: &str, body: &Value) -> Request {
    request("POST", path)
        .header("Authorization", "Bearer sk-test-alice")
        .header("Content-Type", "application/json")
        .body(body.to_string())
}

#[tokio::test]
async fn a_model_goes_to_the_upstream_that_serves_it_and_is_cached_there() {
    let house = house("models = ['gpt-*']", "models = ['claude-*', 'o?']").await;
    for (model, name) in [("gpt-4o", "one"), ("claude-3", "two"), ("o3", "two")] {
        house.goes_to(&to(model), name, "MISS").await;
        house.goes_to(&to(model), name, "HIT").await;
    }
    assert_eq!(house.counts(), (1, 2));
}

#[tokio::test]
async fn a_call_that_may_not_be_cached_goes_the_same_way() {
    let house = house("models = ['gpt-*']", "models = ['claude-*']").await;
    let unkeyed = [
        to("claude-3").header("X-Cache-Bypass", "true"),
        post(
            "/v1/embeddings",
            &json!({"model": "claude-3", "input": "x"}),
        ),
        asking(&json!({"model": "claude-3", "messages": [], "store": true})),
        asking_bytes(r#"{"model":"claude-3","messages":[],"messages":[]}"#),
    ];
    for call in &unkeyed {
        house.goes_to(call, "two", "BYPASS").await;
    }
    assert_eq!(house.counts(), (0, unkeyed.len()));
}

#[tokio::test]
async fn a_model_that_nobody_serves_is_refused_by_name() {
    let house = house("models = 'gpt-*'", "models = 'claude-*'").await;
    for call in [
        to("llama-3"),
        to("llama-3").header("X-Cache-Bypass", "true"),
        at("/v1/embeddings", "llama-3"),
        at("/_u/one/v1/chat/completions", "llama-3"),
    ] {
        let answer = house.proxy.send(&call).await;
        assert_refused(&answer, 404, "model_not_found");
        assert!(answer.text().contains("`llama-3`"), "{}", answer.text());
    }
    assert_eq!(house.counts(), (0, 0));
}

#[tokio::test]
async fn a_call_without_a_model_goes_to_who_serves_everything() {
    let house = house("models = ['gpt-*']", "models = ['*']\npriority = 7").await;
    let upload = request("POST", "/v1/files")
        .header("Content-Type", "multipart/form-data; boundary=b")
        .body("--b--");
    for call in [
        request("GET", "/v1/models"),
        upload,
        post("/v1/batches", &json!({"input_file_id": "f"})),
        post("/v1/embeddings", &json!({"model": 1})),
    ] {
        house.goes_to(&call, "two", "BYPASS").await;
    }
}

#[tokio::test]
async fn the_lower_priority_goes_first_wherever_it_stands() {
    let house = house("priority = 2", "priority = 1").await;
    house.goes_to(&to("m"), "two", "MISS").await;
    house
        .goes_to(&request("GET", "/v1/models"), "two", "BYPASS")
        .await;
}

#[tokio::test]
async fn equals_share_the_calls_and_each_call_keeps_its_upstream() {
    let house = house("weight = 1", "weight = 3").await;
    let mut names = HashSet::new();
    for number in 0..40 {
        let prompt = format!("prompt {number}");
        let first = house.proxy.send(&chat(&prompt)).await;
        assert_verdict(&first, "MISS");
        let name = first.expect("x-upstream").to_owned();
        let again = chat(&prompt).header("X-Cache-Refresh", "true");
        house.goes_to(&again, &name, "MISS").await;
        let beside = chat(&prompt).header("X-Cache-Bypass", "true");
        house.goes_to(&beside, &name, "BYPASS").await;
        names.insert(name);
    }
    assert_eq!(names.len(), 2, "both have had some");
    let (one, two) = house.counts();
    assert!(one < two, "{one} and {two}");
}

#[tokio::test]
async fn a_model_is_asked_for_by_the_upstreams_own_name_and_nothing_else_changes() {
    let house = house(
        "rename = { gpt-4o = \"our \\\"4o\\\"\" }",
        "models = ['none']",
    )
    .await;
    let body = "{ \"messages\":[{\"role\":\"user\",\"content\":\"model\"}] ,\t\"mod\\u0065l\" : \"gpt-4o\", \"x\":1 }";
    house.goes_to(&asking_bytes(body), "one", "MISS").await;
    let sent = house.one.last();
    let expected = body.replace("\"gpt-4o\"", r#""our \"4o\"""#);
    assert_eq!(String::from_utf8_lossy(&sent.body), expected);
    let length = expected.len().to_string();
    assert_eq!(sent.headers.all("content-length"), [length.as_str()]);
    let embedding = at("/v1/embeddings", "gpt-4o");
    house.goes_to(&embedding, "one", "BYPASS").await;
    let sent: Value = serde_json::from_slice(&house.one.last().body).unwrap();
    assert_eq!(sent["model"], r#"our "4o""#);
    house.goes_to(&to("gpt-4o-mini"), "one", "MISS").await;
    let sent: Value = serde_json::from_slice(&house.one.last().body).unwrap();
    assert_eq!(sent["model"], "gpt-4o-mini");
}

#[tokio::test]
async fn a_model_whose_place_is_not_certain_is_not_renamed_by_guess() {
    let house = house("rename = { a = 'b' }", "models = ['none']").await;
    let body = r#"{"model":"a","MODEL":"x","messages":[]}"#;
    let answer = house.proxy.send(&asking_bytes(body)).await;
    // Nobody can say which of the two names is meant: it goes as it came, as a call whose model is not known.
    assert_eq!(answer.expect("x-upstream"), "one");
    assert_eq!(house.one.last().body, body.as_bytes());
}

#[tokio::test]
async fn a_renamed_model_has_an_entry_of_its_own() {
    let up = upstream().start().await;
    let with = |rename: &str| proxy(&up).with_upstream(&format!("rename = {rename}"));
    let before = with("{ a = 'x' }").start().await;
    let key = |answer: &crate::support::client::Answer| answer.expect("x-cache-key").to_owned();
    let first = key(&before.send(&to("a")).await);
    let mut before = before;
    before.terminate();
    before.ended().await;
    let after = with("{ a = 'y' }").in_home_of(&before).start().await;
    let answer = after.send(&to("a")).await;
    assert_verdict(&answer, "MISS");
    assert_ne!(key(&answer), first);
}

#[tokio::test]
async fn an_upstream_can_be_addressed_and_keeps_its_entries_apart() {
    let house = house("", "rename = { m = 'n' }\npriority = 1").await;
    let addressed = at("/_u/two/v1/chat/completions?a=%2F", "m");
    house.goes_to(&addressed, "two", "MISS").await;
    let sent = house.two.last();
    assert_eq!(sent.target, "/v1/chat/completions?a=%2F");
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(body["model"], "n");
    house.goes_to(&addressed, "two", "HIT").await;
    let by_choice = at("/v1/chat/completions?a=%2F", "m");
    house.goes_to(&by_choice, "one", "MISS").await;
    let addressed = at("/_u/one/v1/chat/completions?a=%2F", "m");
    house.goes_to(&addressed, "one", "MISS").await;
    let models = request("GET", "/_u/two/v1/models");
    house.goes_to(&models, "two", "BYPASS").await;
    assert_eq!(house.two.last().target, "/v1/models");
}

#[tokio::test]
async fn an_address_opens_no_other_path() {
    let house = house("", "").await;
    let unknown = house
        .proxy
        .send(&request("GET", "/_u/three/v1/models"))
        .await;
    assert_refused(&unknown, 404, "not_found");
    assert!(
        unknown.text().contains("`one`, `two`"),
        "{}",
        unknown.text()
    );
    for path in [
        "/_u/two/../v1/models",
        "/_u/two/v1/%2e%2e/admin",
        "/_u/two/..%2f..%2fadmin",
        "/_u/two/v1\\..\\x",
    ] {
        let answer = house.proxy.send(&request("GET", path)).await;
        assert_refused(&answer, 400, "bad_path");
    }
    let nobody = house.proxy.send(&request("GET", "/_u/../v1/models")).await;
    assert_refused(&nobody, 404, "not_found");
    assert_eq!(house.counts(), (0, 0));
}

#[tokio::test]
async fn rules_and_the_log_know_an_addressed_call() {
    let rule = "[[rule]]\nname = 'chats'\nmatch = { path = '/v1/chat/completions' }\nttl = '1h'";
    let house = house_with(rule, "", "").await;
    let addressed = at("/_u/two/v1/chat/completions", "m");
    house.goes_to(&addressed, "two", "MISS").await;
    let line = house.proxy.call_lines(1).await.remove(0);
    assert_eq!(line["rule"], "chats");
    assert_eq!(line["url.path"], "/_u/two/v1/chat/completions");
    assert_eq!(line["upstream"], "two");
}

#[tokio::test]
async fn a_callers_key_is_seen_by_its_primary_alone() {
    let house = house("models = ['a']", "models = ['b']\napi_key = 'sk-proxy'").await;
    let canary = |model: &str| {
        to(model)
            .with_bearer("sk-canary")
            .header("x-api-key", "canary")
            .header("Cookie", "s=canary")
    };
    house.goes_to(&canary("a"), "one", "MISS").await;
    house.goes_to(&canary("b"), "two", "MISS").await;
    let sees = |up: &Upstream| {
        let call = up.last();
        let all = [call.head, call.body].concat();
        String::from_utf8_lossy(&all).contains("canary")
    };
    assert!(sees(&house.one) && !sees(&house.two));
    assert_eq!(
        house.two.last().headers.all("authorization"),
        ["Bearer sk-proxy"]
    );
}

#[tokio::test]
async fn what_one_upstream_says_of_a_credential_proves_nothing_at_another() {
    let accepts = |key: &'static str| {
        upstream().by(move |seen, _| {
            if seen.headers.get("authorization") == Some(key) {
                completion("hello")
            } else {
                crate::support::upstream::json("{}").status(401)
            }
        })
    };
    let one = accepts("Bearer sk-a").start().await;
    let two = accepts("Bearer sk-b").start().await;
    let proxy = proxy(&one)
        .with("[cache]\nscope = 'shared'")
        .with_upstream("models = ['a']")
        .with(&format!(
            "[[upstream]]\nname = 'two'\nbase_url = '{}'\nmodels = ['b']",
            two.base_url()
        ))
        .start()
        .await;
    assert_eq!(proxy.send(&to("a").with_bearer("sk-a")).await.status, 200);
    assert_eq!(proxy.send(&to("b").with_bearer("sk-b")).await.status, 200);
    assert_verdict(&proxy.send(&to("a").with_bearer("sk-a")).await, "HIT");
    assert_verdict(&proxy.send(&to("b").with_bearer("sk-b")).await, "HIT");
    for stranger in [to("b").with_bearer("sk-a"), to("a").with_bearer("sk-b")] {
        let answer = proxy.send(&stranger).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.expect("x-cache-reason"), "unproven");
    }
}

#[tokio::test]
async fn an_old_proof_is_renewed_where_it_was_given() {
    let house = house_with(
        "[cache]\nscope = 'shared'\nproof_ttl = '1us'",
        "models = ['a']\nproof = 'models'",
        "models = ['b']\nproof = 'models'",
    )
    .await;
    house.goes_to(&to("b"), "two", "MISS").await;
    house.goes_to(&to("b"), "two", "HIT").await;
    let asked = house.two.last();
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("GET", "/v1/models")
    );
    assert_eq!(house.counts(), (0, 2));
}

#[tokio::test]
async fn one_upstreams_key_of_the_proxys_own_vouches_for_nobody_at_another() {
    let house = house_with(
        "[cache]\nscope = 'shared'",
        "models = ['a']",
        "models = ['b']\napi_key = 'sk-proxy'",
    )
    .await;
    house.goes_to(&to("b"), "two", "MISS").await;
    house
        .goes_to(&to("b").with_bearer("sk-new"), "two", "HIT")
        .await;
    house.goes_to(&to("a"), "one", "MISS").await;
    let answer = house.proxy.send(&to("a").with_bearer("sk-new")).await;
    assert_verdict(&answer, "MISS");
    assert_eq!(answer.expect("x-cache-reason"), "unproven");
}
