//! What waits to be written to Redis: for each slot what is to be done about it, the newest only.
//!
//! # Scope
//! Bounded in jobs and bytes; what finds no room is not written. An entry that is not written must not leave an older one
//! behind, which would come back: in its place the removal of what is older waits, as long as Redis is away. What waits or
//! is under way is found here by who looks for it, so that nobody reads a version that is about to be replaced.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{call::Slot, store::Entry};

/// The jobs that wait for the writer.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Something has come, or the end.
    news: Notify,
    /// Nothing waits any more.
    drained: Notify,
}

#[derive(Debug, Default)]
struct State {
    jobs: HashMap<Slot, Job>,
    order: VecDeque<Slot>,
    /// What the writer has taken and not settled.
    under_way: HashMap<Slot, Waiting>,
    /// Entries that wait.
    entries: usize,
    /// Bytes of the entries that wait.
    bytes: u64,
    closed: bool,
}

/// Something for the writer to do about a slot.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// What to do.
    pub(super) work: Work,
    /// When it came.
    pub(super) since: Instant,
}

/// What to do about a slot.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// Write this entry.
    Put(Put),
    /// Delete what was made before this moment: something newer there is, or was, that is not written.
    Outdate(Instant),
    /// Delete what is no entry, if it is still this one, by its identity.
    Discard(Vec<u8>),
}

/// An entry to be written.
#[derive(Clone, Debug)]
pub(super) struct Put {
    /// The entry.
    pub(super) entry: Arc<Entry>,
    /// What it was weighed at: what is told of an entry while it waits makes it heavier.
    weight: u64,
}

/// What somebody finds here who looks for the entry of a slot.
#[derive(Clone, Debug)]
pub(super) enum Waiting {
    /// This entry, which is about to be written.
    Entry(Arc<Entry>),
    /// None: what lies there is about to be deleted.
    Nothing,
}

/// What the writer takes at once, in the order in which it came.
pub(super) type Batch = Vec<(Slot, Job)>;

impl Queue {
    /// Has `entry` written; returns whether there was room for it.
    pub(super) fn put(&self, entry: Arc<Entry>, now: Instant) -> bool {
        let (slot, weight) = (entry.slot, entry.weight());
        let mut state = self.state();
        drop(state.take_back(&slot));
        let fits = !state.closed && state.entries < MOST && state.bytes + weight <= MOST_BYTES;
        let work = if fits {
            Work::Put(Put { entry, weight })
        } else {
            Work::Outdate(entry.made)
        };
        state.add(slot, Job { work, since: now });
        self.tell(state);
        fits
    }

    /// Has what lies at `slot` deleted, which is no entry, if it is still the one of this identity.
    pub(super) fn discard(&self, slot: Slot, identity: &[u8], now: Instant) {
        let mut state = self.state();
        if !state.jobs.contains_key(&slot) {
            let work = Work::Discard(identity.to_vec());
            state.add(slot, Job { work, since: now });
            self.tell(state);
        }
    }

    /// Returns what is about to be there at `slot`; nothing if no job is about it.
    pub(super) fn waiting(&self, slot: &Slot) -> Option<Waiting> {
        let state = self.state();
        let job = state.jobs.get(slot);
        job.map(|job| job.work.waiting())
            .or_else(|| state.under_way.get(slot).cloned())
    }

    /// Takes what waits, once there is something; `None` when the queue is closed and empty.
    pub(super) async fn take(&self) -> Option<Batch> {
        loop {
            let news = self.news.notified();
            {
                let mut state = self.state();
                if !state.order.is_empty() {
                    return Some(state.batch());
                }
                if state.closed {
                    return None;
                }
            }
            news.await;
        }
    }

    /// Settles what was under way: what is in `left` is to be done once more, unless something newer is.
    pub(super) fn settle(&self, left: Batch) {
        let mut state = self.state();
        state.under_way.clear();
        for (slot, job) in left.into_iter().rev() {
            if !state.jobs.contains_key(&slot) {
                state.put_back(slot, job);
            }
        }
        self.tell(state);
    }

    /// Gives up the entries that have waited since before `moment`; returns how many there were.
    pub(super) fn give_up(&self, moment: Instant) -> u64 {
        let mut state = self.state();
        let is_late = |job: &Job| matches!(job.work, Work::Put(_)) && job.since < moment;
        let jobs = state.jobs.iter();
        let late: Vec<_> = jobs
            .filter_map(|(slot, job)| is_late(job).then_some(*slot))
            .collect();
        for slot in &late {
            state.give_up(slot);
        }
        late.len() as u64
    }

    /// Drops whatever waits; returns how many entries there were.
    pub(super) fn clear(&self) -> u64 {
        let mut state = self.state();
        let entries = state.entries as u64;
        let State {
            under_way, closed, ..
        } = mem::take(&mut *state);
        state.under_way = under_way;
        state.closed = closed;
        self.tell(state);
        entries
    }

    /// Takes no more entries; what waits is still handed out.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        self.tell(state);
    }

    /// Returns whether it was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Waits until nothing waits and nothing is under way.
    pub(super) async fn drained(&self) {
        loop {
            let drained = self.drained.notified();
            if self.state().is_drained() {
                return;
            }
            drained.await;
        }
    }

    /// Wakes whoever waits for what the state now is.
    fn tell(&self, state: MutexGuard<'_, State>) {
        let (is_drained, has_news) = (state.is_drained(), !state.order.is_empty() || state.closed);
        drop(state);
        if has_news {
            self.news.notify_one();
        }
        if is_drained {
            self.drained.notify_waiters();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_drained(&self) -> bool {
        self.order.is_empty() && self.under_way.is_empty()
    }

    /// Puts a job behind the others. What is no entry finds no room, either, once there is too much of it; then an entry
    /// that was replaced may come back.
    fn add(&mut self, slot: Slot, job: Job) {
        if self.has_room(&job) {
            self.count(&job);
            self.jobs.insert(slot, job);
            self.order.push_back(slot);
        }
    }

    /// Puts a job in front of the others.
    fn put_back(&mut self, slot: Slot, job: Job) {
        if self.has_room(&job) {
            self.count(&job);
            self.jobs.insert(slot, job);
            self.order.push_front(slot);
        }
    }

    fn has_room(&self, job: &Job) -> bool {
        matches!(job.work, Work::Put(_)) || self.jobs.len() - self.entries < MOST_DELETIONS
    }

    fn count(&mut self, job: &Job) {
        if let Work::Put(put) = &job.work {
            self.entries += 1;
            self.bytes += put.weight;
        }
    }

    fn discount(&mut self, job: &Job) {
        if let Work::Put(put) = &job.work {
            self.entries -= 1;
            self.bytes -= put.weight;
        }
    }

    /// Takes out the job of `slot`, if one waits.
    fn take_back(&mut self, slot: &Slot) -> Option<Job> {
        let job = self.jobs.remove(slot)?;
        self.order.retain(|waiting| waiting != slot);
        self.discount(&job);
        Some(job)
    }

    /// Leaves of the entry of `slot` that what is older is to be deleted.
    fn give_up(&mut self, slot: &Slot) {
        let Some(job) = self.jobs.remove(slot) else {
            return;
        };
        self.discount(&job);
        match job.work {
            Work::Put(Put { entry, .. }) if self.jobs.len() - self.entries < MOST_DELETIONS => {
                let work = Work::Outdate(entry.made);
                self.jobs.insert(*slot, Job { work, ..job });
            }
            _ => self.order.retain(|waiting| waiting != slot),
        }
    }

    fn batch(&mut self) -> Batch {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            let Some(slot) = self.order.pop_front() else {
                break;
            };
            let Some(job) = self.jobs.remove(&slot) else {
                continue;
            };
            self.discount(&job);
            if let Work::Put(put) = &job.work {
                bytes += put.weight;
            }
            self.under_way.insert(slot, job.work.waiting());
            batch.push((slot, job));
        }
        batch
    }
}

impl Work {
    fn waiting(&self) -> Waiting {
        match self {
            Self::Put(put) => Waiting::Entry(put.entry.clone()),
            Self::Outdate(_) | Self::Discard(_) => Waiting::Nothing,
        }
    }
}

/// Entries that may wait.
const MOST: usize = 4096;
/// Bytes of the entries that may wait. What waits is mostly in memory anyway; what is not, is held by this.
const MOST_BYTES: u64 = 64 << 20;
/// Deletions that may wait; each takes some 150 bytes.
const MOST_DELETIONS: usize = 16_384;
/// Jobs that are under way at once.
const BATCH: usize = 64;
/// Bytes that are under way at once, about: what is read meanwhile waits behind them.
const BATCH_BYTES: u64 = 4 << 20;
/// How long an entry may wait for Redis to come back.
pub(super) const LONGEST: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
