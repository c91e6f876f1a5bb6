//! Bodies on their way to and from an upstream, with the timers that run beside them.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use crate::{
    answer::Timing,
    error::{Error, Kind},
};

pin_project! {
    /// An answer's body. Fails when nothing came for `idle`, or when the call took longer than its deadline.
    pub struct Flow {
        #[pin]
        body: Incoming,
        #[pin]
        timer: Option<Sleep>,
        idle: Option<Duration>,
        deadline: Option<Instant>,
        clock: Clock,
    }
}

/// Notes with every piece how long the call has taken.
struct Clock {
    started: Instant,
    timing: Arc<Timing>,
}

/// How far the sending of a request is, and how long its client was waited for.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Mutex<Sending>>);

#[derive(Debug)]
struct Sending {
    /// When the last piece was sent.
    last: Instant,
    client: Held,
}

/// How long a client has held up its call. Every moment is an argument.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// Since when it is waited for.
    since: Option<Instant>,
    /// How long it was waited for before that.
    before: Duration,
}

pin_project! {
    /// A request's body, streaming from the client; tells its progress.
    pub struct Upload {
        #[pin]
        body: UnsyncBoxBody<Bytes, Error>,
        progress: Progress,
    }
}

impl Flow {
    /// Wraps the body of an answer to a call that was sent at `started`.
    pub fn new(
        body: Incoming,
        idle: Option<Duration>,
        deadline: Option<Instant>,
        started: Instant,
        timing: Arc<Timing>,
    ) -> Self {
        Self {
            body,
            timer: next_stop(idle, deadline).map(tokio::time::sleep_until),
            idle,
            deadline,
            clock: Clock { started, timing },
        }
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut this = self.project();
        if let Poll::Ready(frame) = this.body.poll_frame(cx) {
            if let (Some(timer), Some(stop)) = (
                this.timer.as_mut().as_pin_mut(),
                next_stop(*this.idle, *this.deadline),
            ) {
                timer.reset(stop);
            }
            this.clock.note();
            return Poll::Ready(frame.map(|frame| frame.map_err(broken)));
        }
        match this.timer.as_pin_mut() {
            Some(timer) => {
                ready!(timer.poll(cx));
                Poll::Ready(Some(Err(Error::new(
                    Kind::Timeout,
                    "the upstream stopped in the middle of its answer (idle or total)",
                ))))
            }
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Clock {
    fn note(&self) {
        self.timing.note(self.started.elapsed());
    }
}

impl Progress {
    /// Returns since when the upstream may be waited for: the last piece sent, or before the first the call's own start. While
    /// the client owes a piece that is not before now.
    pub fn last(&self) -> Instant {
        let sending = self.sending();
        match sending.client.since {
            Some(_) => Instant::now(),
            None => sending.last,
        }
    }

    /// Returns how long the client has held up its call by sending it slowly.
    pub fn client(&self) -> Held {
        self.sending().client
    }

    fn sending(&self) -> MutexGuard<'_, Sending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whether a piece came from the client, or is waited for.
    fn note(&self, came: bool) {
        let now = Instant::now();
        let mut sending = self.sending();
        if came {
            sending.last = now;
            sending.client.resume(now);
        } else {
            sending.client.wait(now);
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Sending {
            last: Instant::now(),
            client: Held::default(),
        })))
    }
}

impl Held {
    /// Returns whether it is the client's doing that a call which may take `total` has taken that long by `now`: the
    /// client is waited for, or took most of the time before.
    pub fn is_to_blame(&self, total: Duration, now: Instant) -> bool {
        self.since.is_some() || self.time(now) > total / 2
    }

    /// Returns how long the client was waited for.
    fn time(&self, now: Instant) -> Duration {
        let waiting = self.since.map(|since| now.duration_since(since));
        self.before + waiting.unwrap_or_default()
    }

    fn wait(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    fn resume(&mut self, now: Instant) {
        self.before = self.time(now);
        self.since = None;
    }
}

impl Upload {
    /// Wraps a client's body.
    pub fn new(body: UnsyncBoxBody<Bytes, Error>, progress: Progress) -> Self {
        Self { body, progress }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.project();
        let frame = this.body.poll_frame(cx);
        this.progress.note(frame.is_ready());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn next_stop(idle: Option<Duration>, deadline: Option<Instant>) -> Option<Instant> {
    let idle = idle.map(|idle| Instant::now() + idle);
    [idle, deadline].into_iter().flatten().min()
}

fn broken(error: hyper::Error) -> Error {
    Error::with_source(
        Kind::Broken,
        "the upstream broke off in the middle of its answer",
        error,
    )
}
