//! What an upstream has said about credentials, kept as fingerprints: accepted when, or refused.
//!
//! # Scope
//! A registry of bounded size; what gives way is merely unknown. It holds and dates; what a proof is good for is
//! `cache::proof`'s decision. What lies behind the memory has it, too: written in the background, read at the start.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use quick_cache::{DefaultHashBuilder, Lifecycle, UnitWeighter, sync::Cache};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{behind::Behind, disk};
use crate::call::key::{Fingerprint, Lasting, Secret};

/// The registry; clones share it.
#[derive(Clone, Debug)]
pub struct Proofs(Arc<Inner>);

/// What a proof is about: a credential at an upstream, or a credential, an upstream and a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject([u8; 32]);

/// What is known of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    Missing,
    /// It was refused, and not accepted since.
    Ended,
    /// It was accepted, so long ago.
    Proven(Duration),
}

/// The standing of one subject.
#[derive(Debug)]
pub struct Standing {
    /// When it was accepted or refused, or [`NEVER`].
    stamp: AtomicI64,
    /// The stamp that the disk has.
    written: AtomicI64,
    /// Until when the upstream is not asked again, having been asked in vain; [`NEVER`] if it was not.
    retry: AtomicI64,
    /// Whether the upstream refuses the probe to this credential, and not the credential.
    by_call: AtomicBool,
    /// Held by who renews.
    turn: Arc<Semaphore>,
}

/// What happens to proofs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A subject was accepted that was not proven.
    Proven,
    /// An old proof was renewed.
    Renewed,
    /// A subject was refused that was proven.
    Ended,
    /// An upstream was asked and could not say.
    InVain,
    /// A proof gave way to others.
    Evicted,
}

/// What is kept, and what has happened so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Proofs kept, refusals included.
    pub kept: u64,
    /// What has happened, by [`Event::ALL`].
    pub events: [u64; Event::ALL.len()],
}

#[derive(Debug)]
struct Inner {
    secret: Secret,
    /// In the configuration's order.
    upstreams: Vec<Lasting>,
    last: Mutex<Option<Matter>>,
    standings: Cache<Subject, Arc<Standing>, UnitWeighter, DefaultHashBuilder, Forget>,
    events: Arc<Events>,
    behind: Option<Behind>,
    /// A proof is renewed and written once it is so old.
    ttl: Duration,
    epoch: Instant,
}

/// The fingerprint of a model at an upstream: most calls are for the model of the one before.
#[derive(Debug)]
struct Matter {
    upstream: Fingerprint,
    model: String,
    /// Of the secret that it was made with.
    edition: u64,
    fingerprint: Fingerprint,
}

type Events = [AtomicU64; Event::ALL.len()];

/// Counts what gives way, and has it forgotten behind the memory, too.
#[derive(Clone, Debug)]
struct Forget {
    events: Arc<Events>,
    behind: Option<Behind>,
}

/// A moment, and whether it was one of refusal, in one word: microseconds since the registry was made, doubled.
type Stamp = i64;

/// Before every moment that there is.
const NEVER: Stamp = i64::MIN;
/// Most proofs that are kept.
pub const MOST: usize = 65_536;
/// A proof is written anew once it is this part of its lifetime younger than what the disk has.
const PART: u32 = 8;
/// How long an upstream that was asked in vain is left alone, at most.
const PAUSE: Duration = Duration::from_secs(5);

impl Proofs {
    /// Makes the registry of the upstreams that `places` identify, in the configuration's order, with what the disk has
    /// kept.
    pub fn new(
        secret: Secret,
        places: &[Vec<String>],
        ttl: Duration,
        behind: Option<Behind>,
        kept: &[disk::Proof],
    ) -> Self {
        let events = Arc::<Events>::default();
        let forget = Forget {
            events: events.clone(),
            behind: behind.clone(),
        };
        let upstreams = places.iter().map(|place| {
            let parts: Vec<_> = place.iter().map(String::as_bytes).collect();
            Lasting::new(&secret, "upstream", &parts)
        });
        let upstreams = upstreams.collect();
        let hasher = DefaultHashBuilder::default();
        let most = MOST as u64;
        let proofs = Self(Arc::new(Inner {
            secret,
            upstreams,
            last: Mutex::default(),
            standings: Cache::with(MOST, most, UnitWeighter, hasher, forget),
            events,
            behind,
            ttl,
            epoch: Instant::now(),
        }));
        for proof in kept {
            proofs.restore(proof);
        }
        proofs
    }

    /// Returns the subject that a credential is at an upstream.
    pub fn credential(&self, upstream: usize, credential: &Fingerprint) -> Subject {
        match self.0.upstreams.get(upstream) {
            Some(upstream) => Subject::of(credential, &upstream.get()),
            None => Subject::NOBODY,
        }
    }

    /// Returns the subject that a credential and a model are at an upstream.
    pub fn model(&self, upstream: usize, credential: &Fingerprint, model: &str) -> Subject {
        let Some(upstream) = self.0.upstreams.get(upstream) else {
            return Subject::NOBODY;
        };
        Subject::of(credential, &self.matter(upstream.get(), model))
    }

    fn matter(&self, upstream: Fingerprint, model: &str) -> Fingerprint {
        // Read first: under a secret that is adopted meanwhile it is made anew once more.
        let edition = self.0.secret.edition();
        let mut last = self.0.last.try_lock().ok();
        let known = last.as_deref().and_then(Option::as_ref);
        if let Some(known) = known
            && known.edition == edition
            && known.upstream == upstream
            && known.model == model
        {
            return known.fingerprint;
        }
        let parts = [upstream.as_bytes().as_slice(), model.as_bytes()];
        let fingerprint = self.0.secret.fingerprint("model", &parts);
        if let Some(last) = last.as_deref_mut() {
            *last = Some(Matter {
                upstream,
                model: model.to_owned(),
                edition,
                fingerprint,
            });
        }
        fingerprint
    }

    /// Returns what is known of `subject` at `now`.
    pub fn known(&self, subject: &Subject, now: Instant) -> Known {
        self.standing(subject)
            .map_or(Known::Missing, |standing| self.of(&standing, now))
    }

    /// Returns the standing of `subject`, if there is one.
    pub fn standing(&self, subject: &Subject) -> Option<Arc<Standing>> {
        self.0.standings.get(subject)
    }

    /// Returns the standing of `subject`; a new one knows nothing.
    pub fn standing_or_new(&self, subject: Subject) -> Arc<Standing> {
        if let Some(standing) = self.standing(&subject) {
            return standing;
        }
        let new = Arc::new(Standing::new(NEVER));
        let made = || Ok::<_, std::convert::Infallible>(new.clone());
        match self.0.standings.get_or_insert_with(&subject, made) {
            Ok(standing) => standing,
            Err(never) => match never {},
        }
    }

    /// Returns what `standing` says at `now`.
    pub fn of(&self, standing: &Standing, now: Instant) -> Known {
        let stamp = standing.stamp.load(Ordering::Relaxed);
        match (stamp, is_refusal(stamp)) {
            (NEVER, _) => Known::Missing,
            (_, true) => Known::Ended,
            (_, false) => Known::Proven(age(stamp, self.stamp(now, false))),
        }
    }

    /// Notes that the upstream accepted `subject`.
    pub fn accept(&self, subject: Subject, now: Instant) {
        let standing = self.standing_or_new(subject);
        let stamp = self.stamp(now, false);
        let before = standing.stamp.swap(stamp, Ordering::Relaxed);
        standing.retry.store(NEVER, Ordering::Relaxed);
        if before == NEVER || is_refusal(before) {
            self.count(Event::Proven);
        } else if age(before, stamp) >= self.0.ttl {
            self.count(Event::Renewed);
        }
        let written = standing.written.load(Ordering::Relaxed);
        if before == NEVER || is_refusal(before) || age(written, stamp) >= self.0.ttl / PART {
            self.write(subject, &standing, stamp);
        }
    }

    /// Notes that the upstream refused `subject`. A refusal of what is not known is not kept: anybody can have one.
    pub fn refuse(&self, subject: Subject, now: Instant) {
        if let Some(standing) = self.standing(&subject) {
            self.end(subject, &standing, now);
        }
    }

    /// Notes that the upstream refused `subject`, whose standing this is.
    pub fn end(&self, subject: Subject, standing: &Standing, now: Instant) {
        let stamp = self.stamp(now, true);
        let before = standing.stamp.swap(stamp, Ordering::Relaxed);
        if !is_refusal(before) {
            self.count(Event::Ended);
            self.write(subject, standing, stamp);
        }
    }

    /// Takes in what another replica was told, unless something later is known. A refusal of what is not known here is not
    /// kept.
    pub fn learn(&self, proof: &disk::Proof) {
        let subject = Subject(proof.subject);
        if proof.ended && self.standing(&subject).is_none() {
            return;
        }
        let standing = self.standing_or_new(subject);
        let since = micros(Instant::now().saturating_duration_since(self.0.epoch));
        let stamp = packed(since - micros(proof.age), proof.ended);
        let before = standing.stamp.fetch_max(stamp, Ordering::Relaxed);
        standing.written.fetch_max(stamp, Ordering::Relaxed);
        if proof.ended && stamp > before && !is_refusal(before) {
            self.count(Event::Ended);
        }
    }

    /// Notes that the upstream was asked and could not say; it is left alone for a moment.
    pub fn in_vain(&self, standing: &Standing, now: Instant) {
        let until = self.stamp(now + PAUSE.min(self.0.ttl), false);
        standing.retry.store(until, Ordering::Relaxed);
        self.count(Event::InVain);
    }

    /// Returns whether the upstream was asked in vain, and whether that was so recently that it is left alone.
    pub fn was_in_vain(&self, standing: &Standing, now: Instant) -> (bool, bool) {
        let retry = standing.retry.load(Ordering::Relaxed);
        (retry != NEVER, retry > self.stamp(now, false))
    }

    /// Returns what is kept and what has happened so far.
    pub fn counts(&self) -> Counts {
        Counts {
            kept: self.0.standings.len() as u64,
            events: self
                .0
                .events
                .each_ref()
                .map(|count| count.load(Ordering::Relaxed)),
        }
    }

    fn restore(&self, proof: &disk::Proof) {
        let stamp = packed(-micros(proof.age), proof.ended);
        let standing = Standing::new(stamp);
        standing.written.store(stamp, Ordering::Relaxed);
        let subject = Subject(proof.subject);
        self.0.standings.insert(subject, Arc::new(standing));
    }

    fn write(&self, subject: Subject, standing: &Standing, stamp: Stamp) {
        standing.written.store(stamp, Ordering::Relaxed);
        if let Some(behind) = &self.0.behind {
            behind.keep_proof(disk::Proof {
                subject: subject.0,
                age: Duration::ZERO,
                ended: is_refusal(stamp),
            });
        }
    }

    fn stamp(&self, now: Instant, refusal: bool) -> Stamp {
        packed(micros(now.saturating_duration_since(self.0.epoch)), refusal)
    }

    fn count(&self, event: Event) {
        count(&self.0.events, event);
    }
}

impl Subject {
    /// What is said at an upstream that there is not, by nobody.
    const NOBODY: Self = Self([0; 32]);

    fn of(credential: &Fingerprint, matter: &Fingerprint) -> Self {
        let mut bytes = [0; 32];
        let (first, second) = bytes.split_at_mut(16);
        first.copy_from_slice(credential.as_bytes());
        second.copy_from_slice(matter.as_bytes());
        Self(bytes)
    }
}

impl Known {
    /// Returns what is known where the credential is known to have been accepted so long ago, too.
    #[must_use]
    pub fn or_accepted(self, age: Duration) -> Self {
        match self {
            Self::Missing => Self::Proven(age),
            Self::Ended => Self::Ended,
            Self::Proven(known) => Self::Proven(known.min(age)),
        }
    }
}

impl Standing {
    fn new(stamp: Stamp) -> Self {
        Self {
            stamp: AtomicI64::new(stamp),
            written: AtomicI64::new(NEVER),
            retry: AtomicI64::new(NEVER),
            by_call: AtomicBool::new(false),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Returns whether only a call can renew it.
    pub fn is_by_call(&self) -> bool {
        self.by_call.load(Ordering::Relaxed)
    }

    /// Notes that only a call can renew it.
    pub fn set_by_call(&self) {
        self.by_call.store(true, Ordering::Relaxed);
    }

    /// Takes the turn to renew it, if nobody has it.
    pub fn try_turn(&self) -> Option<OwnedSemaphorePermit> {
        self.turn.clone().try_acquire_owned().ok()
    }

    /// Waits for the turn to renew it.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.turn.clone().acquire_owned().await.ok()
    }
}

impl Event {
    /// Every event, in the order of the docs.
    pub const ALL: [Self; 5] = [
        Self::Proven,
        Self::Renewed,
        Self::Ended,
        Self::InVain,
        Self::Evicted,
    ];

    /// Returns the label of the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Renewed => "renewed",
            Self::Ended => "ended",
            Self::InVain => "in_vain",
            Self::Evicted => "evicted",
        }
    }
}

impl Lifecycle<Subject, Arc<Standing>> for Forget {
    type RequestState = ();

    fn on_evict(&self, (): &mut Self::RequestState, subject: Subject, _: Arc<Standing>) {
        count(&self.events, Event::Evicted);
        if let Some(behind) = &self.behind {
            behind.forget_proof(subject.0);
        }
    }
}

fn count(events: &Events, event: Event) {
    let index = Event::ALL.iter().position(|known| *known == event);
    if let Some(counter) = index.and_then(|index| events.get(index)) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn packed(micros: i64, refusal: bool) -> Stamp {
    micros * 2 + i64::from(refusal)
}

fn micros(time: Duration) -> i64 {
    // Far below where doubling it would overflow, and 70 000 years.
    i64::try_from(time.as_micros()).map_or(i64::MAX >> 2, |micros| micros.min(i64::MAX >> 2))
}

fn is_refusal(stamp: Stamp) -> bool {
    stamp & 1 == 1
}

/// Returns the time from one stamp to a later one.
fn age(from: Stamp, to: Stamp) -> Duration {
    let micros = (to >> 1).saturating_sub(from >> 1).max(0);
    Duration::from_micros(micros.cast_unsigned())
}

#[cfg(test)]
mod tests;
