//! `max_concurrent`: so many calls at an upstream at a time; the next ones wait, and are shed when the wait is too long.

use crate::support::{
    client::{assert_refused, assert_verdict, chat, chat_stream},
    gate,
    proxy::{Proxy, proxy},
    upstream::{Upstream, completion, stream, upstream},
};

/// One call at a time, and others wait for so long.
fn one_at_a_time(max_wait: &str) -> String {
    format!("max_concurrent = 1\nmax_wait = \"{max_wait}\"")
}

async fn house(up: &Upstream, max_wait: &str) -> Proxy {
    let settings = one_at_a_time(max_wait);
    proxy(up).with_upstream(&settings).start().await
}

#[tokio::test]
async fn a_call_beyond_the_limit_waits_until_a_body_has_ended() {
    let gate = gate();
    let long = stream(&["a", "b", "c"]);
    let up = upstream()
        .answers(long.clone().pausing_after(2, &gate))
        .answers(completion("next"))
        .start()
        .await;
    let proxy = house(&up, "1h").await;
    let mut first = proxy.open(&chat_stream("hi")).await;
    first.body(1).await;
    let second = proxy.open(&chat("ho")).await;
    proxy.counted("refrain_limit_waiting", 1.0).await;
    assert_eq!(up.count(), 1);
    gate.open();
    assert_eq!(first.finish().await.body, long.bytes());
    assert_eq!(second.finish().await.body, completion("next").bytes());
    assert_eq!(proxy.metric("refrain_limit_waiting", &[]).await, 0.0);
    assert_eq!(proxy.metric("refrain_limit_waited_total", &[]).await, 1.0);
    assert_eq!(proxy.metric("refrain_limit_shed_total", &[]).await, 0.0);
}

#[tokio::test]
async fn a_call_that_would_wait_too_long_is_shed_and_told_when_to_come_again() {
    let gate = gate();
    let up = upstream().answers(completion("hello").after(&gate));
    let up = up.start().await;
    let proxy = house(&up, "200ms").await;
    let first = proxy.open(&chat("hi")).await;
    up.arrived(1).await;
    for call in [chat("ho"), chat_stream("ho"), chat("ho").at("/v1/passed")] {
        let shed = proxy.send(&call).await;
        assert_refused(&shed, 503, "busy");
        assert_eq!(shed.expect("retry-after"), "1");
        assert!(shed.text().contains("`openai`"), "{}", shed.text());
    }
    assert_eq!(up.count(), 1);
    let upstream = ["upstream=\"openai\""];
    assert_eq!(
        proxy.metric("refrain_limit_shed_total", &upstream).await,
        3.0
    );
    assert_eq!(proxy.metric("refrain_limit_taken", &upstream).await, 1.0);
    gate.open();
    assert_eq!(first.finish().await.status, 200);
    assert_verdict(&proxy.send(&chat("ho")).await, "MISS");
    assert_eq!(proxy.metric("refrain_limit_taken", &upstream).await, 0.0);
}

#[tokio::test]
async fn hits_and_followers_need_no_place() {
    let gate = gate();
    let up = upstream()
        .answers(completion("known"))
        .answers(completion("hello").after(&gate))
        .start()
        .await;
    let proxy = house(&up, "0s").await;
    assert_verdict(&proxy.send(&chat("known")).await, "MISS");
    let leader = proxy.open(&chat("hi")).await;
    up.arrived(2).await;
    assert_verdict(&proxy.send(&chat("known")).await, "HIT");
    let follower = proxy.open(&chat("hi")).await;
    proxy.joined(1).await;
    assert_refused(&proxy.send(&chat("ho")).await, 503, "busy");
    gate.open();
    assert_verdict(&leader.finish().await, "MISS");
    assert_verdict(&follower.finish().await, "COLLAPSED");
}

#[tokio::test]
async fn a_waiting_call_whose_client_leaves_gives_up_its_turn() {
    let gate = gate();
    let up = upstream().answers(completion("hello").after(&gate));
    let up = up.start().await;
    let proxy = house(&up, "1h").await;
    let first = proxy.open(&chat("hi")).await;
    up.arrived(1).await;
    let gone = proxy.open(&chat("gone").at("/v1/passed")).await;
    proxy.counted("refrain_limit_waiting", 1.0).await;
    drop(gone);
    assert_eq!(proxy.call_line(1).await["error.kind"], "client_gone");
    assert_eq!(proxy.metric("refrain_limit_waiting", &[]).await, 0.0);
    gate.open();
    assert_eq!(first.finish().await.status, 200);
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn a_stale_entry_stands_in_for_a_call_that_is_shed() {
    let gate = gate();
    let up = upstream()
        .answers(completion("old"))
        .answers(completion("hello").after(&gate))
        .start()
        .await;
    let settings = one_at_a_time("0s");
    let stale = "[cache]\nttl = \"1ns\"\nstale_if_error = \"1h\"";
    let proxy = proxy(&up)
        .with(stale)
        .with_upstream(&settings)
        .start()
        .await;
    assert_verdict(&proxy.send(&chat("old")).await, "MISS");
    let other = proxy.open(&chat("hi")).await;
    up.arrived(2).await;
    let answer = proxy.send(&chat("old")).await;
    assert_verdict(&answer, "STALE");
    assert_eq!(answer.body, completion("old").bytes());
    gate.open();
    assert_eq!(other.finish().await.status, 200);
}
