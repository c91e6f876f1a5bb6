//! An answer on its way out: when it starts, at what pace it flows and how it ends.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};

/// The body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, Cut>;

/// An answer before it is sent.
pub(super) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    /// Wait before the head.
    latency: Duration,
    pieces: Vec<Piece>,
    /// Wait before each paced piece.
    step: Duration,
    ending: Ending,
}

/// A part of a body that is flushed by itself.
#[derive(Debug)]
pub(super) struct Piece {
    bytes: Bytes,
    paced: bool,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// As it should.
    Whole,
    /// The connection is aborted.
    Cut,
    /// Nothing more comes, and the connection stays open.
    Stall,
}

/// The error that makes hyper abort a connection.
#[derive(Debug, thiserror::Error)]
#[error("cut, as asked")]
pub(super) struct Cut;

/// Source of ids that are never the same twice, across restarts too.
#[derive(Default)]
pub(super) struct Ids {
    made: AtomicU64,
    random: RandomState,
}

impl Reply {
    /// Makes an answer of one JSON value.
    pub(super) fn json(value: &Value) -> Self {
        let body = Bytes::from(value.to_string());
        let mut reply = Self::new("application/json", vec![Piece::new(body.clone())]);
        reply.headers.insert(CONTENT_LENGTH, body.len().into());
        reply
    }

    /// Makes a stream of events; each paced one comes `step` after the one before.
    pub(super) fn stream(events: Vec<Piece>, step: Duration) -> Self {
        let mut reply = Self::new("text/event-stream; charset=utf-8", events);
        reply
            .headers
            .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Self { step, ..reply }
    }

    /// Lets it start later.
    pub(super) fn after(mut self, wait: Duration) -> Self {
        self.latency = self.latency.saturating_add(wait);
        self
    }

    /// Changes its status.
    pub(super) fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Adds headers; their names are in lower case.
    pub(super) fn headers(mut self, headers: &[(&'static str, &'static str)]) -> Self {
        for (name, value) in headers {
            self.headers.insert(*name, HeaderValue::from_static(value));
        }
        self
    }

    /// Breaks it off: a stream after [`EVENTS_BEFORE_BREAK`] events, a single piece in its middle. The announced length
    /// stays what it was.
    pub(super) fn broken(mut self, ending: Ending) -> Self {
        match self.pieces.as_mut_slice() {
            [piece] => piece.bytes.truncate(piece.bytes.len() / 2),
            _ => self.pieces.truncate(EVENTS_BEFORE_BREAK),
        }
        Self { ending, ..self }
    }

    /// Waits and returns the response to a call that came at `arrived`; its body waits by itself.
    pub(super) async fn send(mut self, arrived: Instant, ids: &Ids) -> Response<Body> {
        sleep(self.latency).await;
        self.stamp(arrived, ids);
        let (status, headers) = (self.status, std::mem::take(&mut self.headers));
        let mut response = Response::new(self.into_body());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    fn new(content_type: &'static str, pieces: Vec<Piece>) -> Self {
        let content_type = HeaderValue::from_static(content_type);
        Self {
            status: StatusCode::OK,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, content_type)]),
            latency: Duration::ZERO,
            pieces,
            step: Duration::ZERO,
            ending: Ending::Whole,
        }
    }

    /// Adds what the OpenAI API adds to every answer.
    fn stamp(&mut self, arrived: Instant, ids: &Ids) {
        let millis = u64::try_from(arrived.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.headers.insert(PROCESSING_MS, millis.into());
        if let Ok(id) = HeaderValue::try_from(ids.fresh("req_")) {
            self.headers.insert(REQUEST_ID, id);
        }
    }

    fn into_body(self) -> Body {
        let playing = Playing {
            pieces: self.pieces.into_iter(),
            due: Instant::now(),
            step: self.step,
            ending: self.ending,
        };
        StreamBody::new(stream::unfold(playing, Playing::next)).boxed_unsync()
    }
}

impl Piece {
    /// Makes a piece that follows the one before at once.
    pub(super) fn new(bytes: impl Into<Bytes>) -> Self {
        Self {
            bytes: bytes.into(),
            paced: false,
        }
    }

    /// Chooses whether it comes a step after the one before.
    pub(super) fn paced(self, paced: bool) -> Self {
        Self { paced, ..self }
    }
}

impl Ids {
    /// Returns an id: `prefix`, then hex digits, of which the first count.
    pub(super) fn fresh(&self, prefix: &str) -> String {
        let count = self.made.fetch_add(1, Ordering::Relaxed);
        format!("{prefix}{count:08x}{:016x}", self.random.hash_one(count))
    }
}

/// A body that is being sent.
struct Playing {
    pieces: std::vec::IntoIter<Piece>,
    /// When the next piece may be sent. Counted from the start, so that late timers do not add up.
    due: Instant,
    step: Duration,
    ending: Ending,
}

impl Playing {
    async fn next(mut self) -> Option<(Result<Frame<Bytes>, Cut>, Self)> {
        // hyper flushes when a body has nothing to say: without a pause pieces would leave together, and the ones
        // before a cut not at all.
        tokio::task::yield_now().await;
        match self.pieces.next() {
            Some(piece) => {
                if piece.paced {
                    self.due += self.step;
                    sleep_until(self.due).await;
                }
                Some((Ok(Frame::data(piece.bytes)), self))
            }
            None => self.end().await,
        }
    }

    async fn end(self) -> Option<(Result<Frame<Bytes>, Cut>, Self)> {
        match self.ending {
            Ending::Whole => None,
            Ending::Cut => Some((Err(Cut), self)),
            Ending::Stall => std::future::pending().await,
        }
    }
}

/// Where a broken stream breaks.
const EVENTS_BEFORE_BREAK: usize = 3;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> Vec<Piece> {
        let piece = |paced| Piece::new("data: {}\n\n").paced(paced);
        vec![
            piece(false),
            piece(true),
            piece(false),
            piece(true),
            piece(true),
        ]
    }

    /// Returns when each piece of the body came, milliseconds after the call.
    async fn times(reply: Reply) -> Vec<u128> {
        let arrived = Instant::now();
        let mut body = reply.send(arrived, &Ids::default()).await.into_body();
        let mut times = Vec::new();
        while let Some(frame) = body.frame().await {
            frame.unwrap();
            times.push(arrived.elapsed().as_millis());
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_starts_after_the_latency_and_flows_at_its_pace() {
        let reply =
            Reply::stream(events(), Duration::from_millis(20)).after(Duration::from_millis(300));
        assert_eq!(times(reply).await, [300, 320, 320, 340, 360]);
        let at_once = Reply::stream(events(), Duration::ZERO);
        assert_eq!(times(at_once).await, [0; 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_stream_sends_three_events_and_never_ends() {
        let reply = Reply::stream(events(), Duration::ZERO).broken(Ending::Stall);
        let response = reply.send(Instant::now(), &Ids::default()).await;
        let mut body = response.into_body();
        for _ in 0..3 {
            assert!(body.frame().await.unwrap().is_ok());
        }
        let day = Duration::from_secs(86_400);
        assert!(tokio::time::timeout(day, body.frame()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_a_call_took_is_told() {
        let reply = Reply::json(&Value::Null).after(Duration::from_millis(250));
        let response = reply.send(Instant::now(), &Ids::default()).await;
        assert_eq!(response.headers()["openai-processing-ms"], "250");
    }

    #[test]
    fn ids_are_fresh() {
        let ids = Ids::default();
        let made: std::collections::HashSet<_> = (0..1000).map(|_| ids.fresh("id-")).collect();
        assert_eq!(made.len(), 1000);
        assert!(made.iter().all(|id| id.starts_with("id-")));
    }
}
