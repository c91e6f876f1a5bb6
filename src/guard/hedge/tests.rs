//! Second calls over an upstream that answers when told to.

use std::num::NonZeroU32;

use tokio::task::JoinHandle;

use super::*;
use crate::{
    call::{Unkeyed, leave::Flow},
    error::Kind,
    guard::{
        limit::{LimitLayer, Terms},
        trial::{Scripted, call_for, endless, saying, settle, spawn},
    },
};

struct House {
    upstream: Scripted,
    places: Places,
    hedges: Hedges,
}

/// How long the answers took that the house has seen.
const PACE: Duration = Duration::from_millis(100);

/// Returns a house with `max` places at its upstream, 0 for any number, that knows the pace of the model `m` and has earned
/// second calls.
fn house(max: u32) -> House {
    let terms = Terms {
        max_concurrent: NonZeroU32::new(max),
        max_wait: Duration::from_secs(60),
    };
    let places = Places::new("up", terms);
    let hedges = Hedges::new(true, places.clone());
    let sort = Sort {
        model: "m",
        stream: false,
    };
    let mut known = hedges.0.as_ref().unwrap().paces();
    for _ in 0..100 {
        known.begin(sort);
        known.observe(sort, PACE);
    }
    drop(known);
    House {
        upstream: Scripted::default(),
        places,
        hedges,
    }
}

impl House {
    fn send(&self, call: Call) -> JoinHandle<Outcome> {
        let limit = LimitLayer::new(self.places.clone()).layer(self.upstream.clone());
        let mut service = HedgeLayer::new(self.hedges.clone()).layer(limit);
        let answering = service.call(call);
        spawn(answering)
    }

    /// Sends a call and waits until it is late.
    async fn send_late(&self) -> JoinHandle<Outcome> {
        let call = self.send(call_for("m"));
        settle().await;
        tokio::time::advance(PACE).await;
        settle().await;
        call
    }

    fn counts(&self) -> (u64, u64) {
        let Counts { sent, won } = self.hedges.counts();
        (sent, won)
    }
}

fn good() -> Answer {
    saying(StatusCode::OK, &["a"])
}

fn status(outcome: &Outcome) -> u16 {
    outcome.as_ref().unwrap().head.status.as_u16()
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_asked_for_again_and_the_first_head_wins() {
    let house = house(0);
    let call = house.send(call_for("m"));
    settle().await;
    tokio::time::advance(PACE.saturating_sub(Duration::from_millis(1))).await;
    settle().await;
    assert_eq!(house.upstream.calls(), 1, "it is not late yet");
    tokio::time::advance(Duration::from_millis(1)).await;
    settle().await;
    assert_eq!(house.upstream.calls(), 2);
    house.upstream.answer(1, Ok(good()));
    assert_eq!(status(&call.await.unwrap()), 200);
    assert!(house.upstream.is_given_up(0), "the loser is cancelled");
    assert_eq!(house.counts(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_first_call_may_still_win() {
    let house = house(0);
    let call = house.send_late().await;
    house.upstream.answer(0, Ok(good()));
    assert_eq!(status(&call.await.unwrap()), 200);
    assert!(house.upstream.is_given_up(1));
    assert_eq!(house.counts(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failure_waits_for_the_other_call() {
    let busy = || Ok(saying(StatusCode::TOO_MANY_REQUESTS, &[]));
    let down = || Ok(saying(StatusCode::BAD_GATEWAY, &[]));
    let broken = || Err(Error::new(Kind::Broken, "scripted"));
    for failure in [busy, down, broken] {
        for (fails, answers) in [(0, 1), (1, 0)] {
            let house = house(0);
            let call = house.send_late().await;
            house.upstream.answer(fails, failure());
            settle().await;
            assert!(!call.is_finished());
            house.upstream.answer(answers, Ok(good()));
            assert_eq!(status(&call.await.unwrap()), 200);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn when_both_fail_the_first_calls_failure_goes_on() {
    for order in [[0, 1], [1, 0]] {
        let house = house(0);
        let call = house.send_late().await;
        for index in order {
            let status = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE][index];
            house.upstream.answer(index, Ok(saying(status, &[])));
            settle().await;
        }
        assert_eq!(status(&call.await.unwrap()), 502);
        assert_eq!(house.counts(), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_time_is_not_asked_about_again() {
    let house = house(0);
    let call = house.send(call_for("m"));
    settle().await;
    let broken = Error::new(Kind::Broken, "scripted");
    house.upstream.answer(0, Err(broken));
    assert!(call.await.unwrap().is_err());
    assert_eq!(house.upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn second_calls_keep_to_their_budget() {
    let house = house(0);
    let mut calls = Vec::new();
    for _ in 0..100 {
        calls.push(house.send_late().await);
    }
    // A hundred calls before had earned five, and these a hundred the same.
    assert_eq!((house.counts().0, house.upstream.calls()), (10, 110));
    drop(calls);
}

#[tokio::test(start_paused = true)]
async fn a_second_call_takes_a_place_and_is_not_made_without_one() {
    let house = house(3);
    let late = house.send_late().await;
    assert_eq!((house.upstream.calls(), house.places.has_room()), (2, true));
    let other = house.send_late().await;
    assert_eq!(
        (house.upstream.calls(), house.places.has_room()),
        (3, false)
    );
    house.upstream.answer(1, Ok(endless()));
    let answer = late.await.unwrap();
    assert!(house.places.has_room(), "the loser's place is free");
    drop((answer, other));
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_pace_and_a_call_without_a_key_are_left_alone() {
    let house = house(0);
    let mut unkeyed = call_for("m");
    unkeyed.fixed_mut().keyed = Err(Unkeyed::Endpoint);
    let calls = [house.send(call_for("other")), house.send(unkeyed)];
    settle().await;
    tokio::time::advance(Duration::from_secs(600)).await;
    settle().await;
    assert_eq!(house.upstream.calls(), 2);
    drop(calls);
}

#[tokio::test(start_paused = true)]
async fn what_the_upstream_keeps_is_not_asked_for_twice_though_a_rule_gives_it_a_key() {
    let house = house(0);
    let mut kept = call_for("m");
    let keyed = kept.fixed_mut().keyed.as_mut().unwrap();
    let request = &mut Arc::get_mut(keyed).unwrap().request;
    Arc::make_mut(request).stateful = true;
    let call = house.send(kept);
    settle().await;
    tokio::time::advance(PACE * 2).await;
    settle().await;
    assert_eq!((house.upstream.calls(), house.counts()), (1, (0, 0)));
    drop(call);
}

#[tokio::test(start_paused = true)]
async fn where_it_is_off_nothing_is_late() {
    let house = House {
        hedges: Hedges::new(false, Places::new("up", OFF)),
        ..house(0)
    };
    let call = house.send_late().await;
    assert_eq!(house.upstream.calls(), 1);
    assert_eq!(house.counts(), (0, 0));
    drop(call);
}

const OFF: Terms = Terms {
    max_concurrent: None,
    max_wait: Duration::ZERO,
};

#[tokio::test(start_paused = true)]
async fn what_lost_counts_for_the_pace_with_what_it_had_taken() {
    let house = house(0);
    let paces = || house.hedges.0.as_ref().unwrap().paces();
    let sort = Sort {
        model: "m",
        stream: false,
    };
    for _ in 0..100 {
        paces().begin(sort);
    }
    // Six in a hundred make the 95th percentile.
    for round in 0..6 {
        assert_eq!(paces().begin(sort), Some(PACE), "{round}");
        let call = house.send_late().await;
        tokio::time::advance(PACE).await;
        house
            .upstream
            .answer(house.upstream.calls() - 1, Ok(good()));
        assert!(call.await.unwrap().is_ok());
    }
    assert_eq!(house.counts(), (6, 6));
    assert_eq!(paces().begin(sort), Some(PACE * 2));
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_not_made_twice_however_late_it_is() {
    let house = house(0);
    let probe = house.send(Call {
        leave: Leave::Probe,
        ..call_for("m")
    });
    settle().await;
    tokio::time::advance(100 * PACE).await;
    settle().await;
    assert_eq!(house.upstream.calls(), 1);
    house.upstream.answer(0, Ok(good()));
    assert_eq!(status(&probe.await.unwrap()), 200);
    assert_eq!(house.counts(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_circuit_opened_in_the_meantime_is_not_made_twice() {
    let house = house(0);
    let flow = Flow::default();
    let call = house.send(Call {
        leave: Leave::Flow(flow.clone()),
        ..call_for("m")
    });
    settle().await;
    flow.set(false);
    tokio::time::advance(100 * PACE).await;
    settle().await;
    assert_eq!(house.upstream.calls(), 1);
    house.upstream.answer(0, Ok(good()));
    assert_eq!(status(&call.await.unwrap()), 200);
}
