//! What waits to be written to Redis: for each slot what is to be done about it, the newest only.
//!
//! # Scope
//! Bounded in jobs and bytes; what finds no room is not written. An entry that is not written must not leave an older one
//! behind, which would come back: in its place the removal of what is older waits, as long as Redis is away. What waits or
//! is under way is found here by who looks for it, so that nobody reads a version that is about to be replaced.
//!
//! Behind what is done about a slot, whatever is to follow it is done: a lease is given back once the entry is written.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::Cmd;
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
    /// Whether the writer has taken something.
    is_busy: bool,
    /// Entries that wait.
    entries: usize,
    /// Bytes of the entries that wait.
    bytes: u64,
    /// What is to follow, in all.
    followers: usize,
    crowded_out: CrowdedOut,
    closed: bool,
}

/// What found no room, beside entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrowdedOut {
    /// Deletions: what is older than an entry that was not written, or spoilt, lies there on.
    pub deletions: u64,
    /// What was to follow: leases end by themselves.
    pub followers: u64,
}

/// Something for the writer to do about a slot.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// What to do, if anything.
    pub(super) work: Option<Work>,
    /// What to do behind that.
    pub(super) followers: Vec<Follower>,
    /// When it came.
    pub(super) since: Instant,
}

/// A command about a key of its own, which follows what is done about a slot.
#[derive(Clone, Debug)]
pub(super) struct Follower {
    /// The key.
    pub(super) key: String,
    /// The command.
    pub(super) command: Cmd,
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
    /// Whether it may replace another that other replicas have, although none lies there.
    pub(super) replaces: bool,
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
    /// Has `entry` written; returns whether there was room for it. `replaces` says whether others may have an older one.
    pub(super) fn put(&self, entry: Arc<Entry>, replaces: bool, now: Instant) -> bool {
        let (slot, weight) = (entry.slot, entry.weight());
        let mut state = self.state();
        let before = state.take_back(&slot);
        let replaces = replaces || before.is_some_and(|work| work.replaces());
        let fits = !state.closed && state.entries < MOST && state.bytes + weight <= MOST_BYTES;
        let work = if fits {
            Work::Put(Put {
                entry,
                replaces,
                weight,
            })
        } else {
            Work::Outdate(entry.made)
        };
        state.add(slot, work, now);
        self.tell(state);
        fits
    }

    /// Has `follower` done behind whatever is to be done about `slot`; at once if that is nothing. It is dropped where too many
    /// wait.
    pub(super) fn follow(&self, slot: Slot, follower: Follower, now: Instant) {
        let mut state = self.state();
        if state.followers < MOST {
            state.followers += 1;
            state.job(slot, now).followers.push(follower);
            self.tell(state);
        } else {
            state.crowded_out.followers += 1;
        }
    }

    /// Has what lies at `slot` deleted, which is no entry, if it is still the one of this identity.
    pub(super) fn discard(&self, slot: Slot, identity: &[u8], now: Instant) {
        let mut state = self.state();
        let job = state.jobs.get(&slot);
        if job.is_none_or(|job| job.work.is_none()) {
            state.add(slot, Work::Discard(identity.to_vec()), now);
            self.tell(state);
        }
    }

    /// Returns what is about to be there at `slot`; nothing if no job is about it.
    pub(super) fn waiting(&self, slot: &Slot) -> Option<Waiting> {
        let state = self.state();
        let work = state.jobs.get(slot).and_then(|job| job.work.as_ref());
        let waiting = work.map(Work::waiting);
        waiting.or_else(|| state.under_way.get(slot).cloned())
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
        state.is_busy = false;
        for (slot, job) in left {
            state.put_back(slot, job);
        }
        self.tell(state);
    }

    /// Gives up the entries that have waited since before `moment`; returns how many there were.
    pub(super) fn give_up(&self, moment: Instant) -> u64 {
        let mut state = self.state();
        let before = state.entries;
        let jobs = state.jobs.iter();
        let late = jobs.filter(|(_, job)| job.since < moment && job.is_put());
        let late: Vec<_> = late.map(|(slot, _)| *slot).collect();
        for slot in &late {
            state.give_up(slot);
        }
        let given_up = before - state.entries;
        self.tell(state);
        given_up as u64
    }

    /// Returns what has found no room.
    pub(super) fn crowded_out(&self) -> CrowdedOut {
        self.state().crowded_out
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
        self.order.is_empty() && !self.is_busy
    }

    /// Returns the job of `slot`; a new one stands behind the others, and has nothing to do yet.
    fn job(&mut self, slot: Slot, now: Instant) -> &mut Job {
        self.jobs.entry(slot).or_insert_with(|| {
            self.order.push_back(slot);
            Job {
                work: None,
                followers: Vec::new(),
                since: now,
            }
        })
    }

    /// Has `work` done about `slot`, where nothing is yet. A deletion finds no room, either, once there are too many; then an
    /// entry that was replaced may come back.
    fn add(&mut self, slot: Slot, work: Work, now: Instant) {
        if self.has_room(&work) {
            self.count(&work);
            let job = self.job(slot, now);
            job.work = Some(work);
            job.since = now;
        } else {
            self.crowded_out.deletions += 1;
        }
    }

    /// Has a job done once more that was under way, behind all others: they may be for a server that works. Its work is only
    /// done if there is none newer.
    fn put_back(&mut self, slot: Slot, mut job: Job) {
        self.followers += job.followers.len();
        let Some(newer) = self.jobs.get_mut(&slot) else {
            let work = job.work.take().filter(|work| self.has_room(work));
            if let Some(work) = &work {
                self.count(work);
            }
            self.jobs.insert(slot, Job { work, ..job });
            self.order.push_back(slot);
            return;
        };
        job.followers.append(&mut newer.followers);
        newer.followers = job.followers;
        if newer.work.is_none()
            && let Some(work) = job.work
        {
            self.add(slot, work, job.since);
        }
    }

    fn has_room(&self, work: &Work) -> bool {
        matches!(work, Work::Put(_)) || self.jobs.len() - self.entries < MOST_DELETIONS
    }

    fn count(&mut self, work: &Work) {
        if let Work::Put(put) = work {
            self.entries += 1;
            self.bytes += put.weight;
        }
    }

    fn discount(&mut self, work: &Work) {
        if let Work::Put(put) = work {
            self.entries -= 1;
            self.bytes -= put.weight;
        }
    }

    /// Takes out the work of `slot`, if some waits; what follows it stays.
    fn take_back(&mut self, slot: &Slot) -> Option<Work> {
        let work = self.jobs.get_mut(slot)?.work.take()?;
        self.discount(&work);
        Some(work)
    }

    /// Leaves of an entry that what is older is to be deleted. What follows stays: a lease that was asked for while Redis hung
    /// is taken once it goes on, and somebody has to give it back.
    fn give_up(&mut self, slot: &Slot) {
        if let Some(Work::Put(put)) = self.take_back(slot)
            && let Some(since) = self.jobs.get(slot).map(|job| job.since)
        {
            self.add(*slot, Work::Outdate(put.entry.made), since);
        }
    }

    fn batch(&mut self) -> Batch {
        self.is_busy = true;
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            let Some(slot) = self.order.pop_front() else {
                break;
            };
            let Some(job) = self.jobs.remove(&slot) else {
                continue;
            };
            self.followers -= job.followers.len();
            if let Some(work) = &job.work {
                self.discount(work);
                self.under_way.insert(slot, work.waiting());
            }
            if let Some(Work::Put(put)) = &job.work {
                bytes += put.weight;
            }
            batch.push((slot, job));
        }
        batch
    }
}

impl Job {
    fn is_put(&self) -> bool {
        matches!(self.work, Some(Work::Put(_)))
    }
}

impl Work {
    fn replaces(&self) -> bool {
        match self {
            Self::Put(put) => put.replaces,
            Self::Outdate(_) => true,
            Self::Discard(_) => false,
        }
    }

    fn waiting(&self) -> Waiting {
        match self {
            Self::Put(put) => Waiting::Entry(put.entry.clone()),
            Self::Outdate(_) | Self::Discard(_) => Waiting::Nothing,
        }
    }
}

/// Entries that may wait, and what is to follow them.
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
