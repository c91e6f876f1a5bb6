//! What waits to be written, at most one job for a slot: the newest.
//!
//! # Invariant
//! While a job for a slot waits or is under way, the slot is not [`Present`]: nobody reads a version that is about to be
//! replaced. What cannot wait, for want of room, becomes the removal of the older version, so that this one does not come
//! back. Removals have no bound of their own: there is at most one for each entry on the disk.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{present::Present, proofs::Line};
use crate::{
    call::Slot,
    store::{Entry, generations::Row, totals},
};

/// The jobs that wait for the writer.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    news: Condvar,
    present: Present,
}

#[derive(Debug, Default)]
struct State {
    jobs: HashMap<Slot, Job>,
    order: VecDeque<Slot>,
    /// What is to be written of proofs, the newest of each.
    proofs: HashMap<[u8; 32], Line>,
    /// What the writer has taken and not settled.
    under_way: HashSet<Slot>,
    /// What somebody waits for.
    errands: Vec<Errand>,
    /// Bytes of the entries that wait.
    bytes: u64,
    /// Bytes that do not wait for more.
    enough: u64,
    /// Whether a refused proof is among what waits.
    refused: bool,
    /// The edition of the database that was found to be damaged.
    damaged: Option<u64>,
    closed: bool,
    writer: Waiting,
}

/// What the writer waits for. To wake it costs a call more than all else that is done for the disk, so nobody does who
/// need not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Waiting {
    /// It is busy, and looks for itself.
    #[default]
    Nothing,
    /// Anything to do.
    Work,
    /// Enough for a transaction, or somebody who waits for one.
    Batch,
    /// The end.
    Close,
}

/// Something for the writer to do about a slot.
#[derive(Clone, Debug)]
pub(super) enum Job {
    /// Write this entry.
    Put(Put),
    /// Note that the entry was used.
    Touch,
    /// Note that a soft purge has made the entry stale.
    Soften,
    /// Delete the entry.
    Remove,
}

/// An entry to be written.
#[derive(Clone, Debug)]
pub(super) struct Put {
    /// The entry.
    pub(super) entry: Arc<Entry>,
    /// When it was made, milliseconds of Unix time.
    pub(super) made: u64,
    /// Whether an older version of it may lie on the disk.
    replaces: bool,
    /// What it was weighed at: what is told of an entry while it waits makes it heavier.
    weight: u64,
}

/// Something for the writer to do at once; whatever was purged and is not yet written down is written with it.
#[derive(Debug)]
pub(super) struct Errand {
    /// The purges to be deleted.
    pub(super) forget: Vec<Row>,
    /// The counters to be added.
    pub(super) totals: Option<Arc<totals::Batch>>,
    /// Told whether it was done.
    pub(super) reply: oneshot::Sender<bool>,
}

/// What the writer takes at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// What to do, in the order in which it came.
    pub(super) jobs: Vec<(Slot, Job)>,
    /// What is to be written of proofs.
    pub(super) proofs: Vec<([u8; 32], Line)>,
    /// What somebody waits for.
    pub(super) errands: Vec<Errand>,
    /// The edition of the database that was found to be damaged, and has to be replaced first.
    pub(super) damaged: Option<u64>,
}

impl Queue {
    /// Makes one behind a memory of so many bytes. What gives way there before it is written is nowhere for as long, so a
    /// quarter of them does not wait for more.
    pub(super) fn behind(memory: u64) -> Self {
        let state = State {
            enough: (memory / 4).min(BATCH_BYTES),
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            news: Condvar::default(),
            present: Present::default(),
        }
    }

    /// Returns what lies on the disk.
    pub(super) fn present(&self) -> &Present {
        &self.present
    }

    /// Has `entry` written; returns whether there was room for it.
    pub(super) fn put(&self, entry: Arc<Entry>, made: u64) -> bool {
        let slot = entry.slot;
        let weight = entry.weight();
        let mut state = self.state();
        let waited = state.take_back(&slot);
        let replaces = self.present.remove(&slot)
            || state.under_way.contains(&slot)
            || waited.is_some_and(|job| job.may_lie_on_disk());
        let fits = !state.closed && state.jobs.len() < MOST && state.bytes + weight <= MOST_BYTES;
        if fits {
            state.bytes += weight;
            let put = Put {
                entry,
                made,
                replaces,
                weight,
            };
            state.add(slot, Job::Put(put));
        } else if replaces {
            state.add(slot, Job::Remove);
        }
        self.tell(state);
        fits
    }

    /// Notes that the entry of `slot` was used.
    pub(super) fn touch(&self, slot: &Slot) {
        let mut state = self.state();
        if state.jobs.len() < MOST && !state.jobs.contains_key(slot) {
            state.add(*slot, Job::Touch);
            self.tell(state);
        }
    }

    /// Has the entry of `slot` deleted, which turned out to be none.
    pub(super) fn remove(&self, slot: &Slot) {
        let mut state = self.state();
        // A job that waits will replace the entry anyway; without a fingerprint it has been dealt with.
        if self.present.remove(slot) {
            drop(state.take_back(slot));
            state.add(*slot, Job::Remove);
            self.tell(state);
        }
    }

    /// Has `line` written of a proof. What finds no room is lost for the disk: it is dated, and so merely old there.
    pub(super) fn put_proof(&self, subject: [u8; 32], line: Line) {
        let mut state = self.state();
        if !state.closed && (state.proofs.len() < MOST || state.proofs.contains_key(&subject)) {
            // The older line, which says accepted, must not be what the next start finds.
            state.refused |= matches!(line, Some((_, true)));
            state.proofs.insert(subject, line);
            self.tell(state);
        }
    }

    /// Has the entry of `slot` deleted, which is dead, unless it is about to be replaced.
    pub(super) fn discard(&self, slot: &Slot) {
        let mut state = self.state();
        if !matches!(state.jobs.get(slot), Some(Job::Put(_) | Job::Remove)) {
            self.present.remove(slot);
            drop(state.take_back(slot));
            state.add(*slot, Job::Remove);
            self.tell(state);
        }
    }

    /// Notes that a soft purge has made the entry of `slot` stale, unless it is about to be replaced.
    pub(super) fn soften(&self, slot: &Slot) {
        let mut state = self.state();
        if !matches!(state.jobs.get(slot), Some(Job::Put(_) | Job::Remove)) {
            drop(state.take_back(slot));
            state.add(*slot, Job::Soften);
            self.tell(state);
        }
    }

    /// Has `errand` run; who waits for it hears at once where no writer takes it any more.
    pub(super) fn run(&self, errand: Errand) {
        let mut state = self.state();
        if state.closed || state.errands.len() >= MOST {
            drop(state);
            drop(errand);
            return;
        }
        state.errands.push(errand);
        self.tell(state);
    }

    /// Has this edition of the database replaced, which was found to be damaged.
    pub(super) fn replace(&self, edition: u64) {
        let mut state = self.state();
        state.damaged = Some(edition);
        self.tell(state);
    }

    /// Returns whether something waits, if only for the end.
    pub(super) fn has_news(&self) -> bool {
        let state = self.state();
        !state.is_empty() || state.damaged.is_some() || state.closed
    }

    /// Takes what waits: waits at most `patience` for it, and gathers for a moment once something has come. `None` when the
    /// queue is closed and empty.
    pub(super) fn take(&self, patience: Duration) -> Option<Batch> {
        let state = self.wait(self.state(), patience, Waiting::Work);
        let mut state = if state.is_empty() {
            state
        } else {
            self.wait(state, gather(patience), Waiting::Batch)
        };
        if state.closed && state.is_empty() {
            return None;
        }
        Some(state.batch())
    }

    /// Hands out nothing for `pause`, unless the queue is closed.
    pub(super) fn rest(&self, pause: Duration) {
        drop(self.wait(self.state(), pause, Waiting::Close));
    }

    /// Notes that `batch` is on the disk.
    pub(super) fn done(&self, batch: &Batch) {
        let mut state = self.state();
        for (slot, job) in &batch.jobs {
            state.under_way.remove(slot);
            if matches!(job, Job::Put(_)) && !state.jobs.contains_key(slot) {
                self.present.insert(slot);
            }
        }
    }

    /// Notes that `batch` could not be written: what lies on the disk of it is older and must not come back.
    pub(super) fn failed(&self, batch: &Batch) {
        let mut state = self.state();
        // A disk that fails must not hold up the end: what could not be removed at the first attempt stays.
        let is_over = state.closed && batch.jobs.iter().all(|(_, job)| job.is_removal());
        for (slot, job) in &batch.jobs {
            state.under_way.remove(slot);
            if !is_over && job.may_lie_on_disk() && !state.jobs.contains_key(slot) {
                state.add(*slot, Job::Remove);
            }
        }
    }

    /// Takes no more; what waits is still handed out.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        self.tell(state);
    }

    /// Has the writer wait for at most `patience`.
    fn wait<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        patience: Duration,
        what: Waiting,
    ) -> MutexGuard<'a, State> {
        state.writer = what;
        let waited = self
            .news
            .wait_timeout_while(state, patience, |state| !state.has_come());
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.writer = Waiting::Nothing;
        state
    }

    /// Wakes the writer if what it waits for has come. It would run straight into a lock that is still held.
    fn tell(&self, state: MutexGuard<'_, State>) {
        let has_come = state.has_come();
        drop(state);
        if has_come {
            self.news.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.proofs.is_empty() && self.errands.is_empty()
    }

    /// Returns whether what the writer waits for is there.
    fn has_come(&self) -> bool {
        let come = match self.writer {
            Waiting::Nothing => return false,
            Waiting::Work => !self.is_empty() || self.damaged.is_some(),
            Waiting::Batch => {
                self.jobs.len() + self.proofs.len() >= BATCH
                    || self.bytes >= self.enough
                    || self.refused
                    || !self.errands.is_empty()
                    || self.damaged.is_some()
            }
            Waiting::Close => false,
        };
        come || self.closed
    }

    fn add(&mut self, slot: Slot, job: Job) {
        if self.jobs.insert(slot, job).is_none() {
            self.order.push_back(slot);
        }
    }

    /// Takes out the job of `slot`, if one waits.
    fn take_back(&mut self, slot: &Slot) -> Option<Job> {
        let job = self.jobs.remove(slot)?;
        self.order.retain(|waiting| waiting != slot);
        if let Job::Put(put) = &job {
            self.bytes -= put.weight;
        }
        Some(job)
    }

    fn batch(&mut self) -> Batch {
        let mut jobs = Vec::new();
        let mut bytes = 0;
        while jobs.len() < BATCH && bytes < BATCH_BYTES {
            let Some(slot) = self.order.pop_front() else {
                break;
            };
            let Some(job) = self.jobs.remove(&slot) else {
                continue;
            };
            if let Job::Put(put) = &job {
                self.bytes -= put.weight;
                bytes += put.weight;
            }
            self.under_way.insert(slot);
            jobs.push((slot, job));
        }
        self.refused = false;
        Batch {
            jobs,
            proofs: self.proofs.drain().collect(),
            errands: std::mem::take(&mut self.errands),
            damaged: self.damaged.take(),
        }
    }
}

impl Batch {
    /// Parts it, so that what always has to be written is not lost with what needs room: removals, proofs and purges come
    /// first, by themselves. At least one part, be it empty.
    pub(super) fn parts(self) -> impl Iterator<Item = Self> {
        let (removals, others): (Vec<_>, Vec<_>) =
            self.jobs.into_iter().partition(|(_, job)| job.is_removal());
        let first = Self {
            jobs: removals,
            ..self
        };
        let second = Self {
            jobs: others,
            ..Self::default()
        };
        let needs_first = second.is_empty() || !first.is_empty();
        let needs_second = !second.is_empty();
        let first = needs_first.then_some(first);
        first.into_iter().chain(needs_second.then_some(second))
    }

    fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.proofs.is_empty() && self.errands.is_empty()
    }
}

impl Job {
    fn is_removal(&self) -> bool {
        matches!(self, Self::Remove)
    }

    /// Returns whether an older version of the entry may lie on the disk although its slot is not present.
    fn may_lie_on_disk(&self) -> bool {
        match self {
            Self::Put(put) => put.replaces,
            Self::Remove => true,
            // Its slot is still present.
            Self::Touch | Self::Soften => false,
        }
    }
}

/// Returns how long a transaction waits for more. A writer without patience has a database to read, and what comes gathers
/// meanwhile.
fn gather(patience: Duration) -> Duration {
    if patience.is_zero() {
        Duration::ZERO
    } else {
        GATHER
    }
}

/// Jobs that may wait.
const MOST: usize = 4096;
/// Bytes of the entries that may wait. What waits is mostly in memory anyway; what is not, is held by this.
const MOST_BYTES: u64 = 64 << 20;
/// Jobs in a transaction.
const BATCH: usize = 64;
/// Bytes in a transaction, about.
const BATCH_BYTES: u64 = 16 << 20;
/// How long an idle writer waits for more. A transaction by itself costs more than the entry in it, and takes the processor from
/// calls; what a crash may cost is to stay well below a second.
const GATHER: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
