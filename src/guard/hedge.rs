//! A second call for one whose answer is late; the first good head wins, and the other call is cancelled.
//!
//! # Which calls
//! Only those with a key, whose model and form are known, by which [`pace`](super::pace) says what is late; and of those only
//! which have no effect but their price: not what a rule has cached although the upstream keeps it. A second call is made
//! only where it would have a place at the upstream at once: one that would wait in the queue, behind the very call that it is to
//! overtake, helps nobody. A probe is one call, and stays one; and an upstream whose
//! circuit has opened meanwhile is left alone.
//!
//! # Which answer
//! A good head wins at once. A failure, a 429 or a 5xx waits for the other call; where that is no better, the first call's outcome
//! goes on. What is wrong before anything is late is no business of this layer.
//!
//! # Scope
//! One upstream. Whether another one is asked is `failover`'s to decide, from what comes out of here.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::{Either, select};
use http::StatusCode;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};

use super::{
    limit::Places,
    pace::{Paces, Sort},
};
use crate::{
    answer::Answer,
    call::{Call, Keyed, leave::Leave},
    error::Error,
};

/// The second calls at one upstream; clones share them.
#[derive(Clone, Debug)]
pub struct Hedges(Option<Arc<Inner>>);

/// What the metrics tell of second calls, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Second calls that were made.
    pub sent: u64,
    /// Those of them that were answered first.
    pub won: u64,
}

/// The layer.
#[derive(Clone, Debug)]
pub struct HedgeLayer {
    hedges: Hedges,
}

/// The service.
#[derive(Clone, Debug)]
pub struct Hedge<S> {
    inner: S,
    hedges: Hedges,
}

#[derive(Debug)]
struct Inner {
    paces: Mutex<Paces>,
    places: Places,
    sent: AtomicU64,
    won: AtomicU64,
}

/// A call whose pace is taken.
struct Watched {
    hedges: Arc<Inner>,
    keyed: Arc<Keyed>,
    leave: Leave,
    began: Instant,
}

/// What a call came to.
type Outcome = Result<Answer, Error>;

impl Hedges {
    /// Makes second calls at the upstream of `places`, where that is `on`.
    pub fn new(on: bool, places: Places) -> Self {
        Self(on.then(|| {
            Arc::new(Inner {
                paces: Mutex::default(),
                places,
                sent: AtomicU64::new(0),
                won: AtomicU64::new(0),
            })
        }))
    }

    /// Returns what there is to tell; nothing, where no second calls are made.
    pub fn counts(&self) -> Counts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        self.0.as_ref().map_or(Counts::default(), |inner| Counts {
            sent: load(&inner.sent),
            won: load(&inner.won),
        })
    }
}

impl Inner {
    fn paces(&self) -> MutexGuard<'_, Paces> {
        self.paces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a second call may be made now, and takes it for made.
    fn may_send(&self) -> bool {
        let may = self.places.has_room() && self.paces().spend();
        self.sent.fetch_add(u64::from(may), Ordering::Relaxed);
        may
    }
}

impl HedgeLayer {
    /// Makes a layer that counts its second calls as `hedges`.
    pub fn new(hedges: Hedges) -> Self {
        Self { hedges }
    }
}

impl<S> Layer<S> for HedgeLayer {
    type Service = Hedge<S>;

    fn layer(&self, inner: S) -> Hedge<S> {
        Hedge {
            inner,
            hedges: self.hedges.clone(),
        }
    }
}

impl<S> Service<Call> for Hedge<S>
where
    S: Service<Call, Response = Answer, Error = Error> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = Error;
    type Future = Either<S::Future, Pin<Box<dyn Future<Output = Outcome> + Send>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Some(watched) = self.watch(&call) else {
            return Either::Left(self.inner.call(call));
        };
        let late = watched.hedges.paces().begin(watched.sort());
        let second = late.and_then(|late| Some((late, call.again()?)));
        let first = self.inner.call(call);
        let Some((late, second)) = second else {
            return Either::Right(Box::pin(watched.alone(first)));
        };
        let second = self.inner.clone().oneshot(second);
        Either::Right(Box::pin(watched.race(first, second, late)))
    }
}

impl<S> Hedge<S> {
    fn watch(&self, call: &Call) -> Option<Watched> {
        if call.leave.is_probe() {
            return None;
        }
        Some(Watched {
            hedges: self.hedges.0.clone().filter(|_| call.is_repeatable())?,
            keyed: call.keyed.as_ref().ok()?.clone(),
            leave: call.leave.clone(),
            began: Instant::now(),
        })
    }
}

impl Watched {
    /// Waits for a call that nothing is known to be late for, or that cannot be made twice.
    async fn alone(self, first: impl Future<Output = Outcome>) -> Outcome {
        let outcome = first.await;
        self.note(&outcome, self.began);
        outcome
    }

    /// Waits for the first call, and once it is late, for whichever of the two comes to something.
    async fn race(
        self,
        first: impl Future<Output = Outcome>,
        second: impl Future<Output = Outcome>,
        late: Duration,
    ) -> Outcome {
        let mut first = pin!(first);
        if let Ok(outcome) = tokio::time::timeout(late, first.as_mut()).await {
            self.note(&outcome, self.began);
            return outcome;
        }
        if !self.leave.holds() || !self.hedges.may_send() {
            return self.alone(first).await;
        }
        let began = Instant::now();
        match select(first, pin!(second)).await {
            Either::Left((outcome, _)) if is_good(&outcome) => {
                self.note(&outcome, self.began);
                outcome
            }
            Either::Left((outcome, second)) => {
                let other = second.await;
                if !is_good(&other) {
                    return outcome;
                }
                self.won(&other, began);
                other
            }
            Either::Right((outcome, _)) if is_good(&outcome) => {
                self.won(&outcome, began);
                // It would have taken longer still. Left out, it would have the pace quicken with each second call.
                self.observe(self.began.elapsed());
                outcome
            }
            Either::Right((_, first)) => self.alone(first).await,
        }
    }

    fn won(&self, outcome: &Outcome, began: Instant) {
        self.hedges.won.fetch_add(1, Ordering::Relaxed);
        self.note(outcome, began);
    }

    fn note(&self, outcome: &Outcome, began: Instant) {
        if is_good(outcome) {
            self.observe(began.elapsed());
        }
    }

    fn observe(&self, took: Duration) {
        self.hedges.paces().observe(self.sort(), took);
    }

    fn sort(&self) -> Sort<'_> {
        let request = &self.keyed.request;
        Sort {
            model: &request.model,
            stream: request.form().is_stream(),
        }
    }
}

/// Returns whether an outcome is one that the other call cannot better.
fn is_good(outcome: &Outcome) -> bool {
    outcome.as_ref().is_ok_and(|answer| {
        let status = answer.head.status;
        !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS
    })
}

#[cfg(test)]
mod tests;
