//! Failover by itself: scripted upstreams below, paused time, no sockets.

use std::{
    collections::VecDeque,
    num::NonZero,
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, uri::PathAndQuery};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use super::{super::pause::SHOULD_RETRY, *};
use crate::{
    answer::{Body, Head, Timing, verdict::Served},
    call::{
        Fixed, Keyed, Payload, Slot, Unkeyed,
        caller::Caller,
        key::{Key, Secret},
        plan::Policy,
        route::Routes,
    },
    config::Config,
    dialect::Dialect,
    guard::tally::Count,
};

/// One step of a body.
#[derive(Clone, Copy)]
enum Step {
    Says(&'static str),
    Breaks,
    /// So many seconds.
    Waits(u64),
    /// Nothing more comes, and no end.
    Stalls,
}

/// What an upstream does with a call.
#[derive(Clone)]
enum Reply {
    Fails(Kind),
    /// Fails after so long.
    Late(Duration, Kind),
    Answers(StatusCode, Vec<(HeaderName, &'static str)>, Vec<Step>),
}

/// An upstream that does one thing after the other, the last one for ever.
#[derive(Clone)]
struct Scripted {
    name: &'static str,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    calls: Arc<Mutex<Vec<Seen>>>,
}

/// A call as an upstream saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    at: usize,
    since: Option<std::time::Instant>,
}

struct House {
    service: Failover<Scripted>,
    tally: Tally,
    upstreams: Vec<Scripted>,
    routes: Routes,
    known: Arc<AtomicBool>,
}

impl Service<Call> for Scripted {
    type Response = Answer;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        self.calls.lock().unwrap().push(Seen {
            at: call.at,
            since: call.since,
        });
        let mut replies = self.replies.lock().unwrap();
        let reply = replies.front().cloned().unwrap();
        if replies.len() > 1 {
            replies.pop_front();
        }
        let name = self.name;
        Box::pin(async move {
            if let Reply::Late(after, _) = reply {
                sleep(after).await;
            }
            reply.perform(name)
        })
    }
}

impl Reply {
    fn perform(self, name: &'static str) -> Result<Answer, Error> {
        let (status, lines, steps) = match self {
            Self::Fails(kind) | Self::Late(_, kind) => return Err(Error::new(kind, name)),
            Self::Answers(status, lines, steps) => (status, lines, steps),
        };
        let lines = lines.into_iter();
        let headers = lines.map(|(name, value)| (name, HeaderValue::from_static(value)));
        let steps = futures_util::stream::unfold(steps.into_iter(), |mut steps| async move {
            let frame = match steps.next()? {
                Step::Says(text) => Ok(Frame::data(Bytes::from_static(text.as_bytes()))),
                Step::Breaks => Err(Error::new(Kind::Broken, "in the middle")),
                Step::Waits(seconds) => {
                    sleep(Duration::from_secs(seconds)).await;
                    Ok(Frame::data(Bytes::new()))
                }
                Step::Stalls => std::future::pending().await,
            };
            Some((frame, steps))
        });
        Ok(Answer {
            head: Head {
                status,
                headers: headers.collect::<HeaderMap>(),
                framed: true,
                upstream: HeaderValue::from_static(name),
                asked: crate::answer::Asked::default(),
                timing: Some(Arc::new(Timing::default())),
            },
            body: Body::Stream(StreamBody::new(steps).boxed_unsync()),
            served: Served::bypass(Unkeyed::Endpoint),
        })
    }
}

const TERMS: Terms = Terms {
    attempts: 2,
    budget: 0.2,
    max_wait: Duration::from_secs(10),
    backoff: Duration::from_millis(250),
    max_backoff: Duration::from_secs(5),
};

const ROLE: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
const HELLO: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n";
const COMMENT: &str = ": OPENROUTER PROCESSING\n\n";
const ERROR: &str = "data: {\"error\":{\"message\":\"overloaded\",\"code\":502}}\n\n";
const REFUSED: &str = "data: {\"error\":{\"message\":\"too long\",\"code\":400}}\n\n";

fn fails(kind: Kind) -> Reply {
    Reply::Fails(kind)
}

fn says(status: u16, body: &'static str) -> Reply {
    says_with(status, Vec::new(), body)
}

fn says_with(status: u16, lines: Vec<(HeaderName, &'static str)>, body: &'static str) -> Reply {
    let status = StatusCode::from_u16(status).unwrap();
    Reply::Answers(status, lines, vec![Step::Says(body)])
}

fn streams(steps: &[Step]) -> Reply {
    let lines = vec![(header::CONTENT_TYPE, "text/event-stream")];
    Reply::Answers(StatusCode::OK, lines, steps.to_vec())
}

fn upstream(name: &'static str, replies: &[Reply]) -> Scripted {
    Scripted {
        name,
        replies: Arc::new(Mutex::new(replies.iter().cloned().collect())),
        calls: Arc::default(),
    }
}

/// Upstreams `a`, `b`, … by priority, each with a key of the proxy's own but the first.
fn house(scripts: &[&[Reply]]) -> House {
    house_with(scripts, TERMS, None)
}

fn house_with(scripts: &[&[Reply]], terms: Terms, total: Option<Duration>) -> House {
    house_in(scripts, terms, &[total; 3])
}

/// Each upstream has a time of its own for the whole call.
fn house_in(scripts: &[&[Reply]], terms: Terms, totals: &[Option<Duration>]) -> House {
    let names = ["a", "b", "c"];
    let upstreams: Vec<_> = names
        .iter()
        .zip(scripts)
        .map(|(name, replies)| upstream(name, replies))
        .collect();
    let timeouts = |total: &Option<Duration>| Timeouts {
        connect: None,
        first_byte: None,
        idle: None,
        total: *total,
    };
    let ways = upstreams.iter().zip(totals).map(|(inner, total)| Way {
        name: inner.name.to_owned(),
        timeouts: timeouts(total),
        inner: inner.clone(),
    });
    let owned: Vec<_> = upstreams.iter().map(|up| up.name.to_owned()).collect();
    let tally = Tally::new(&owned);
    let known = Arc::new(AtomicBool::new(true));
    let vouched = known.clone();
    let options = Options {
        terms,
        vouches: Arc::new(move |_| vouched.load(Ordering::SeqCst)),
        wall: || SystemTime::UNIX_EPOCH,
        tally: tally.clone(),
    };
    House {
        service: Failover::new(ways.collect(), options),
        tally,
        routes: routes(&owned),
        upstreams,
        known,
    }
}

fn routes(names: &[String]) -> Routes {
    let ways = names.iter().enumerate().map(|(place, name)| {
        let base_url = format!("http://{name}.example/v1");
        way(name, &base_url, place, place > 0)
    });
    Routes::new(&ways.collect::<Vec<_>>())
}

/// Routes to upstreams at one origin, each asked with the caller's own key.
fn routes_beside(names: &[&str]) -> Routes {
    let ways = names.iter().enumerate().map(|(place, name)| {
        let base_url = format!("http://one.example/{name}/v1");
        way(name, &base_url, place, false)
    });
    Routes::new(&ways.collect::<Vec<_>>())
}

fn way(name: &str, base_url: &str, place: usize, own_key: bool) -> crate::call::route::Way {
    crate::call::route::Way {
        name: name.to_owned(),
        base_url: base_url.parse().unwrap(),
        models: vec![crate::config::Glob::new("*")],
        rename: std::collections::BTreeMap::new(),
        priority: u32::try_from(place).unwrap(),
        weight: NonZero::<u32>::MIN,
        own_key,
    }
}

impl House {
    fn call(&self) -> Call {
        let config = Config::default();
        let headers = HeaderMap::new();
        let policy = Policy::new(&config.cache, &config.upstreams, Duration::from_secs(60));
        let caller = Caller::of(&headers, &Secret::from_bytes([0; 32]));
        let route = self.routes.route(&crate::call::route::Asked {
            addressed: None,
            dialect: Some(Dialect::Chat),
            model: Some("gpt"),
            body: b"{\"model\":\"gpt\"}",
            stable: b"",
        });
        Call::new(
            Fixed {
                id: HeaderValue::from_static("id"),
                method: Method::POST,
                target: PathAndQuery::from_static("/v1/chat/completions"),
                keyed: Ok(Arc::new(Keyed {
                    slot: Slot {
                        key: Key::from_bytes([1; 32]),
                        delivery: 0,
                    },
                    scope: caller.itself(),
                    request: Arc::default(),
                })),
                plan: policy.plan(&headers).unwrap(),
                caller,
                headers,
                dialect: Some(Dialect::Chat),
                rule: None,
                read: None,
                upgrade: false,
            },
            Payload::Whole(Bytes::new()),
            route.unwrap(),
        )
    }

    async fn send(&self) -> Result<Answer, Error> {
        self.send_call(self.call()).await
    }

    async fn send_call(&self, call: Call) -> Result<Answer, Error> {
        self.service.clone().oneshot(call).await
    }

    /// Returns status and body of the answer, or the kind of the error and who said it.
    async fn said(&self) -> Result<(u16, String), (Kind, String)> {
        let failed = |error: Error| (error.kind(), error.message().to_owned());
        let answer = self.send().await.map_err(failed)?;
        let status = answer.head.status.as_u16();
        let body = answer.body.collect().await.map_err(failed)?;
        let body = String::from_utf8(body.to_bytes().to_vec()).unwrap();
        Ok((status, body))
    }

    /// Returns how many calls each upstream got.
    fn calls(&self) -> Vec<usize> {
        let count = |up: &Scripted| up.calls.lock().unwrap().len();
        self.upstreams.iter().map(count).collect()
    }
}

fn said(status: u16, body: &str) -> (u16, String) {
    (status, body.to_owned())
}

fn moved(counts: Vec<Count>) -> Vec<String> {
    let moved = counts.into_iter().filter(|count| count.count > 0);
    moved
        .map(|count| format!("{} {} {}", count.upstream, count.what, count.count))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn whatever_is_the_upstreams_fault_is_answered_by_the_next_one_at_once() {
    for failure in [
        fails(Kind::Unreachable),
        fails(Kind::Timeout),
        fails(Kind::Broken),
        fails(Kind::Unavailable),
        fails(Kind::Busy),
        says(500, "oops"),
        says(529, "overloaded"),
        says(429, "busy"),
        says_with(503, vec![(header::RETRY_AFTER, "60")], "later"),
    ] {
        let house = house(&[&[failure], &[says(200, "hello")]]);
        let started = Instant::now();
        assert_eq!(house.said().await, Ok(said(200, "hello")));
        assert_eq!(house.calls(), [1, 1]);
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_the_clients_fault_is_final_and_untouched() {
    for reply in [
        says(400, "no"),
        says(401, "who?"),
        says(404, "what?"),
        says(422, "no"),
        says(501, "how?"),
    ] {
        let house = house(&[&[reply], &[says(200, "hello")]]);
        let answer = house.send().await.unwrap();
        assert!(answer.head.status.is_client_error() || answer.head.status == 501);
        assert!(answer.head.headers.is_empty());
        assert_eq!(house.calls(), [1, 0]);
    }
    let house = house(&[&[fails(Kind::IncompleteRequest)], &[says(200, "hello")]]);
    assert_eq!(house.said().await.unwrap_err().0, Kind::IncompleteRequest);
    assert_eq!(house.calls(), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn alone_an_upstream_is_asked_again_after_a_wait() {
    let house = house(&[&[says(500, "oops"), fails(Kind::Broken), says(200, "hello")]]);
    let started = Instant::now();
    let answer = house.send().await.unwrap();
    assert_eq!(answer.head.status, 200);
    assert_eq!(house.calls(), [3]);
    assert!(started.elapsed() <= Duration::from_millis(750));
    let failed = answer.head.timing.unwrap().failed().unwrap();
    assert_eq!((failed.count, failed.why), (2, "broken"));
    let counts = house.tally.counts();
    assert_eq!(
        moved(counts.tries),
        ["a answered 1", "a broken 1", "a status 1"]
    );
    assert_eq!(moved(counts.retries), ["a broken 1", "a status 1"]);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_says_when_is_asked_then_or_not_at_all() {
    for (wait, calls, least) in [("3", 2, 3), ("10", 2, 10), ("11", 1, 0)] {
        let later = says_with(503, vec![(header::RETRY_AFTER, wait)], "later");
        let house = house(&[&[later, says(200, "hello")]]);
        let started = Instant::now();
        let status = house.send().await.unwrap().head.status;
        assert_eq!(status, if calls == 2 { 200 } else { 503 });
        assert_eq!(house.calls(), [calls], "{wait}");
        assert!(started.elapsed() >= Duration::from_secs(least));
        assert!(started.elapsed() <= Duration::from_millis(least * 1_000 + 250));
    }
    let no = vec![(HeaderName::from_static(SHOULD_RETRY), "false")];
    let house = house(&[&[says_with(500, no, "never"), says(200, "hello")]]);
    assert_eq!(house.said().await, Ok(said(500, "never")));
    assert_eq!(house.calls(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_busy_upstream_that_is_alone_is_told_to_the_client_as_it_is() {
    let lines = vec![(header::RETRY_AFTER, "2")];
    let house = house(&[&[says_with(429, lines, "busy"), says(200, "hello")]]);
    let answer = house.send().await.unwrap();
    assert_eq!(answer.head.status, 429);
    assert_eq!(answer.head.headers.len(), 1);
    assert_eq!(answer.head.headers["retry-after"], "2");
    assert_eq!(house.calls(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_5xx_says_that_it_was_tried_again_only_if_it_was() {
    let house = house(&[&[says(500, "oops")]]);
    let answer = house.send().await.unwrap();
    assert_eq!(house.calls(), [3]);
    assert_eq!(answer.head.headers[SHOULD_RETRY], "false");
    assert_eq!(
        answer.head.timing.as_ref().unwrap().failed().unwrap().count,
        2
    );
    let body = answer.body.collect().await.unwrap();
    assert_eq!(body.to_bytes(), "oops");
    let once = Terms {
        attempts: 0,
        ..TERMS
    };
    let house = house_with(&[&[says(500, "oops")]], once, None);
    let answer = house.send().await.unwrap();
    assert!(answer.head.headers.is_empty());
    assert_eq!(answer.head.timing.unwrap().failed(), None);
}

#[tokio::test(start_paused = true)]
async fn what_says_most_is_told_in_the_end() {
    let unreachable = || fails(Kind::Unreachable);
    let (a, b) = ((Kind::Unreachable, "a".to_owned()), "b");
    for (first, second, expected, why) in [
        (
            says(500, "a"),
            says(503, b),
            Ok(said(500, "a")),
            "the primary's answer",
        ),
        (
            says(429, "a"),
            says(503, b),
            Ok(said(429, "a")),
            "the primary's answer",
        ),
        (
            says(500, "a"),
            says(429, b),
            Ok(said(500, "a")),
            "no quota of the operator's",
        ),
        (
            unreachable(),
            says(503, b),
            Ok(said(503, b)),
            "a real answer",
        ),
        (
            unreachable(),
            says(401, b),
            Err(a.clone()),
            "no key of the operator's",
        ),
        (
            unreachable(),
            says(429, b),
            Err(a.clone()),
            "no quota of the operator's",
        ),
        (
            unreachable(),
            fails(Kind::Timeout),
            Err(a.clone()),
            "the primary's failure",
        ),
        (
            unreachable(),
            says(400, b),
            Ok(said(400, b)),
            "what the client did",
        ),
    ] {
        let once = Terms {
            attempts: 0,
            ..TERMS
        };
        let house = house_with(&[&[first], &[second]], once, None);
        assert_eq!(house.said().await, expected, "{why}");
        assert_eq!(house.calls(), [1, 1], "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_operators_key_is_spent_only_for_callers_that_are_known() {
    let house = house(&[&[says(500, "a")], &[says(200, "b")]]);
    house.known.store(false, Ordering::SeqCst);
    assert_eq!(house.said().await, Ok(said(500, "a")));
    assert_eq!(house.calls(), [3, 0]);
    let counts = house.tally.counts();
    assert_eq!(moved(counts.tries), ["a status 3", "b no_credential 1"]);
    house.known.store(true, Ordering::SeqCst);
    assert_eq!(house.said().await, Ok(said(200, "b")));
    assert_eq!(moved(house.tally.counts().failovers), ["a b 1"]);
}

#[tokio::test(start_paused = true)]
async fn where_nobody_else_can_the_one_that_may_recover_is_asked_again() {
    for refusal in [Kind::Unavailable, Kind::Busy, Kind::Timeout] {
        let house = house(&[&[says(500, "a"), says(200, "hello")], &[fails(refusal)]]);
        assert_eq!(house.said().await, Ok(said(200, "hello")), "{refusal:?}");
        assert_eq!(house.calls(), [2, 1]);
    }
}

#[tokio::test(start_paused = true)]
async fn open_circuits_everywhere_cost_no_wait_and_no_budget() {
    let house = house(&[&[fails(Kind::Unavailable)], &[fails(Kind::Unavailable)]]);
    let started = Instant::now();
    for _ in 0..100 {
        let expected = (Kind::Unavailable, "a".to_owned());
        assert_eq!(house.said().await, Err(expected));
    }
    assert_eq!(house.calls(), [100, 100]);
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_not_multiplied() {
    let house = house(&[&[fails(Kind::Broken)]]);
    for _ in 0..1_000 {
        assert!(house.said().await.is_err());
    }
    // Ten saved up, a fifth of the calls, and one for every ten seconds that the waits took.
    let [tries] = house.calls()[..] else {
        panic!("one upstream");
    };
    assert!((1_190..=1_220).contains(&tries), "{tries}");
}

#[tokio::test(start_paused = true)]
async fn the_total_timer_ends_the_tries_and_is_told_to_all_of_them() {
    let total = Some(Duration::from_secs(3));
    let slow = || says_with(503, vec![(header::RETRY_AFTER, "2")], "later");
    let house = house_with(&[&[slow()]], TERMS, total);
    let started = Instant::now();
    assert_eq!(house.said().await, Ok(said(503, "later")));
    assert_eq!(house.calls(), [2]);
    assert!(started.elapsed() < Duration::from_secs(3));
    let seen = house.upstreams[0].calls.lock().unwrap().clone();
    assert_eq!(
        seen.iter().map(|seen| seen.since).collect::<Vec<_>>(),
        [Some(started.into_std()); 2],
        "a try that had to wait for its place has no more time than the others"
    );
}

#[tokio::test(start_paused = true)]
async fn what_may_have_had_an_effect_is_not_made_twice() {
    for (failure, calls) in [
        (says(500, "a"), [1, 0]),
        (fails(Kind::Broken), [1, 0]),
        (fails(Kind::Unreachable), [1, 1]),
        (fails(Kind::Unavailable), [1, 1]),
    ] {
        let house = house(&[&[failure], &[says(200, "b")]]);
        let mut call = house.call();
        call.fixed_mut().dialect = None;
        call.fixed_mut().keyed = Err(Unkeyed::Endpoint);
        drop(house.send_call(call).await);
        assert_eq!(house.calls(), calls);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_streams_from_the_client_is_sent_once() {
    let house = house(&[&[fails(Kind::Unreachable)], &[says(200, "b")]]);
    let steps = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"{}")))]);
    let call = Call {
        payload: Payload::Stream(StreamBody::new(steps).boxed_unsync()),
        ..house.call()
    };
    let error = house.send_call(call).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable);
    assert_eq!(house.calls(), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_before_its_content_is_taken_over() {
    for steps in [
        &[Step::Says(ERROR)][..],
        &[
            Step::Says(COMMENT),
            Step::Says(ROLE),
            Step::Says(ERROR),
            Step::Says(HELLO),
        ],
        &[Step::Says(ROLE), Step::Breaks],
        &[Step::Breaks],
        &[],
    ] {
        let house = house(&[&[streams(steps)], &[says(200, "hello")]]);
        assert_eq!(house.said().await, Ok(said(200, "hello")));
        assert_eq!(house.calls(), [1, 1]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_with_content_goes_on_byte_for_byte_and_is_not_spliced() {
    let whole = [COMMENT, ROLE, HELLO, ERROR];
    let steps: Vec<_> = whole.map(Step::Says).to_vec();
    let first = house(&[&[streams(&steps)], &[says(200, "b")]]);
    assert_eq!(first.said().await, Ok(said(200, &whole.concat())));
    let broken = [Step::Says(ROLE), Step::Says(HELLO), Step::Breaks];
    let second = house(&[&[streams(&broken)], &[says(200, "b")]]);
    assert_eq!(second.said().await.unwrap_err().0, Kind::Broken);
    let refused = house(&[&[streams(&[Step::Says(REFUSED)])], &[says(200, "b")]]);
    assert_eq!(refused.said().await, Ok(said(200, REFUSED)));
    for house in [first, second, refused] {
        assert_eq!(house.calls(), [1, 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_says_nothing_for_long_is_passed_on_as_it_is() {
    let steps = [Step::Says(COMMENT), Step::Stalls];
    let house = house(&[&[streams(&steps)], &[says(200, "b")]]);
    let started = Instant::now();
    let mut answer = house.send().await.unwrap();
    assert_eq!(started.elapsed(), crate::guard::peek::PATIENCE);
    let frame = answer.body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), COMMENT);
    assert_eq!(house.calls(), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn with_nobody_to_take_over_a_stream_passes_as_it_comes() {
    let steps = [Step::Says(COMMENT), Step::Stalls];
    let house = house(&[&[streams(&steps)]]);
    let started = Instant::now();
    let mut answer = house.send().await.unwrap();
    let frame = answer.body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), COMMENT);
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_read_in_time_does_not_hold_up_the_next_try() {
    let endless = Reply::Answers(StatusCode::BAD_GATEWAY, Vec::new(), vec![Step::Stalls]);
    let house = house(&[&[endless], &[says(200, "hello")]]);
    let started = Instant::now();
    assert_eq!(house.said().await, Ok(said(200, "hello")));
    assert_eq!(started.elapsed(), Duration::from_millis(250));
}

/// No try is repeated.
const ONCE: Terms = Terms {
    attempts: 0,
    ..TERMS
};

/// Busy or failing, in more words or more time than is waited for.
fn lengthy(status: u16, steps: &[Step]) -> Reply {
    let lines = vec![(header::RETRY_AFTER, "7")];
    Reply::Answers(StatusCode::from_u16(status).unwrap(), lines, steps.to_vec())
}

#[tokio::test(start_paused = true)]
async fn an_answer_too_slow_or_too_long_to_be_held_is_still_what_the_client_gets() {
    static LONG: LazyLock<String> = LazyLock::new(|| "x".repeat(40 << 10));
    let long = [Step::Says(&LONG); 3];
    let slow = [Step::Says("a"), Step::Waits(1), Step::Says("b")];
    let whole = LONG.repeat(3);
    for (status, steps, expected) in [
        (429, &long[..], whole.as_str()),
        (429, &slow[..], "ab"),
        (503, &long[..], whole.as_str()),
        (503, &slow[..], "ab"),
    ] {
        let (first, second) = (lengthy(status, steps), fails(Kind::Unavailable));
        let house = house_with(&[&[first], &[second]], ONCE, None);
        let answer = house.send().await.unwrap();
        assert_eq!(answer.head.status, status);
        assert_eq!(answer.head.headers["retry-after"], "7");
        let body = answer.body.collect().await.unwrap().to_bytes();
        assert!(body == expected, "{status}: {} bytes", body.len());
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_while_it_is_held_is_told_as_far_as_it_came() {
    let breaks = lengthy(429, &[Step::Says("a"), Step::Breaks]);
    let house = house(&[&[breaks], &[fails(Kind::Unreachable)]]);
    let mut answer = house.send().await.unwrap();
    assert_eq!(answer.head.status, 429);
    let frame = answer.body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "a");
    let error = answer.body.frame().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::Broken);
}

#[tokio::test(start_paused = true)]
async fn an_answer_under_way_does_not_take_the_place_of_the_next_try_at_its_upstream() {
    let slow = lengthy(503, &[Step::Says("a"), Step::Stalls]);
    let house = house(&[&[slow, fails(Kind::Busy)]]);
    let mut answer = house.send().await.unwrap();
    assert_eq!(house.calls(), [3]);
    assert_eq!(answer.head.status, 503);
    let frame = answer.body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "a");
    let error = answer.body.frame().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::Broken, "it is given up, not waited for");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_would_have_no_time_left_is_not_asked_and_not_blamed() {
    let totals = |totals: &[Option<u64>]| -> Vec<_> {
        let totals = totals.iter().copied();
        totals
            .map(|millis| millis.map(Duration::from_millis))
            .collect()
    };
    for (total, calls) in [
        (None, [1, 1, 0]),
        (Some(1_001), [1, 1, 0]),
        (Some(900), [1, 0, 1]),
    ] {
        let late = Reply::Late(Duration::from_secs(1), Kind::Timeout);
        let scripts: [&[Reply]; 3] = [&[late], &[says(200, "b")], &[says(200, "c")]];
        let house = house_in(&scripts, ONCE, &totals(&[None, total, None]));
        assert_eq!(house.said().await.unwrap().0, 200);
        assert_eq!(house.calls(), calls, "{total:?}");
        let tries = moved(house.tally.counts().tries);
        assert_eq!(tries.len(), 2, "{tries:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_said_to_the_callers_own_key_is_told_to_the_caller() {
    for (status, why) in [
        (401, None),
        (403, None),
        (404, None),
        (429, Some("b busy 1")),
    ] {
        let first = fails(Kind::Unreachable);
        let house = House {
            routes: routes_beside(&["a", "b"]),
            ..house_with(&[&[first], &[says(status, "b")]], ONCE, None)
        };
        assert_eq!(house.said().await, Ok(said(status, "b")));
        let last = moved(house.tally.counts().tries).pop();
        assert_eq!(last.as_deref(), why.or(Some("b answered 1")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_not_held_back_for_a_caller_whom_nobody_else_may_answer() {
    let steps = [Step::Says(COMMENT), Step::Stalls];
    let house = house(&[&[streams(&steps)], &[says(200, "b")]]);
    house.known.store(false, Ordering::SeqCst);
    let started = Instant::now();
    let mut answer = house.send().await.unwrap();
    let frame = answer.body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), COMMENT);
    assert_eq!(started.elapsed(), Duration::ZERO);
}
