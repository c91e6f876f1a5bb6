//! The journal: has counters survive the process.
//!
//! ```text
//! calls ──▶ totals ──every 5 s──▶ books ──numbered batches──▶ disk or Redis
//! ```
//!
//! # Scope
//! A batch is sent until the store says that it has it; which it takes once, however often it comes
//! ([`Batch`]). What was counted in the last seconds before a crash is lost, and nothing else.
//! A store that is away costs no call and no count: batches wait. What is told ([`Journal::report`]) is what is
//! stored and what is not yet, or, where the store does not say, what this process has counted.

mod books;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

use self::books::Books;
use super::{report::Report, totals::Totals};
use crate::{
    error::{Error, Kind},
    store::{
        behind::Behind,
        disk::Disk,
        redis,
        totals::{Batch, Day, KEPT, Row, Stored},
    },
};

/// The journal; clones share it.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    totals: Totals,
    archive: Option<Archive>,
    /// Who this process is among those that write to the store.
    writer: u64,
    began: SystemTime,
    clock: fn() -> SystemTime,
    books: Mutex<Books>,
    /// Whoever sends or reads does it alone: what is read is then either stored or not.
    turn: Semaphore,
}

/// Where counters are kept.
#[derive(Clone, Debug)]
pub enum Archive {
    /// In this machine's file.
    Disk(Disk),
    /// Where replicas add up theirs.
    Redis(redis::Totals),
}

/// What counters cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cover {
    /// What this process has counted since it began.
    Process,
    /// What was counted with this machine's file.
    Database,
    /// What all replicas have counted.
    Replicas,
}

/// What was counted, and how far that is all.
#[derive(Clone, Debug)]
pub struct Told {
    /// What was counted.
    pub report: Report,
    /// How many days were asked for.
    pub days: u32,
    /// When this process began.
    pub began: SystemTime,
    /// What it covers.
    pub covers: Cover,
    /// Whether it is all of that: the store may be away.
    pub complete: bool,
}

impl Journal {
    /// Begins a journal of what `totals` count, kept in `archive`, if there is one; `clock` tells the time of day.
    ///
    /// # Errors
    /// [`Kind::Internal`] where the system has no random number to know this process by.
    pub fn new(
        totals: Totals,
        archive: Option<Archive>,
        clock: fn() -> SystemTime,
    ) -> Result<Self, Error> {
        let writer = getrandom::u64().map_err(|cause| {
            Error::with_source(Kind::Internal, "no random bytes for the journal", cause)
        })?;
        Ok(Self(Arc::new(Inner {
            totals,
            writer,
            began: clock(),
            clock,
            books: Mutex::new(Books::new(writer, archive.is_some())),
            archive,
            turn: Semaphore::new(1),
        })))
    }

    /// Sends what was counted every five seconds, without end.
    pub async fn look_after(self) {
        loop {
            sleep(INTERVAL).await;
            self.flush().await;
        }
    }

    /// Sends what was counted until now; returns whether the store has all of it.
    pub async fn flush(&self) -> bool {
        let Ok(_alone) = self.0.turn.acquire().await else {
            return false;
        };
        self.0.send().await
    }

    /// Returns what was counted in the last so many `days`, today included.
    pub async fn report(&self, days: u32) -> Told {
        let inner = &*self.0;
        let days = days.clamp(1, KEPT);
        let last = inner.today();
        let first = last.back(days - 1);
        let stored = timeout(PATIENCE, inner.read(first, last)).await;
        let stored = stored.unwrap_or_default();
        let (rows, covers, complete) = match stored {
            Some((rows, complete)) => (rows, inner.covers(), complete),
            None => (inner.own(), Cover::Process, inner.archive.is_none()),
        };
        let asked = rows.iter().filter(|row| (first..=last).contains(&row.day));
        Told {
            report: Report::of(asked),
            days,
            began: inner.began,
            covers,
            complete,
        }
    }
}

impl Inner {
    /// Sends what was counted until now. Only in turn.
    async fn send(&self) -> bool {
        self.gather();
        let Some(archive) = &self.archive else {
            return true;
        };
        // Twice at most: what has come while an earlier batch waited is sealed once that is there.
        for _ in 0..2 {
            self.books().seal(self.today());
            while let Some(batch) = self.next() {
                if !archive.keep(&batch).await {
                    return false;
                }
                self.books().settle(batch.number);
            }
        }
        true
    }

    /// Returns what the store has and what it does not have yet, and whether that is all; `None` where the store does not
    /// say.
    async fn read(&self, first: Day, last: Day) -> Option<(Vec<Row>, bool)> {
        let archive = self.archive.as_ref()?;
        let _alone = self.turn.acquire().await.ok()?;
        self.send().await;
        let stored = archive.read(first, last, self.writer).await?;
        self.gather();
        let complete = !stored.is_cut;
        Some((self.books().with(stored), complete))
    }

    fn own(&self) -> Vec<Row> {
        self.gather();
        self.books().own()
    }

    /// Moves what was counted into the books. Nothing is in neither of them meanwhile.
    fn gather(&self) {
        let today = self.today();
        let mut books = self.books();
        books.gather(&self.totals.take(today), today);
    }

    fn next(&self) -> Option<Arc<Batch>> {
        self.books().next()
    }

    fn covers(&self) -> Cover {
        match &self.archive {
            None => Cover::Process,
            Some(Archive::Disk(_)) => Cover::Database,
            Some(Archive::Redis(_)) => Cover::Replicas,
        }
    }

    fn today(&self) -> Day {
        Day::of((self.clock)())
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<&Behind> for Archive {
    fn from(behind: &Behind) -> Self {
        match behind {
            Behind::Disk(disk) => Self::Disk(disk.clone()),
            Behind::Redis(redis) => Self::Redis(redis.totals()),
        }
    }
}

impl Archive {
    /// Has `batch` added; returns whether the store has it.
    async fn keep(&self, batch: &Arc<Batch>) -> bool {
        match self {
            Self::Disk(disk) => disk.keep_totals(batch.clone()).await,
            Self::Redis(totals) => match totals.keep(batch).await {
                Ok(()) => true,
                Err(trouble) => {
                    tracing::debug!(error = %trouble, reason = trouble.kind.as_str(), "counters wait");
                    false
                }
            },
        }
    }

    async fn read(&self, first: Day, last: Day, writer: u64) -> Option<Stored> {
        match self {
            Self::Disk(disk) => disk.totals(first, last, writer).await,
            Self::Redis(totals) => match totals.read(first, last, writer).await {
                Ok(stored) => Some(stored),
                Err(trouble) => {
                    tracing::debug!(error = %trouble, reason = trouble.kind.as_str(), "counters not read");
                    None
                }
            },
        }
    }
}

impl Cover {
    /// Everything there is, in the order of the docs.
    pub const ALL: [Self; 3] = [Self::Process, Self::Database, Self::Replicas];

    /// Returns the word in `/api/stats`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Database => "database",
            Self::Replicas => "replicas",
        }
    }
}

/// Between two batches: what a crash loses at most.
const INTERVAL: Duration = Duration::from_secs(5);
/// For the store to tell what it has.
const PATIENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
