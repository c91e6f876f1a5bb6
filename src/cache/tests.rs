//! The layer by itself: an upstream that answers or fails at once, paused time.

use std::{
    future::Ready,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, uri::PathAndQuery};
use http_body_util::BodyExt;
use tempfile::TempDir;

use super::*;
use crate::{
    answer::{
        Asked, Head,
        replay::Replay,
        retold::{Retold, SMALL, Teller},
        tasks::Tasks,
    },
    call::{
        Fixed, Payload, Slot, Unkeyed,
        caller::Caller,
        key::{Key, Secret},
        plan::{Plan, Policy},
        route::Route,
    },
    config::{self, Config},
    dialect::chat::{form::Form, request::Request},
    store::{
        Label,
        disk::{self, Disk},
        generations::{Generations, Seen},
        memory::Memory,
        proofs::Proofs,
    },
};

/// An upstream that answers `status`, or fails where there is none.
#[derive(Clone)]
struct Upstream {
    status: Option<StatusCode>,
    calls: Arc<AtomicUsize>,
}

impl Service<Call> for Upstream {
    type Response = Answer;
    type Error = Error;
    type Future = Ready<Result<Answer, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let key = call.keyed.as_ref().ok().map(|keyed| keyed.slot.key);
        ready(match self.status {
            Some(status) => Ok(Answer {
                head: Head {
                    status,
                    headers: HeaderMap::new(),
                    framed: true,
                    upstream: HeaderValue::from_static("up"),
                    asked: Asked::default(),
                    timing: None,
                },
                body: Body::Replay(Replay::new(Bytes::from_static(b"new"), None)),
                served: Served::from_upstream(Verdict::Miss, Reason::NotFound, key),
            }),
            None => Err(Error::new(Kind::Unreachable, "scripted")),
        })
    }
}

struct House {
    cache: Cache<Upstream>,
    calls: Arc<AtomicUsize>,
}

/// A house with one entry, made now and fresh for 100 s.
fn house(status: Option<StatusCode>) -> House {
    house_with(status, Form::Plain, "old")
}

/// A house whose entry has this `body`, recorded in this form without usage.
fn house_with(status: Option<StatusCode>, form: Form, body: &'static str) -> House {
    let memory = Memory::new(1 << 20, 1 << 10);
    memory.put(Arc::new(Entry {
        form,
        body: Bytes::from_static(body.as_bytes()),
        ..entry()
    }));
    house_over(Tiered::new(memory, None, generations(), teller()), status)
}

fn generations() -> Generations {
    Generations::new(std::time::UNIX_EPOCH)
}

fn teller() -> Teller {
    Teller::new(Tasks::default())
}

/// A prover that knows nothing yet; an entry's age is what it goes by, for an hour.
fn prover() -> Prover {
    let ttl = Duration::from_secs(60 * 60);
    let secret = Secret::from_bytes([0; 32]);
    Prover::new(prover::Options {
        proofs: Proofs::new(secret, &[vec!["up".to_owned()]], ttl, None, &[]),
        names: vec!["up".to_owned()],
        asked_by: vec![config::Proof::Auto],
        terms: proof::Terms {
            ttl,
            hold: Duration::from_secs(24 * 60 * 60),
        },
        tasks: Tasks::default(),
    })
}

fn refreshes() -> Refreshes {
    Refreshes::new(Tasks::default(), Box::new(|_| {}))
}

fn entry() -> Entry {
    Entry {
        slot: slot(),
        form: Form::Plain,
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"old"),
        upstream: HeaderValue::from_static("up"),
        usage: None,
        made: Instant::now(),
        lifetime: Duration::from_secs(100),
        tags: Vec::new(),
        label: Label::default(),
        retold: Retold::default(),
        seen: Seen::default(),
    }
}

fn house_over(store: Tiered, status: Option<StatusCode>) -> House {
    let calls = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream {
        status,
        calls: calls.clone(),
    };
    House {
        cache: CacheLayer::new(store, prover(), refreshes()).layer(upstream),
        calls,
    }
}

pub(super) fn slot() -> Slot {
    Slot {
        key: Key::from_bytes([1; 32]),
        delivery: 0,
    }
}

pub(super) fn call(change: impl FnOnce(&mut Plan)) -> Call {
    let config = Config::default();
    let upstreams = &config.upstreams;
    let policy = Policy::new(&config.cache, upstreams, Duration::from_secs(100));
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
                slot: slot(),
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

/// A call for a plain answer or a stream without usage.
fn call_for(form: Form) -> Call {
    let request = Request {
        stream: form.is_stream(),
        ..Request::default()
    };
    let slot = slot();
    let mut call = call(|_| {});
    let scope = call.caller.itself();
    call.fixed_mut().keyed = Ok(Arc::new(Keyed {
        slot,
        scope,
        request: request.into(),
    }));
    call
}

impl House {
    async fn ask(&mut self, call: Call) -> Result<(Verdict, Option<&'static str>, String), Error> {
        let answer = self.cache.call(call).await?;
        let reason = answer.served.reason.map(Reason::as_str);
        let verdict = answer.served.verdict;
        let body = answer.body.collect().await?.to_bytes();
        Ok((verdict, reason, String::from_utf8(body.to_vec()).unwrap()))
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

fn said(
    verdict: Verdict,
    reason: Option<&'static str>,
    body: &str,
) -> (Verdict, Option<&'static str>, String) {
    (verdict, reason, body.to_owned())
}

async fn wait(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_fresh_entry_answers_and_the_upstream_is_not_touched() {
    let mut house = house(None);
    wait(99).await;
    let answer = house.cache.call(call(|_| {})).await.unwrap();
    assert_eq!(answer.served.verdict, Verdict::Hit);
    assert_eq!((answer.served.age, answer.served.ttl), (Some(99), Some(1)));
    assert_eq!(house.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn past_its_lifetime_an_entry_is_a_miss() {
    let mut house = house(Some(StatusCode::OK));
    wait(100).await;
    let answer = house.ask(call(|_| {})).await.unwrap();
    assert_eq!(answer, said(Verdict::Miss, Some("expired"), "new"));
}

/// A house with one entry on its disk, made `age` seconds ago and fresh for 100 s, and none in memory.
async fn house_with_disk(status: Option<StatusCode>, age: u64) -> (House, TempDir) {
    let folder = TempDir::new().unwrap();
    let open = async |now: u64| {
        let options = disk::Options {
            path: folder.path().join("refrain.db"),
            max_size: 1 << 20,
            max_entry: 1 << 10,
            memory: 1 << 30,
            max_ttl: Duration::MAX,
            keep_stale: Duration::MAX,
            budget: Duration::from_secs(10),
            generations: generations(),
            clock: Arc::new(move || UNIX_EPOCH + Duration::from_secs(now)),
        };
        Disk::open(options).await.unwrap().0
    };
    let disk = open(1_000).await;
    disk.put(Arc::new(entry()));
    assert!(disk.close(Duration::from_secs(10)).await);
    let disk = open(1_000 + age).await;
    let memory = Memory::new(1 << 20, 1 << 10);
    (
        house_over(
            Tiered::new(memory, Some(disk.into()), generations(), teller()),
            status,
        ),
        folder,
    )
}

#[tokio::test]
async fn an_entry_on_the_disk_answers_and_is_in_memory_from_then_on() {
    let (mut house, _folder) = house_with_disk(None, 60).await;
    let first = house.cache.call(call(|_| {})).await.unwrap().served;
    assert_eq!(
        (first.verdict, first.tier),
        (Verdict::Hit, Some(Tier::Disk))
    );
    assert_eq!((first.age, first.ttl), (Some(60), Some(40)));
    let second = house.cache.call(call(|_| {})).await.unwrap().served;
    assert_eq!(second.tier, Some(Tier::Memory));
    assert_eq!(house.calls(), 0);
}

#[tokio::test]
async fn a_stale_entry_on_the_disk_stands_in_for_an_upstream_that_fails() {
    let (mut house, _folder) = house_with_disk(None, 110).await;
    let stale = house.cache.call(call(|_| {})).await.unwrap().served;
    assert_eq!(
        (stale.verdict, stale.tier),
        (Verdict::Stale, Some(Tier::Disk))
    );
    assert_eq!(stale.reason, Some(Reason::UpstreamFailed));
    assert_eq!(house.calls(), 1);
}

#[tokio::test]
async fn a_refresh_does_not_look_on_the_disk() {
    let (mut house, _folder) = house_with_disk(Some(StatusCode::OK), 0).await;
    let answer = house.ask(call(|plan| plan.refresh = true)).await.unwrap();
    assert_eq!(answer, said(Verdict::Miss, Some("refresh"), "new"));
    assert!(house.cache.0.store.get(&slot()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_caller_may_take_a_stale_answer() {
    let mut house = house(None);
    wait(110).await;
    let stale = call(|plan| plan.max_stale = Some(Duration::from_secs(10)));
    let answer = house.ask(stale).await.unwrap();
    assert_eq!(answer, said(Verdict::Stale, Some("max_stale"), "old"));
}

#[tokio::test(start_paused = true)]
async fn a_stale_entry_stands_in_for_an_upstream_that_fails() {
    for status in [None, Some(StatusCode::BAD_GATEWAY)] {
        let mut house = house(status);
        wait(110).await;
        let answer = house.ask(call(|_| {})).await.unwrap();
        let expected = said(Verdict::Stale, Some("upstream_failed"), "old");
        assert_eq!(answer, expected);
        assert_eq!(house.calls(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_stands_in_for_a_clients_own_error_or_longer_than_allowed() {
    for status in [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::NOT_IMPLEMENTED,
        StatusCode::HTTP_VERSION_NOT_SUPPORTED,
    ] {
        let mut house = house(Some(status));
        wait(110).await;
        let answer = house.ask(call(|_| {})).await.unwrap();
        assert_eq!(
            answer,
            said(Verdict::Miss, Some("expired"), "new"),
            "{status}"
        );
    }

    let mut failing = house(None);
    wait(110).await;
    let strict = call(|plan| plan.stale_if_error = Duration::from_secs(9));
    let error = failing.ask(strict).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable);
}

#[tokio::test(start_paused = true)]
async fn an_entry_stands_in_only_in_a_form_that_it_serves() {
    let completion = r#"{"choices":[{"message":{"content":"old"},"finish_reason":"stop"}]}"#;
    let stream = "data: {\"choices\":[{\"delta\":{\"content\":\"old\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let silent = Form::Stream { usage: false };
    let mut plain = house_with(None, Form::Plain, completion);
    wait(110).await;
    let (verdict, reason, told) = plain.ask(call_for(silent)).await.unwrap();
    assert_eq!((verdict, reason), (Verdict::Stale, Some("upstream_failed")));
    assert!(told.ends_with("data: [DONE]\n\n"), "{told}");

    let mut streamed = house_with(None, silent, stream);
    wait(110).await;
    let error = streamed.ask(call_for(Form::Plain)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable, "its usage is missing");
    let answer = streamed.ask(call_for(silent)).await.unwrap();
    assert_eq!(
        answer,
        said(Verdict::Stale, Some("upstream_failed"), stream)
    );
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_cannot_be_told_anew_is_a_miss_and_never_an_error() {
    let silent = Form::Stream { usage: false };
    let mut house = house_with(Some(StatusCode::OK), Form::Plain, "no completion");
    let answer = house.ask(call_for(silent)).await.unwrap();
    assert_eq!(answer, said(Verdict::Miss, Some("unconvertible"), "new"));
}

#[tokio::test]
async fn a_large_entry_is_told_anew_once_and_not_on_the_spot() {
    let silent = Form::Stream { usage: false };
    let content = "x".repeat(SMALL);
    let completion = format!(
        r#"{{"choices":[{{"message":{{"content":"{content}"}},"finish_reason":"stop"}}]}}"#
    );
    for (body, reason) in [(completion, None), (content, Some("unconvertible"))] {
        let memory = Memory::new(16 << 20, 1 << 20);
        let entry = Arc::new(Entry {
            body: Bytes::from(body),
            ..entry()
        });
        memory.put(entry.clone());
        let before = memory.bytes();
        let store = Tiered::new(memory.clone(), None, generations(), teller());
        let mut house = house_over(store, Some(StatusCode::OK));
        for _ in 0..2 {
            let (_, told, _) = house.ask(call_for(silent)).await.unwrap();
            assert_eq!(told, reason);
        }
        assert_eq!(memory.bytes(), before + entry.retold.bytes());
        assert_eq!(entry.retold.bytes() > 0, reason.is_none());
        assert_eq!(house.calls(), if reason.is_some() { 2 } else { 0 });
    }
}

#[tokio::test(start_paused = true)]
async fn only_if_cached_never_asks_the_upstream() {
    let mut house = house(Some(StatusCode::OK));
    let only = || call(|plan| plan.only_if_cached = true);
    let answer = house.ask(only()).await.unwrap();
    assert_eq!(answer, said(Verdict::Hit, None, "old"));
    wait(100).await;
    let error = house.ask(only()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotCached);
    assert_eq!(house.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_passes_over_a_fresh_entry() {
    let mut house = house(Some(StatusCode::OK));
    let answer = house.ask(call(|plan| plan.refresh = true)).await.unwrap();
    assert_eq!(answer, said(Verdict::Miss, Some("refresh"), "new"));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_key_passes() {
    let mut house = house(Some(StatusCode::OK));
    let mut unkeyed = call(|_| {});
    unkeyed.fixed_mut().keyed = Err(Unkeyed::Endpoint);
    house.ask(unkeyed).await.unwrap();
    assert_eq!(house.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn only_if_cached_does_not_ask_the_upstream_for_a_chat_without_a_key_either() {
    let mut house = house(Some(StatusCode::OK));
    let mut unkeyed = call(|plan| plan.only_if_cached = true);
    unkeyed.fixed_mut().keyed = Err(Unkeyed::Bypass);
    unkeyed.fixed_mut().dialect = Some(crate::dialect::Dialect::Chat);
    let error = house.ask(unkeyed).await.unwrap_err();
    assert_eq!((error.kind(), house.calls()), (Kind::NotCached, 0));
}
