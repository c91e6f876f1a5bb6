//! The disk tier: one `SQLite` file behind the memory tier, so that entries survive a restart and a crash.
//!
//! ```text
//! put ──▶ queue ──▶ writer (one thread, batches) ──▶ file ◀── readers (two threads) ◀── get, at most 50 ms
//!            │                                           │◀── one thread ◀── reports of counters
//!            └── present: fingerprints of what lies there, so that a miss asks nobody
//! ```
//!
//! # Scope
//! A put never waits: what finds the queue full is dropped and counted. A get waits for at most
//! [`Options::budget`], together with all who ask for the same; a disk that keeps calls waiting is skipped for a while (`circuit`). Whatever is wrong with the disk is a miss, one warning and a
//! count, never an error of a call. What is read is verified (`store::codec`); what does not verify is deleted.

mod circuit;
mod evict;
mod file;
mod generations;
mod loading;
mod present;
mod proofs;
mod queue;
mod reader;
mod reserve;
mod sight;
mod totals;
mod trouble;
mod writer;

use std::{
    fmt, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use self::{
    circuit::Circuit,
    queue::Queue,
    reader::{Ask, Failed, Reader},
};
pub use self::{
    proofs::Proof,
    reader::Page,
    trouble::{Kind, Trouble},
};
use super::{
    Entry,
    codec::{self, Damage},
    generations::{self as purges, Generations},
    looks::Looks,
    record::{Found, SKEW, Terms, restore},
    totals::{Batch, Day, Stored},
    working::Working,
};
use crate::call::{
    Slot,
    key::{Key, Secret},
};

/// The disk tier; clones share it.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Handle>);

/// Where the disk tier lies and what it may take.
#[derive(Clone)]
pub struct Options {
    /// The database file.
    pub path: PathBuf,
    /// Bound of the file, bytes; a write-ahead log of some megabytes comes on top.
    pub max_size: u64,
    /// Largest body of an entry, bytes.
    pub max_entry: u64,
    /// Bytes of the entries that the memory in front of it holds.
    pub memory: u64,
    /// Upper bound on every lifetime, also on one that was written under a laxer bound.
    pub max_ttl: Duration,
    /// How long an entry is kept past its lifetime.
    pub keep_stale: Duration,
    /// For all that a call may wait for the disk.
    pub budget: Duration,
    /// The wall clock. Only what lies on the disk is dated by it; in memory time is monotonic.
    pub clock: Clock,
    /// What was purged; what the file knows of that is added.
    pub generations: Generations,
}

/// Returns the time of day.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// What the database has kept beside entries.
#[derive(Debug)]
pub struct Kept {
    /// What keys and fingerprints were made with.
    pub secret: Secret,
    /// What upstreams have said about credentials.
    pub proofs: Vec<Proof>,
}

/// What the disk tier has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Whether it is there and worked when it was last asked to.
    pub up: bool,
    /// Entries on the disk.
    pub entries: u64,
    /// Bytes that the database takes.
    pub bytes: u64,
    /// Entries written.
    pub written: u64,
    /// Entries not written: the queue was full, or the disk failed.
    pub dropped: u64,
    /// Entries that gave way to others.
    pub evicted: u64,
    /// Entries deleted because they were over.
    pub expired: u64,
    /// Look-ups that were answered too late, or not at all.
    pub slow: u64,
    /// Failures of the disk, by [`Kind::ALL`].
    pub errors: [u64; Kind::ALL.len()],
    /// Entries that did not verify, by [`Damage::ALL`].
    pub damaged: [u64; Damage::ALL.len()],
}

/// What the clones share; the threads end when it is gone.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    asks: mpsc::Sender<Ask>,
    /// To a reader of its own: what takes long keeps no look-up waiting.
    reports: mpsc::Sender<Ask>,
    circuit: Circuit,
    /// Ends when the writer has.
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

/// What the handle and the threads share.
#[derive(Debug)]
struct Shared {
    options: Options,
    queue: Queue,
    counts: Counters,
    working: Working<Kind>,
    looks: Looks<Found, Failed>,
    /// Counts the databases: a damaged one is followed by another.
    edition: AtomicU64,
}

/// Why a look-up has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unanswered {
    /// Too many ask, or another speaks for those who wait for the same.
    Busy,
    /// The disk keeps calls waiting, or fails.
    Trouble(&'static str),
}

#[derive(Debug, Default)]
struct Counters {
    bytes: AtomicU64,
    written: AtomicU64,
    dropped: AtomicU64,
    evicted: AtomicU64,
    expired: AtomicU64,
    slow: AtomicU64,
    errors: [AtomicU64; Kind::ALL.len()],
    damaged: [AtomicU64; Damage::ALL.len()],
}

impl Disk {
    /// Opens the database and starts its threads; returns what else was kept there, too. Fails where the
    /// file cannot be used, or does not open within ten seconds.
    pub async fn open(options: Options) -> Result<(Self, Kept), Trouble> {
        let shared = Arc::new(Shared {
            queue: Queue::behind(options.memory),
            options,
            counts: Counters::default(),
            working: Working::default(),
            looks: Looks::default(),
            edition: AtomicU64::new(0),
        });
        let (ready, opened) = oneshot::channel();
        let (running, ended) = oneshot::channel::<()>();
        let of_writer = shared.clone();
        start("refrain-disk-writer", move || {
            writer::run(of_writer, ready);
            drop(running);
        })?;
        let late = |_| Trouble::new(Kind::Io, "the disk does not answer");
        let gone = |_| Trouble::new(Kind::Io, "the writer has ended");
        let kept = timeout(PATIENCE, opened).await.map_err(late)?;
        let kept = kept.map_err(gone)??;
        let (asks, questions) = mpsc::channel(ASKS);
        let (reports, wanted) = mpsc::channel(REPORTS);
        let disk = Self(Arc::new(Handle {
            shared: shared.clone(),
            asks,
            reports,
            circuit: Circuit::default(),
            ended: Mutex::new(Some(ended)),
        }));
        let questions = Arc::new(Mutex::new(questions));
        for _ in 0..READERS {
            let (reader, questions) = (Reader::new(shared.clone()), questions.clone());
            start("refrain-disk-reader", move || reader.run(&questions))?;
        }
        let (reader, wanted) = (Reader::new(shared), Mutex::new(wanted));
        start("refrain-disk-report", move || reader.run(&wanted))?;
        Ok((disk, kept))
    }

    /// Returns whether the entry of `slot` is worth asking for.
    pub fn holds(&self, slot: &Slot) -> bool {
        self.0.shared.queue.present().holds(slot)
    }

    /// Returns whether the entry of `slot` is known to lie there: shortly after the start, less is known than is there.
    pub fn knows(&self, slot: &Slot) -> bool {
        self.0.shared.queue.present().knows(slot)
    }

    /// Returns the entry of `slot`, if it comes in time.
    pub async fn get(&self, slot: &Slot) -> Option<Entry> {
        let Handle {
            shared, circuit, ..
        } = &*self.0;
        if !circuit.admits(Instant::now()) {
            return None;
        }
        match self.ask(*slot).await {
            Ok(found) => {
                if circuit.succeeded() {
                    tracing::info!("disk store is in time again");
                }
                let entry = restore(&*found?, shared.terms(), Instant::now(), shared.now());
                match &entry {
                    Some(_) => shared.queue.touch(slot),
                    None => shared.queue.remove(slot),
                }
                entry
            }
            Err(Unanswered::Busy) => None,
            Err(Unanswered::Trouble(reason)) => {
                if circuit.failed(Instant::now()) {
                    tracing::warn!(reason, "disk store skipped for a while");
                }
                None
            }
        }
    }

    /// Has `entry` written, soon and in the background.
    pub fn put(&self, entry: Arc<Entry>) {
        let shared = &self.0.shared;
        let slot = entry.slot;
        let age = Instant::now().saturating_duration_since(entry.made);
        let made = shared.now().saturating_sub(codec::millis(age));
        if !shared.queue.put(entry, made) {
            shared.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
        shared.looks.forget(&slot);
    }

    /// Has `proof` written, soon and in the background.
    pub fn keep_proof(&self, proof: Proof) {
        let line = proofs::dated(&proof, self.0.shared.now());
        self.0.shared.queue.put_proof(proof.subject, Some(line));
    }

    /// Has what is known of `subject` deleted, soon and in the background.
    pub fn forget_proof(&self, subject: [u8; 32]) {
        self.0.shared.queue.put_proof(subject, None);
    }

    /// Returns the next entries behind the place `after`; of one key where that is
    /// given. `None` when the disk fails or is too busy.
    pub async fn page(&self, after: i64, key: Option<Key>) -> Option<Page> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            let ask = Ask::Page { after, key, reply };
            self.0.asks.send(ask).await.ok()?;
            answer.await.ok()?.ok()
        };
        timeout(PATIENCE, asked).await.ok()?
    }

    /// Has the entry of `slot` deleted, unless a newer one is about to be written.
    pub fn discard(&self, slot: &Slot) {
        self.0.shared.queue.discard(slot);
    }

    /// Has it written down that a soft purge has made the entry of `slot` stale.
    pub fn soften(&self, slot: &Slot) {
        self.0.shared.queue.soften(slot);
    }

    /// Writes down what was purged; returns whether that was done.
    pub async fn save(&self) -> bool {
        self.errand(Vec::new(), None).await
    }

    /// Deletes these purges; returns whether that was done.
    pub async fn forget(&self, rows: Vec<purges::Row>) -> bool {
        self.errand(rows, None).await
    }

    /// Adds a batch of counters, once; returns whether that was done.
    pub async fn keep_totals(&self, batch: Arc<Batch>) -> bool {
        self.errand(Vec::new(), Some(batch)).await
    }

    /// Returns the counters from `first` to `last`, as `writer` asks for them; `None` when the disk fails or is too busy.
    pub async fn totals(&self, first: Day, last: Day, writer: u64) -> Option<Stored> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            let ask = Ask::Totals {
                first,
                last,
                writer,
                reply,
            };
            self.0.reports.send(ask).await.ok()?;
            answer.await.ok()?.ok()
        };
        timeout(PATIENCE, asked).await.ok()?
    }

    async fn errand(&self, forget: Vec<purges::Row>, totals: Option<Arc<Batch>>) -> bool {
        let (reply, done) = oneshot::channel();
        self.0.shared.queue.run(queue::Errand {
            forget,
            totals,
            reply,
        });
        matches!(timeout(PATIENCE, done).await, Ok(Ok(true)))
    }

    /// Writes what waits and closes the file; returns whether that was done within `patience`.
    pub async fn close(&self, patience: Duration) -> bool {
        self.0.shared.queue.close();
        let ended = self.0.ended.lock();
        let ended = ended.unwrap_or_else(PoisonError::into_inner).take();
        match ended {
            // It is dropped and never sent: either way the writer has ended.
            Some(ended) => timeout(patience, ended).await.is_ok(),
            None => true,
        }
    }

    /// Returns what was done so far.
    pub fn counts(&self) -> Counts {
        let Shared {
            queue,
            counts,
            working,
            ..
        } = &*self.0.shared;
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            up: working.up(),
            entries: queue.present().len(),
            bytes: load(&counts.bytes),
            written: load(&counts.written),
            dropped: load(&counts.dropped),
            evicted: load(&counts.evicted),
            expired: load(&counts.expired),
            slow: load(&counts.slow),
            errors: counts.errors.each_ref().map(load),
            damaged: counts.damaged.each_ref().map(load),
        }
    }

    /// Asks the readers, or waits with whoever has asked them for the same.
    async fn ask(&self, slot: Slot) -> Result<Option<Arc<Found>>, Unanswered> {
        let Shared {
            options,
            counts,
            looks,
            ..
        } = &*self.0.shared;
        let before = looks.in_time();
        let mut speaks = false;
        let answer = timeout(options.budget, self.look(slot, &mut speaks)).await;
        let reason = match answer {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(Failed)) => "it cannot be read",
            Err(_) => {
                counts.slow.fetch_add(1, Ordering::Relaxed);
                // Others had their answers meanwhile: it is busy, and not broken.
                speaks &= looks.in_time() == before;
                "it does not answer in time"
            }
        };
        if speaks {
            Err(Unanswered::Trouble(reason))
        } else {
            Err(Unanswered::Busy)
        }
    }

    /// Waits for what the readers say of `slot`; `speaks` tells whether nobody else did when this began.
    async fn look(&self, slot: Slot, speaks: &mut bool) -> Result<Option<Arc<Found>>, Failed> {
        let looks = &self.0.shared.looks;
        loop {
            let look = looks.join(slot);
            *speaks = look.speaks;
            if look.is_first {
                let duty = looks.duty(slot, &look);
                self.0
                    .asks
                    .send(Ask::Entry(slot))
                    .await
                    .map_err(|_| Failed)?;
                duty.done();
            }
            if let Ok(answer) = look.answer.await {
                return answer;
            }
        }
    }
}

impl Counts {
    /// Returns the counts of a disk tier that could not be opened.
    pub fn refused(kind: Kind) -> Self {
        Self {
            errors: Kind::ALL.map(|known| u64::from(known == kind)),
            ..Self::default()
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Options({})", self.path.display())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl Shared {
    /// Returns the time of day in milliseconds of Unix time.
    fn now(&self) -> u64 {
        let since = (self.options.clock)().duration_since(UNIX_EPOCH);
        codec::millis(since.unwrap_or_default())
    }

    fn terms(&self) -> Terms<'_> {
        Terms {
            generations: &self.options.generations,
            max_ttl: self.options.max_ttl,
        }
    }

    /// Returns the most pages that the database may ever have: a transaction grows before it evicts.
    fn pages(&self) -> u64 {
        (self.options.max_size + SLACK) / PAGE
    }

    /// Notes that the disk works; whether it does is told when it changes.
    fn works(&self) {
        if self.working.works() {
            tracing::info!("disk store works again");
        }
    }

    /// Notes that the disk does not work.
    fn fails(&self, trouble: &Trouble) {
        self.count_error(trouble.kind);
        if self.working.fails(trouble.kind, std::time::Instant::now()) {
            tracing::warn!(
                error = %trouble, reason = trouble.kind.as_str(),
                "disk store failed: answers are kept in memory until it works again"
            );
        }
    }

    fn count_error(&self, kind: Kind) {
        let index = Kind::ALL.iter().position(|known| *known == kind);
        count(index.and_then(|index| self.counts.errors.get(index)));
    }

    fn count_damage(&self, damage: Damage) {
        let index = Damage::ALL.iter().position(|known| *known == damage);
        count(index.and_then(|index| self.counts.damaged.get(index)));
    }
}

fn count(counter: Option<&AtomicU64>) {
    if let Some(counter) = counter {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Starts a thread. It ends when the last handle is gone, and nobody waits for a reader: it only reads.
fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let builder = thread::Builder::new().name(name.to_owned());
    builder.spawn(work).map(drop)
}

/// For the database to open.
const PATIENCE: Duration = Duration::from_secs(10);
const READERS: usize = 2;
/// Look-ups that may wait for a reader.
const ASKS: usize = 256;
/// Reports that may wait for theirs.
const REPORTS: usize = 4;
/// Bytes of a page.
const PAGE: u64 = 4096;
/// What a transaction may add before it evicts, bytes.
const SLACK: u64 = 64 << 20;

#[cfg(test)]
mod tests;
