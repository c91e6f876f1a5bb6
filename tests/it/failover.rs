//! When an upstream fails before the first byte: the call is made once more, there or elsewhere, and no more than that.

use crate::support::{
    client::{assert_refused, assert_verdict, chat, request},
    proxy::proxy,
    upstream::{completion, json, status, upstream},
};

#[tokio::test]
async fn a_connection_that_died_idle_costs_a_try_that_nobody_notices() {
    let up = upstream()
        .answers(completion("first"))
        .answers(completion("").cut_before_the_head())
        .answers(completion("second"))
        .start()
        .await;
    let proxy = proxy(&up).start().await;
    assert_verdict(&proxy.send(&chat("one")).await, "MISS");
    let answer = proxy.send(&chat("two")).await;
    assert_verdict(&answer, "MISS");
    assert_eq!(answer.body, completion("second").bytes());
    assert_eq!(up.count(), 3);
    assert_eq!(up.call(1).body, up.call(2).body);
}

#[tokio::test]
async fn what_only_reads_is_sent_again_too_and_what_creates_is_not() {
    for (method, sent, status_code) in [("GET", 3, 200), ("POST", 2, 502)] {
        let up = upstream()
            .answers(json("{}"))
            .answers(status(200).cut_before_the_head())
            .answers(json("{}"))
            .start()
            .await;
        let proxy = proxy(&up).start().await;
        let call = request(method, "/v1/files");
        assert_eq!(proxy.send(&call).await.status, 200);
        assert_eq!(proxy.send(&call).await.status, status_code, "{method}");
        assert_eq!(up.count(), sent, "{method}");
    }
}

#[tokio::test]
async fn a_connection_that_dies_twice_or_in_the_middle_of_an_answer_is_a_failure() {
    for (reply, sent) in [
        (completion("").cut_before_the_head(), 3),
        (completion("").garbled(b"HTTP/1.1 200 OK\r\ncontent-le"), 2),
    ] {
        let up = upstream()
            .answers(completion("first"))
            .answers(reply)
            .answers(completion("").cut_before_the_head())
            .start()
            .await;
        let proxy = proxy(&up).start().await;
        assert_verdict(&proxy.send(&chat("one")).await, "MISS");
        let answer = proxy.send(&chat("two")).await;
        assert_refused(&answer, 502, "upstream_broken");
        assert_eq!(up.count(), sent);
    }
}
