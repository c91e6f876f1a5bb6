//! The head of an answer: late, slow, half, or nothing that HTTP knows.

use super::{House, honest};
use crate::support::{
    client::{assert_verdict, chat, chat_stream},
    gate,
    upstream::{completion, stream},
};

/// Waits no longer than this for a head.
const SHORT: &str = "[[upstream]]\ntimeouts = { first_byte = \"2s\" }";

#[tokio::test]
async fn a_head_that_does_not_come_is_a_504() {
    let (whole, never) = (completion("hello"), gate());
    let silent = whole.clone().after(&never);
    let house = House::with_fault(&silent, &whole, SHORT).await;
    let call = honest(chat("hi"));
    house.assert_refused(&call, 504, "upstream_timeout").await;
    house.up.abandoned(0).await;
    house.assert_over(&call, &whole).await;
}

#[tokio::test]
async fn a_head_that_stops_in_its_middle_is_a_504() {
    let (whole, never) = (stream(&["a"]), gate());
    let half = whole.clone().pausing_in_the_head(&never);
    let house = House::with_fault(&half, &whole, SHORT).await;
    let call = honest(chat_stream("hi"));
    house.assert_refused(&call, 504, "upstream_timeout").await;
    house.up.abandoned(0).await;
    house.assert_over(&call, &whole).await;
}

#[tokio::test]
async fn a_head_in_drips_is_one_that_comes() {
    let (whole, open) = (completion("hello"), gate());
    open.open();
    let dripped = whole.clone().bytewise().pausing_in_the_head(&open);
    let house = House::with_fault(&dripped, &whole, SHORT).await;
    for verdict in ["MISS", "HIT"] {
        let answer = house.proxy.send(&chat("hi")).await;
        assert_verdict(&answer, verdict);
        assert_eq!(answer.body, whole.bytes());
    }
    assert_eq!(house.up.count(), 1);
}

#[tokio::test]
async fn a_connection_that_breaks_off_before_the_head_is_whole_is_a_502() {
    let whole = completion("hello");
    for broken in [
        whole.clone().cut_before_the_head(),
        whole.clone().garbled(b""),
        whole.clone().garbled(b"HTTP/1.1 200 OK\r\ncontent-le"),
        whole.clone().garbled(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    ] {
        let house = House::with_fault(&broken, &whole, "").await;
        let call = honest(chat("hi"));
        house.assert_refused(&call, 502, "upstream_broken").await;
        house.assert_over(&call, &whole).await;
        assert_eq!(house.up.count(), 2);
    }
}

#[tokio::test]
async fn a_head_with_nothing_behind_it_is_an_answer_that_breaks_off() {
    let whole = completion("hello");
    let config = "[[upstream]]\ntimeouts = { idle = \"2s\" }";
    let silent = whole.clone().silent_after(0).claiming_all_of(&whole);
    let house = House::with_fault(&silent, &whole, config).await;
    house.assert_aborted(&chat("hi"), b"").await;
    house.up.abandoned(0).await;
    house.assert_over(&chat("hi"), &whole).await;
}
