//! The cache: a fresh entry answers here, a stale one is kept as a fallback, a miss goes on and is stored on the way
//! back (`storable`, called when the flight's tape is complete). An entry recorded in another form than asked for is told
//! anew, if it has what the call is entitled to.
//!
//! # Scope
//! The layer looks up and obeys; `freshness` and `storable` decide. A call without a key passes.

pub mod freshness;
pub mod keeper;
pub mod storable;

use std::{
    future::{Future, Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::Either;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};

use self::freshness::{Facts, Fit};
use crate::{
    answer::{
        Answer, Body,
        verdict::{Reason, Served, Tier, Verdict},
    },
    call::{Call, Keyed, plan::Plan},
    error::{Error, Kind},
    store::{Entry, Unlent, memory::Memory},
};

/// The layer.
#[derive(Clone, Debug)]
pub struct CacheLayer {
    memory: Memory,
}

/// The service.
#[derive(Clone, Debug)]
pub struct Cache<S> {
    inner: S,
    memory: Memory,
}

/// Why a look-up found no answer; an entry of old may be there.
struct Miss(Reason, Option<Arc<Entry>>);

impl CacheLayer {
    /// Makes a layer over `memory`.
    pub fn new(memory: Memory) -> Self {
        Self { memory }
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = Cache<S>;

    fn layer(&self, inner: S) -> Cache<S> {
        Cache {
            inner,
            memory: self.memory.clone(),
        }
    }
}

impl<S> Service<Call> for Cache<S>
where
    S: Service<Call, Response = Answer, Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Answer;
    type Error = Error;
    type Future = Either<
        Ready<Result<Answer, Error>>,
        Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let Ok(keyed) = &call.keyed else {
            if let Err(why) = &call.keyed
                && call.plan.only_if_cached
                && call.dialect.is_some()
            {
                return Either::Left(ready(Err(not_cached(Reason::Unkeyed(*why)))));
            }
            return Either::Right(Box::pin(self.inner.clone().oneshot(call)));
        };
        let now = Instant::now();
        let (reason, old) = match look(&self.memory, &call, now) {
            Ok(answer) => return Either::Left(ready(Ok(answer))),
            Err(Miss(reason, old)) => (reason, old),
        };
        if call.plan.only_if_cached {
            return Either::Left(ready(Err(not_cached(reason))));
        }
        let asked = keyed.clone();
        let plan = call.plan.clone();
        call.passed_over = old.as_ref().map(|entry| entry.made.into_std());
        let inner = self.inner.clone();
        Either::Right(Box::pin(async move {
            let result = inner.oneshot(call).await;
            if failed(&result)
                && let Some(entry) = old
                && freshness::stands_in(facts(&entry, Instant::now()), &plan)
                && let Ok(answer) = stale(&entry, &asked, Reason::UpstreamFailed, Instant::now())
            {
                return Ok(answer);
            }
            result.map(|answer| with_reason(answer, reason))
        }))
    }
}

fn look(memory: &Memory, call: &Call, now: Instant) -> Result<Answer, Miss> {
    let Ok(keyed) = &call.keyed else {
        return Err(Miss(Reason::NotFound, None));
    };
    let Some(entry) = memory.get(&keyed.slot) else {
        let reason = if call.plan.refresh {
            Reason::Refresh
        } else {
            Reason::NotFound
        };
        return Err(Miss(reason, None));
    };
    let answer = match freshness::fit(facts(&entry, now), &call.plan) {
        Fit::Fresh => from_entry(&entry, keyed, Verdict::Hit, None, now),
        Fit::Stale => stale(&entry, keyed, Reason::MaxStale, now),
        Fit::No(reason) => return Err(Miss(reason, Some(entry))),
    };
    answer.map_err(|why| Miss(why.reason(), Some(entry)))
}

/// Returns whether an entry is fresh enough for a call.
pub fn fits(entry: &Entry, plan: &Plan, now: Instant) -> bool {
    freshness::fit(facts(entry, now), plan) == Fit::Fresh
}

fn not_cached(reason: Reason) -> Error {
    let message = format!("nothing cached can answer this call ({})", reason.as_str());
    Error::new(Kind::NotCached, message)
}

fn facts(entry: &Entry, now: Instant) -> Facts {
    Facts {
        age: now.saturating_duration_since(entry.made),
        lifetime: entry.lifetime,
    }
}

/// Returns whether the upstream failed, by an error or by a 5xx of its own.
fn failed(result: &Result<Answer, Error>) -> bool {
    match result {
        Ok(answer) => answer.head.status.is_server_error(),
        Err(error) => error.kind().is_upstream(),
    }
}

fn stale(entry: &Entry, asked: &Keyed, reason: Reason, now: Instant) -> Result<Answer, Unlent> {
    from_entry(entry, asked, Verdict::Stale, Some(reason), now)
}

fn from_entry(
    entry: &Entry,
    asked: &Keyed,
    verdict: Verdict,
    reason: Option<Reason>,
    now: Instant,
) -> Result<Answer, Unlent> {
    let (head, replay) = entry.lend(asked.request.form())?;
    let facts = facts(entry, now);
    Ok(Answer {
        head,
        body: Body::Replay(replay),
        served: Served {
            verdict,
            reason,
            tier: Some(Tier::Memory),
            age: Some(facts.age.as_secs()),
            ttl: Some(facts.ttl()),
            key: Some(asked.slot.key),
            upstream: Some(entry.upstream.clone()),
        },
    })
}

/// The layers below do not know why the cache passed.
fn with_reason(mut answer: Answer, reason: Reason) -> Answer {
    answer.served.reason = Some(reason);
    answer
}

#[cfg(test)]
mod tests;
