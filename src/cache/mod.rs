//! The cache: a fresh entry answers here, a stale one is kept as a fallback, a miss goes on and is stored on the way
//! back (`storable`, called when the flight's tape is complete). An entry recorded in another form than asked for is told
//! anew, if it has what the call is entitled to. One that is served past its lifetime may be fetched anew meanwhile
//! (`refresh`).
//!
//! # Scope
//! The layer looks up and obeys; `freshness` and `storable` decide. A call without a key passes.

pub mod freshness;
pub mod keeper;
pub mod refresh;
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

use self::{
    freshness::{Facts, Fit},
    refresh::Refreshes,
};
use crate::{
    answer::{
        Answer, Body,
        verdict::{Reason, Served, Tier, Verdict},
    },
    call::{Call, Keyed, plan::Plan},
    error::{Error, Kind},
    store::{Entry, Unlent, tiered::Tiered},
};

/// The layer.
#[derive(Clone, Debug)]
pub struct CacheLayer {
    store: Tiered,
    refreshes: Refreshes,
}

/// The service.
#[derive(Clone, Debug)]
pub struct Cache<S> {
    inner: S,
    store: Tiered,
    refreshes: Refreshes,
}

/// An entry's answer.
struct Found {
    answer: Answer,
    /// When the entry was made, if it is to be fetched anew.
    ages_since: Option<Instant>,
}

/// Why a look-up found no answer; an entry of old may be there.
struct Miss(Reason, Option<(Arc<Entry>, Tier)>);

impl CacheLayer {
    /// Makes a layer over `store`; what ages there is fetched anew by `refreshes`.
    pub fn new(store: Tiered, refreshes: Refreshes) -> Self {
        Self { store, refreshes }
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = Cache<S>;

    fn layer(&self, inner: S) -> Cache<S> {
        Cache {
            inner,
            store: self.store.clone(),
            refreshes: self.refreshes.clone(),
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

    fn call(&mut self, call: Call) -> Self::Future {
        let Ok(keyed) = &call.keyed else {
            if let Err(why) = &call.keyed
                && call.plan.only_if_cached
                && call.dialect.is_some()
            {
                return Either::Left(ready(Err(not_cached(Reason::Unkeyed(*why)))));
            }
            return Either::Right(Box::pin(self.inner.clone().oneshot(call)));
        };
        match look(self.store.get(&keyed.slot), keyed, &call.plan, Tier::Memory) {
            Ok(found) => Either::Left(ready(Ok(found.serve(&call, &self.inner, &self.refreshes)))),
            // Who wants a new answer has no use for an old one, so it is not looked for any deeper.
            Err(Miss(_, None)) if !call.plan.refresh && self.store.lies_deeper(&keyed.slot) => {
                let (cache, asked) = (self.clone(), keyed.clone());
                Either::Right(Box::pin(look_deeper(cache, call, asked)))
            }
            Err(miss) => {
                let (store, inner, asked) = (self.store.clone(), self.inner.clone(), keyed.clone());
                Either::Right(Box::pin(go_on(store, inner, call, asked, miss)))
            }
        }
    }
}

/// Looks behind the memory, and goes on if nothing there fits.
async fn look_deeper<S>(cache: Cache<S>, call: Call, asked: Arc<Keyed>) -> Result<Answer, Error>
where
    S: Service<Call, Response = Answer, Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    let found = cache.store.fetch(&asked.slot).await;
    match look(found, &asked, &call.plan, Tier::Disk) {
        Ok(found) => Ok(found.serve(&call, &cache.inner, &cache.refreshes)),
        Err(miss) => go_on(cache.store, cache.inner, call, asked, miss).await,
    }
}

/// Has the call answered below; what was passed over may still stand in.
async fn go_on<S>(
    store: Tiered,
    inner: S,
    mut call: Call,
    asked: Arc<Keyed>,
    miss: Miss,
) -> Result<Answer, Error>
where
    S: Service<Call, Response = Answer, Error = Error>,
{
    let Miss(reason, old) = miss;
    if call.plan.only_if_cached {
        return Err(not_cached(reason));
    }
    let plan = call.plan.clone();
    call.passed_over = old.as_ref().map(|(entry, _)| entry.made.into_std());
    let result = inner.oneshot(call).await;
    let now = Instant::now();
    if failed(&result)
        && let Some((entry, tier)) = old
        // It was in hand all the while.
        && !store.is_dead(&entry)
        && freshness::stands_in(facts(&entry, now), &plan)
        && let Ok(answer) = from_entry(&entry, &asked, FALLBACK, tier, now)
    {
        return Ok(answer);
    }
    result.map(|answer| with_reason(answer, reason))
}

/// Answers from `found` in this `tier`, if it fits.
fn look(found: Option<Arc<Entry>>, asked: &Keyed, plan: &Plan, tier: Tier) -> Result<Found, Miss> {
    let Some(entry) = found else {
        let reason = if plan.refresh {
            Reason::Refresh
        } else {
            Reason::NotFound
        };
        return Err(Miss(reason, None));
    };
    let now = Instant::now();
    let fit = freshness::fit(facts(&entry, now), plan);
    let why = match fit {
        Fit::Fresh => (Verdict::Hit, None),
        Fit::Stale => (Verdict::Stale, Some(Reason::MaxStale)),
        Fit::StaleWhileRevalidate => (Verdict::Stale, Some(Reason::StaleWhileRevalidate)),
        Fit::No(reason) => return Err(Miss(reason, Some((entry, tier)))),
    };
    match from_entry(&entry, asked, why, tier, now) {
        Ok(answer) => Ok(Found {
            answer,
            ages_since: (fit == Fit::StaleWhileRevalidate).then_some(entry.made),
        }),
        Err(unlent) => Err(Miss(unlent.reason(), Some((entry, tier)))),
    }
}

impl Found {
    /// Returns the answer to `call`, and has the entry fetched anew by `inner` if it is to be.
    fn serve<S>(self, call: &Call, inner: &S, refreshes: &Refreshes) -> Answer
    where
        S: Service<Call, Response = Answer, Error = Error> + Clone + Send + 'static,
        S::Future: Send,
    {
        if let Some(made) = self.ages_since {
            refreshes.begin(call, made.into_std(), inner);
        }
        self.answer
    }
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
    let age = now.saturating_duration_since(entry.made);
    let lifetime = if entry.seen.is_softened() {
        // Over by now, and not for long.
        entry.lifetime.min(age)
    } else {
        entry.lifetime
    };
    Facts { age, lifetime }
}

/// Returns whether the upstream failed, by an error or by a 5xx of its own.
fn failed(result: &Result<Answer, Error>) -> bool {
    match result {
        Ok(answer) => answer.head.status.is_server_error(),
        Err(error) => error.kind().is_upstream(),
    }
}

fn from_entry(
    entry: &Entry,
    asked: &Keyed,
    (verdict, reason): (Verdict, Option<Reason>),
    tier: Tier,
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
            tier: Some(tier),
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

/// The verdict on an entry that stands in for a failed upstream.
const FALLBACK: (Verdict, Option<Reason>) = (Verdict::Stale, Some(Reason::UpstreamFailed));

#[cfg(test)]
mod tests;
