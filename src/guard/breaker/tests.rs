//! The layer by itself: a scripted upstream below, paused time, no sockets.

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::time::advance;

use super::*;
use crate::{
    call::Unkeyed,
    error::Kind,
    guard::{
        circuit::{State, Terms},
        hedge::{HedgeLayer, Hedges},
        limit::{self, Limit, LimitLayer, Places},
        trial::{Scripted as Held, call_for, saying, settle, spawn},
    },
};

/// What the upstream does with a call.
#[derive(Clone, Debug)]
enum Act {
    Fails(Kind),
    /// Has no time left for an answer.
    IsLate,
    /// Answers with this status, and a stream of these pieces; `None` breaks it off.
    Says(u16, Vec<Option<&'static str>>),
    /// Answers with a body of known length.
    Whole(&'static str),
    /// Says nothing, ever.
    Hangs,
}

/// An upstream that does what it is told, the last thing over and over.
#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<(VecDeque<Act>, usize)>>);

impl Scripted {
    fn will(&self, acts: impl IntoIterator<Item = Act>) {
        self.0.lock().unwrap().0 = acts.into_iter().collect();
    }

    fn calls(&self) -> usize {
        self.0.lock().unwrap().1
    }

    fn next(&self) -> Act {
        let mut script = self.0.lock().unwrap();
        script.1 += 1;
        let act = script.0.pop_front().expect("an act");
        if script.0.is_empty() {
            script.0.push_back(act.clone());
        }
        act
    }
}

impl Service<Call> for Scripted {
    type Response = Answer;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Call) -> Self::Future {
        let act = self.next();
        Box::pin(async move {
            match act {
                Act::Fails(kind) => Err(Error::new(kind, "scripted")),
                Act::IsLate => Err(Error::new(Kind::Timeout, "scripted").blaming_nobody()),
                Act::Hangs => std::future::pending().await,
                Act::Whole(text) => {
                    let whole = Full::new(Bytes::from_static(text.as_bytes()));
                    Ok(answer(200, whole.map_err(|never| match never {})))
                }
                Act::Says(status, pieces) => Ok(answer(status, stream(pieces))),
            }
        })
    }
}

fn stream(
    pieces: Vec<Option<&'static str>>,
) -> impl HttpBody<Data = Bytes, Error = Error> + Send + 'static {
    let frames = pieces.into_iter().map(|piece| {
        let piece = piece.ok_or_else(|| Error::new(Kind::Broken, "scripted"))?;
        Ok(Frame::data(Bytes::from_static(piece.as_bytes())))
    });
    StreamBody::new(futures_util::stream::iter(frames))
}

fn answer(
    status: u16,
    content: impl HttpBody<Data = Bytes, Error = Error> + Send + 'static,
) -> Answer {
    let mut answer = saying(StatusCode::from_u16(status).unwrap(), &[]);
    let content_type = HeaderValue::from_static("text/event-stream");
    answer.head.headers.insert(CONTENT_TYPE, content_type);
    answer.body = Body::Stream(content.boxed_unsync());
    answer
}

/// The layer above its upstream.
struct Bench {
    up: Scripted,
    circuits: Circuits,
    breaker: Breaker<Scripted>,
}

fn bench(own_key: bool) -> Bench {
    let up = Scripted::default();
    let circuits = Circuits::new(Options {
        upstream: "up".to_owned(),
        terms: Terms::default(),
        own_key,
    });
    Bench {
        breaker: BreakerLayer::new(circuits.clone()).layer(up.clone()),
        up,
        circuits,
    }
}

impl Bench {
    /// Sends a call for `model`.
    fn send(&mut self, model: &str) -> impl Future<Output = Result<Answer, Error>> + use<> {
        self.breaker.call(call_for(model))
    }

    /// Sends a call for `model` and reads all of its answer.
    async fn read(&mut self, model: &str) -> Result<Bytes, Error> {
        let answer = self.send(model).await?;
        Ok(answer.body.collect().await?.to_bytes())
    }

    /// Has `count` calls for `model` end as `act` says.
    async fn calls(&mut self, count: usize, model: &str, act: Act) {
        self.up.will([act]);
        for _ in 0..count {
            drop(self.read(model).await);
        }
    }

    /// Opens the circuit of `model` and waits until it is to be probed.
    async fn half_opened(&mut self, model: &str) {
        self.calls(20, model, Act::Fails(Kind::Timeout)).await;
        assert_eq!(self.state(), State::Open);
        advance(Duration::from_secs(5)).await;
        assert_eq!(self.state(), State::HalfOpen);
    }

    fn state(&self) -> State {
        self.circuits.counts().state
    }
}

fn says(pieces: &[&'static str]) -> Act {
    Act::Says(200, pieces.iter().copied().map(Some).collect())
}

/// A whole answer.
fn well() -> Act {
    says(&["data: hi\n\n", "data: [DONE]\n\n"])
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_refuses_at_once_and_says_for_how_long() {
    let mut bench = bench(false);
    bench.calls(20, "gpt", Act::Fails(Kind::Unreachable)).await;
    bench.up.will([well()]);
    let refused = bench.send("gpt").await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable);
    let left = refused.retry_after().unwrap();
    assert!(
        Duration::from_millis(3_750) <= left && left <= Duration::from_secs(5),
        "{left:?}"
    );
    assert_eq!(bench.up.calls(), 20);
    let counts = bench.circuits.counts();
    assert_eq!((counts.turns, counts.refused), ([0, 0, 1], 1));
    advance(left).await;
    bench.read("gpt").await.unwrap();
    assert_eq!(bench.state(), State::Closed);
    assert_eq!(bench.circuits.counts().turns, [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn whatever_the_upstream_fails_by_trips_the_circuit() {
    let error_event = "data: {\"error\":{\"code\":502}}\n\n";
    let role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n";
    for act in [
        Act::Fails(Kind::Unreachable),
        Act::Fails(Kind::Timeout),
        Act::Fails(Kind::Broken),
        Act::Says(500, vec![Some("{}")]),
        Act::Says(503, vec![Some("{}")]),
        Act::Says(529, vec![Some("{}")]),
        Act::Says(200, vec![None]),
        Act::Says(200, vec![Some("data: hi\n\n"), None]),
        says(&[error_event]),
        says(&[": wait\n\n", role, error_event]),
    ] {
        let mut bench = bench(false);
        bench.calls(19, "gpt", act.clone()).await;
        assert_eq!(bench.state(), State::Closed, "{act:?}");
        bench.calls(1, "gpt", act.clone()).await;
        assert_eq!(bench.state(), State::Open, "{act:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_upstreams_doing_never_trips_it() {
    let bad_request = "data: {\"error\":{\"type\":\"invalid_request_error\"}}\n\n";
    for act in [
        well(),
        says(&["data: hi\n\n", "data: {\"error\":{\"code\":500}}\n\n"]),
        says(&[bad_request]),
        Act::Says(400, vec![None]),
        Act::Says(401, vec![Some("{}")]),
        Act::Says(404, vec![]),
        Act::Says(429, vec![]),
        Act::Says(501, vec![]),
        Act::Fails(Kind::BadPath),
        Act::Fails(Kind::Loop),
        Act::Fails(Kind::IncompleteRequest),
        Act::Fails(Kind::Busy),
        Act::Fails(Kind::Unavailable),
    ] {
        let mut bench = bench(false);
        bench.calls(200, "gpt", act.clone()).await;
        assert_eq!(bench.state(), State::Closed, "{act:?}");
        assert_eq!(bench.up.calls(), 200, "{act:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_callers_bad_images_told_of_in_its_streams_do_not_trip_it() {
    let created = "data: {\"type\":\"response.created\",\"response\":{\"error\":null}}\n\n";
    for refusal in [
        "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"invalid_image_url\"}}}\n\n",
        "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"a_new_word\"}}}\n\n",
        "event: error\ndata: {\"type\":\"error\",\"code\":\"invalid_image_url\"}\n\n",
        "event: error\ndata: {\"type\":\"error\",\"code\":\"a_new_word\"}\n\n",
    ] {
        for own_key in [false, true] {
            let mut bench = bench(own_key);
            bench.calls(200, "gpt", says(&[created, refusal])).await;
            assert_eq!(bench.state(), State::Closed, "{refusal}");
            assert_eq!(bench.up.calls(), 200, "{refusal}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_responses_own_trips_it() {
    let failed = "data: {\"type\":\"error\",\"code\":\"server_error\"}\n\n";
    let mut bench = bench(false);
    bench.calls(20, "gpt", says(&[failed])).await;
    assert_eq!(bench.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_busy_upstream_counts_only_with_the_proxys_own_key() {
    for busy in [
        Act::Says(429, vec![]),
        says(&["data: {\"error\":{\"code\":429}}\n\n"]),
    ] {
        for (own_key, state) in [(false, State::Closed), (true, State::Open)] {
            let mut bench = bench(own_key);
            bench.calls(20, "gpt", busy.clone()).await;
            assert_eq!(bench.state(), state, "{own_key} {busy:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_judged_at_the_end_of_its_body() {
    for (last, state) in [
        (Some("data: [DONE]\n\n"), State::Closed),
        (None, State::Open),
    ] {
        let mut bench = bench(false);
        bench.half_opened("gpt").await;
        let act = Act::Says(200, vec![Some("data: hi\n\n"), last]);
        bench.up.will([act]);
        let mut probe = bench.send("gpt").await.unwrap();
        probe.body.frame().await.unwrap().unwrap();
        advance(Duration::from_secs(10)).await;
        assert_eq!(bench.state(), State::HalfOpen);
        let second = bench.send("gpt").await.unwrap_err();
        assert_eq!(second.kind(), Kind::Unavailable, "one at a time");
        drop(probe.body.collect().await);
        assert_eq!(bench.state(), state, "{last:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_client_hangs_up_makes_room_for_the_next() {
    let mut bench = bench(false);
    bench.half_opened("gpt").await;
    bench.up.will([Act::Hangs, well()]);
    let mut waiting = Box::pin(bench.send("gpt"));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    drop(waiting);
    advance(Duration::from_secs(1)).await;
    let mut reading = bench.send("gpt").await.unwrap();
    reading.body.frame().await.unwrap().unwrap();
    drop(reading);
    assert_eq!(
        bench.state(),
        State::HalfOpen,
        "neither has decided anything"
    );
    advance(Duration::from_secs(1)).await;
    bench.read("gpt").await.unwrap();
    assert_eq!(bench.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn clients_that_hang_up_say_nothing_of_the_upstream() {
    let mut bench = bench(false);
    bench.up.will([well()]);
    for _ in 0..200 {
        drop(bench.send("gpt").await.unwrap());
    }
    bench.calls(20, "gpt", Act::Fails(Kind::Timeout)).await;
    assert_eq!(bench.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_body_whose_end_is_known_need_not_be_asked_for_it() {
    let mut bench = bench(false);
    bench.half_opened("gpt").await;
    bench.up.will([Act::Whole("hello")]);
    let mut answer = bench.send("gpt").await.unwrap();
    assert_eq!(bench.state(), State::HalfOpen);
    answer.body.frame().await.unwrap().unwrap();
    assert_eq!(bench.state(), State::Closed);

    let mut bench = self::bench(false);
    bench.half_opened("gpt").await;
    bench.up.will([Act::Whole("")]);
    let answer = bench.send("gpt").await.unwrap();
    assert!(answer.body.is_end_stream());
    assert_eq!(bench.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn each_model_has_a_circuit_of_its_own() {
    let mut bench = bench(false);
    bench.calls(20, "bad", Act::Fails(Kind::Timeout)).await;
    bench.up.will([well()]);
    bench.read("good").await.unwrap();
    let mut nameless = call_for("bad");
    nameless.fixed_mut().keyed = Err(Unkeyed::Endpoint);
    let nameless = bench.breaker.call(nameless);
    nameless.await.unwrap().body.collect().await.unwrap();
    assert!(bench.read("bad").await.is_err());
    let trouble = Trouble {
        upstream: "up".to_owned(),
        model: Some("bad".to_owned()),
        state: State::Open,
    };
    assert_eq!(
        trouble.to_string(),
        r#"circuit open: upstream "up", model "bad""#
    );
    assert_eq!(bench.circuits.troubles(), [trouble]);
}

#[tokio::test(start_paused = true)]
async fn models_that_there_are_not_push_out_no_circuit() {
    let mut bench = bench(false);
    bench.calls(20, "bad", Act::Fails(Kind::Timeout)).await;
    let unknown = Act::Says(404, vec![]);
    for number in 0..5_000 {
        bench
            .calls(1, &format!("made-up-{number}"), unknown.clone())
            .await;
        advance(Duration::from_micros(500)).await;
    }
    bench.up.will([well()]);
    let refused = bench.read("bad").await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable);
    assert!(bench.circuits.len() <= 1_024, "{}", bench.circuits.len());
}

#[tokio::test(start_paused = true)]
async fn models_without_room_share_a_circuit() {
    let mut bench = bench(false);
    for number in 0..1_024 {
        bench.calls(1, &format!("model-{number}"), well()).await;
    }
    let names = ["late-1".to_owned(), "x".repeat(1_000)];
    for name in &names {
        bench.calls(10, name, Act::Fails(Kind::Timeout)).await;
    }
    for name in names.iter().map(String::as_str).chain(["late-2"]) {
        assert!(bench.read(name).await.is_err(), "{name}");
    }
    bench.calls(1, "model-0", well()).await;
    let [trouble] = &bench.circuits.troubles()[..] else {
        panic!("one circuit is open");
    };
    assert_eq!(trouble.model.as_deref(), Some("(others)"));
    advance(Duration::from_secs(31)).await;
    bench.up.will([well()]);
    bench.read("late-3").await.unwrap();
    assert_eq!(bench.circuits.len(), 1, "what knows nothing has made room");
}

#[tokio::test(start_paused = true)]
async fn whoever_was_asked_when_the_time_was_almost_up_has_not_failed() {
    let mut bench = bench(true);
    bench.calls(100, "m", Act::IsLate).await;
    bench.up.will([Act::Says(200, vec![])]);
    assert!(bench.read("m").await.is_ok());
}

/// The layer with a limit of two calls at a time below.
fn queued(up: &Held) -> (Circuits, Breaker<Limit<Held>>) {
    let circuits = bench(false).circuits;
    let terms = limit::Terms {
        max_concurrent: NonZeroU32::new(2),
        max_wait: Duration::from_secs(60),
    };
    let limit = LimitLayer::new(Places::new("up", terms)).layer(up.clone());
    let breaker = BreakerLayer::new(circuits.clone()).layer(limit);
    (circuits, breaker)
}

#[tokio::test(start_paused = true)]
async fn the_queue_before_an_upstream_whose_circuit_opens_is_not_sent_to_it() {
    let up = Held::default();
    let (circuits, mut breaker) = queued(&up);
    let calls: Vec<_> = (0..34)
        .map(|_| spawn(breaker.call(call_for("gpt"))))
        .collect();
    settle().await;
    for number in 0..20 {
        up.answer(number, Err(Error::new(Kind::Timeout, "scripted")));
        settle().await;
    }
    assert_eq!(circuits.counts().state, State::Open);
    // It was sent before.
    up.answer(20, Err(Error::new(Kind::Timeout, "scripted")));
    for (number, call) in calls.into_iter().enumerate() {
        let error = call.await.unwrap().unwrap_err();
        let expected = if number < 21 {
            Kind::Timeout
        } else {
            Kind::Unavailable
        };
        assert_eq!(error.kind(), expected, "{number}");
        assert_eq!(error.retry_after().is_some(), number >= 21, "{number}");
    }
    assert_eq!(up.calls(), 21);
    assert_eq!(circuits.counts().refused, 13);
    advance(Duration::from_secs(5)).await;
    let probe = spawn(breaker.call(call_for("gpt")));
    settle().await;
    up.answer(21, Ok(saying(StatusCode::OK, &[])));
    probe.await.unwrap().unwrap().body.collect().await.unwrap();
    assert_eq!(circuits.counts().state, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn only_one_call_reaches_a_half_open_upstream_where_late_ones_are_made_twice() {
    let up = Held::default();
    let circuits = bench(false).circuits;
    let unlimited = limit::Terms {
        max_concurrent: None,
        max_wait: Duration::ZERO,
    };
    let hedges = Hedges::new(true, Places::new("up", unlimited));
    let hedge = HedgeLayer::new(hedges.clone()).layer(up.clone());
    let mut breaker = BreakerLayer::new(circuits.clone()).layer(hedge);
    for number in 0..64 {
        let call = spawn(breaker.call(call_for("gpt")));
        settle().await;
        if number < 30 {
            advance(Duration::from_millis(100)).await;
        }
        let outcome = if number < 32 {
            Ok(saying(StatusCode::OK, &[]))
        } else {
            Err(Error::new(Kind::Timeout, "scripted"))
        };
        up.answer(number, outcome);
        if let Ok(answer) = call.await.unwrap() {
            answer.body.collect().await.unwrap();
        }
    }
    assert_eq!(circuits.counts().state, State::Open);
    advance(Duration::from_secs(5)).await;
    let probe = spawn(breaker.call(call_for("gpt")));
    settle().await;
    advance(Duration::from_secs(1)).await;
    settle().await;
    assert_eq!(up.calls(), 65);
    assert_eq!(hedges.counts().sent, 0);
    up.answer(64, Ok(saying(StatusCode::OK, &[])));
    assert!(probe.await.unwrap().is_ok());
}
