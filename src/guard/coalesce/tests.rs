//! Flights by themselves: a scripted upstream below, no sockets.

use std::{collections::VecDeque, sync::atomic::AtomicUsize, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header::CONTENT_TYPE, uri::PathAndQuery};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::oneshot;

use super::*;
use crate::{
    answer::{Asked, retold::Teller, tape::Limits, tasks::Tasks},
    call::{Fixed, Keyed, Payload, caller::Caller, key::Secret, plan::Plan, route::Route},
    config::Config,
    dialect::chat::request::Request,
    store::{
        generations::{Generations, Purge, Seen, Selector},
        memory::Memory,
    },
    upstream::headers,
};

mod fleet;

/// What the scripted upstream answers, once told to.
type Outcome = Result<&'static str, Error>;

/// An upstream whose calls wait until the test answers them.
#[derive(Clone, Default)]
struct Scripted {
    waiting: Arc<Mutex<VecDeque<oneshot::Sender<Outcome>>>>,
    calls: Arc<AtomicUsize>,
}

impl Scripted {
    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn answer(&self, outcome: Outcome) {
        let call = lock(&self.waiting).pop_front().expect("a call waits");
        let _ = call.send(outcome);
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
        let (answer, told) = oneshot::channel();
        lock(&self.waiting).push_back(answer);
        self.calls.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let body = told.await.expect("the test did not answer")?;
            assert_ne!(body, "panic", "scripted");
            let status = body.strip_prefix("status ").map(str::parse);
            let content_type = HeaderValue::from_static(if body.starts_with("data:") {
                "text/event-stream"
            } else {
                "application/json"
            });
            let piece = |bytes| Ok(Frame::data(Bytes::from_static(bytes)));
            let pieces = match body {
                "broken" => vec![Err(Error::new(Kind::Broken, "scripted"))],
                "large" | "endless" => (0..20).map(|_| piece(PIECE)).collect(),
                body => vec![piece(body.as_bytes())],
            };
            let pieces = stream::iter(pieces);
            let content = if body == "endless" {
                StreamBody::new(pieces.chain(stream::pending())).boxed_unsync()
            } else {
                StreamBody::new(pieces).boxed_unsync()
            };
            Ok(Answer {
                head: Head {
                    status: status.map_or(StatusCode::OK, Result::unwrap),
                    headers: HeaderMap::from_iter([(CONTENT_TYPE, content_type)]),
                    framed: true,
                    upstream: HeaderValue::from_static("up"),
                    asked: Asked::default(),
                    timing: None,
                },
                body: Body::Stream(content),
                served: Served::bypass(crate::call::Unkeyed::Endpoint),
            })
        })
    }
}

/// A tenth of the most that is stored.
const PIECE: &[u8] = &[b'x'; 1_000];

struct House {
    upstream: Scripted,
    flights: Flights,
    memory: Memory,
}

fn house() -> House {
    house_in(None)
}

/// A house among replicas.
fn house_in(fleet: Option<Fleet>) -> House {
    let limits = Limits {
        max_entry: 10_000,
        share: 1_000_000,
        window: 1_000,
        stall: Duration::from_secs(10),
        finish: true,
        linger: Duration::from_secs(60),
    };
    let memory = Memory::new(1 << 20, 10_000);
    let judge: Judge = Arc::new(|flown: Flown<'_>| {
        Ok(Entry {
            slot: flown.slot,
            form: flown.form,
            status: flown.recording.head.status,
            headers: HeaderMap::new(),
            body: flown.recording.body,
            upstream: HeaderValue::from_static("up"),
            usage: None,
            made: flown.now,
            lifetime: flown.wishes.lifetime.ok_or(NotStored::NoStore)?,
            tags: flown.wishes.tags.clone(),
            label: flown.label.clone(),
            retold: Retold::default(),
            seen: Seen::default(),
        })
    });
    let tapes = Tapes::new(limits, Tasks::default(), Box::new(|_| {}));
    House {
        upstream: Scripted::default(),
        flights: Flights::new(
            tapes,
            Tiered::new(
                memory.clone(),
                None,
                Generations::new(std::time::UNIX_EPOCH),
                Teller::new(Tasks::default()),
            ),
            judge,
            |_, _, _| true,
            fleet,
        ),
        memory,
    }
}

fn slot(number: u8) -> Slot {
    Slot {
        key: Key::from_bytes([number; 32]),
        delivery: 0,
    }
}

fn call_to(slot: Slot, change: impl FnOnce(&mut Plan)) -> Call {
    let config = Config::default();
    let policy =
        crate::call::plan::Policy::new(&config.cache, &config.upstreams, Duration::from_secs(100));
    let headers = HeaderMap::new();
    let mut plan = policy.plan(&headers).unwrap();
    change(&mut plan);
    let caller = Caller::of(&headers, &Secret::from_bytes([0; 32]));
    Call::new(
        Fixed {
            id: HeaderValue::from_static("id"),
            method: Method::POST,
            target: PathAndQuery::from_static("/v1/chat/completions"),
            keyed: Ok(Arc::new(Keyed {
                slot,
                scope: caller.itself(),
                request: Arc::default(),
            })),
            caller,
            headers,
            dialect: None,
            plan,
            rule: None,
            read: None,
            upgrade: false,
        },
        Payload::Whole(Bytes::new()),
        Arc::new(Route::to(0, false)),
    )
}

fn call() -> Call {
    call_to(slot(1), |_| {})
}

impl House {
    fn send(&self, call: Call) -> tokio::task::JoinHandle<Result<(Verdict, String), Error>> {
        let mut service = CoalesceLayer::new(self.flights.clone()).layer(self.upstream.clone());
        let answering = service.call(call);
        spawn(async move {
            let answer = answering.await?;
            let verdict = answer.served.verdict;
            let body = answer.body.collect().await?.to_bytes();
            Ok((verdict, String::from_utf8(body.to_vec()).unwrap()))
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "it ends with its test")]
fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(work)
}

/// Lets every task that can run, run.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn said(verdict: Verdict, body: &str) -> (Verdict, String) {
    (verdict, body.to_owned())
}

#[tokio::test]
async fn a_thousand_identical_calls_are_one() {
    let house = house();
    let calls: Vec<_> = (0..1_000).map(|_| house.send(call())).collect();
    settle().await;
    assert_eq!(house.upstream.calls(), 1);
    assert_eq!(house.flights.counts(), (1, 999));
    house.upstream.answer(Ok("hello"));
    for (number, call) in calls.into_iter().enumerate() {
        let verdict = if number == 0 {
            Verdict::Miss
        } else {
            Verdict::Collapsed
        };
        assert_eq!(call.await.unwrap().unwrap(), said(verdict, "hello"));
    }
    assert_eq!(house.flights.under_way(), 0);
    assert_eq!(house.memory.get(&slot(1)).unwrap().body, "hello");
}

#[tokio::test]
async fn other_slots_and_refreshes_do_not_join() {
    let house = house();
    let first = house.send(call());
    let other = house.send(call_to(slot(2), |_| {}));
    settle().await;
    let refresh = house.send(call_to(slot(1), |plan| plan.refresh = true));
    settle().await;
    let follower = house.send(call());
    settle().await;
    assert_eq!(house.upstream.calls(), 3);
    for body in ["old", "other", "new"] {
        house.upstream.answer(Ok(body));
    }
    assert_eq!(first.await.unwrap().unwrap(), said(Verdict::Miss, "old"));
    assert_eq!(other.await.unwrap().unwrap(), said(Verdict::Miss, "other"));
    assert_eq!(refresh.await.unwrap().unwrap(), said(Verdict::Miss, "new"));
    let answer = follower.await.unwrap().unwrap();
    assert_eq!(answer, said(Verdict::Collapsed, "new"));
}

#[tokio::test]
async fn a_flight_that_a_refresh_replaced_does_not_overwrite_the_newer_answer() {
    let house = house();
    let slow = house.send(call());
    settle().await;
    let refresh = house.send(call_to(slot(1), |plan| plan.refresh = true));
    settle().await;
    let first = lock(&house.upstream.waiting).pop_front().unwrap();
    house.upstream.answer(Ok("new"));
    refresh.await.unwrap().unwrap();
    assert_eq!(house.memory.get(&slot(1)).unwrap().body, "new");
    let _ = first.send(Ok("old"));
    assert_eq!(slow.await.unwrap().unwrap(), said(Verdict::Miss, "old"));
    assert_eq!(house.memory.get(&slot(1)).unwrap().body, "new");
}

#[tokio::test]
async fn a_leader_that_hangs_up_does_not_strand_its_followers() {
    let house = house();
    let leader = house.send(call());
    settle().await;
    let follower = house.send(call());
    settle().await;
    leader.abort();
    settle().await;
    house.upstream.answer(Ok("hello"));
    let answer = follower.await.unwrap().unwrap();
    assert_eq!(answer, said(Verdict::Collapsed, "hello"));
    assert_eq!(house.upstream.calls(), 1);
}

#[tokio::test]
async fn when_a_leader_panics_its_followers_go_on_by_themselves() {
    let house = house();
    let leader = house.send(call());
    settle().await;
    let followers = [house.send(call()), house.send(call())];
    settle().await;
    house.upstream.answer(Ok("panic"));
    settle().await;
    assert_eq!(leader.await.unwrap().unwrap_err().kind(), Kind::Internal);
    assert_eq!(house.upstream.calls(), 2, "one of them leads, one follows");
    house.upstream.answer(Ok("hello"));
    for follower in followers {
        assert_eq!(follower.await.unwrap().unwrap().1, "hello");
    }
}

#[tokio::test]
async fn an_upstream_that_fails_fails_them_all_and_is_asked_anew_by_the_next() {
    let house = house();
    let calls = [house.send(call()), house.send(call())];
    settle().await;
    let error = Error::new(Kind::Unreachable, "scripted");
    house.upstream.answer(Err(error));
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap_err().kind(), Kind::Unreachable);
    }
    assert_eq!(house.flights.under_way(), 0);
    let next = house.send(call());
    settle().await;
    house.upstream.answer(Ok("hello"));
    assert_eq!(next.await.unwrap().unwrap(), said(Verdict::Miss, "hello"));
}

#[tokio::test]
async fn the_least_lifetime_and_all_tags_of_those_who_store_count() {
    let house = house();
    let member = |seconds, tag: &str, store| {
        let tag = tag.to_owned();
        house.send(call_to(slot(1), move |plan| {
            plan.lifetime = Duration::from_secs(seconds);
            plan.tags = vec![tag];
            plan.store = store;
        }))
    };
    let calls = [
        member(50, "b", true),
        member(20, "a", true),
        member(1, "c", false),
    ];
    settle().await;
    house.upstream.answer(Ok("hello"));
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let entry = house.memory.get(&slot(1)).unwrap();
    assert_eq!(entry.lifetime, Duration::from_secs(20));
    assert_eq!(entry.tags, ["a", "b"]);
}

#[tokio::test]
async fn a_flight_is_stored_iff_a_member_wants_it() {
    for (joiner_stores, stored) in [(false, false), (true, true)] {
        let house = house();
        let leader = house.send(call_to(slot(1), |plan| plan.store = false));
        settle().await;
        let follower = house.send(call_to(slot(1), |plan| plan.store = joiner_stores));
        settle().await;
        house.upstream.answer(Ok("hello"));
        leader.await.unwrap().unwrap();
        follower.await.unwrap().unwrap();
        assert_eq!(house.memory.get(&slot(1)).is_some(), stored);
    }
}

#[tokio::test]
async fn a_call_that_comes_just_after_the_landing_gets_the_entry() {
    let house = house();
    let first = house.send(call());
    settle().await;
    house.upstream.answer(Ok("hello"));
    first.await.unwrap().unwrap();
    // Its look into the cache was before the landing: it has passed nothing over.
    let late = house.send(call()).await.unwrap().unwrap();
    assert_eq!(late, said(Verdict::Collapsed, "hello"));
    assert_eq!(house.upstream.calls(), 1);

    let label = house.memory.get(&slot(1)).unwrap().label.clone();
    assert_eq!(label.scope, call().caller.itself().as_bytes());

    // This one has seen that very entry, and passed it over.
    let mut choosy = call();
    choosy.passed_over = Some(house.memory.get(&slot(1)).unwrap().made.into_std());
    let choosy = house.send(choosy);
    settle().await;
    assert_eq!(house.upstream.calls(), 2);
    house.upstream.answer(Ok("again"));
    assert_eq!(choosy.await.unwrap().unwrap(), said(Verdict::Miss, "again"));
}

#[tokio::test]
async fn nobody_fails_with_a_call_that_keeps_to_itself() {
    let house = house();
    let mut unproven = call();
    unproven.alone = true;
    let unproven = house.send(unproven);
    settle().await;
    let proven = [house.send(call()), house.send(call())];
    settle().await;
    assert_eq!(house.upstream.calls(), 2, "they follow one of their own");
    let error = Error::new(Kind::Unreachable, "no failover for this caller");
    house.upstream.answer(Err(error));
    assert_eq!(
        unproven.await.unwrap().unwrap_err().kind(),
        Kind::Unreachable
    );
    house.upstream.answer(Ok("hello"));
    for (call, verdict) in proven.into_iter().zip([Verdict::Miss, Verdict::Collapsed]) {
        assert_eq!(call.await.unwrap().unwrap(), said(verdict, "hello"));
    }
    assert_eq!(house.memory.get(&slot(1)).unwrap().body, "hello");
}

#[tokio::test]
async fn what_a_call_that_keeps_to_itself_brings_is_stored_where_no_other_is_under_way() {
    for beside in [false, true] {
        let house = house();
        let mut unproven = call();
        unproven.alone = true;
        let unproven = house.send(unproven);
        settle().await;
        let proven = beside.then(|| house.send(call()));
        settle().await;
        house.upstream.answer(Ok("its own"));
        let answer = unproven.await.unwrap().unwrap();
        assert_eq!(answer, said(Verdict::Miss, "its own"));
        assert_eq!(house.memory.get(&slot(1)).is_some(), !beside);
        if let Some(proven) = proven {
            house.upstream.answer(Ok("theirs"));
            proven.await.unwrap().unwrap();
            assert_eq!(house.memory.get(&slot(1)).unwrap().body, "theirs");
        }
    }
}

/// A call for an answer in this form.
fn call_for(form: Form) -> Call {
    let request = Request {
        stream: form.is_stream(),
        include_usage: form == TELLING,
        ..Request::default()
    };
    let slot = slot(1);
    let mut call = call();
    let scope = call.caller.itself();
    call.fixed_mut().keyed = Ok(Arc::new(Keyed {
        slot,
        scope,
        request: request.into(),
    }));
    call
}

const SILENT: Form = Form::Stream { usage: false };

#[tokio::test]
async fn what_serves_fewer_calls_does_not_replace_what_landed_beside_it() {
    let house = house();
    let stream = house.send(call_for(SILENT));
    settle().await;
    let plain = house.send(call_for(Form::Plain));
    settle().await;
    assert_eq!(house.upstream.calls(), 2, "its usage would be missing");
    let first = lock(&house.upstream.waiting).pop_front().unwrap();
    house.upstream.answer(Ok("rich"));
    plain.await.unwrap().unwrap();
    let _ = first.send(Ok("poor"));
    assert_eq!(stream.await.unwrap().unwrap(), said(Verdict::Miss, "poor"));
    assert_eq!(house.memory.get(&slot(1)).unwrap().body, "rich");

    // What was there before it began, it replaces.
    let mut later = call_for(SILENT);
    later.passed_over = Some(house.memory.get(&slot(1)).unwrap().made.into_std());
    let later = house.send(later);
    settle().await;
    house.upstream.answer(Ok("later"));
    later.await.unwrap().unwrap();
    assert_eq!(house.memory.get(&slot(1)).unwrap().body, "later");
}

#[tokio::test]
async fn a_landed_entry_that_cannot_be_told_anew_is_passed_over() {
    let house = house();
    let plain = house.send(call_for(Form::Plain));
    settle().await;
    house.upstream.answer(Ok("no completion"));
    plain.await.unwrap().unwrap();
    let late = house.send(call_for(SILENT));
    settle().await;
    assert_eq!(house.upstream.calls(), 2);
    house.upstream.answer(Ok("own"));
    assert_eq!(late.await.unwrap().unwrap(), said(Verdict::Miss, "own"));
}

#[tokio::test]
async fn of_two_flights_a_call_joins_that_of_its_own_form() {
    let house = house();
    let stream = house.send(call_for(SILENT));
    settle().await;
    let plain = house.send(call_for(Form::Plain));
    settle().await;
    let joined = house.send(call_for(SILENT));
    settle().await;
    house.upstream.answer(Ok("streamed"));
    house.upstream.answer(Ok("plain"));
    assert_eq!(
        stream.await.unwrap().unwrap(),
        said(Verdict::Miss, "streamed")
    );
    assert_eq!(plain.await.unwrap().unwrap(), said(Verdict::Miss, "plain"));
    let answer = joined.await.unwrap().unwrap();
    assert_eq!(answer, said(Verdict::Collapsed, "streamed"));
}

#[tokio::test]
async fn a_call_that_comes_round_a_loop_does_not_wait_for_itself() {
    let house = house();
    let first = house.send(call());
    settle().await;
    let mut again = call();
    let sent = &mut again.fixed_mut().headers;
    sent.insert(headers::HOPS, HeaderValue::from(1_u16));
    let again = house.send(again);
    settle().await;
    assert_eq!(house.upstream.calls(), 2);
    house.upstream.answer(Ok("hello"));
    house.upstream.answer(Ok("round"));
    first.await.unwrap().unwrap();
    assert_eq!(again.await.unwrap().unwrap(), said(Verdict::Miss, "round"));
}

const TELLING: Form = Form::Stream { usage: true };

/// A stream whose deltas say `hello`, and its usage.
const STREAM: &str = concat!(
    r#"data: {"choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":"stop"}]}"#,
    "\n\n",
    r#"data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
    "\n\ndata: [DONE]\n\n",
);

/// The same without usage.
const WITHOUT_USAGE: &str = concat!(
    r#"data: {"choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":"stop"}]}"#,
    "\n\ndata: [DONE]\n\n",
);

/// One that cannot be folded: what it says is of two kinds.
const UNREADABLE: &str = concat!(
    r#"data: {"choices":[{"index":0,"delta":{"content":"hello"}}]}"#,
    "\n\n",
    r#"data: {"choices":[{"index":0,"delta":{"content":1},"finish_reason":"stop"}]}"#,
    "\n\n",
    r#"data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
    "\n\ndata: [DONE]\n\n",
);

#[tokio::test]
async fn followers_in_another_form_and_later_hits_share_one_telling() {
    let house = house();
    let leader = house.send(call_for(TELLING));
    settle().await;
    let mut service = CoalesceLayer::new(house.flights.clone()).layer(house.upstream.clone());
    let followers: Vec<_> = (0..3)
        .map(|_| spawn(service.call(call_for(Form::Plain))))
        .collect();
    settle().await;
    house.upstream.answer(Ok(STREAM));
    leader.await.unwrap().unwrap();
    let mut places = Vec::new();
    for follower in followers {
        let answer = follower.await.unwrap().unwrap();
        assert_eq!(answer.served.verdict, Verdict::Collapsed);
        places.push(answer.body.collect().await.unwrap().to_bytes().as_ptr() as usize);
    }
    let entry = house.memory.get(&slot(1)).expect("it was stored");
    let hit = entry.retold.at_once(&entry.body, TELLING, Form::Plain);
    places.push(hit.unwrap().unwrap().as_ptr() as usize);
    assert!(
        places.windows(2).all(|pair| pair[0] == pair[1]),
        "{places:?}"
    );
    assert_eq!(entry.retold.counted(), entry.retold.bytes());
}

#[tokio::test]
async fn a_follower_in_another_form_decides_about_storing_only_if_the_flight_serves_it() {
    for (body, serves) in [(STREAM, true), (WITHOUT_USAGE, false), (UNREADABLE, false)] {
        let house = house();
        let mut unstored = call_for(TELLING);
        unstored.fixed_mut().plan.store = false;
        let leader = house.send(unstored);
        settle().await;
        let follower = house.send(call_for(Form::Plain));
        settle().await;
        house.upstream.answer(Ok(body));
        assert_eq!(leader.await.unwrap().unwrap(), said(Verdict::Miss, body));
        settle().await;
        assert_eq!(house.memory.entries(), u64::from(serves), "{body}");
        assert_eq!(house.upstream.calls(), if serves { 1 } else { 2 });
        if !serves {
            house.upstream.answer(Ok("{}"));
        }
        let (verdict, _) = follower.await.unwrap().unwrap();
        let expected = if serves {
            Verdict::Collapsed
        } else {
            Verdict::Miss
        };
        assert_eq!(verdict, expected);
    }
}

fn purge(selector: Selector, soft: bool) -> Purge {
    Purge {
        selector,
        within: None,
        soft,
    }
}

#[tokio::test]
async fn a_purge_during_a_flight_neither_revives_the_entry_nor_takes_later_calls_along() {
    for (selector, soft) in [
        (Selector::All, false),
        (Selector::All, true),
        (Selector::Tag("a".to_owned()), false),
        (Selector::Upstream("up".to_owned()), false),
        (Selector::Pattern("up/*".to_owned()), false),
        (Selector::Key(slot(1).key), false),
    ] {
        let house = house();
        let tagged = || call_to(slot(1), |plan| plan.tags = vec!["a".to_owned()]);
        let leader = house.send(tagged());
        settle().await;
        let follower = house.send(call());
        settle().await;
        let generations = house.flights.0.store.generations();
        generations.purge(&purge(selector.clone(), soft)).unwrap();
        let later = house.send(tagged());
        settle().await;
        assert_eq!(house.upstream.calls(), 2, "{selector:?}");
        house.upstream.answer(Ok("old"));
        assert_eq!(leader.await.unwrap().unwrap(), said(Verdict::Miss, "old"));
        let joined = follower.await.unwrap().unwrap();
        assert_eq!(joined, said(Verdict::Collapsed, "old"), "it came before");
        assert!(house.flights.0.store.get(&slot(1)).is_none());
        house.upstream.answer(Ok("new"));
        assert_eq!(later.await.unwrap().unwrap(), said(Verdict::Miss, "new"));
        assert_eq!(house.memory.get(&slot(1)).unwrap().body, "new");
    }
}

#[tokio::test]
async fn a_purge_of_something_else_leaves_a_flight_alone() {
    let house = house();
    let leader = house.send(call());
    settle().await;
    let generations = house.flights.0.store.generations();
    let other = Selector::Tag("other".to_owned());
    generations.purge(&purge(other, false)).unwrap();
    let follower = house.send(call());
    settle().await;
    house.upstream.answer(Ok("hello"));
    leader.await.unwrap().unwrap();
    let joined = follower.await.unwrap().unwrap();
    assert_eq!(joined, said(Verdict::Collapsed, "hello"));
    assert!(house.flights.0.store.get(&slot(1)).is_some());
}

#[tokio::test]
async fn a_flight_that_is_purged_when_nobody_came_later_is_not_stored() {
    let house = house();
    let leader = house.send(call());
    settle().await;
    assert!(house.flights.carries(
        &slot(1).key,
        call().keyed.as_ref().unwrap().scope.as_bytes()
    ));
    assert!(!house.flights.carries(&slot(1).key, b"another"));
    let generations = house.flights.0.store.generations();
    generations.purge(&purge(Selector::All, false)).unwrap();
    house.upstream.answer(Ok("hello"));
    leader.await.unwrap().unwrap();
    assert!(house.memory.get(&slot(1)).is_none());
}
