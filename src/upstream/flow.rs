//! Bodies on their way to and from an upstream, with the timers that run beside them.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
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
        deadline: Option<Deadline>,
        clock: Clock,
    }
}

/// When a call has to be over.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// The moment.
    pub at: Instant,
    /// The time for the whole call.
    pub total: Duration,
    /// Whether earlier tries have used up some of it.
    pub shared: bool,
}

/// Notes with every piece how long the call has taken.
struct Clock {
    started: Instant,
    timing: Arc<Timing>,
}

/// When the last piece of a request was sent.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Mutex<Instant>>);

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
        deadline: Option<Deadline>,
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
                let message = "the upstream stopped in the middle of its answer (idle or total)";
                let error = Error::new(Kind::Timeout, message);
                let over = this.deadline.filter(Deadline::is_over);
                Poll::Ready(Some(Err(match over {
                    Some(deadline) => deadline.excuses(error),
                    None => error,
                })))
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

impl Deadline {
    /// Returns whether the time is up.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.at
    }

    /// Returns the `error` of a try that it has ended: it is not the upstream's fault if others have used up the time.
    pub fn excuses(&self, error: Error) -> Error {
        if self.shared {
            error.blaming_nobody()
        } else {
            error
        }
    }
}

impl Clock {
    fn note(&self) {
        self.timing.note(self.started.elapsed());
    }
}

impl Progress {
    /// Returns when the last piece was sent; the call's own start, before the first.
    pub fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
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
        let frame = ready!(this.body.poll_frame(cx));
        this.progress.note();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn next_stop(idle: Option<Duration>, deadline: Option<Deadline>) -> Option<Instant> {
    let idle = idle.map(|idle| Instant::now() + idle);
    [idle, deadline.map(|deadline| deadline.at)]
        .into_iter()
        .flatten()
        .min()
}

fn broken(error: hyper::Error) -> Error {
    Error::with_source(
        Kind::Broken,
        "the upstream broke off in the middle of its answer",
        error,
    )
}
