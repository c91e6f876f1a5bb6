//! What was counted is told by day, model and namespace, and is still known after a restart.

use serde_json::{Value, json};

use crate::support::{
    client::{Answer, Request, asking, assert_refused, at_once, chat, request},
    gate,
    proxy::{Proxy, proxy, run},
    upstream::{Upstream, completion, json as reply, upstream},
};

/// An upstream whose answers have 11 and 7 tokens.
async fn answering() -> Upstream {
    upstream().answers(completion("hello")).start().await
}

async fn stats(proxy: &Proxy, query: &str) -> Answer {
    proxy.admin(&format!("/api/stats{query}")).await
}

/// Returns what was counted.
async fn told(proxy: &Proxy) -> Value {
    let answer = stats(proxy, "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn asking_of(model: &str, prompt: &str) -> Request {
    asking(&json!({"model": model, "messages": [{"role": "user", "content": prompt}]}))
}

/// Returns the part of `list` whose member `name` is `value`.
fn of<'a>(told: &'a Value, name: &str, value: &str) -> &'a Value {
    let list = told[format!("by_{name}")].as_array();
    let part = list.and_then(|list| list.iter().find(|part| part[name] == value));
    part.unwrap_or_else(|| panic!("{name} `{value}` in {told}"))
}

#[track_caller]
fn assert_counts(counts: &Value, expected: &Value) {
    for (name, expected) in expected.as_object().unwrap() {
        assert_eq!(&counts[name], expected, "{name} of {counts}");
    }
}

#[tokio::test]
async fn get_metrics_returns_totals() {
    let up = upstream().by(|seen, _| match seen.target.as_str() {
        "/v1/chat/completions" => completion("hello"),
        _ => reply("{}").status(500),
    });
    let up = up.start().await;
    let proxy = proxy(&up).start().await;
    for call in [
        chat("hi"),
        chat("hi"),
        chat("hi").header("X-Cache-Namespace", "blue"),
        asking_of("gpt-big", "ho"),
        chat("hi").header("X-Cache-Bypass", "true"),
        request("GET", "/v1/broken"),
        chat("hi").header("X-Cache-TTL", "malformed"),
    ] {
        proxy.send(&call).await;
    }
    proxy.call_lines(7).await;
    let told = told(&proxy).await;
    let total = json!({
        "calls": 7, "hit": 1, "miss": 3, "bypass": 2, "none": 1, "collapsed": 0, "stale": 0, "fallback": 0, "errors": 2,
        "hit_ratio": 0.25, "spent_tokens": {"input": 33, "output": 21}, "saved_tokens": {"input": 11, "output": 7},
    });
    assert_counts(&told["total"], &total);
    assert_eq!(told["covers"], "database");
    assert_eq!(
        (&told["complete"], &told["days"]),
        (&json!(true), &json!(7))
    );
    let days = told["by_day"].as_array().unwrap();
    assert_eq!(days.last().unwrap()["day"].as_str().map(str::len), Some(10));
    let by_model = json!({"calls": 4, "hit": 1, "miss": 2, "bypass": 1});
    assert_counts(of(&told, "model", "gpt-test"), &by_model);
    assert_counts(
        of(&told, "model", "gpt-big"),
        &json!({"calls": 1, "miss": 1}),
    );
    assert_counts(of(&told, "model", ""), &json!({"calls": 2, "none": 1}));
    assert_counts(
        of(&told, "namespace", "blue"),
        &json!({"calls": 1, "miss": 1}),
    );
    assert_counts(of(&told, "dialect", "chat"), &json!({"calls": 6}));
    assert_counts(
        of(&told, "dialect", "other"),
        &json!({"bypass": 1, "errors": 1}),
    );
}

#[tokio::test]
async fn those_who_joined_a_flight_saved_their_tokens() {
    let gate = gate();
    let up = upstream()
        .answers(completion("hello").after(&gate))
        .start()
        .await;
    let proxy = proxy(&up).start().await;
    let (addr, call) = (proxy.addr, chat("hi"));
    let calls = at_once(addr, &call, 5);
    let joined = async {
        proxy.joined(4).await;
        gate.open();
    };
    tokio::join!(calls, joined);
    proxy.call_lines(5).await;
    let expected = json!({
        "calls": 5, "miss": 1, "collapsed": 4, "hit_ratio": 0.8,
        "spent_tokens": {"input": 11, "output": 7}, "saved_tokens": {"input": 44, "output": 28},
    });
    assert_counts(&told(&proxy).await["total"], &expected);
}

#[tokio::test]
async fn metrics_survive_restart() {
    let up = answering().await;
    let mut old = proxy(&up).start().await;
    for calls in 1..=2 {
        old.send(&chat("hi")).await;
        old.call_lines(calls).await;
    }
    assert_counts(&told(&old).await["total"], &json!({"hit": 1, "miss": 1}));
    // The counters may be on the disk before the entry is.
    old.counted("refrain_disk_written_total", 1.0).await;
    old.kill().await;
    let mut new = proxy(&up).in_home_of(&old).start().await;
    assert_counts(&told(&new).await["total"], &json!({"hit": 1, "miss": 1}));
    new.send(&chat("hi")).await;
    new.terminate();
    new.ended().await;
    let last = proxy(&up).in_home_of(&new).start().await;
    let all = json!({"calls": 3, "hit": 2, "miss": 1, "saved_tokens": {"input": 22, "output": 14}});
    assert_counts(&told(&last).await["total"], &all);
}

#[tokio::test]
async fn without_a_store_a_process_tells_what_it_has_counted() {
    let up = answering().await;
    let proxy = proxy(&up).with("[store]\npath = \"off\"").start().await;
    proxy.send(&chat("hi")).await;
    proxy.call_line(1).await;
    for _ in 0..2 {
        let told = told(&proxy).await;
        assert_counts(&told["total"], &json!({"calls": 1, "miss": 1}));
        assert_eq!(
            (&told["covers"], &told["complete"]),
            (&json!("process"), &json!(true))
        );
    }
}

#[tokio::test]
async fn callers_cannot_fill_the_counters_with_names() {
    let up = answering().await;
    let proxy = proxy(&up).start().await;
    let long = "m".repeat(129);
    let odd = "gpt\u{1b}[2J:5:\u{fc}";
    for (call, model) in [&long, odd].into_iter().enumerate() {
        proxy.send(&asking_of(model, "hi")).await;
        proxy.call_line(call + 1).await;
    }
    let told = told(&proxy).await;
    assert_counts(of(&told, "model", "other"), &json!({"calls": 1}));
    assert_counts(of(&told, "model", odd), &json!({"calls": 1}));
    let metrics = proxy.admin("/metrics").await.text();
    assert!(
        !metrics.contains("gpt"),
        "no metric has a model as its label"
    );
}

#[tokio::test]
async fn the_command_shows_what_the_operator_may_see() {
    let up = answering().await;
    let token = "0123456789abcdef";
    let settings = format!("[admin]\ntoken = \"{token}\"");
    let proxy = proxy(&up).with(&settings).start().await;
    proxy.send(&chat("hi")).await;
    proxy.call_line(1).await;
    assert_refused(&stats(&proxy, "").await, 401, "forbidden");
    let url = format!("http://{}", proxy.admin);
    let asked = ["stats", "--url", &url, "--token", token];
    let shown = run(&asked).await;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.out.contains("gpt-test"), "{}", shown.out);
    let told = run(&[&asked[..], &["--json", "--days", "1"]].concat()).await;
    let told: Value = serde_json::from_str(&told.out).unwrap();
    assert_counts(&told, &json!({"days": 1, "complete": true}));
    let refused = run(&[&asked[..], &["--days", "0"]].concat()).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("hint: "), "{}", refused.err);
    let stranger = run(&["stats", "--url", &url, "--token", "wrong"]).await;
    assert!(
        stranger.err.contains("the token is missing or wrong"),
        "{}",
        stranger.err
    );
}

#[tokio::test]
async fn a_query_that_is_none_is_refused_with_the_remedy() {
    let up = answering().await;
    let proxy = proxy(&up).start().await;
    for query in ["?days=0", "?days=401", "?days=x", "?weeks=1"] {
        let answer = stats(&proxy, query).await;
        assert_refused(&answer, 400, "bad_request");
    }
}
