//! What stands in for an upstream that fails: an entry past its lifetime, where there is one.

use super::{House, honest};
use crate::support::{
    client::{Request, assert_verdict, chat},
    faulty::{busy, failing},
    gate,
    upstream::{Reply, completion, upstream},
};

/// What is stored is past its lifetime when the next call comes, and may stand in for a failure for a day.
const AGEING: &str = "[cache]\nttl = \"1ns\"\n[[upstream]]\ntimeouts = { first_byte = \"2s\" }";

/// A house with an entry for `call`, whose upstream answers by `fault` from then on.
async fn with_entry(call: &Request, fault: Reply) -> House {
    let script = upstream().answers(completion("kept")).answers(fault);
    let house = House::new(script, AGEING).await;
    assert_verdict(&house.proxy.send(call).await, "MISS");
    house
}

async fn assert_stale(house: &House, call: &Request) {
    let answer = house.proxy.send(call).await;
    assert_verdict(&answer, "STALE");
    assert_eq!(answer.expect("x-cache-reason"), "upstream_failed");
    assert_eq!(
        (answer.status, answer.body),
        (200, completion("kept").bytes())
    );
    let labels = ["verdict=\"stale\"", "status_class=\"2xx\""];
    house.proxy.call_line(2).await;
    house.assert_moved("refrain_calls_total", &labels).await;
}

#[tokio::test]
async fn an_entry_stands_in_for_every_failure_of_the_upstream() {
    let never = gate();
    for fault in [
        failing(500),
        failing(503),
        completion("").cut_before_the_head(),
        completion("").after(&never),
    ] {
        let house = with_entry(&chat("hi"), fault).await;
        assert_stale(&house, &chat("hi")).await;
    }
}

#[tokio::test]
async fn an_entry_stands_in_for_an_upstream_that_is_gone_and_gives_way_when_it_is_back() {
    let mut house = with_entry(&chat("hi"), completion("new")).await;
    house.up.leave().await;
    assert_stale(&house, &chat("hi")).await;
    house.up.come_back().await;
    let answer = house.proxy.send(&chat("hi")).await;
    assert_verdict(&answer, "MISS");
    assert_eq!(answer.body, completion("new").bytes());
}

#[tokio::test]
async fn an_entry_stands_in_for_nothing_that_the_client_has_to_know() {
    for fault in [busy(&[("Retry-After", "2")]), failing(400), failing(401)] {
        let house = with_entry(&chat("hi"), fault.clone()).await;
        let answer = house.proxy.send(&chat("hi")).await;
        assert_eq!(answer.body, fault.bytes());
        assert!(answer.status >= 400);
    }
}

/// A stale answer is no apology.
#[tokio::test]
async fn who_wants_no_apology_takes_an_entry_all_the_same() {
    let call = honest(chat("hi"));
    let house = with_entry(&call, failing(500)).await;
    assert_stale(&house, &call).await;
}
