//! One flight across replicas: before a flight goes upstream it asks the others.
//!
//! # Asking
//! One question takes the lease of the place, or tells who holds it, and whether an entry lies there by now. Who finds a
//! newer entry than it passed over, which answers it, has no need to go; who finds the lease held waits for that flight, as long as the lease
//! lives and [`Terms::wait`] allows: for the news of its end, and with a look now and then, as news can be lost. When the
//! lease comes free without an entry, one of those who wait takes it and goes, and the others wait for that one.
//!
//! # Scope
//! What is in doubt is decided in favour of going: where Redis is away or slow, where the holder was asked for a form that
//! would not serve this call, or is this very call on its way round a loop, or has said that waiting is of no use. A call
//! for an answer of its own (a refresh) takes the lease, so that others wait for it, but waits for nobody; one that wants
//! nothing stored waits, but takes none, as there will be nothing to wait for.

use std::{
    array,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Fits, Ticket, follow::OF_THE_CREDENTIAL, lock};
use crate::{
    answer::verdict::NotStored,
    call::{Slot, plan::Plan},
    dialect::chat::form::Form,
    store::{
        Entry,
        redis::lease::{Asked, End, Holder, Lease, Leases, Waiter},
        tiered::Tiered,
    },
};

/// The other replicas, as flights see them; clones share them.
#[derive(Clone, Debug)]
pub struct Fleet(Arc<Inner>);

/// What flights are held to among replicas.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Who says whose turn it is.
    pub leases: Leases,
    /// The longest that a call waits for flights of others.
    pub wait: Duration,
    /// For all that a call may wait for the store.
    pub budget: Duration,
}

/// How many waits for flights of other replicas came to what, by [`Awaited::ALL`].
pub type Counts = [u64; Awaited::ALL.len()];

#[derive(Debug)]
struct Inner {
    terms: Terms,
    counts: [AtomicU64; Awaited::ALL.len()],
}

/// What a wait for another replica's flight came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Its answer.
    Landed,
    /// It ended without one, and this replica went next.
    Led,
    /// Its answer is of no use to this call.
    Apart,
    /// It took too long.
    Late,
    /// Redis did not answer any more.
    Away,
}

/// What the other replicas need to know of a call that would go upstream.
#[derive(Clone, Debug)]
pub(super) struct Errand {
    slot: Slot,
    form: Form,
    hops: u8,
    /// When the entry was made that it has passed over.
    passed_over: Option<std::time::Instant>,
    /// What it asks of another.
    plan: Plan,
    /// Says whether that has it.
    fits: Fits,
    /// Whether others' answers may answer it.
    waits: bool,
    /// Whether others may wait for its answer.
    leads: bool,
    /// What of the time that it may wait for the store is spent.
    spent: Duration,
    waited: Waited,
}

/// Whether a call has waited for a flight of another replica; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Waited(Arc<AtomicBool>);

/// Whether a call is to go upstream.
#[derive(Debug)]
pub(super) enum Leave {
    /// It is, with the lease or without.
    Go(Option<Lease>),
    /// Another flight has brought the answer.
    Landed,
}

/// The lease of a flight, once it has one; it ends with the flight.
#[derive(Clone, Debug, Default)]
pub(super) struct Hold(Arc<Mutex<Option<Lease>>>);

/// What is to be done after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Go(Awaited),
    Landed,
    Wait,
}

/// A call that asks.
struct Inquiry<'a> {
    fleet: &'a Inner,
    errand: &'a Errand,
    store: &'a Tiered,
    lease: Option<Lease>,
    waiter: Option<Waiter>,
    /// The mark of the entry that is of no use.
    known: Vec<u8>,
    has_waited: bool,
}

impl Awaited {
    /// Every outcome, in the order of the docs.
    pub const ALL: [Self; 5] = [Self::Landed, Self::Led, Self::Apart, Self::Late, Self::Away];

    /// Returns the label of the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Landed => "landed",
            Self::Led => "led",
            Self::Apart => "apart",
            Self::Late => "late",
            Self::Away => "away",
        }
    }
}

impl Fleet {
    /// Has flights ask the other replicas as `terms` say.
    pub fn new(terms: Terms) -> Self {
        Self(Arc::new(Inner {
            terms,
            counts: array::from_fn(|_| AtomicU64::new(0)),
        }))
    }

    /// Returns what waits have come to since the start.
    pub fn counts(&self) -> Counts {
        let counts = self.0.counts.each_ref();
        counts.map(|count| count.load(Ordering::Relaxed))
    }

    /// Asks whether the call of `errand` is to go upstream. What it does not need to go for is in memory then.
    pub(super) async fn ask(&self, errand: &Errand, store: &Tiered) -> Leave {
        let Terms { leases, .. } = &self.0.terms;
        let lease = || leases.lease(errand.slot, errand.form, errand.hops);
        let inquiry = Inquiry {
            fleet: &self.0,
            errand,
            store,
            lease: errand.leads.then(lease).flatten(),
            // Before the first look, so that no end is missed between the two.
            waiter: errand.waits.then(|| leases.wait(errand.slot)),
            known: Vec::new(),
            has_waited: false,
        };
        inquiry.run().await
    }
}

impl Inner {
    fn count(&self, awaited: Awaited) {
        let index = Awaited::ALL.iter().position(|known| *known == awaited);
        if let Some(count) = index.and_then(|index| self.counts.get(index)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Errand {
    /// Returns what is to be asked for a call; `None` for one that keeps to itself. `fits` says whether an entry is what it
    /// asks for.
    pub(super) fn of(ticket: &Ticket, fits: Fits, spent: Duration) -> Option<Self> {
        let plan = &ticket.plan;
        (!ticket.alone).then(|| Self {
            slot: ticket.keyed.slot,
            form: ticket.form(),
            hops: ticket.hops,
            passed_over: ticket.passed_over,
            plan: plan.clone(),
            fits,
            waits: !plan.refresh,
            leads: plan.store,
            spent,
            waited: ticket.waited.clone(),
        })
    }

    /// Returns whether an entry is news to the call, and answers it.
    fn is_served_by(&self, entry: &Entry) -> bool {
        let is_newer = |old: std::time::Instant| entry.is_newer_than(Instant::from_std(old));
        self.passed_over.is_none_or(is_newer)
            && entry.lends_to(self.form)
            && (self.fits)(entry, &self.plan, Instant::now())
    }

    /// Decides what to do about a lease.
    fn step(&self, asked: &Asked) -> Step {
        match asked.holder {
            _ if asked.taken => Step::Go(Awaited::Led),
            Holder::Nobody => Step::Go(Awaited::Led),
            Holder::Apart => Step::Go(Awaited::Apart),
            Holder::Flight { form, hops } => {
                // One that has come round more often may be what the holder itself waits for.
                if self.waits && self.form.joins().contains(&form) && hops >= self.hops {
                    Step::Wait
                } else {
                    Step::Go(Awaited::Apart)
                }
            }
        }
    }
}

impl Waited {
    fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether it has.
    pub(super) fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Inquiry<'_> {
    async fn run(mut self) -> Leave {
        let Terms { wait, budget, .. } = self.fleet.terms;
        let deadline = Instant::now() + wait;
        let mut patience = budget.saturating_sub(self.errand.spent);
        let mut pause = PAUSE.0;
        loop {
            match self.look(Instant::now() + patience).await {
                Step::Wait if Instant::now() < deadline => {}
                Step::Wait => return self.go(Awaited::Late),
                Step::Go(why) => return self.go(why),
                Step::Landed => {
                    self.note(Awaited::Landed);
                    return Leave::Landed;
                }
            }
            self.wait(deadline.min(Instant::now() + pause)).await;
            pause = PAUSE.1.min(pause * 2);
            patience = budget;
        }
    }

    /// Looks at the lease, and at what else lies there.
    async fn look(&mut self, until: Instant) -> Step {
        loop {
            let Some(asked) = self.ask(until).await else {
                return Step::Go(Awaited::Away);
            };
            if !self.errand.waits || asked.mark.is_empty() || asked.mark == self.known {
                return self.errand.step(&asked);
            }
            if self.is_served(until).await {
                return Step::Landed;
            }
            self.known = asked.mark;
        }
    }

    /// Asks once; `None` where no answer comes in time.
    async fn ask(&mut self, until: Instant) -> Option<Asked> {
        let patience = until.saturating_duration_since(Instant::now());
        if patience.is_zero() {
            return None;
        }
        let known = self.errand.waits.then_some(self.known.as_slice());
        let leases = &self.fleet.terms.leases;
        let asked = match &mut self.lease {
            Some(lease) => lease.take(known, patience).await,
            None => leases.look(&self.errand.slot, known, patience).await,
        };
        asked.ok()
    }

    /// Brings the entry that lies there to memory; returns whether it answers the call.
    async fn is_served(&self, until: Instant) -> bool {
        match self.brought(until).await {
            Some(entry) => self.store.tell(&entry, self.errand.form).await.is_ok(),
            None => false,
        }
    }

    /// Returns the entry that lies there, now in memory, if the call asks for one like it.
    async fn brought(&self, until: Instant) -> Option<Arc<Entry>> {
        let Errand { slot, .. } = self.errand;
        let serves = |entry: &Arc<Entry>| self.errand.is_served_by(entry);
        if let Some(entry) = self.store.get(slot).filter(serves) {
            return Some(entry);
        }
        // The first may be told what another call was told just before the entry came.
        for _ in 0..2 {
            if let Ok(Some((entry, _))) = timeout_at(until, self.store.fetch(slot)).await {
                return Some(entry).filter(serves);
            }
        }
        None
    }

    async fn wait(&mut self, until: Instant) {
        self.has_waited = true;
        self.errand.waited.note();
        match &mut self.waiter {
            // Told or not, it looks.
            Some(waiter) => drop(timeout_at(until, waiter.told()).await),
            None => sleep_until(until).await,
        }
    }

    fn go(mut self, why: Awaited) -> Leave {
        self.note(why);
        Leave::Go(self.lease.take())
    }

    fn note(&self, why: Awaited) {
        if self.has_waited {
            self.fleet.count(why);
        }
    }
}

impl Hold {
    /// Has `lease` end with the flight.
    pub(super) fn keep(&self, lease: Option<Lease>) {
        *self.slot() = lease;
    }

    /// Ends the lease, if there is one.
    pub(super) fn end(&self, end: End) {
        let lease = self.slot().take();
        if let Some(lease) = lease {
            lease.end(end);
        }
    }

    /// Ends the lease at once where the head of an answer, or that there is none, tells that nothing will be stored.
    pub(super) fn judge(&self, status: Option<StatusCode>) {
        match status {
            Some(status) if status.is_success() => {}
            Some(status) if OF_THE_CREDENTIAL.contains(&status) => self.end(End::Again),
            Some(_) | None => self.end(End::Apart),
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Lease>> {
        lock(&self.0)
    }
}

/// Returns how the lease of a flight ends that has come to its end.
pub(super) fn end(kept: Result<(), NotStored>) -> End {
    match kept {
        Ok(()) => End::Written,
        // Another's will not be purged, or is the newer one itself.
        Err(NotStored::Purged | NotStored::Superseded) => End::Again,
        Err(_) => End::Apart,
    }
}

/// Between two looks at another's flight: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
