//! What the operator sees: health, numbers, one log line per call, and never a secret.

use crate::support::{
    client::{Request, asking, assert_refused, at_once, chat, chat_stream, request},
    proxy::proxy,
    upstream::{completion, json, stream, upstream},
};

#[tokio::test]
async fn health_and_readiness_stand_on_both_listeners() {
    let up = upstream().start().await;
    let proxy = proxy(&up).start().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(proxy.admin(path).await.status, 200, "{path}");
        let here = proxy
            .send(&request("GET", &format!("/_refrain{path}")))
            .await;
        assert_eq!(here.status, 200, "/_refrain{path}");
    }
    let unknown = proxy.send(&request("GET", "/_refrain/nothing")).await;
    assert_refused(&unknown, 404, "not_found");
    assert_eq!(proxy.admin("/nothing").await.status, 404);
    assert_eq!(up.count(), 0);
}

#[tokio::test]
async fn calls_are_counted_by_verdict_and_status() {
    let up = upstream().by(|seen, _| match seen.target.as_str() {
        "/v1/chat/completions" => completion("hello"),
        _ => json("{}").status(404),
    });
    let up = up.start().await;
    let proxy = proxy(&up).start().await;
    for call in [
        chat("hi"),
        chat("hi"),
        chat("hi"),
        chat("ho"),
        request("GET", "/v1/none"),
    ] {
        proxy.send(&call).await;
    }
    proxy.call_lines(5).await;
    for (labels, count) in [
        (
            vec![
                "verdict=\"hit\"",
                "status_class=\"2xx\"",
                "dialect=\"chat\"",
            ],
            2.0,
        ),
        (vec!["verdict=\"miss\"", "dialect=\"chat\""], 2.0),
        (vec!["verdict=\"bypass\"", "status_class=\"4xx\""], 1.0),
        (vec![], 5.0),
    ] {
        let seen = proxy.metric("refrain_calls_total", &labels).await;
        assert!(
            (seen - count).abs() < 0.5,
            "{labels:?}: {seen} instead of {count}"
        );
    }
}

#[tokio::test]
async fn the_metrics_are_open_metrics_text_with_help() {
    let up = upstream().start().await;
    let proxy = proxy(&up).start().await;
    proxy.send(&chat("hi")).await;
    proxy.call_line(1).await;
    let page = proxy.admin("/metrics").await;
    assert_eq!(page.status, 200);
    let text = page.text();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("refrain_"), "{line}");
        let (_, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    assert!(text.contains("# HELP refrain_calls"), "{text}");
    assert!(text.contains("refrain_upstream_seconds"), "{text}");
}

#[tokio::test]
async fn every_call_leaves_one_line_with_its_facts() {
    let up = upstream().answers(completion("hello")).start().await;
    let proxy = proxy(&up).start().await;
    let cold = proxy.send(&chat("hi")).await;
    proxy.send(&chat("hi")).await;
    let lines = proxy.call_lines(2).await;
    for (line, verdict) in lines.iter().zip(["miss", "hit"]) {
        assert_eq!(line["cache.verdict"], verdict, "{line}");
        assert_eq!(line["dialect"], "chat", "{line}");
        assert_eq!(line["model"], "gpt-test", "{line}");
        assert_eq!(line["upstream"], "openai", "{line}");
        assert_eq!(line["http.request.method"], "POST", "{line}");
        assert_eq!(line["http.response.status_code"], 200, "{line}");
        assert_eq!(
            line["cache.key"],
            cold.expect("x-cache-key")[..12],
            "{line}"
        );
        assert_eq!(line["bytes"], completion("hello").bytes().len(), "{line}");
        assert_eq!(line["gen_ai.usage.input_tokens"], 11, "{line}");
        assert_eq!(line["gen_ai.usage.output_tokens"], 7, "{line}");
        assert!(
            line["ttfb_ms"].is_number() && line["total_ms"].is_number(),
            "{line}"
        );
        assert!(line["call.id"].is_string(), "{line}");
    }
    assert_ne!(lines[0]["call.id"], lines[1]["call.id"]);
}

#[tokio::test]
async fn a_client_that_hung_up_leaves_its_line_too() {
    let up = upstream()
        .answers(stream(&["a"]).silent_after(2))
        .start()
        .await;
    let proxy = proxy(&up).start().await;
    let mut exchange = proxy.open(&chat_stream("hi")).await;
    exchange.body(1).await;
    drop(exchange);
    let line = proxy.call_line(1).await;
    assert_eq!(line["http.response.status_code"], 200, "{line}");
}

#[tokio::test]
async fn no_credential_prompt_or_completion_is_ever_printed() {
    let up = upstream().by(|seen, _| {
        let streams = seen.body.ends_with(b"\"stream\":true}");
        let says = "canary-completion";
        let reply = if streams {
            stream(&[says])
        } else {
            completion(says)
        };
        reply.header("Set-Cookie", "canary-set-cookie")
    });
    let up = up.start().await;
    let proxy = proxy(&up).with("[log]\nlevel = \"trace\"").start().await;
    let dress = |call: Request| {
        call.with_bearer("sk-canary-credential")
            .header("api-key", "canary-api-key")
            .header("Cookie", "session=canary-cookie")
    };
    let schema = serde_json::json!({
        "model": "m", "messages": [{"role": "user", "content": "canary-prompt"}], "user": "canary-user",
    });
    let calls = [
        dress(chat("canary-prompt")),
        dress(chat_stream("canary-prompt")),
        dress(asking(&schema)),
        dress(chat("canary-prompt")).header("X-Cache-TTL", "canary-malformed"),
        dress(request("POST", "/v1/unknown?api_key=canary-query")).body("canary-prompt"),
        dress(chat("canary-prompt").at("/v1/../x")),
    ];
    for call in calls.iter().chain(&calls) {
        proxy.send(call).await;
    }
    at_once(proxy.addr, &dress(chat_stream("canary-prompt again")), 5).await;
    proxy.call_lines(12).await;
    let metrics = proxy.admin("/metrics").await.text();
    for (what, text) in [("print", proxy.printed()), ("metrics", metrics)] {
        let leak = text.lines().find(|line| line.contains("canary"));
        assert_eq!(leak, None, "a secret in what the proxy {what}s");
        assert!(!text.contains("Y2FuYXJ5"), "a secret in base64");
    }
}
