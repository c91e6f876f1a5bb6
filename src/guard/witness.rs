//! Notes what an upstream's answers say of the credentials that calls came with.
//!
//! # Scope
//! It sees what really left for the upstream, and changes nothing. Only calls of a known dialect say something: any other
//! path may be open to all, or may want another kind of key. A 2xx accepts the credential (and for it the model, where the
//! call has a key), a 401 refuses it, a 403 refuses it the model. In which scope the call was made says nothing of that.
//! What is said to another key than the caller's, the proxy's own or at an upstream that stood in, says nothing of that.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::StatusCode;
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::{
    answer::Answer,
    call::Call,
    error::Error,
    store::proofs::{Proofs, Subject},
};

/// The layer.
#[derive(Clone, Debug)]
pub struct WitnessLayer {
    proofs: Proofs,
}

/// The service.
#[derive(Clone, Debug)]
pub struct Witness<S> {
    inner: S,
    proofs: Proofs,
}

/// Whom an answer is about.
#[derive(Clone, Copy, Debug)]
struct About {
    credential: Subject,
    model: Option<Subject>,
}

impl WitnessLayer {
    /// Makes a layer that tells `proofs`.
    pub fn new(proofs: Proofs) -> Self {
        Self { proofs }
    }
}

impl<S> Layer<S> for WitnessLayer {
    type Service = Witness<S>;

    fn layer(&self, inner: S) -> Witness<S> {
        Witness {
            inner,
            proofs: self.proofs.clone(),
        }
    }
}

impl<S> Service<Call> for Witness<S>
where
    S: Service<Call, Response = Answer, Error = Error>,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let about = self.about(&call);
        let answering = self.inner.call(call);
        let Some(about) = about else {
            return Box::pin(answering);
        };
        let proofs = self.proofs.clone();
        Box::pin(async move {
            let answer = answering.await?;
            if answer.head.asked.by_caller {
                note(&proofs, about, answer.head.status);
            }
            Ok(answer)
        })
    }
}

impl<S> Witness<S> {
    fn about(&self, call: &Call) -> Option<About> {
        let primary = call.route.primary();
        call.dialect.filter(|_| !primary.own_key)?;
        let (credential, at) = (call.caller.credential()?, primary.upstream);
        let model = call.model();
        Some(About {
            credential: self.proofs.credential(at, credential),
            model: model.map(|model| self.proofs.model(at, credential, model)),
        })
    }
}

fn note(proofs: &Proofs, about: About, status: StatusCode) {
    let now = Instant::now();
    match status {
        _ if status.is_success() => {
            proofs.accept(about.credential, now);
            if let Some(model) = about.model {
                proofs.accept(model, now);
            }
        }
        StatusCode::UNAUTHORIZED => proofs.refuse(about.credential, now),
        StatusCode::FORBIDDEN => {
            if let Some(model) = about.model {
                proofs.refuse(model, now);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Ready, ready},
        sync::Arc,
    };

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Method, uri::PathAndQuery};

    use super::*;
    use crate::{
        answer::{Asked, Body, Head, replay::Replay, verdict::Served},
        call::{Fixed, Payload, Unkeyed, caller::Caller, key::Secret, plan::Policy, route::Route},
        config::Config,
        dialect::Dialect,
        store::proofs::Known,
    };

    /// Answers this status, as it was asked.
    #[derive(Clone)]
    struct Upstream(StatusCode, Asked);

    impl Service<Call> for Upstream {
        type Response = Answer;
        type Error = Error;
        type Future = Ready<Result<Answer, Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Call) -> Self::Future {
            let Self(status, asked) = *self;
            ready(Ok(Answer {
                head: Head {
                    status,
                    headers: HeaderMap::new(),
                    framed: true,
                    upstream: HeaderValue::from_static("up"),
                    asked,
                    timing: None,
                },
                body: Body::Replay(Replay::new(Bytes::new(), None)),
                served: Served::bypass(Unkeyed::Endpoint),
            }))
        }
    }

    fn secret() -> Secret {
        Secret::from_bytes([0; 32])
    }

    fn call_to(primary: Route) -> Call {
        let config = Config::default();
        let headers = HeaderMap::new();
        let time = std::time::Duration::from_secs(1);
        let policy = Policy::new(&config.cache, &config.upstreams, time);
        Call::new(
            Fixed {
                id: HeaderValue::from_static("id"),
                method: Method::POST,
                target: PathAndQuery::from_static("/v1/chat/completions"),
                caller: Caller::of(&headers, &secret()),
                plan: policy.plan(&headers).unwrap(),
                headers,
                dialect: Some(Dialect::Chat),
                keyed: Err(Unkeyed::Bypass),
                rule: None,
                read: None,
                upgrade: false,
            },
            Payload::Whole(Bytes::new()),
            Arc::new(primary),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_said_to_the_callers_own_key_is_noted_and_where_it_was_said() {
        let own = Asked {
            by_caller: true,
            ..Asked::default()
        };
        let proven = Known::Proven(std::time::Duration::ZERO);
        let table = [
            (own, Route::to(1, false), [Known::Missing, proven]),
            (own, Route::to(0, false), [proven, Known::Missing]),
            (Asked::default(), Route::to(1, false), [Known::Missing; 2]),
            (Asked::default(), Route::to(1, true), [Known::Missing; 2]),
        ];
        for (row, (asked, route, expected)) in table.into_iter().enumerate() {
            let places = ["one", "two"].map(|name| vec![name.to_owned()]);
            let ttl = std::time::Duration::from_secs(60);
            let proofs = Proofs::new(secret(), &places, ttl, None, &[]);
            let upstream = Upstream(StatusCode::OK, asked);
            let call = call_to(route);
            let caller = call.caller.clone();
            let mut witness = WitnessLayer::new(proofs.clone()).layer(upstream);
            witness.call(call).await.unwrap();
            let credential = caller.credential().unwrap();
            let known = [0, 1].map(|upstream| {
                proofs.known(&proofs.credential(upstream, credential), Instant::now())
            });
            assert_eq!(known, expected, "row {row}");
        }
    }
}
