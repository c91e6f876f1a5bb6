//! Asking, by itself: an upstream that counts who asks and answers when it is let, paused time.

use std::{
    future::{Ready, ready},
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};

use super::{ask::random, *};
use crate::{
    answer::{Asked, Body, Head, replay::Replay, verdict::Served},
    call::{Fixed, Payload, Unkeyed, caller::Caller, key::Secret, plan::Policy, route::Route},
    config::Config,
};

const TTL: Duration = Duration::from_secs(60);
static UP: HeaderValue = HeaderValue::from_static("up");

fn made_by(upstream: &HeaderValue, age: Duration) -> Made<'_> {
    Made { by: upstream, age }
}

/// Answers this status to whoever asks, or nothing at all, ever.
#[derive(Clone, Default)]
struct Upstream {
    status: Option<u16>,
    asked: Arc<AtomicUsize>,
}

impl Service<Call> for Upstream {
    type Response = Answer;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        self.asked.fetch_add(1, Ordering::SeqCst);
        assert_eq!((&call.method, call.target.path()), (&Method::GET, MODELS));
        match self.status {
            Some(status) => Box::pin(answer(status)),
            None => Box::pin(std::future::pending()),
        }
    }
}

fn answer(status: u16) -> Ready<Result<Answer, Error>> {
    ready(Ok(Answer {
        head: Head {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            framed: true,
            upstream: HeaderValue::from_static("up"),
            asked: Asked::default(),
            timing: None,
        },
        body: Body::Replay(Replay::new(Bytes::new(), None)),
        served: Served::bypass(Unkeyed::Endpoint),
    }))
}

fn secret() -> Secret {
    Secret::from_bytes([0; 32])
}

fn prover(proof: config::Proof) -> Prover {
    Prover::new(Options {
        proofs: Proofs::new(secret(), &[vec!["up".to_owned()]], TTL, None, &[]),
        names: vec!["up".to_owned()],
        asked_by: vec![proof],
        terms: Terms {
            ttl: TTL,
            hold: TTL,
        },
        tasks: Tasks::default(),
    })
}

fn call(key: &str) -> Call {
    let config = Config::default();
    let value = HeaderValue::try_from(format!("Bearer {key}")).unwrap();
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
    let policy = Policy::new(&config.cache, &config.upstreams, TTL);
    Call::new(
        Fixed {
            id: HeaderValue::from_static("id"),
            method: Method::POST,
            target: PathAndQuery::from_static("/v1/chat/completions"),
            caller: Caller::of(&headers, &secret()),
            plan: policy.plan(&headers).unwrap(),
            headers,
            dialect: None,
            keyed: Err(Unkeyed::Endpoint),
            rule: None,
            read: None,
            upgrade: false,
        },
        Payload::Whole(Bytes::new()),
        Arc::new(Route::to(0, false)),
    )
}

#[tokio::test(start_paused = true)]
async fn one_renewal_at_a_time_for_each_credential() {
    let (prover, upstream) = (prover(config::Proof::Models), Upstream::default());
    let call = call("sk-a");
    for _ in 0..100 {
        prover.renew_behind(prover.case(&call), &call, &upstream);
        tokio::task::yield_now().await;
    }
    assert_eq!(upstream.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn so_many_renewals_at_a_time_in_all() {
    let (prover, upstream) = (prover(config::Proof::Models), Upstream::default());
    for number in 0..ASKING * 3 {
        let call = call(&format!("sk-{number}"));
        prover.renew_behind(prover.case(&call), &call, &upstream);
        tokio::task::yield_now().await;
    }
    assert_eq!(upstream.asked.load(Ordering::SeqCst), ASKING);
}

#[tokio::test(start_paused = true)]
async fn what_an_upstream_says_is_noted() {
    for (status, expected) in [
        (200, Verdict::Proven),
        (401, Verdict::Unproven),
        (403, Verdict::RenewByCall),
        (404, Verdict::RenewByCall),
        (405, Verdict::RenewByCall),
        (301, Verdict::RenewByCall),
        (429, Verdict::Proven),
        (503, Verdict::Proven),
    ] {
        let prover = prover(config::Proof::Models);
        let upstream = Upstream {
            status: Some(status),
            ..Upstream::default()
        };
        let call = call("sk-a");
        let case = prover.case(&call);
        let of_hit = |age| prover.of_hit(case, &call, made_by(&UP, age), Instant::now());
        assert_eq!(of_hit(TTL), Verdict::ServeAndRenew);
        prover.renew_behind(case, &call, &upstream);
        // Paused time goes on once everything else has.
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(of_hit(TTL), expected, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_stand_in_made_makes_no_proof_of_the_callers_key_and_none_younger() {
    let prover = prover(config::Proof::Models);
    let stand_in = HeaderValue::from_static("two");
    let call = call("sk-a");
    let case = prover.case(&call);
    let of_hit = |upstream| {
        let made = made_by(upstream, Duration::ZERO);
        prover.of_hit(case, &call, made, Instant::now())
    };
    assert_eq!(of_hit(&stand_in), Verdict::Unproven);
    assert!(!prover.holds(case, made_by(&stand_in, Duration::ZERO)));
    let subject = prover
        .proofs()
        .credential(0, call.caller.credential().unwrap());
    prover.proofs().accept(subject, Instant::now());
    assert_eq!(of_hit(&stand_in), Verdict::Proven);
    tokio::time::advance(TTL).await;
    assert_eq!(of_hit(&stand_in), Verdict::ServeAndRenew);
    assert!(prover.holds(case, made_by(&stand_in, Duration::ZERO)));
    tokio::time::advance(TTL).await;
    assert!(!prover.holds(case, made_by(&stand_in, Duration::ZERO)));
    assert_eq!(of_hit(&UP), Verdict::Proven);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_does_not_answer_is_not_waited_for() {
    let (prover, upstream) = (prover(config::Proof::Models), Upstream::default());
    let call = call("sk-a");
    let case = prover.case(&call);
    prover.renew_behind(case, &call, &upstream);
    tokio::time::sleep(PATIENCE).await;
    tokio::task::yield_now().await;
    let verdict = |age| prover.of_hit(case, &call, made_by(&UP, age), Instant::now());
    assert_eq!(verdict(TTL), Verdict::Proven, "the old proof holds");
    assert_eq!(verdict(TTL * 2), Verdict::Unproven, "but not for ever");
    let turn = prover.turn(case);
    assert!(turn.is_some(), "somebody else may try");
}

#[test]
fn a_random_key_comes_in_the_headers_of_the_credential() {
    let mut credentials = HeaderMap::new();
    for name in ["authorization", "cookie", "x-api-key"] {
        credentials.append(name, HeaderValue::from_static("mine"));
    }
    let (one, other) = (random(&credentials).unwrap(), random(&credentials).unwrap());
    for name in credentials.keys() {
        assert_ne!(one[name], "mine");
        assert_ne!(one[name], other[name]);
    }
    assert_eq!(shape(&one), shape(&credentials));
    assert_ne!(shape(&one), NO_CREDENTIAL);
}
