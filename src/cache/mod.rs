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
    store::{Entry, Lent, Unlent, tiered::Tiered},
};

/// The layer.
#[derive(Clone, Debug)]
pub struct CacheLayer {
    store: Tiered,
}

/// The service.
#[derive(Clone, Debug)]
pub struct Cache<S> {
    inner: S,
    store: Tiered,
}

/// An entry that fits a call.
struct Found {
    entry: Arc<Entry>,
    tier: Tier,
    verdict: Verdict,
    reason: Option<Reason>,
    now: Instant,
}

/// Why a look-up found no answer; an entry of old may be there.
struct Miss(Reason, Option<(Arc<Entry>, Tier)>);

impl CacheLayer {
    /// Makes a layer over `store`.
    pub fn new(store: Tiered) -> Self {
        Self { store }
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = Cache<S>;

    fn layer(&self, inner: S) -> Cache<S> {
        Cache {
            inner,
            store: self.store.clone(),
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
        let store = &self.store;
        let miss = match look(store.get(&keyed.slot), &call.plan, Tier::Memory) {
            Ok(found) => match store.lend(&found.entry, keyed.request.form()) {
                Ok(Some(lent)) => return Either::Left(ready(Ok(found.answer(lent, keyed)))),
                Ok(None) => {
                    let (store, inner, asked) = (store.clone(), self.inner.clone(), keyed.clone());
                    return Either::Right(Box::pin(tell(store, inner, call, asked, found)));
                }
                Err(unlent) => found.unlent(unlent),
            },
            Err(miss) => miss,
        };
        let (store, inner, asked) = (store.clone(), self.inner.clone(), keyed.clone());
        // Who wants a new answer has no use for an old one, so it is not looked for any deeper.
        if miss.1.is_none() && !call.plan.refresh && store.lies_deeper(&asked.slot) {
            return Either::Right(Box::pin(look_deeper(store, inner, call, asked)));
        }
        Either::Right(Box::pin(go_on(store, inner, call, asked, miss)))
    }
}

/// Looks behind the memory, and goes on if nothing there fits.
async fn look_deeper<S>(
    store: Tiered,
    inner: S,
    call: Call,
    asked: Arc<Keyed>,
) -> Result<Answer, Error>
where
    S: Service<Call, Response = Answer, Error = Error>,
{
    match look(store.fetch(&asked.slot).await, &call.plan, Tier::Disk) {
        Ok(found) => tell(store, inner, call, asked, found).await,
        Err(miss) => go_on(store, inner, call, asked, miss).await,
    }
}

/// Has the entry told in the form asked for, and goes on if it cannot be.
async fn tell<S>(
    store: Tiered,
    inner: S,
    call: Call,
    asked: Arc<Keyed>,
    found: Found,
) -> Result<Answer, Error>
where
    S: Service<Call, Response = Answer, Error = Error>,
{
    match store.tell(&found.entry, asked.request.form()).await {
        Ok(lent) => Ok(found.answer(lent, &asked)),
        Err(unlent) => go_on(store, inner, call, asked, found.unlent(unlent)).await,
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
        && freshness::stands_in(facts(&entry, now), &plan)
        && let Ok(lent) = store.tell(&entry, asked.request.form()).await
    {
        let (verdict, reason) = FALLBACK;
        let found = Found {
            entry,
            tier,
            verdict,
            reason,
            now,
        };
        return Ok(found.answer(lent, &asked));
    }
    result.map(|answer| with_reason(answer, reason))
}

/// Decides whether what was `found` in this `tier` fits.
fn look(found: Option<Arc<Entry>>, plan: &Plan, tier: Tier) -> Result<Found, Miss> {
    let Some(entry) = found else {
        let reason = if plan.refresh {
            Reason::Refresh
        } else {
            Reason::NotFound
        };
        return Err(Miss(reason, None));
    };
    let now = Instant::now();
    let (verdict, reason) = match freshness::fit(facts(&entry, now), plan) {
        Fit::Fresh => (Verdict::Hit, None),
        Fit::Stale => (Verdict::Stale, Some(Reason::MaxStale)),
        Fit::No(reason) => return Err(Miss(reason, Some((entry, tier)))),
    };
    Ok(Found {
        entry,
        tier,
        verdict,
        reason,
        now,
    })
}

impl Found {
    fn answer(self, (head, replay): Lent, asked: &Keyed) -> Answer {
        let facts = facts(&self.entry, self.now);
        Answer {
            head,
            body: Body::Replay(replay),
            served: Served {
                verdict: self.verdict,
                reason: self.reason,
                tier: Some(self.tier),
                age: Some(facts.age.as_secs()),
                ttl: Some(facts.ttl()),
                key: Some(asked.slot.key),
                upstream: Some(self.entry.upstream.clone()),
            },
        }
    }

    fn unlent(self, why: Unlent) -> Miss {
        Miss(why.reason(), Some((self.entry, self.tier)))
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

/// The layers below do not know why the cache passed.
fn with_reason(mut answer: Answer, reason: Reason) -> Answer {
    answer.served.reason = Some(reason);
    answer
}

/// The verdict on an entry that stands in for a failed upstream.
const FALLBACK: (Verdict, Option<Reason>) = (Verdict::Stale, Some(Reason::UpstreamFailed));

#[cfg(test)]
mod tests;
