//! When nobody answered: an apology that the caller's program can read, or the honest error where it could not.

use serde_json::{Value, json};

use crate::support::{
    client::{
        Answer, End, Request, asking, asking_bytes, assert_refused, assert_verdict, chat,
        chat_stream, request,
    },
    gate,
    proxy::{Proxy, proxy},
    upstream::{Reply, Upstream, completion, json, status, stream, upstream},
};

/// What is said unless the operator says otherwise.
const TEXT: &str = "I'm sorry, I'm having trouble processing your request right now. \
                    Please try again in a moment.";

/// A proxy with these lines of configuration, before an upstream that is gone, and keeps its port from others.
async fn deserted(config: &str) -> (Upstream, Proxy) {
    let mut nobody = upstream().start().await;
    nobody.leave().await;
    let proxy = proxy(&nobody).with(config).start().await;
    (nobody, proxy)
}

/// Asserts an apology for `reason` and returns what it says.
#[track_caller]
fn apology(answer: &Answer, reason: &str) -> String {
    assert_eq!((answer.status, &answer.end), (200, &End::Clean));
    assert_verdict(answer, "FALLBACK");
    assert_eq!(answer.expect("x-cache-reason"), reason);
    assert_eq!(answer.expect("x-upstream"), "graceful_fallback");
    assert_eq!(answer.expect("cache-control"), "no-store");
    assert_eq!(answer.header("cache-status"), None);
    assert!(answer.header("x-request-id").is_some());
    if answer
        .expect("content-type")
        .starts_with("text/event-stream")
    {
        streamed(answer)
    } else {
        assert_eq!(answer.expect("content-type"), "application/json");
        plain(answer)
    }
}

#[track_caller]
fn plain(answer: &Answer) -> String {
    let completion = answer.json();
    assert_eq!(completion["object"], "chat.completion");
    assert_eq!(completion["model"], "fallback");
    assert_eq!(completion["usage"]["total_tokens"], 0);
    let choice = &completion["choices"][0];
    assert_eq!(choice["finish_reason"], "stop");
    assert_eq!(choice["message"]["role"], "assistant");
    choice["message"]["content"].as_str().unwrap().to_owned()
}

#[track_caller]
fn streamed(answer: &Answer) -> String {
    let text = answer.text();
    let events = text.strip_suffix("data: [DONE]\n\n").expect("an end mark");
    let chunks: Vec<Value> = events
        .split_terminator("\n\n")
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect();
    for chunk in &chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["model"], "fallback");
    }
    let choices = || chunks.iter().map(|chunk| &chunk["choices"][0]);
    assert!(choices().any(|choice| choice["finish_reason"] == "stop"));
    choices()
        .filter_map(|choice| choice["delta"]["content"].as_str())
        .collect()
}

/// Returns the call that asks `hi`, with these members beside.
fn with(members: &Value) -> Request {
    let mut body = json!({"model": "gpt-test", "messages": [{"role": "user", "content": "hi"}]});
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    asking(&body)
}

#[tokio::test]
async fn graceful_fallback_returns_apology() {
    let (_nobody, proxy) = deserted("").await;
    let answer = proxy.send(&chat("hi")).await;
    assert_eq!(apology(&answer, "upstream_unreachable"), TEXT);
    assert_eq!(answer.expect("x-cache-key").len(), 64);
    let answer = proxy.send(&chat_stream("hi")).await;
    assert!(
        answer
            .expect("content-type")
            .starts_with("text/event-stream")
    );
    assert_eq!(apology(&answer, "upstream_unreachable"), TEXT);
    assert!(!answer.text().contains("usage"), "{}", answer.text());
    let usage = with(&json!({"stream": true, "stream_options": {"include_usage": true}}));
    let answer = proxy.send(&usage).await;
    assert_eq!(apology(&answer, "upstream_unreachable"), TEXT);
    assert!(
        answer
            .text()
            .contains(r#""choices":[],"usage":{"prompt_tokens":0"#)
    );
    let many = proxy.send(&with(&json!({"n": 3}))).await;
    assert_eq!(many.json()["choices"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn graceful_fallback_logs_failure() {
    let (_nobody, proxy) = deserted("").await;
    let call = chat("a secret question").header("X-Request-Id", "mine");
    apology(&proxy.send(&call).await, "upstream_unreachable");
    let warning = proxy.logged("apology served").await;
    assert_eq!(warning["level"], "WARN");
    assert_eq!(warning["reason"], "upstream_unreachable");
    assert_eq!(warning["call.id"], "mine");
    assert_eq!(warning["dialect"], "chat");
    let cause = warning["error"].as_str().unwrap();
    assert!(cause.starts_with("no connection to"), "{cause}");
    let line = proxy.call_line(1).await;
    assert_eq!(line["cache.verdict"], "fallback");
    assert_eq!(line["cache.reason"], "upstream_unreachable");
    assert_eq!(line["upstream"], "graceful_fallback");
    assert_eq!(line["http.response.status_code"], 200);
    for (name, label, count) in [
        (
            "refrain_apologies_total",
            r#"reason="upstream_unreachable""#,
            1,
        ),
        ("refrain_apologies_total", "reason=", 1),
        ("refrain_calls_total", r#"verdict="fallback""#, 1),
        ("refrain_saved_tokens_total", "kind=", 0),
    ] {
        proxy.assert_metric(name, &[label], count).await;
    }
    let printed = proxy.printed();
    for secret in ["a secret question", "I'm sorry", "sk-test-alice"] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
}

#[tokio::test]
async fn every_failure_before_the_first_byte_gets_its_apology() {
    let never = gate();
    for (reply, reason) in [
        (status(500), "upstream_error"),
        (
            json(r#"{"error":{"message":"overloaded"}}"#).status(529),
            "upstream_error",
        ),
        (completion("").cut_before_the_head(), "upstream_broken"),
        (
            completion("").garbled(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
            "upstream_broken",
        ),
        (completion("").after(&never), "upstream_timeout"),
    ] {
        let up = upstream().answers(reply).start().await;
        let proxy = proxy(&up)
            .with_timeouts("{ first_byte = \"2s\" }")
            .start()
            .await;
        for call in [chat("hi"), chat_stream("hi")] {
            assert_eq!(apology(&proxy.send(&call).await, reason), TEXT);
        }
    }
}

#[tokio::test]
async fn a_5xx_is_named_by_its_status_in_the_warning() {
    let up = upstream().answers(status(503)).start().await;
    let proxy = proxy(&up).start().await;
    apology(&proxy.send(&chat("hi")).await, "upstream_error");
    let warning = proxy.logged("apology served").await;
    assert_eq!(warning["http.response.status_code"], 503);
    assert_eq!(warning["reason"], "upstream_error");
}

#[tokio::test]
async fn a_stale_entry_goes_before_an_apology() {
    let up = upstream().answers(completion("old")).answers(status(503));
    let up = up.start().await;
    let proxy = proxy(&up).with("[cache]\nttl = \"1ns\"").start().await;
    assert_verdict(&proxy.send(&chat("hi")).await, "MISS");
    let stale = proxy.send(&chat("hi")).await;
    assert_verdict(&stale, "STALE");
    assert_eq!(stale.body, completion("old").bytes());
    apology(&proxy.send(&chat("something else")).await, "upstream_error");
}

#[tokio::test]
async fn an_apology_is_not_stored() {
    let up = upstream()
        .by(|_, number| {
            if number < 9 {
                status(500)
            } else {
                completion("back")
            }
        })
        .start()
        .await;
    let proxy = proxy(&up).start().await;
    while proxy.send(&chat("hi")).await.expect("x-cache") == "FALLBACK" {}
    // The answer that ended the loop was made by the upstream, not by the cache.
    let lines = proxy.call_with("cache.verdict", "miss").await;
    assert_eq!(lines["cache.stored"], true);
    let hit = proxy.send(&chat("hi")).await;
    assert_verdict(&hit, "HIT");
    assert_eq!(hit.body, completion("back").bytes());
}

#[tokio::test]
async fn who_would_misread_an_apology_gets_the_honest_error() {
    let (_nobody, proxy) = deserted("").await;
    let tool = json!({"type": "function", "function": {"name": "f"}});
    for call in [
        with(&json!({"tools": [tool]})),
        with(&json!({"functions": [{"name": "f"}]})),
        with(&json!({"response_format": {"type": "json_object"}})),
        with(
            &json!({"response_format": {"type": "json_schema", "json_schema": {}}, "stream": true}),
        ),
        with(
            &json!({"audio": {"voice": "alloy", "format": "wav"}, "modalities": ["text", "audio"]}),
        ),
        chat("hi").header("X-Fallback", "error"),
        chat_stream("hi").header("x-fallback", "error"),
        asking_bytes("{\"model\":\"m\",\"messages\":[],\"stream\":NaN}"),
        chat("hi").at("/v1/embeddings"),
        chat("hi").at("/v1/unknown"),
        request("GET", "/v1/models"),
    ] {
        let answer = proxy.send(&call).await;
        assert_refused(&answer, 502, "upstream_unreachable");
        assert_eq!(answer.expect("retry-after"), "5");
        assert_eq!(answer.header("x-cache"), None);
    }
}

#[tokio::test]
async fn the_honest_error_is_the_upstreams_own_where_it_has_one() {
    let refusal = json(r#"{"error":{"message":"down for maintenance"}}"#)
        .status(503)
        .header("Retry-After", "120");
    let up = upstream().answers(refusal.clone()).start().await;
    let proxy = proxy(&up).start().await;
    let call = chat("hi").header("X-Fallback", "error");
    let answer = proxy.send(&call).await;
    assert_verdict(&answer, "MISS");
    assert_eq!((answer.status, answer.expect("retry-after")), (503, "120"));
    assert_eq!(answer.body, refusal.bytes());
    assert_eq!(up.last().headers.get("x-fallback"), None);
}

#[tokio::test]
async fn what_is_the_callers_to_hear_is_never_replaced() {
    for code in [400, 401, 403, 404, 408, 409, 413, 422, 429, 451, 501] {
        let refusal = json(r#"{"error":{"message":"yours"}}"#).status(code);
        let up = upstream().answers(refusal.clone()).start().await;
        let proxy = proxy(&up).start().await;
        for call in [chat("hi"), chat_stream("hi")] {
            let answer = proxy.send(&call).await;
            assert_eq!((answer.status, &answer.body), (code, &refusal.bytes()));
            assert_verdict(&answer, "MISS");
        }
    }
}

#[tokio::test]
async fn what_has_begun_to_flow_is_cut_not_continued() {
    let cut = stream(&["a", "b", "c"]).cut_after(3);
    let up = upstream().answers(cut.clone()).start().await;
    let proxy = proxy(&up).start().await;
    let answer = proxy.send(&chat_stream("hi")).await;
    assert_verdict(&answer, "MISS");
    assert_eq!((answer.status, &answer.end), (200, &End::Aborted));
    assert_eq!(answer.body, cut.bytes());
}

#[tokio::test]
async fn calls_without_a_key_are_given_an_apology_too() {
    let rule = "[[rule]]\nmatch = { model = \"uncached\" }\ncache = false";
    let (_nobody, proxy) = deserted(rule).await;
    for call in [
        chat("hi").header("X-Cache-Bypass", "true"),
        chat_stream("hi").header("X-Cache-Bypass", "true"),
        chat("hi").header("Cache-Control", "no-store"),
        chat("hi").header("Cache-Control", "no-cache"),
        with(&json!({"store": true})),
        with(&json!({"web_search_options": {}})),
        with(&json!({"model": "uncached"})),
    ] {
        let answer = proxy.send(&call).await;
        assert_eq!(apology(&answer, "upstream_unreachable"), TEXT);
    }
    let (_nobody, switched_off) = deserted("[cache]\nenabled = false").await;
    for call in [chat("hi"), chat_stream("hi")] {
        let answer = switched_off.send(&call).await;
        assert_eq!(apology(&answer, "upstream_unreachable"), TEXT);
        assert_eq!(answer.header("x-cache-key"), None);
    }
}

#[tokio::test]
async fn only_if_cached_gets_no_apology() {
    let (_nobody, proxy) = deserted("").await;
    let call = chat("hi").header("Cache-Control", "only-if-cached");
    assert_refused(&proxy.send(&call).await, 504, "not_cached");
}

#[tokio::test]
async fn each_member_of_a_flight_is_given_its_own() {
    let gate = gate();
    let failing: Reply = status(500).after(&gate);
    let up = upstream().answers(failing).start().await;
    let proxy = proxy(&up).start().await;
    let leader = proxy.open(&chat("hi")).await;
    gate.reached().await;
    let alike = proxy.open(&chat("hi")).await;
    let streaming = proxy.open(&chat_stream("hi")).await;
    let honest = proxy.open(&chat("hi").header("X-Fallback", "error")).await;
    proxy.joined(3).await;
    gate.open();
    for exchange in [leader, alike] {
        let answer = exchange.finish().await;
        assert_eq!(answer.expect("content-type"), "application/json");
        assert_eq!(apology(&answer, "upstream_error"), TEXT);
    }
    let answer = streaming.finish().await;
    assert!(
        answer
            .expect("content-type")
            .starts_with("text/event-stream")
    );
    assert_eq!(apology(&answer, "upstream_error"), TEXT);
    let answer = honest.finish().await;
    assert_eq!(answer.status, 500);
    assert_verdict(&answer, "COLLAPSED");
}

#[tokio::test]
async fn the_operator_chooses_the_words_and_the_mode() {
    let config = "[fallback]\ntext = \"Back soon.\"\n\
                  [[rule]]\nmatch = { model = \"kind\" }\nfallback = { text = \"Forgive us.\" }\n\
                  [[rule]]\nmatch = { model = \"plain\" }\nfallback = { mode = \"error\" }";
    let (_nobody, proxy) = deserted(config).await;
    let to = |model: &str| with(&json!({"model": model}));
    for (model, text) in [("any", "Back soon."), ("kind", "Forgive us.")] {
        let answer = proxy.send(&to(model)).await;
        assert_eq!(apology(&answer, "upstream_unreachable"), text);
    }
    assert_refused(&proxy.send(&to("plain")).await, 502, "upstream_unreachable");

    let config = "[fallback]\nmode = \"error\"\n\
                  [[rule]]\nmatch = { model = \"kind\" }\nfallback = { mode = \"apology\" }";
    let (_nobody, proxy) = deserted(config).await;
    assert_refused(&proxy.send(&to("any")).await, 502, "upstream_unreachable");
    let answer = proxy.send(&to("kind")).await;
    assert_eq!(apology(&answer, "upstream_unreachable"), TEXT);
}
