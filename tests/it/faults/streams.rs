//! Streams that break, stall or end as no stream should.

use serde_json::json;

use super::House;
use crate::support::{
    client::{End, chat_stream},
    faulty::{stream_with_error_after, stream_without_an_end},
    gate, spawn,
    upstream::{Reply, chunk, sse, stream, upstream},
};

/// Eight events, the last of them `[DONE]`.
fn whole() -> Reply {
    stream(&["a", "b", "c", "d", "e"])
}

#[tokio::test]
async fn a_stream_cut_after_five_events_breaks_off_and_the_next_call_is_fresh() {
    for cut in [whole().cut_after(5), whole().closed_after(5)] {
        let house = House::with_fault(&cut, &whole(), "").await;
        let prefix = whole().first(5);
        house.assert_aborted(&chat_stream("hi"), &prefix).await;
        house.assert_over(&chat_stream("hi"), &whole()).await;
    }
}

#[tokio::test]
async fn who_joined_a_stream_that_is_cut_gets_the_same_bytes_and_the_same_end() {
    let gate = gate();
    let cut = whole().pausing_after(5, &gate).cut_after(6);
    let house = House::with_fault(&cut, &whole(), "").await;
    let prefix = whole().first(5);
    let mut leader = house.proxy.open(&chat_stream("hi")).await;
    leader.body(prefix.len()).await;
    let mut followers = Vec::new();
    for _ in 0..3 {
        followers.push(house.proxy.open(&chat_stream("hi")).await);
    }
    for follower in &mut followers {
        assert_eq!(follower.body(prefix.len()).await, prefix);
    }
    house.proxy.joined(3).await;
    gate.open();
    for reader in followers.into_iter().chain([leader]) {
        let answer = reader.finish().await;
        assert_eq!((answer.body, answer.end), (prefix.clone(), End::Aborted));
    }
    assert_eq!(house.up.count(), 1);
    house.proxy.call_lines(4).await;
    house.assert_over(&chat_stream("hi"), &whole()).await;
}

#[tokio::test]
async fn a_stream_that_stalls_breaks_off_when_the_idle_time_is_over() {
    let config = "[[upstream]]\ntimeouts = { idle = \"2s\" }";
    let stalled = whole().silent_after(5);
    let house = House::with_fault(&stalled, &whole(), config).await;
    let prefix = whole().first(5);
    house.assert_aborted(&chat_stream("hi"), &prefix).await;
    let line = house.proxy.call_line(1).await;
    assert_eq!(line["error.kind"], "upstream_timeout", "{line}");
    house.up.abandoned(0).await;
    house.assert_over(&chat_stream("hi"), &whole()).await;
}

#[tokio::test]
async fn an_event_that_is_no_json_passes_unchanged_and_unstored() {
    let odd = [
        chunk(&json!({"content": "a"}), None),
        "data: {\"choices\": [\n\n".to_owned(),
        chunk(&json!({}), Some("stop")),
        "data: [DONE]\n\n".to_owned(),
    ];
    passes(sse(odd), "unreadable").await;
}

#[tokio::test]
async fn a_stream_without_its_end_mark_passes_unchanged_and_unstored() {
    passes(stream_without_an_end(&["a", "b"]), "incomplete").await;
}

#[tokio::test]
async fn an_error_event_in_the_middle_passes_unchanged_and_unstored() {
    passes(stream_with_error_after(&["a", "b"]), "error_object").await;
}

/// Asserts that `odd` is passed byte for byte and not kept, and that the next call is answered whole.
async fn passes(odd: Reply, reason: &str) {
    let house = House::with_fault(&odd, &whole(), "").await;
    house.assert_passed(&chat_stream("hi"), &odd, reason).await;
    house.assert_over(&chat_stream("hi"), &whole()).await;
}

#[tokio::test]
async fn one_stream_that_breaks_leaves_the_others_alone() {
    let gate = gate();
    let held = whole().pausing_after(3, &gate);
    let cut = whole().cut_after(3);
    let script = upstream().by(move |seen, _| {
        if seen.body.windows(5).any(|bytes| bytes == b"break") {
            cut.clone()
        } else {
            held.clone()
        }
    });
    let house = House::new(script, "").await;
    let mut running = Vec::new();
    for number in 0..5 {
        let call = chat_stream(&format!("call {number}"));
        running.push(house.proxy.open(&call).await);
    }
    house.up.arrived(5).await;
    let addr = house.proxy.addr;
    let broken = spawn(async move { chat_stream("break").send(addr).await });
    assert_eq!(broken.await.unwrap().end, End::Aborted);
    gate.open();
    for exchange in running {
        let answer = exchange.finish().await;
        assert_eq!((answer.body, answer.end), (whole().bytes(), End::Clean));
    }
}
