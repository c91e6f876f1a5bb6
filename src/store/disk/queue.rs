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
    store::{Entry, generations::Row},
};

/// The jobs that wait for the writer.
#[derive(Debug, Default)]
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
    /// What is to be done about purges.
    errands: Vec<Errand>,
    /// Bytes of the entries that wait.
    bytes: u64,
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

/// Something for the writer to do about purges; whatever was purged and is not yet written down is written with it.
#[derive(Debug)]
pub(super) struct Errand {
    /// The purges to be deleted.
    pub(super) forget: Vec<Row>,
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
    /// What to do about purges.
    pub(super) errands: Vec<Errand>,
    /// The edition of the database that was found to be damaged, and has to be replaced first.
    pub(super) damaged: Option<u64>,
}

impl Queue {
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

    /// Takes what waits: gathers for a moment once something has come, waits at most `patience` for it. `None` when the
    /// queue is closed and empty.
    pub(super) fn take(&self, patience: Duration) -> Option<Batch> {
        let state = self.wait(self.state(), patience, Waiting::Work);
        let mut state = if state.is_empty() {
            state
        } else {
            self.wait(state, GATHER, Waiting::Batch)
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
            Waiting::Batch => self.jobs.len() >= BATCH || !self.errands.is_empty(),
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

/// Jobs that may wait.
const MOST: usize = 4096;
/// Bytes of the entries that may wait. What waits is mostly in memory anyway; what is not, is held by this.
const MOST_BYTES: u64 = 64 << 20;
/// Jobs in a transaction.
const BATCH: usize = 64;
/// Bytes in a transaction, about.
const BATCH_BYTES: u64 = 16 << 20;
/// How long a transaction waits for more.
const GATHER: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode};
    use tokio::time::Instant;

    use super::*;
    use crate::{
        answer::retold::Retold,
        call::key::Key,
        dialect::chat::form::Form,
        store::{Label, generations::Seen},
    };

    fn slot(number: u8) -> Slot {
        Slot {
            key: Key::from_bytes([number; 32]),
            delivery: 0,
        }
    }

    fn entry(number: u8, body: Bytes) -> Arc<Entry> {
        Arc::new(Entry {
            slot: slot(number),
            form: Form::Plain,
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body,
            upstream: HeaderValue::from_static("up"),
            usage: None,
            made: Instant::now(),
            lifetime: Duration::from_secs(60),
            tags: Vec::new(),
            label: Label::default(),
            retold: Retold::default(),
            seen: Seen::default(),
        })
    }

    fn small(number: u8) -> Arc<Entry> {
        entry(number, Bytes::from_static(b"x"))
    }

    fn taken(queue: &Queue) -> Vec<(Slot, &'static str)> {
        let batch = queue.take(Duration::ZERO).unwrap();
        let named = batch.jobs.iter().map(|(slot, job)| (*slot, name(job)));
        let named = named.collect();
        queue.done(&batch);
        named
    }

    fn name(job: &Job) -> &'static str {
        match job {
            Job::Put(_) => "put",
            Job::Touch => "touch",
            Job::Soften => "soften",
            Job::Remove => "remove",
        }
    }

    #[test]
    fn an_entry_is_present_from_when_it_is_written_until_it_is_replaced() {
        let queue = Queue::default();
        assert!(queue.put(small(1), 0));
        assert!(!queue.present().holds(&slot(1)));
        let batch = queue.take(Duration::ZERO).unwrap();
        assert!(!queue.present().holds(&slot(1)));
        queue.done(&batch);
        assert!(queue.present().holds(&slot(1)));
        queue.put(small(1), 1);
        assert!(!queue.present().holds(&slot(1)), "the older version");
    }

    #[test]
    fn what_is_written_while_a_newer_version_waits_is_not_present() {
        let queue = Queue::default();
        queue.put(small(1), 0);
        let batch = queue.take(Duration::ZERO).unwrap();
        queue.put(small(1), 1);
        queue.done(&batch);
        assert!(!queue.present().holds(&slot(1)));
        assert_eq!(taken(&queue), [(slot(1), "put")]);
        assert!(queue.present().holds(&slot(1)));
    }

    #[test]
    fn the_newest_job_of_a_slot_counts() {
        let queue = Queue::default();
        queue.present().insert(&slot(1));
        queue.touch(&slot(1));
        queue.put(small(2), 0);
        queue.put(small(1), 0);
        queue.touch(&slot(1));
        queue.put(small(2), 1);
        assert_eq!(taken(&queue), [(slot(1), "put"), (slot(2), "put")]);
    }

    #[test]
    fn what_finds_no_room_takes_its_older_version_with_it() {
        let queue = Queue::default();
        let large = Bytes::from(vec![0; usize::try_from(MOST_BYTES).unwrap()]);
        assert!(!queue.put(entry(1, large.clone()), 0));
        queue.present().insert(&slot(2));
        assert!(!queue.put(entry(2, large), 0));
        assert!(!queue.present().holds(&slot(2)));
        assert_eq!(taken(&queue), [(slot(2), "remove")]);
    }

    #[test]
    fn what_could_not_be_written_takes_its_older_version_with_it() {
        let queue = Queue::default();
        queue.present().insert(&slot(1));
        queue.put(small(1), 0);
        queue.put(small(2), 0);
        let batch = queue.take(Duration::ZERO).unwrap();
        queue.failed(&batch);
        assert!(!queue.present().holds(&slot(1)) && !queue.present().holds(&slot(2)));
        assert_eq!(taken(&queue), [(slot(1), "remove")]);
    }

    #[test]
    fn a_removal_that_fails_at_the_end_is_tried_once_more() {
        let queue = Queue::default();
        queue.present().insert(&slot(1));
        queue.put(small(1), 0);
        queue.close();
        queue.failed(&queue.take(Duration::ZERO).unwrap());
        let batch = queue.take(Duration::ZERO).unwrap();
        assert!(matches!(batch.jobs[..], [(_, Job::Remove)]));
        queue.failed(&batch);
        assert!(queue.take(Duration::ZERO).is_none(), "and no more");
    }

    #[test]
    fn removals_proofs_and_purges_are_apart_from_what_needs_room() {
        let queue = Queue::default();
        queue.present().insert(&slot(1));
        queue.remove(&slot(1));
        queue.put(small(2), 0);
        queue.put_proof([3; 32], None);
        let parts: Vec<_> = queue.take(Duration::ZERO).unwrap().parts().collect();
        let [first, second] = &parts[..] else {
            panic!("{parts:?}");
        };
        assert!(matches!(first.jobs[..], [(_, Job::Remove)]) && first.proofs.len() == 1);
        assert!(matches!(second.jobs[..], [(_, Job::Put(_))]) && second.proofs.is_empty());
        assert_eq!(Batch::default().parts().count(), 1);
    }

    #[test]
    fn entries_wait_within_their_bounds() {
        let queue = Queue::default();
        let body = Bytes::from(vec![0; 1 << 20]);
        let room = (0..=255).filter(|number| queue.put(entry(*number, body.clone()), 0));
        let room = room.count() as u64;
        assert!(room < MOST_BYTES >> 20 && room > 50, "{room}");
        while !taken(&queue).is_empty() {}
        assert!(queue.put(entry(0, body), 0), "there is room again");
    }

    #[test]
    fn the_writer_is_woken_only_for_what_it_waits_for() {
        let mut state = State::default();
        let come = |state: &mut State| {
            let all = [
                Waiting::Nothing,
                Waiting::Work,
                Waiting::Batch,
                Waiting::Close,
            ];
            all.map(|what| {
                state.writer = what;
                state.has_come()
            })
        };
        assert_eq!(come(&mut state), [false; 4]);
        state.add(slot(0), Job::Touch);
        assert_eq!(come(&mut state), [false, true, false, false], "one job");
        for number in 1..=BATCH {
            state.add(slot(u8::try_from(number).unwrap()), Job::Touch);
        }
        assert_eq!(come(&mut state), [false, true, true, false], "a batch");
        state.closed = true;
        assert_eq!(come(&mut state), [false, true, true, true], "the end");
    }

    #[test]
    fn an_entry_that_is_told_anew_while_it_waits_does_not_upset_the_account() {
        let queue = Queue::default();
        let body = Bytes::from_static(
            br#"{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}"#,
        );
        for round in 0..2 {
            let waiting = entry(1, body.clone());
            queue.put(waiting.clone(), 0);
            let form = Form::Stream { usage: false };
            let telling = waiting.retold.at_once(&body, Form::Plain, form);
            assert!(telling.unwrap().is_ok());
            waiting.retold.count();
            if round == 0 {
                assert_eq!(taken(&queue), [(slot(1), "put")]);
            } else {
                queue.put(small(1), 1);
                assert_eq!(taken(&queue), [(slot(1), "put")]);
            }
            assert_eq!(queue.state().bytes, 0);
        }
    }

    #[test]
    fn a_closed_queue_does_not_rest() {
        let queue = Queue::default();
        queue.close();
        queue.rest(Duration::MAX);
    }

    #[test]
    fn a_closed_queue_hands_out_what_it_has_and_ends() {
        let queue = Queue::default();
        queue.put(small(1), 0);
        queue.close();
        assert!(!queue.put(small(2), 0));
        let batch = queue.take(Duration::MAX).unwrap();
        assert_eq!(batch.jobs.len(), 1);
        queue.failed(&batch);
        assert!(queue.take(Duration::MAX).is_none());
    }
}
