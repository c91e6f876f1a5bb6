//! The limit over an upstream that answers when told to.

use http::StatusCode;
use tokio::task::JoinHandle;

use super::*;
use crate::{
    call::leave::{Flow, Leave},
    guard::trial::{Scripted, call_for, endless, saying, settle, spawn},
};

struct House {
    upstream: Scripted,
    places: Places,
}

fn house(max: u32, max_wait: Duration) -> House {
    let terms = Terms {
        max_concurrent: NonZeroU32::new(max),
        max_wait,
    };
    House {
        upstream: Scripted::default(),
        places: Places::new("up", terms),
    }
}

impl House {
    fn send(&self) -> JoinHandle<Result<Answer, Error>> {
        self.send_call(call_for("m"))
    }

    fn send_call(&self, call: Call) -> JoinHandle<Result<Answer, Error>> {
        let mut service = LimitLayer::new(self.places.clone()).layer(self.upstream.clone());
        spawn(async move { service.call(call).await })
    }

    fn counts(&self) -> Counts {
        self.places.counts()
    }
}

fn good() -> Answer {
    saying(StatusCode::OK, &["a", "b"])
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_call_beyond_the_limit_waits_for_the_end_of_a_body() {
    let house = house(1, SECOND);
    let first = house.send();
    let second = house.send();
    settle().await;
    assert_eq!(house.upstream.calls(), 1);
    house.upstream.answer(0, Ok(good()));
    let mut answer = first.await.unwrap().unwrap();
    settle().await;
    assert_eq!(house.upstream.calls(), 1, "the body is not over");
    while answer.body.frame().await.is_some() {
        assert_eq!(house.counts().waiting, 1);
    }
    settle().await;
    assert_eq!(
        house.upstream.calls(),
        2,
        "whoever holds what is over, holds no place"
    );
    house.upstream.answer(1, Ok(good()));
    assert!(second.await.unwrap().is_ok());
    drop(answer);
    let counts = Counts {
        waited: 1,
        ..Counts::default()
    };
    assert_eq!(house.counts(), counts);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_let_go_gives_its_place_back() {
    let house = house(1, SECOND);
    let first = house.send();
    settle().await;
    house.upstream.answer(0, Ok(endless()));
    let answer = first.await.unwrap().unwrap();
    assert!(!house.places.has_room());
    drop(answer);
    assert!(house.places.has_room());
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_and_a_cancelled_one_give_their_places_back() {
    let house = house(1, SECOND);
    let failing = house.send();
    settle().await;
    let broken = Error::new(Kind::Broken, "scripted");
    house.upstream.answer(0, Err(broken));
    assert!(failing.await.unwrap().is_err());
    assert!(house.places.has_room());
    let cancelled = house.send();
    settle().await;
    assert!(!house.places.has_room());
    cancelled.abort();
    assert!(cancelled.await.is_err());
    assert!(house.places.has_room());
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_longer_than_allowed_is_shed_without_asking_the_upstream() {
    let house = house(1, SECOND);
    let _first = house.send();
    let second = house.send();
    settle().await;
    tokio::time::advance(SECOND).await;
    let error = second.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.retry_after()),
        (Kind::Busy, Some(SECOND))
    );
    assert_eq!(house.upstream.calls(), 1);
    let counts = Counts {
        taken: 1,
        waiting: 0,
        waited: 1,
        shed: 1,
    };
    assert_eq!(house.counts(), counts);
}

#[tokio::test(start_paused = true)]
async fn without_a_wait_the_next_call_is_shed_at_once() {
    let house = house(1, Duration::ZERO);
    let _first = house.send();
    settle().await;
    let error = house.send().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
    assert_eq!((house.counts().shed, house.counts().waited), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_and_served_in_its_order() {
    let house = house(1, SECOND);
    let first = house.send();
    settle().await;
    let mut waiting = Vec::new();
    for _ in 0..QUEUE {
        waiting.push(house.send());
        settle().await;
    }
    let beyond = house.send().await.unwrap();
    assert_eq!(beyond.unwrap_err().kind(), Kind::Busy);
    assert_eq!(house.counts().waiting, QUEUE);
    house.upstream.answer(0, Ok(good()));
    drop(first.await.unwrap());
    let waiting = waiting.into_iter().enumerate();
    for (number, call) in waiting {
        settle().await;
        house.upstream.answer(number + 1, Ok(good()));
        drop(call.await.unwrap().unwrap());
    }
    let counts = Counts {
        waited: QUEUE,
        shed: 1,
        ..Counts::default()
    };
    assert_eq!(house.counts(), counts);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_whose_client_leaves_gives_up_its_turn() {
    let house = house(1, SECOND);
    let first = house.send();
    settle().await;
    let gone = house.send();
    settle().await;
    let patient = house.send();
    settle().await;
    gone.abort();
    assert!(gone.await.is_err());
    assert_eq!(house.counts().waiting, 1);
    house.upstream.answer(0, Ok(good()));
    drop(first.await.unwrap());
    settle().await;
    assert_eq!(house.upstream.calls(), 2);
    house.upstream.answer(1, Ok(good()));
    assert!(patient.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_every_call_passes() {
    let house = house(0, SECOND);
    let calls: Vec<_> = (0..100).map(|_| house.send()).collect();
    settle().await;
    assert_eq!(house.upstream.calls(), 100);
    assert_eq!(house.counts(), Counts::default());
    assert!(house.places.has_room());
    drop(calls);
}

#[tokio::test(start_paused = true)]
async fn what_waited_until_its_circuit_opened_is_not_sent_into_an_upstream_given_up() {
    let house = house(1, SECOND);
    let flow = Flow::default();
    let waiting = |leave| Call {
        leave,
        ..call_for("m")
    };
    let first = house.send();
    let queued = [(); 3].map(|()| house.send_call(waiting(Leave::Flow(flow.clone()))));
    let probe = house.send_call(waiting(Leave::Probe));
    settle().await;
    flow.set(false);
    house
        .upstream
        .answer(0, Err(Error::new(Kind::Timeout, "scripted")));
    assert!(first.await.unwrap().is_err());
    for call in queued {
        let refused = call.await.unwrap().unwrap_err();
        assert_eq!(refused.kind(), Kind::Unavailable);
    }
    settle().await;
    assert_eq!(house.upstream.calls(), 2, "the first one and the probe");
    house.upstream.answer(1, Ok(good()));
    assert!(probe.await.unwrap().is_ok());
    assert_eq!((house.counts().taken, house.counts().shed), (0, 0));
}
