//! The cache: a fresh entry answers here, a stale one is kept as a fallback, a miss goes on and is stored on the way
//! back (`storable`, called when the flight's tape is complete). An entry recorded in another form than asked for is told
//! anew, if it has what the call is entitled to. One that is served past its lifetime may be fetched anew meanwhile
//! (`refresh`).
//!
//! # Scope
//! The layer looks up and obeys; `freshness`, `proof` and `storable` decide. A call without a key passes.

pub mod freshness;
pub mod keeper;
pub mod proof;
pub mod prover;
pub mod refresh;
pub mod storable;

use std::{
    future::ready,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::Either;
use http::StatusCode;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};

use self::{
    freshness::{Facts, Fit},
    proof::Verdict as Leave,
    prover::{Case, Made, Prover, Turn},
    refresh::Refreshes,
};
use crate::{
    answer::{
        Answer, Body, Eventual,
        verdict::{Reason, Served, Tier, Verdict},
    },
    call::{Call, Keyed, plan::Plan},
    error::{Error, Kind},
    guard::class::Class,
    store::{Entry, Lent, tiered::Tiered},
};

/// The layer.
#[derive(Clone, Debug)]
pub struct CacheLayer {
    store: Tiered,
    prover: Prover,
    refreshes: Refreshes,
}

/// The service; clones share it. All that a hit costs of the layers below is the count of one clone, however many they are.
#[derive(Debug)]
pub struct Cache<S>(Arc<Inner<S>>);

#[derive(Debug)]
struct Inner<S> {
    below: S,
    store: Tiered,
    prover: Prover,
    refreshes: Refreshes,
}

/// An answer that fits a call, and the entry that it was made of.
struct Hit {
    answer: Answer,
    entry: Arc<Entry>,
    tier: Tier,
    age: Duration,
    now: Instant,
    /// Whether the entry is to be fetched anew.
    ages: bool,
}

/// Why a look-up found no answer; an entry of old may be there.
struct Miss {
    reason: Reason,
    old: Option<(Arc<Entry>, Tier)>,
    /// Held by the call that renews a proof.
    turn: Option<Turn>,
    /// Whether the entry fits once it is told in the form asked for, which takes its time.
    untold: bool,
}

impl CacheLayer {
    /// Makes a layer over `store`; `prover` says who may read it, and what ages there is fetched anew by `refreshes`.
    pub fn new(store: Tiered, prover: Prover, refreshes: Refreshes) -> Self {
        Self {
            store,
            prover,
            refreshes,
        }
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = Cache<S>;

    fn layer(&self, inner: S) -> Cache<S> {
        Cache(Arc::new(Inner {
            below: inner,
            store: self.store.clone(),
            prover: self.prover.clone(),
            refreshes: self.refreshes.clone(),
        }))
    }
}

impl<S> Clone for Cache<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> Service<Call> for Cache<S>
where
    S: Service<Call, Response = Answer, Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    type Response = Answer;
    type Error = Error;
    type Future = Eventual;

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
            return Either::Right(Box::pin(self.0.below.clone().oneshot(call)));
        };
        let case = self.0.prover.case(&call);
        let leave = self.0.prover.before(case, &call);
        if leave != Leave::Proven {
            let (cache, asked) = (self.clone(), keyed.clone());
            return Either::Right(Box::pin(cache.ask_leave(call, asked, case, leave)));
        }
        match self.look_up(&call, keyed, case) {
            Ok(answer) => Either::Left(ready(Ok(answer))),
            Err(miss) => {
                let (cache, asked) = (self.clone(), keyed.clone());
                let deeper = self.looks_deeper(&call, &asked, &miss);
                // Most calls that are not answered from memory are not answered from anywhere.
                if !deeper && !miss.untold {
                    return Either::Right(Box::pin(cache.go_on(call, asked, case, miss)));
                }
                let looking = cache.look_deeper(call, asked, case, miss, deeper);
                Either::Right(Box::pin(looking))
            }
        }
    }
}

impl<S> Cache<S>
where
    S: Service<Call, Response = Answer, Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    /// Looks in memory.
    fn look_up(&self, call: &Call, asked: &Keyed, case: Case) -> Result<Answer, Miss> {
        let found = self.0.store.get(&asked.slot);
        self.try_to_give(found, call, asked, case, Tier::Memory)
    }

    /// Gives a hit to a caller whose proof allows that.
    fn give(&self, call: &Call, case: Case, hit: Hit) -> Result<Answer, Miss> {
        let made = Made {
            by: &hit.entry.upstream,
            age: hit.age,
        };
        let turn = match self.0.prover.of_hit(case, call, made, hit.now) {
            Leave::Proven => return Ok(self.serve(call, hit)),
            Leave::ServeAndRenew => {
                self.0.prover.renew_behind(case, call, &self.0.below);
                return Ok(self.serve(call, hit));
            }
            // One call is enough; the others are answered meanwhile.
            Leave::RenewByCall => match self.0.prover.turn(case) {
                None => return Ok(self.serve(call, hit)),
                turn => turn,
            },
            Leave::RenewFirst | Leave::Unproven => None,
        };
        Err(Miss {
            reason: Reason::Unproven,
            old: Some((hit.entry, hit.tier)),
            turn,
            untold: false,
        })
    }

    /// Serves a hit, and has its entry fetched anew if it is to be.
    fn serve(&self, call: &Call, hit: Hit) -> Answer {
        if hit.ages {
            let made = hit.entry.made.into_std();
            self.0.refreshes.begin(call, made, &self.0.below);
        }
        hit.answer
    }

    /// Looks behind the memory if it is to look `deeper`, has told anew what has to be, and goes on if nothing fits.
    async fn look_deeper(
        self,
        mut call: Call,
        asked: Arc<Keyed>,
        case: Case,
        mut miss: Miss,
        deeper: bool,
    ) -> Result<Answer, Error> {
        if deeper {
            // Boxed, as is all that few calls wait for: a future is moved with the room for all that it may ever await.
            let began = Instant::now();
            let found = Box::pin(self.0.store.fetch(&asked.slot)).await;
            call.spent += began.elapsed();
            let (found, tier) =
                found.map_or((None, Tier::Disk), |(found, tier)| (Some(found), tier));
            // What is no newer than what was passed over is that.
            let is_news = found
                .as_deref()
                .map_or(miss.old.is_none(), |found| is_newer(found, &miss));
            if is_news {
                match self.try_to_give(found, &call, &asked, case, tier) {
                    Ok(answer) => return Ok(answer),
                    Err(deeper) => miss = deeper,
                }
            }
        }
        if miss.untold
            && let Some((entry, tier)) = miss.old.take()
        {
            // What comes of it is kept, so that now the answer is there at once, or the reason why there is none.
            let _ = Box::pin(self.0.store.tell(&entry, asked.request.form())).await;
            let found = Some(entry).filter(|entry| !self.0.store.is_dead(entry));
            match self.try_to_give(found, &call, &asked, case, tier) {
                Ok(answer) => return Ok(answer),
                Err(told) => miss = told,
            }
        }
        self.go_on(call, asked, case, miss).await
    }

    /// Returns whether what lies behind the memory may answer a call that what is in memory does not.
    fn looks_deeper(&self, call: &Call, asked: &Keyed, miss: &Miss) -> bool {
        let store = &self.0.store;
        if miss.old.is_some() {
            return !miss.untold
                && freshness::is_cured_by_newer(miss.reason)
                && store.may_lie_newer(&asked.slot);
        }
        // Who wants a new answer has no use for an old one, so it is not looked for any deeper.
        !call.plan.refresh && store.lies_deeper(&asked.slot)
    }

    /// Gives what was `found` in this `tier`, if it fits and the caller's proof allows that.
    fn try_to_give(
        &self,
        found: Option<Arc<Entry>>,
        call: &Call,
        asked: &Keyed,
        case: Case,
        tier: Tier,
    ) -> Result<Answer, Miss> {
        let hit = look(&self.0.store, found, asked, &call.plan, tier)?;
        self.give(call, case, hit)
    }

    /// Has the proof of a call renewed before anything is looked up for it; without one the call keeps to itself.
    async fn ask_leave(
        self,
        mut call: Call,
        asked: Arc<Keyed>,
        case: Case,
        leave: Leave,
    ) -> Result<Answer, Error> {
        let leave = match leave {
            Leave::RenewFirst => {
                let inner = self.0.below.clone();
                self.0.prover.renew_first(case, &call, inner).await
            }
            known => known,
        };
        if leave == Leave::Proven {
            return match self.look_up(&call, &asked, case) {
                Ok(answer) => Ok(answer),
                Err(miss) => {
                    let deeper = self.looks_deeper(&call, &asked, &miss);
                    self.look_deeper(call, asked, case, miss, deeper).await
                }
            };
        }
        call.alone = true;
        let may_stand_in = leave == Leave::RenewByCall && !call.plan.refresh;
        let old = if may_stand_in {
            self.0.store.find(&asked.slot).await
        } else {
            None
        };
        let miss = Miss::of(Reason::Unproven, old);
        self.go_on(call, asked, case, miss).await
    }

    /// Has the call answered below; what was passed over may still stand in. An `async fn` would keep what it is given twice.
    fn go_on(
        self,
        mut call: Call,
        asked: Arc<Keyed>,
        case: Case,
        miss: Miss,
    ) -> impl Future<Output = Result<Answer, Error>> + Send {
        let Miss {
            reason, old, turn, ..
        } = miss;
        let fixed = call.fixed.clone();
        async move {
            let plan = &fixed.plan;
            if plan.only_if_cached {
                return Err(not_cached(reason));
            }
            // A call that is to renew a proof asks the primary and nobody else: where that cannot say, the entry answers, and no
            // key of the proxy's is to be spent on another answer. Nor is anybody to join who could have one.
            if (call.alone || turn.is_some())
                && let Some((entry, tier)) = &old
                && look(&self.0.store, Some(entry.clone()), &asked, plan, *tier).is_ok()
            {
                call.alone = true;
                call.route = Arc::new(call.route.without_others());
            }
            call.passed_over = old.as_ref().map(|(entry, _)| entry.made.into_std());
            let result = self.0.below.clone().oneshot(call).await;
            let in_vain = reason == Reason::Unproven && said_nothing(&result);
            if in_vain {
                self.0.prover.in_vain(case);
            }
            drop(turn);
            let has_failed = failed(&result);
            // It was in hand all the while.
            if let Some(old) = old
                && !self.0.store.is_dead(&old.0)
                && self.0.prover.holds(case, made(&old.0))
                && let Some(answer) = Box::pin(stand_in(
                    &self.0.store,
                    &old,
                    &asked,
                    plan,
                    has_failed,
                    in_vain,
                ))
                .await
            {
                return Ok(answer);
            }
            result.map(|answer| with_reason(answer, reason))
        }
    }
}

impl Miss {
    fn of(reason: Reason, old: Option<(Arc<Entry>, Tier)>) -> Self {
        Self {
            reason,
            old,
            turn: None,
            untold: false,
        }
    }
}

/// Returns whether `found` is another entry than the one that was passed over.
fn is_newer(found: &Entry, miss: &Miss) -> bool {
    let old = miss.old.as_ref();
    old.is_none_or(|(old, _)| found.supersedes(old))
}

/// Answers from `found` in this `tier`, if it fits.
fn look(
    store: &Tiered,
    found: Option<Arc<Entry>>,
    asked: &Keyed,
    plan: &Plan,
    tier: Tier,
) -> Result<Hit, Miss> {
    let Some(entry) = found else {
        let reason = if plan.refresh {
            Reason::Refresh
        } else {
            Reason::NotFound
        };
        return Err(Miss::of(reason, None));
    };
    let now = Instant::now();
    let facts = facts(store, &entry, now);
    let fit = freshness::fit(facts, plan);
    let why = match fit {
        Fit::Fresh => (Verdict::Hit, None),
        Fit::Stale => (Verdict::Stale, Some(Reason::MaxStale)),
        Fit::StaleWhileRevalidate => (Verdict::Stale, Some(Reason::StaleWhileRevalidate)),
        Fit::No(reason) => return Err(Miss::of(reason, Some((entry, tier)))),
    };
    match store.lend(&entry, asked.request.form()) {
        Ok(Some(lent)) => Ok(Hit {
            answer: from_entry(lent, &entry, asked, why, tier, facts),
            age: facts.age,
            entry,
            tier,
            now,
            ages: fit == Fit::StaleWhileRevalidate,
        }),
        Ok(None) => Err(Miss {
            untold: true,
            ..Miss::of(Reason::Unconvertible, Some((entry, tier)))
        }),
        Err(unlent) => Err(Miss::of(unlent.reason(), Some((entry, tier)))),
    }
}

/// Answers from an entry that was passed over, if the upstream failed and the entry may stand in. What was passed over
/// only to renew a proof `in_vain` is as good as before.
async fn stand_in(
    store: &Tiered,
    (entry, tier): &(Arc<Entry>, Tier),
    asked: &Keyed,
    plan: &Plan,
    has_failed: bool,
    in_vain: bool,
) -> Option<Answer> {
    let facts = facts(store, entry, Instant::now());
    let stands_in = has_failed && freshness::stands_in(facts, plan);
    if !stands_in && !in_vain {
        return None;
    }
    let lent = store.tell(entry, asked.request.form()).await.ok()?;
    if in_vain && let Ok(hit) = look(store, Some(entry.clone()), asked, plan, *tier) {
        return Some(hit.answer);
    }
    stands_in.then(|| from_entry(lent, entry, asked, FALLBACK, *tier, facts))
}

fn made(entry: &Entry) -> Made<'_> {
    Made {
        by: &entry.upstream,
        age: Instant::now().saturating_duration_since(entry.made),
    }
}

/// Returns whether an entry that came while the call was under way is fresh enough for it: it is too new to be distrusted.
pub fn fits(entry: &Entry, plan: &Plan, now: Instant) -> bool {
    freshness::fit(trusted(entry, now), plan) == Fit::Fresh
}

fn not_cached(reason: Reason) -> Error {
    let message = format!("nothing cached can answer this call ({})", reason.as_str());
    Error::new(Kind::NotCached, message)
}

fn facts(store: &Tiered, entry: &Entry, now: Instant) -> Facts {
    Facts {
        trusted: store.trust().of(entry.made),
        ..trusted(entry, now)
    }
}

fn trusted(entry: &Entry, now: Instant) -> Facts {
    let age = now.saturating_duration_since(entry.made);
    let lifetime = if entry.seen.is_softened() {
        // Over by now, and not for long.
        entry.lifetime.min(age)
    } else {
        entry.lifetime
    };
    Facts {
        age,
        lifetime,
        trusted: None,
    }
}

/// Returns whether the upstream failed, by an error or by a 5xx that blames itself, or had no place for the call.
fn failed(result: &Result<Answer, Error>) -> bool {
    match result {
        Ok(answer) => Class::of_status(answer.head.status) == Class::Failure,
        Err(error) => error.kind().is_upstream() || error.kind() == Kind::Busy,
    }
}

/// Returns whether the primary said nothing of the credential: it failed, or was too busy, or another upstream stood in.
fn said_nothing(result: &Result<Answer, Error>) -> bool {
    let busy = |answer: &Answer| answer.head.status == StatusCode::TOO_MANY_REQUESTS;
    // What others' flights brought is no try to renew anything.
    let by_another =
        |answer: &Answer| answer.served.verdict == Verdict::Miss && !answer.head.asked.by_caller;
    let nothing = |answer: &Answer| busy(answer) || by_another(answer);
    failed(result) || result.as_ref().is_ok_and(nothing)
}

fn from_entry(
    (head, replay): Lent,
    entry: &Entry,
    asked: &Keyed,
    (verdict, reason): (Verdict, Option<Reason>),
    tier: Tier,
    facts: Facts,
) -> Answer {
    Answer {
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
