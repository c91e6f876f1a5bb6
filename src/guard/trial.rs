//! What the tests of the layers here stand on: a call, and an inner service that answers when the test says so.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, LazyLock, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, uri::PathAndQuery};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::{sync::oneshot, task::JoinHandle};
use tower::Service;

use crate::{
    answer::{Answer, Body, Head, verdict::Served},
    call::{
        Call, Fixed, Keyed, Payload, Slot, Unkeyed,
        caller::Caller,
        key::{Key, Secret},
        plan::Policy,
    },
    config::Config,
    dialect::{Dialect, chat::request::Request},
    error::Error,
};

/// An inner service whose calls wait for the test, each by its number from 0.
#[derive(Clone, Default)]
pub(super) struct Scripted(Arc<Mutex<Vec<Option<Waiting>>>>);

type Waiting = oneshot::Sender<Result<Answer, Error>>;

impl Scripted {
    /// Returns how many calls have come.
    pub(super) fn calls(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Answers call `index`.
    pub(super) fn answer(&self, index: usize, outcome: Result<Answer, Error>) {
        let waiting = self.0.lock().unwrap()[index].take();
        let waiting = waiting.expect("one answer for each call");
        assert!(waiting.send(outcome).is_ok(), "nobody waits for {index}");
    }

    /// Returns whether nobody waits for call `index` any more.
    pub(super) fn is_given_up(&self, index: usize) -> bool {
        let calls = self.0.lock().unwrap();
        calls[index].as_ref().is_some_and(Waiting::is_closed)
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
        self.0.lock().unwrap().push(Some(answer));
        Box::pin(async move { told.await.expect("the test answers") })
    }
}

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let config = Config::default();
    Policy::new(&config.cache, &config.upstreams, Duration::from_secs(100))
});

/// Returns a chat call with a key, for `model`.
pub(super) fn call_for(model: &str) -> Call {
    let headers = HeaderMap::new();
    let caller = Caller::of(&headers, &Secret::from_bytes([0; 32]));
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
                request: Arc::new(Request {
                    model: model.to_owned(),
                    ..Request::default()
                }),
            })),
            caller,
            dialect: Some(Dialect::Chat),
            plan: POLICY.plan(&headers).unwrap(),
            headers,
            read: None,
            rule: None,
            upgrade: false,
        },
        Payload::Whole(Bytes::new()),
        Arc::new(crate::call::route::Route::to(0, false)),
    )
}

/// Returns an answer with `status` whose body has these pieces.
pub(super) fn saying(status: StatusCode, pieces: &[&'static str]) -> Answer {
    let pieces: Vec<_> = pieces
        .iter()
        .map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))))
        .collect();
    answer(status, StreamBody::new(stream::iter(pieces)).boxed_unsync())
}

/// Returns a good answer whose body does not end.
pub(super) fn endless() -> Answer {
    answer(
        StatusCode::OK,
        StreamBody::new(stream::pending()).boxed_unsync(),
    )
}

fn answer(status: StatusCode, content: crate::answer::Content) -> Answer {
    Answer {
        head: Head {
            status,
            headers: HeaderMap::new(),
            framed: true,
            upstream: HeaderValue::from_static("up"),
            asked: crate::answer::Asked::default(),
            timing: None,
        },
        body: Body::Stream(content),
        served: Served::bypass(Unkeyed::Endpoint),
    }
}

/// Runs `work` beside the test.
#[expect(clippy::disallowed_methods, reason = "it ends with its test")]
pub(super) fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(work)
}

/// Lets every task that can run, run.
pub(super) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
