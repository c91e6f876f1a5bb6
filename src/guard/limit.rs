//! At most so many calls at an upstream at a time; the next ones wait their turn, but not for long, and are shed.
//!
//! # Places
//! A call has its place until the end of its answer's body: what a slow stream keeps busy is the upstream. Whoever waits
//! is served first come, first served; a client that hangs up leaves its place or its turn to the next.
//!
//! # Shedding
//! The wait is bounded in time and in number. A call that would wait longer is refused at once or when its time is over, with
//! [`Kind::Busy`]: behind a queue that only grows, every call would be late.
//!
//! Whoever has a place at last, and finds that the circuit has opened in the meantime, is not sent either: the queue before an
//! upstream that fails empties at once.
//!
//! # Scope
//! One upstream, one process. A switched protocol gives its place back at the switch: it may stand for days and costs the
//! upstream nothing by that. Without a limit there is no layer to speak of: the inner future passes as it is.

use std::{
    future::Future,
    num::NonZeroU32,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::Either;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{Layer, Service, ServiceExt};

use crate::{
    answer::{Answer, Body, Content},
    call::Call,
    error::{Error, Kind},
};

/// What the operator allows one upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Most calls under way; `None` for any number.
    pub max_concurrent: Option<NonZeroU32>,
    /// Longest wait for a place.
    pub max_wait: Duration,
}

/// The places at one upstream; clones share them.
#[derive(Clone, Debug)]
pub struct Places(Option<Arc<Room>>);

/// What the metrics tell of places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that have a place.
    pub taken: u64,
    /// Calls that wait for one.
    pub waiting: u64,
    /// Calls that had to wait, since the start.
    pub waited: u64,
    /// Calls that were shed, since the start.
    pub shed: u64,
}

/// The layer.
#[derive(Clone, Debug)]
pub struct LimitLayer {
    places: Places,
}

/// The service.
#[derive(Clone, Debug)]
pub struct Limit<S> {
    inner: S,
    places: Places,
}

#[derive(Debug)]
struct Room {
    /// Of the upstream.
    name: String,
    size: usize,
    free: Arc<Semaphore>,
    max_wait: Duration,
    waiting: AtomicU64,
    waited: AtomicU64,
    shed: AtomicU64,
}

/// A place in the queue.
struct Turn<'a>(&'a Room);

/// A body that has its place until its end.
struct Placed {
    content: Content,
    place: Option<OwnedSemaphorePermit>,
}

impl Places {
    /// Makes the places at the upstream called `name`.
    pub fn new(name: impl Into<String>, terms: Terms) -> Self {
        Self(terms.max_concurrent.map(|max| {
            let size = usize::try_from(max.get()).unwrap_or(Semaphore::MAX_PERMITS);
            let size = size.min(Semaphore::MAX_PERMITS);
            Arc::new(Room {
                name: name.into(),
                size,
                free: Arc::new(Semaphore::new(size)),
                max_wait: terms.max_wait,
                waiting: AtomicU64::new(0),
                waited: AtomicU64::new(0),
                shed: AtomicU64::new(0),
            })
        }))
    }

    /// Returns whether a call that came now would have a place at once.
    pub fn has_room(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|room| room.free.available_permits() > 0)
    }

    /// Returns what there is to tell; nothing, without a limit.
    pub fn counts(&self) -> Counts {
        let Some(room) = &self.0 else {
            return Counts::default();
        };
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let taken = room.size.saturating_sub(room.free.available_permits());
        Counts {
            taken: taken as u64,
            waiting: load(&room.waiting),
            waited: load(&room.waited),
            shed: load(&room.shed),
        }
    }
}

impl Room {
    /// Takes a place, or the next one that becomes free within `max_wait`.
    async fn enter(&self) -> Result<OwnedSemaphorePermit, Error> {
        // The semaphore hands places to those who wait before it calls them free: nobody can jump the queue here.
        if let Ok(place) = self.free.clone().try_acquire_owned() {
            return Ok(place);
        }
        let Some(_turn) = self.queue() else {
            return Err(self.shed("and too many calls wait already"));
        };
        let turn = self.free.clone().acquire_owned();
        if let Ok(Ok(place)) = tokio::time::timeout(self.max_wait, turn).await {
            return Ok(place);
        }
        let waited = format!("and none has ended within {:?}", self.max_wait);
        Err(self.shed(&waited))
    }

    /// Joins the queue, if it is not full.
    fn queue(&self) -> Option<Turn<'_>> {
        if self.max_wait.is_zero() {
            return None;
        }
        let most = QUEUE.saturating_mul(self.size as u64);
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let turn = Turn(self);
        (before < most).then(|| {
            self.waited.fetch_add(1, Ordering::Relaxed);
            turn
        })
    }

    /// Says that the upstream was given up while the call waited.
    fn closed(&self) -> Error {
        let message = format!("upstream `{}` is not called for a while", self.name);
        Error::new(Kind::Unavailable, message)
    }

    fn shed(&self, why: &str) -> Error {
        self.shed.fetch_add(1, Ordering::Relaxed);
        let (name, size) = (&self.name, self.size);
        let message =
            format!("upstream `{name}` has all the calls under way that it may ({size}), {why}");
        Error::new(Kind::Busy, message).with_retry_after(self.max_wait)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl LimitLayer {
    /// Makes a layer that lets calls in as there are `places`.
    pub fn new(places: Places) -> Self {
        Self { places }
    }
}

impl<S> Layer<S> for LimitLayer {
    type Service = Limit<S>;

    fn layer(&self, inner: S) -> Limit<S> {
        Limit {
            inner,
            places: self.places.clone(),
        }
    }
}

impl<S> Service<Call> for Limit<S>
where
    S: Service<Call, Response = Answer, Error = Error> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = Error;
    type Future = Either<S::Future, Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Some(room) = self.places.0.clone() else {
            return Either::Left(self.inner.call(call));
        };
        let inner = self.inner.clone();
        Either::Right(Box::pin(async move {
            let place = room.enter().await?;
            if !call.leave.holds() {
                return Err(room.closed());
            }
            let answer = inner.oneshot(call).await?;
            Ok(placed(answer, place))
        }))
    }
}

/// Has the body of an answer keep its place.
fn placed(answer: Answer, place: OwnedSemaphorePermit) -> Answer {
    match answer.body {
        Body::Stream(content) if !content.is_end_stream() => Answer {
            body: Body::Stream(
                Placed {
                    content,
                    place: Some(place),
                }
                .boxed_unsync(),
            ),
            ..answer
        },
        body => Answer { body, ..answer },
    }
}

impl HttpBody for Placed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.content).poll_frame(cx));
        // Whoever reads by a length may never ask for the end, nor let the body go at once.
        if !matches!(frame, Some(Ok(_))) || this.content.is_end_stream() {
            this.place = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

/// Most calls that wait, for each place there is: more could hardly be served within a sensible wait.
const QUEUE: u64 = 16;

#[cfg(test)]
mod tests;
