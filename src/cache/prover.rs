//! Asks the upstream that is a call's primary whether a credential still holds, before or behind a call, and remembers what it said.
//!
//! A probe is a call of its own that goes through the layers below: the free route that `[[upstream]] proof` names, with the
//! caller's own credential headers and nothing else. Where the route may be open to all, a random key is sent first: what
//! does not refuse that proves nothing, and the next call itself is forwarded instead.
//!
//! # Scope
//! [`proof`] decides, this one gathers the facts and asks. One renewal at a time for each credential, `ASKING` in all.

mod ask;

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{HeaderValue, StatusCode, uri::PathAndQuery};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tower::Service;

use self::ask::{Ask, NO_CREDENTIAL, Said, Shape, said, shape};
use super::proof::{self, Facts, Terms, Verdict};
use crate::{
    answer::{Answer, tasks::Tasks},
    call::{Call, key::Fingerprint},
    config,
    error::Error,
    store::proofs::{Known, Proofs, Standing, Subject},
};

/// Asks the upstreams; clones share what they said.
#[derive(Clone, Debug)]
pub struct Prover(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    proofs: Proofs,
    /// Of each upstream, in the configuration's order.
    names: Vec<String>,
    /// Of each upstream, in the configuration's order.
    probes: Vec<Probe>,
    terms: Terms,
    tasks: Tasks,
    /// Held by those who ask.
    asking: Arc<Semaphore>,
    /// Whether an upstream's route refused a random key, by the credential headers that it came in.
    closed: Mutex<HashMap<(usize, Shape), bool>>,
}

/// What a prover works with.
#[derive(Debug)]
pub struct Options {
    /// What upstreams have said.
    pub proofs: Proofs,
    /// What each upstream is called, in the configuration's order.
    pub names: Vec<String>,
    /// How each upstream is asked, in the configuration's order.
    pub asked_by: Vec<config::Proof>,
    /// How long proofs last.
    pub terms: Terms,
    /// Owner of the renewals behind calls.
    pub tasks: Tasks,
}

/// Where the upstream is asked.
#[derive(Clone, Debug)]
enum Probe {
    /// Here; whether that is open to all is to be found out.
    Doubtful(PathAndQuery),
    /// Here.
    Closed(PathAndQuery),
    /// Nowhere beside the calls.
    Call,
    /// Nobody is asked about.
    Off,
}

/// Whose proof a call needs.
#[derive(Clone, Copy, Debug)]
pub struct Case(Option<Subjects>);

#[derive(Clone, Copy, Debug)]
struct Subjects {
    /// The upstream that is to say so.
    upstream: usize,
    credential: Subject,
    /// The model's, too, in scopes wider than `credential`.
    model: Option<Subject>,
}

/// How an entry came to be that was found for a call.
#[derive(Clone, Copy, Debug)]
pub struct Made<'a> {
    /// Name of the upstream that made it.
    pub by: &'a HeaderValue,
    /// How long ago.
    pub age: Duration,
}

/// Held by the one call that renews a proof.
pub type Turn = OwnedSemaphorePermit;

impl Prover {
    /// Makes a prover; nothing is asked yet.
    pub fn new(options: Options) -> Self {
        let Options {
            proofs,
            names,
            asked_by,
            terms,
            tasks,
        } = options;
        Self(Arc::new(Inner {
            proofs,
            names,
            probes: asked_by.into_iter().map(Probe::of).collect(),
            terms,
            tasks,
            asking: Arc::new(Semaphore::new(ASKING)),
            closed: Mutex::default(),
        }))
    }

    /// Returns what upstreams have said.
    pub fn proofs(&self) -> &Proofs {
        &self.0.proofs
    }

    /// Returns whether the caller is known: a `[[caller]]`, or one whose credential the primary has accepted, no longer ago than a
    /// proof holds while an upstream cannot be asked. In scopes wider than `credential` it has to have accepted it for the
    /// model, in any scope not to have refused it that.
    pub fn vouches_for(&self, call: &Call) -> bool {
        let Some(credential) = call.caller.credential() else {
            return true;
        };
        let now = Instant::now();
        let subjects = self.subjects(call, credential);
        let facts = self.facts(subjects, None, now, |_| false);
        proof::holds(facts, self.0.terms) && !self.is_refused_the_model(call, credential, now)
    }

    /// Returns whether the primary has refused a credential the model that `call` asks for, as far as that is known.
    fn is_refused_the_model(&self, call: &Call, credential: &Fingerprint, now: Instant) -> bool {
        let asked = call.asks().map(|request| request.model.as_str());
        let Some(model) = asked.or(call.route.model()) else {
            return false;
        };
        let proofs = &self.0.proofs;
        let subject = proofs.model(call.route.primary().upstream, credential, model);
        proofs.known(&subject, now) == Known::Ended
    }

    /// Returns whose proof `call` needs.
    pub fn case(&self, call: &Call) -> Case {
        let upstream = call.route.primary().upstream;
        if matches!(self.probe(upstream), Probe::Off) {
            return Case(None);
        }
        // A `[[caller]]` has none that an upstream could speak of: the proxy itself vouches for it.
        let credential = call.caller.credential();
        Case(credential.map(|credential| self.subjects(call, credential)))
    }

    fn subjects(&self, call: &Call, credential: &Fingerprint) -> Subjects {
        let (proofs, upstream) = (&self.0.proofs, call.route.primary().upstream);
        let model = call.model().filter(|_| call.is_wide());
        Subjects {
            upstream,
            credential: proofs.credential(upstream, credential),
            model: model.map(|model| proofs.model(upstream, credential, model)),
        }
    }

    /// Decides what a call may do before anything is looked up. In scope `credential` that is for a hit to ask.
    pub fn before(&self, case: Case, call: &Call) -> Verdict {
        match case.0 {
            Some(subjects) if subjects.model.is_some() => {
                self.judge(subjects, None, Instant::now(), || shape(&call.headers))
            }
            _ => Verdict::Proven,
        }
    }

    /// Decides whether an entry that was `made` so may be given to a call that it was found for.
    pub fn of_hit(&self, case: Case, call: &Call, made: Made<'_>, now: Instant) -> Verdict {
        match case.0 {
            Some(subjects) if subjects.model.is_none() => {
                let accepted = self.accepted(subjects, made);
                self.judge(subjects, accepted, now, || shape(&call.headers))
            }
            _ => Verdict::Proven,
        }
    }

    /// Returns whether an entry that was `made` so may stand in for an upstream that failed.
    pub fn holds(&self, case: Case, made: Made<'_>) -> bool {
        let Some(subjects) = case.0 else {
            return true;
        };
        self.holds_since(subjects, self.accepted(subjects, made))
    }

    fn holds_since(&self, subjects: Subjects, accepted: Option<Duration>) -> bool {
        let facts = self.facts(subjects, accepted, Instant::now(), |_| false);
        proof::holds(facts, self.0.terms)
    }

    /// Returns how long ago an entry shows the credential to have been accepted: only this one can have made it, and what
    /// another upstream made in the primary's place it has made with another key.
    fn accepted(&self, subjects: Subjects, made: Made<'_>) -> Option<Duration> {
        let primary = self.0.names.get(subjects.upstream);
        let by_primary = primary.is_some_and(|name| *made.by == **name);
        (subjects.model.is_none() && by_primary).then_some(made.age)
    }

    /// Takes the turn to renew a proof by a call, if nobody has it.
    pub fn turn(&self, case: Case) -> Option<Turn> {
        let subjects = case.0?;
        let standing = self.0.proofs.standing_or_new(subjects.credential);
        standing.try_turn()
    }

    /// Notes that a call that was to renew a proof came back without a word about it.
    pub fn in_vain(&self, case: Case) {
        // Where nothing is known there is nothing to renew: anybody can send a key while an upstream is down.
        if let Some(subjects) = case.0
            && let Some(standing) = self.0.proofs.standing(&subjects.credential)
        {
            self.0.proofs.in_vain(&standing, Instant::now());
        }
    }

    /// Renews the proof behind a call that is answered meanwhile, unless that is under way.
    pub fn renew_behind<S>(&self, case: Case, call: &Call, inner: &S)
    where
        S: Service<Call, Response = Answer, Error = Error> + Clone + Send + 'static,
        S::Future: Send,
    {
        let Some(subjects) = case.0 else { return };
        let standing = self.0.proofs.standing_or_new(subjects.credential);
        let asking = self.0.asking.clone().try_acquire_owned();
        let (Some(turn), Ok(asking)) = (standing.try_turn(), asking) else {
            return;
        };
        let ask = Ask::of(call, subjects.credential, standing);
        let (prover, inner) = (self.clone(), inner.clone());
        self.0.tasks.spawn_until_stop(async move {
            let _held = (turn, asking);
            prover.renew(&ask, inner).await;
        });
    }

    /// Renews the proof before a call is answered; returns what the call may do then.
    pub fn renew_first<S>(
        &self,
        case: Case,
        call: &Call,
        inner: S,
    ) -> impl Future<Output = Verdict> + use<S>
    where
        S: Service<Call, Response = Answer, Error = Error> + Clone,
    {
        let prover = self.clone();
        let asked = case.0.map(|subjects| {
            let standing = self.0.proofs.standing_or_new(subjects.credential);
            (subjects, Ask::of(call, subjects.credential, standing))
        });
        async move {
            match asked {
                Some((subjects, ask)) => prover.wait_for(subjects, &ask, inner).await,
                None => Verdict::Proven,
            }
        }
    }

    /// Waits for the turn, and renews the proof unless who had it before has done so for all that waited.
    async fn wait_for<S>(&self, subjects: Subjects, ask: &Ask, inner: S) -> Verdict
    where
        S: Service<Call, Response = Answer, Error = Error> + Clone,
    {
        let _turn = ask.standing.turn().await;
        let verdict = self.judge(subjects, None, Instant::now(), || ask.shape);
        if verdict != Verdict::RenewFirst {
            return verdict;
        }
        let asking = timeout(PATIENCE, self.0.asking.acquire()).await;
        let said = if asking.is_ok() {
            self.renew(ask, inner).await
        } else {
            self.note(ask, Said::InVain)
        };
        let holds = self.holds_since(subjects, None);
        match said {
            Said::Accepted => Verdict::Proven,
            Said::InVain if holds => Verdict::Proven,
            Said::Nothing if holds => Verdict::RenewByCall,
            Said::Refused | Said::InVain | Said::Nothing => Verdict::Unproven,
        }
    }

    fn judge(
        &self,
        subjects: Subjects,
        accepted: Option<Duration>,
        now: Instant,
        shape: impl FnOnce() -> Shape,
    ) -> Verdict {
        let can_probe = |standing: Option<&Standing>| {
            standing.is_none_or(|standing| !standing.is_by_call())
                && self.may_probe(subjects.upstream, shape())
        };
        let facts = self.facts(subjects, accepted, now, can_probe);
        proof::judge(facts, self.0.terms)
    }

    /// Gathers what is known, an entry that shows the credential to have been `accepted` so long ago included.
    fn facts(
        &self,
        subjects: Subjects,
        accepted: Option<Duration>,
        now: Instant,
        can_probe: impl FnOnce(Option<&Standing>) -> bool,
    ) -> Facts {
        let proofs = &self.0.proofs;
        let standing = proofs.standing(&subjects.credential);
        let standing = standing.as_deref();
        let known = standing.map_or(Known::Missing, |standing| proofs.of(standing, now));
        let credential = accepted.map_or(known, |age| known.or_accepted(age));
        // A young proof asks no further: that is what almost every hit has.
        let young = matches!(credential, Known::Proven(age) if age < self.0.terms.ttl);
        let (in_vain, waits) = match standing {
            Some(standing) if !young => proofs.was_in_vain(standing, now),
            _ => (false, false),
        };
        Facts {
            credential,
            model: subjects.model.map(|model| proofs.known(&model, now)),
            probe: !young && can_probe(standing),
            in_vain,
            waits,
        }
    }

    /// Returns whether the route may tell a good credential in these headers from a bad one, as far as is known.
    fn may_probe(&self, upstream: usize, shape: Shape) -> bool {
        match self.probe(upstream) {
            // Of no credential at all the route says nothing: a random one is not the same.
            _ if shape == NO_CREDENTIAL => false,
            Probe::Doubtful(_) => {
                let known = self.closed().get(&(upstream, shape)).copied();
                known.unwrap_or(true)
            }
            Probe::Closed(_) => true,
            Probe::Call | Probe::Off => false,
        }
    }

    /// Asks, and notes what was said.
    async fn renew<S>(&self, ask: &Ask, inner: S) -> Said
    where
        S: Service<Call, Response = Answer, Error = Error> + Clone,
    {
        let said = timeout(PATIENCE, self.ask(ask, inner)).await;
        self.note(ask, said.unwrap_or(Said::InVain))
    }

    fn note(&self, ask: &Ask, said: Said) -> Said {
        let (proofs, now) = (&self.0.proofs, Instant::now());
        match said {
            Said::Accepted => proofs.accept(ask.subject, now),
            Said::Refused => proofs.end(ask.subject, &ask.standing, now),
            Said::Nothing => {}
            Said::InVain => proofs.in_vain(&ask.standing, now),
        }
        tracing::debug!(caller = %ask.caller, ?said, "credential asked about");
        said
    }

    async fn ask<S>(&self, ask: &Ask, inner: S) -> Said
    where
        S: Service<Call, Response = Answer, Error = Error> + Clone,
    {
        let path = match self.probe(ask.upstream()) {
            Probe::Doubtful(path) => match self.is_closed(ask, path, inner.clone()).await {
                Ok(true) => path,
                Ok(false) => return Said::Nothing,
                Err(said) => return said,
            },
            Probe::Closed(path) => path,
            Probe::Call | Probe::Off => return Said::Nothing,
        };
        let said = said(ask::status(inner, ask.call(path, ask.credentials.clone())).await);
        if said == Said::Nothing {
            ask.standing.set_by_call();
        }
        said
    }

    /// Returns whether the route refuses a random key in the headers that the caller uses, asking it the first time.
    async fn is_closed<S>(&self, ask: &Ask, path: &PathAndQuery, inner: S) -> Result<bool, Said>
    where
        S: Service<Call, Response = Answer, Error = Error>,
    {
        let place = (ask.upstream(), ask.shape);
        if let Some(closed) = self.closed().get(&place).copied() {
            return Ok(closed);
        }
        let Some(credentials) = ask::random(&ask.credentials) else {
            return Err(Said::InVain);
        };
        let closed = match ask::status(inner, ask.call(path, credentials)).await {
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => true,
            other if said(other) == Said::InVain => return Err(Said::InVain),
            _ => false,
        };
        self.closed().insert(place, closed);
        Ok(closed)
    }

    /// Returns where an upstream is asked.
    fn probe(&self, upstream: usize) -> &Probe {
        self.0.probes.get(upstream).unwrap_or(&Probe::Call)
    }

    fn closed(&self) -> MutexGuard<'_, HashMap<(usize, Shape), bool>> {
        let closed = self.0.closed.lock();
        closed.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Probe {
    fn of(proof: config::Proof) -> Self {
        let models = PathAndQuery::from_static(MODELS);
        match proof {
            config::Proof::Auto => Self::Doubtful(models),
            config::Proof::Models => Self::Closed(models),
            config::Proof::Path(path) => Self::Closed(path),
            config::Proof::Call => Self::Call,
            config::Proof::Off => Self::Off,
        }
    }
}

/// The free route of OpenAI's API, and of those that are like it.
const MODELS: &str = "/v1/models";
/// Renewals at a time.
const ASKING: usize = 16;
/// For a renewal, and before that for room to ask.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
