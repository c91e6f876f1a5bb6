//! The layer by itself, above a service that answers as scripted.

use std::{
    future::ready,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use serde_json::Value;

use super::*;
use crate::{
    answer::{
        Asked, Body, Head, Timing,
        replay::Replay,
        verdict::{Reason, Served, Verdict},
    },
    call::Unkeyed,
    config::{Config, FallbackMode, Rule, RuleFallback},
    dialect::{Dialect, chat::request::Request},
    error::Kind,
    guard::trial::call_for,
};

type Outcome = Result<Answer, Error>;

/// Answers one call.
struct Scripted {
    outcome: Mutex<Option<Outcome>>,
    at_once: bool,
}

impl Service<Call> for Scripted {
    type Response = Answer;
    type Error = Error;
    type Future = Eventual;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Call) -> Eventual {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = ready(outcome.take().expect("one call"));
        if self.at_once {
            Either::Left(outcome)
        } else {
            Either::Right(Box::pin(outcome))
        }
    }
}

fn terms() -> Terms {
    Terms {
        fallback: Config::default().fallback,
        retry_after: Duration::from_secs(7),
        clock: || SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
    }
}

fn sending(call: Call, outcome: Outcome, terms: Terms, at_once: bool) -> Eventual {
    let outcome = Mutex::new(Some(outcome));
    let scripted = Scripted { outcome, at_once };
    ApologyLayer::new(terms).layer(scripted).call(call)
}

async fn send(call: Call, outcome: Outcome) -> Outcome {
    sending(call, outcome, terms(), false).await
}

fn answer(status: u16) -> Answer {
    Answer {
        head: Head {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: HeaderMap::new(),
            framed: true,
            upstream: HeaderValue::from_static("up"),
            asked: Asked::default(),
            timing: None,
        },
        body: Body::Replay(Replay::new(Bytes::from_static(b"the upstream's"), None)),
        served: Served::bypass(Unkeyed::Bypass),
    }
}

fn error(kind: Kind) -> Error {
    Error::new(kind, "scripted")
}

/// Returns a call without a key that asks for an answer as `change` says.
fn call(change: impl FnOnce(&mut Request)) -> Call {
    let mut request = Request::default();
    change(&mut request);
    let mut call = call_for("m");
    let fixed = call.fixed_mut();
    fixed.id = HeaderValue::from_static("req-1");
    fixed.dialect = Some(Dialect::Chat);
    fixed.keyed = Err(Unkeyed::Bypass);
    fixed.read = Some(Arc::new(request));
    call
}

fn ruled(fallback: RuleFallback) -> Call {
    let mut call = call(|_| {});
    call.fixed_mut().rule = Some(Arc::new(Rule {
        fallback,
        ..Rule::default()
    }));
    call
}

async fn body(answer: Answer) -> Bytes {
    let whole = answer.body.collect().await;
    whole.expect("a whole body").to_bytes()
}

async fn said(answer: Answer) -> String {
    let completion: Value = serde_json::from_slice(&body(answer).await).expect("JSON");
    let content = &completion["choices"][0]["message"]["content"];
    content.as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn what_is_there_at_once_stays_so() {
    let there = sending(call(|_| {}), Ok(answer(200)), terms(), true);
    assert!(matches!(&there, Either::Left(_)));
    assert_eq!(
        body(there.await.expect("an answer")).await,
        "the upstream's"
    );
}

#[tokio::test]
async fn a_failure_of_the_upstream_becomes_an_apology() {
    let failures = Failure::ALL.map(|failure| match failure {
        Failure::Status => (Ok(answer(503)), failure),
        Failure::Error(kind) => (Err(error(kind)), failure),
    });
    for (outcome, failure) in failures {
        let apology = send(call(|_| {}), outcome).await.expect("an apology");
        assert_eq!(apology.head.status, StatusCode::OK);
        assert_eq!(apology.served.verdict, Verdict::Fallback);
        assert_eq!(apology.served.reason, Some(Reason::Failed(failure)));
        assert_eq!(
            apology.served.upstream.as_ref().expect("a name"),
            "graceful_fallback"
        );
        let completion: Value = serde_json::from_slice(&body(apology).await).expect("JSON");
        assert_eq!(completion["id"], "chatcmpl-req-1");
        assert_eq!(completion["created"], 1_700_000_000);
        assert_eq!(completion["model"], "fallback");
    }
}

#[tokio::test]
async fn what_is_no_failure_of_the_upstream_passes() {
    for status in [
        200, 204, 301, 400, 401, 403, 404, 408, 409, 422, 429, 501, 505,
    ] {
        let passed = send(call(|_| {}), Ok(answer(status)))
            .await
            .expect("an answer");
        assert_eq!(passed.head.status, status);
        assert_eq!(body(passed).await, "the upstream's");
    }
    for kind in Kind::ALL {
        let outcome = send(call(|_| {}), Err(error(kind))).await;
        let refused = outcome
            .err()
            .map(|error| (error.kind(), error.retry_after()));
        let expected = Failure::of(kind).is_none().then_some((kind, None));
        assert_eq!(refused, expected, "{kind:?}");
    }
}

#[tokio::test]
async fn an_apology_comes_in_the_form_asked_for() {
    let streaming = call(|request| request.stream = true);
    let apology = send(streaming, Err(error(Kind::Timeout)))
        .await
        .expect("an apology");
    let content_type = apology.head.headers.get(CONTENT_TYPE).expect("a type");
    assert!(crate::dialect::is_event_stream(content_type));
    let stream = body(apology).await;
    assert!(stream.starts_with(b"data: {") && stream.ends_with(b"data: [DONE]\n\n"));
    let plain = send(call(|_| {}), Err(error(Kind::Timeout)))
        .await
        .expect("an apology");
    assert_eq!(
        plain.head.headers.get(CONTENT_TYPE).expect("a type"),
        "application/json"
    );
}

#[tokio::test]
async fn who_could_not_read_an_apology_hears_the_error_and_when_to_try_again() {
    let mut unread = call(|_| {});
    unread.fixed_mut().read = None;
    let mut unknown = call(|_| {});
    unknown.fixed_mut().dialect = None;
    let mut honest = call(|_| {});
    honest.fixed_mut().plan.apology = false;
    let mode = Some(FallbackMode::Error);
    for (call, why) in [
        (unread, "nobody knows its form"),
        (unknown, "nobody knows its dialect"),
        (honest, "it says so"),
        (
            call(|request| request.tools = true),
            "it would look for tool calls",
        ),
        (
            call(|request| request.shaped = true),
            "it would look for JSON",
        ),
        (
            ruled(RuleFallback { mode, text: None }),
            "the operator says so",
        ),
    ] {
        let refused = send(call, Err(error(Kind::Unreachable))).await;
        let refused = refused.expect_err(why);
        assert_eq!(refused.retry_after(), Some(Duration::from_secs(7)), "{why}");
    }
    let knows_better = error(Kind::Unreachable).with_retry_after(Duration::from_secs(2));
    let tools = call(|request| request.tools = true);
    let refused = send(tools, Err(knows_better)).await.expect_err("an error");
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(2)));
}

#[tokio::test]
async fn an_upstreams_own_error_is_what_is_heard() {
    let tools = call(|request| request.tools = true);
    let passed = send(tools, Ok(answer(503))).await.expect("an answer");
    assert_eq!(passed.head.status, 503);
    assert_eq!(passed.served.verdict, Verdict::Bypass);
    assert_eq!(body(passed).await, "the upstream's");
}

#[tokio::test]
async fn a_rule_has_words_and_a_mode_of_its_own() {
    let silent = || Terms {
        fallback: Fallback {
            mode: FallbackMode::Error,
            ..Config::default().fallback
        },
        ..terms()
    };
    let failed = || Err(error(Kind::Broken));
    let worded = ruled(RuleFallback {
        mode: None,
        text: Some("Later.".into()),
    });
    let apology = send(worded, failed()).await.expect("an apology");
    assert_eq!(said(apology).await, "Later.");
    let refused = sending(ruled(RuleFallback::default()), failed(), silent(), false).await;
    assert!(refused.is_err());
    let spoken = ruled(RuleFallback {
        mode: Some(FallbackMode::Apology),
        text: None,
    });
    let apology = sending(spoken, failed(), silent(), false)
        .await
        .expect("an apology");
    assert_eq!(said(apology).await, &*Config::default().fallback.text);
}

#[tokio::test]
async fn the_time_that_the_upstream_took_is_not_forgotten() {
    let timing = Arc::new(Timing::default());
    timing.note(Duration::from_millis(30));
    let mut failed = answer(500);
    failed.head.timing = Some(timing);
    let apology = send(call(|_| {}), Ok(failed)).await.expect("an apology");
    let timing = apology.head.timing.expect("the upstream was asked");
    assert_eq!(timing.total(), Duration::from_millis(30));
}

#[test]
fn a_keyed_call_is_told_its_key() {
    let mut keyed = call_for("m");
    keyed.fixed_mut().dialect = Some(Dialect::Chat);
    let key = keyed.keyed.as_ref().ok().map(|keyed| keyed.slot.key);
    assert!(key.is_some());
    let wanted = Wanted::by(&keyed, &terms().fallback).expect("a call that can be told");
    let apology = wanted.answer(Failure::Status, "req-1", SystemTime::UNIX_EPOCH);
    assert_eq!(apology.expect("an apology").served.key, key);
}
