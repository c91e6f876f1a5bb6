//! An upstream that fails is left alone for a while, and tried again by one call at a time; no caller can bring that
//! about by what it does wrong itself.

use crate::support::{
    client::{Answer, End, Request, assert_refused, assert_verdict, chat, chat_stream, request},
    gate,
    proxy::{Proxy, proxy},
    upstream::{Reply, Upstream, completion, status, stream, upstream},
    within,
};

/// A call that is told what really happens.
fn ask(prompt: &str) -> Request {
    chat(prompt).header("X-Fallback", "error")
}

/// Sends calls, each other than those before, until one is refused; returns the refusal.
async fn until_refused(proxy: &Proxy, call: impl Fn(&str) -> Request) -> Answer {
    let refused = async {
        for number in 0.. {
            let answer = proxy.send(&call(&format!("call {number}"))).await;
            if answer.text().contains("upstream_unavailable") {
                return answer;
            }
        }
        unreachable!("numbers do not end");
    };
    within("a circuit to open", refused).await
}

/// Waits until the worst circuit is in this state.
async fn state(proxy: &Proxy, wanted: u8) {
    let reached = async {
        let wanted = f64::from(wanted);
        while (proxy.metric("refrain_circuit_state", &[]).await - wanted).abs() > 0.5 {}
    };
    within(&format!("the circuits to be {wanted}"), reached).await;
}

async fn turns(proxy: &Proxy, to: &str) -> f64 {
    let label = format!("to=\"{to}\"");
    let labels = ["upstream=\"openai\"", &label];
    proxy
        .metric("refrain_circuit_transitions_total", &labels)
        .await
}

/// Starts an upstream whose first twenty answers are `failing`, and whose others are `then`.
async fn failing_at_first(failing: Reply, then: Reply) -> Upstream {
    let script = upstream().by(move |_, number| {
        if number < 20 {
            failing.clone()
        } else {
            then.clone()
        }
    });
    script.start().await
}

#[tokio::test]
async fn an_upstream_that_fails_is_left_alone_until_a_probe_succeeds() {
    let gate = gate();
    let up = failing_at_first(status(500), completion("hello").after(&gate)).await;
    let proxy = proxy(&up).start().await;
    let refused = until_refused(&proxy, ask).await;
    assert_refused(&refused, 503, "upstream_unavailable");
    let after: u64 = refused.expect("retry-after").parse().unwrap();
    assert!((1..=5).contains(&after), "{after}");
    assert_eq!(up.count(), 20);

    let tripped = proxy.logged("circuit tripped").await.to_string();
    for fact in ["openai", "gpt-test", "server_error", "open_for"] {
        assert!(tripped.contains(fact), "{fact} in {tripped}");
    }
    let ready = proxy.admin("/readyz").await;
    let detail = "degraded\ncircuit open: upstream \"openai\", model \"gpt-test\"\n";
    assert_eq!((ready.status, ready.text().as_str()), (200, detail));
    let ready = proxy.send(&request("GET", "/_refrain/readyz")).await;
    assert_eq!((ready.status, ready.text().as_str()), (200, "ready\n"));

    state(&proxy, 1).await;
    let mut probe = proxy.open(&ask("probe")).await;
    gate.reached().await;
    for number in 0..10 {
        let other = proxy.send(&ask(&format!("other {number}"))).await;
        assert_refused(&other, 503, "upstream_unavailable");
    }
    assert_eq!(up.count(), 21, "one probe at a time");
    gate.open();
    assert_verdict(&probe.next().await, "MISS");
    state(&proxy, 0).await;
    assert_verdict(&proxy.send(&ask("next")).await, "MISS");
    assert_eq!(up.count(), 22);
    assert_eq!(proxy.admin("/readyz").await.text(), "ready\n");
    for to in ["open", "half_open", "closed"] {
        assert!((turns(&proxy, to).await - 1.0).abs() < 0.5, "{to}");
    }
    let refused = proxy.metric("refrain_circuit_refused_total", &[]).await;
    assert!(refused > 10.5, "{refused}");
}

#[tokio::test]
async fn the_operator_says_how_many_failures_are_too_many() {
    let up = upstream().answers(status(503)).start().await;
    let proxy = proxy(&up).with("[breaker]\nmin_calls = 3\nopen = \"1m\"");
    let proxy = proxy.start().await;
    let refused = until_refused(&proxy, ask).await;
    let after: u64 = refused.expect("retry-after").parse().unwrap();
    assert!((40..=60).contains(&after), "{after}");
    assert_eq!(up.count(), 3);
}

#[tokio::test]
async fn two_hundred_calls_with_a_revoked_key_leave_the_circuit_closed_for_a_good_one() {
    let up = upstream().by(|seen, _| match seen.headers.get("authorization") {
        Some("Bearer sk-revoked") => status(401),
        _ => completion("hello"),
    });
    let up = up.start().await;
    let proxy = proxy(&up).start().await;
    for number in 0..200 {
        let call = ask(&format!("call {number}")).with_bearer("sk-revoked");
        assert_eq!(proxy.send(&call).await.status, 401);
    }
    assert_verdict(&proxy.send(&ask("hi")).await, "MISS");
    assert_eq!(up.count(), 201);
    assert!(turns(&proxy, "open").await < 0.5);
}

#[tokio::test]
async fn answers_that_are_cut_in_the_middle_are_failures() {
    for call in [chat_stream, elsewhere] {
        let cut = stream(&["a", "b", "c"]).cut_after(2);
        let up = failing_at_first(cut, stream(&["whole"])).await;
        let proxy = proxy(&up).start().await;
        let call = |prompt: &str| call(prompt).header("X-Fallback", "error");
        let first = proxy.send(&call("first")).await;
        assert_eq!((first.status, first.end), (200, End::Aborted));
        until_refused(&proxy, call).await;
        assert_eq!(up.count(), 20);
        let tripped = proxy.logged("circuit tripped").await.to_string();
        assert!(tripped.contains("upstream_broken"), "{tripped}");
        state(&proxy, 1).await;
        assert_eq!(proxy.send(&call("probe")).await.end, End::Clean);
        state(&proxy, 0).await;
    }
}

/// A stream that has no key.
fn elsewhere(prompt: &str) -> Request {
    chat_stream(prompt).at("/v1/elsewhere")
}

#[tokio::test]
async fn a_stale_entry_stands_in_while_the_circuit_is_open() {
    let up = upstream().by(|_, number| match number {
        0 => completion("warm"),
        _ => status(502),
    });
    let up = up.start().await;
    let proxy = proxy(&up).with("[cache]\nttl = \"1ns\"").start().await;
    assert_verdict(&proxy.send(&ask("warm")).await, "MISS");
    until_refused(&proxy, ask).await;
    let calls = up.count();
    let stale = proxy.send(&ask("warm")).await;
    assert_verdict(&stale, "STALE");
    assert_eq!(stale.body, completion("warm").bytes());
    assert_eq!(up.count(), calls, "the upstream is left alone");
}

#[tokio::test]
async fn a_busy_upstream_is_left_alone_only_where_the_key_is_the_proxys_own() {
    let up = upstream().answers(status(429)).start().await;
    let callers = proxy(&up).start().await;
    for number in 0..30 {
        let answer = callers.send(&ask(&format!("call {number}"))).await;
        assert_eq!(answer.status, 429);
    }
    assert!(turns(&callers, "open").await < 0.5);

    let own = proxy(&up).with_upstream("api_key = \"sk-own\"");
    let own = own.start().await;
    until_refused(&own, ask).await;
    let tripped = own.logged("circuit tripped").await.to_string();
    assert!(tripped.contains("busy"), "{tripped}");
}

#[tokio::test]
async fn uploads_that_stall_do_not_trip_the_circuit_for_others() {
    let up = upstream().start().await;
    let proxy = proxy(&up)
        .with("[breaker]\nmin_calls = 3\n[limits]\nbody = \"4s\"")
        .with_timeouts("{ first_byte = \"2s\" }")
        .start()
        .await;
    let upload = request("POST", "/v1/audio/transcriptions").header("Content-Length", "100000");
    let mut stalled = Vec::new();
    for _ in 0..5 {
        let mut exchange = upload.open_head(proxy.addr).await;
        exchange.write(b"abc").await;
        stalled.push(exchange);
    }
    for mut exchange in stalled {
        assert_refused(&exchange.next().await, 408, "request_timeout");
    }
    let other = request("GET", "/v1/models").with_bearer("sk-other");
    assert_eq!(proxy.send(&other).await.status, 200);
    assert!(turns(&proxy, "open").await < 0.5);
}

#[tokio::test]
async fn readers_that_are_slow_do_not_trip_the_circuit_for_others() {
    let long = completion(&"x".repeat(16 << 20));
    let up = upstream().by(move |seen, _| match seen.target.as_str() {
        "/v1/files/f/content" => long.clone(),
        _ => completion("hello"),
    });
    let up = up.start().await;
    let proxy = proxy(&up)
        .with("[breaker]\nmin_calls = 3\n[limits]\nidle = \"6s\"")
        .with_timeouts("{ total = \"5s\" }")
        .start()
        .await;
    let mut slow = Vec::new();
    for _ in 0..5 {
        let download = request("GET", "/v1/files/f/content");
        let mut exchange = download.open_narrow(proxy.addr).await;
        exchange.head().await;
        slow.push(exchange);
    }
    // It is longer than the calls may take in all.
    proxy.idle_time().await;
    for exchange in slow {
        let answer = exchange.finish().await;
        assert_eq!((answer.status, answer.end), (200, End::Aborted));
    }
    for line in proxy.call_lines(5).await {
        assert_eq!(line["error.kind"], "client_stalled", "{line}");
    }
    let other = request("GET", "/v1/models").with_bearer("sk-other");
    assert_eq!(proxy.send(&other).await.status, 200);
    assert!(turns(&proxy, "open").await < 0.5);
}
