//! What is not stored, and the one word in the log that says why.

use serde_json::json;

use crate::support::{
    client::{End, Request, asking, assert_verdict, chat, chat_stream},
    proxy::proxy,
    upstream::{Reply, completion, finished, json as answer, status, stream, upstream},
};

/// Asserts that `call`, answered with `reply`, gets it whole, that it is not stored for `reason`, and is asked anew.
async fn assert_passes_unstored(config: &str, call: &Request, reply: Reply, reason: &str) {
    let up = upstream().answers(reply.clone()).start().await;
    let proxy = proxy(&up).honest().with(config).start().await;
    for count in 1..=2 {
        let answer = proxy.send(call).await;
        assert_verdict(&answer, "MISS");
        assert_eq!(
            (&answer.body, &answer.end),
            (&reply.bytes(), &End::Clean),
            "{reason}"
        );
        let line = proxy.call_line(count).await;
        assert_eq!(line["cache.not_stored"], reason, "{line}");
        assert_eq!(up.count(), count, "{reason}");
    }
}

async fn assert_stored(config: &str, call: &Request, reply: Reply) {
    let up = upstream().answers(reply.clone()).start().await;
    let proxy = proxy(&up).with(config).start().await;
    for verdict in ["MISS", "HIT"] {
        let answer = proxy.send(call).await;
        assert_verdict(&answer, verdict);
        assert_eq!(answer.body, reply.bytes());
    }
    assert!(proxy.call_line(1).await["cache.not_stored"].is_null());
}

#[tokio::test]
async fn an_answer_that_is_no_success_is_not_stored() {
    let body = completion("looks fine").bytes();
    for code in [202, 302, 400, 401, 404, 429, 500, 503] {
        let reply = answer("").status(code).body(body.clone());
        if code == 202 {
            assert_stored("", &chat("hi"), reply).await;
        } else {
            assert_passes_unstored("", &chat("hi"), reply, "status").await;
        }
    }
}

#[tokio::test]
async fn an_answer_that_says_nothing_is_not_stored() {
    let silent = r#"{"choices":[{"index":0,"message":{"content":""},"finish_reason":"stop"}]}"#;
    let null = r#"{"choices":[{"index":0,"message":{"content":null},"finish_reason":"stop"}]}"#;
    for reply in [
        answer(r#"{"choices":[]}"#),
        answer("{}"),
        answer(silent),
        answer(null),
    ] {
        assert_passes_unstored("", &chat("hi"), reply, "empty").await;
    }
    assert_passes_unstored("", &chat_stream("hi"), stream(&[]), "empty").await;
}

#[tokio::test]
async fn an_answer_that_is_an_error_in_a_success_is_not_stored() {
    let mut body = completion("half").bytes();
    body.splice(
        0..1,
        br#"{"error":{"message":"overloaded"},"#.iter().copied(),
    );
    assert_passes_unstored("", &chat("hi"), answer("").body(body), "error_object").await;
}

#[tokio::test]
async fn an_answer_that_was_broken_off_is_not_stored_unless_the_operator_says_so() {
    for reason in ["length", "content_filter", "brand_new"] {
        let reply = finished("once upon a", reason);
        assert_passes_unstored("", &chat("hi"), reply.clone(), "finish_reason").await;
        let config = format!("[cache]\nfinish_reasons = [\"stop\", \"{reason}\"]");
        assert_stored(&config, &chat("hi"), reply).await;
    }
    let unfinished = r#"{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":null}]}"#;
    assert_passes_unstored("", &chat("hi"), answer(unfinished), "incomplete").await;
}

#[tokio::test]
async fn what_the_upstream_forbids_is_not_stored() {
    let upstream_says = |name, value| completion("hello").header(name, value);
    for (name, value, reason) in [
        ("Cache-Control", "no-store", "forbidden"),
        ("Cache-Control", "max-age=60, No-Store", "forbidden"),
        ("Cache-Control", "private", "forbidden"),
        ("Cache-Control", "private=\"x-a\"", "forbidden"),
        ("Vary", "*", "forbidden"),
        ("Vary", "Accept, *", "forbidden"),
    ] {
        let reply = upstream_says(name, value);
        assert_passes_unstored("", &chat("hi"), reply, reason).await;
    }
    for (name, value) in [
        ("Cache-Control", "no-cache"),
        ("Cache-Control", "max-age=0"),
        ("Vary", "Accept"),
    ] {
        assert_stored("", &chat("hi"), upstream_says(name, value)).await;
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_not_stored() {
    assert_passes_unstored("", &chat("hi"), answer(""), "empty").await;
    for body in ["hello", "{\"choices\":", "[1]", "<html></html>"] {
        assert_passes_unstored("", &chat("hi"), answer(body), "unreadable").await;
    }
    let html = status(200)
        .header("content-type", "text/html")
        .body("<html></html>");
    assert_passes_unstored("", &chat("hi"), html, "unreadable").await;
    let encoded = completion("hello").header("content-encoding", "gzip");
    assert_passes_unstored("", &chat("hi"), encoded, "encoded").await;
}

#[tokio::test]
async fn json_that_was_asked_for_and_does_not_parse_is_not_stored() {
    let wanting = |kind: &str| {
        asking(&json!({"model": "m", "messages": [], "response_format": {"type": kind}}))
    };
    for kind in ["json_object", "json_schema"] {
        let broken = completion("{\"a\":");
        assert_passes_unstored("", &wanting(kind), broken, "invalid_output").await;
        assert_stored("", &wanting(kind), completion("{\"a\": 1}")).await;
    }
    assert_stored("", &wanting("text"), completion("{\"a\":")).await;
}

#[tokio::test]
async fn an_answer_above_the_cap_passes_whole_and_unstored() {
    let config = "[cache]\nmax_entry = \"64KiB\"";
    let word = "x".repeat(40 * 1024);
    let long = completion(&word.repeat(2));
    assert_passes_unstored(config, &chat("hi"), long.clone(), "too_large").await;
    assert_passes_unstored(config, &chat("hi"), long.chunked(), "too_large").await;
    let words = stream(&[word.as_str(), word.as_str()]);
    assert_passes_unstored(config, &chat_stream("hi"), words, "too_large").await;
    assert_stored(config, &chat("hi"), completion(&word)).await;
}

#[tokio::test]
async fn tool_calls_refusals_and_vendors_fields_are_stored() {
    let message = |message: serde_json::Value, finish: &str| {
        let choice = json!({"index": 0, "message": message, "finish_reason": finish});
        answer(&json!({"choices": [choice], "x_vendor": 0.10}).to_string())
    };
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    for reply in [
        message(json!({"content": null, "tool_calls": [call]}), "tool_calls"),
        message(json!({"content": null, "refusal": "I cannot"}), "stop"),
        message(json!({"content": "a", "reasoning_content": "b"}), "stop"),
    ] {
        assert_stored("", &chat("hi"), reply).await;
    }
}
