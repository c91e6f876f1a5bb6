//! Counts calls by day, dialect, model and namespace, until the journal takes what was counted. Pure.
//!
//! # Scope
//! A thread counts in a place of its own, so that calls do not wait for each other; where a row exists, counting
//! allocates nothing. Callers choose models and namespaces: a day has at most [`MOST_ROWS`] rows, and what comes beyond is
//! counted under [`OTHER`](crate::store::totals::OTHER).

use std::{
    cell::Cell,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::store::totals::{Counts, Day, Place, Row};

/// What was counted and not yet taken; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Totals(Arc<[Shard; SHARDS]>);

/// Where some threads count; alone on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Mutex<Rows>);

/// Counted rows, at most [`MOST_ROWS`] of a day and one more for each dialect.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Sorted by day and place: looked up by borrowed names, of which most days have a handful.
    rows: Vec<Row>,
}

/// Rows of a day.
pub const MOST_ROWS: usize = 1_000;

/// More than the cores of most machines share.
const SHARDS: usize = 16;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Which shard the thread counts in.
    static SHARD: Cell<usize> =
        Cell::new(THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS);
}

impl Totals {
    /// Counts a call.
    pub fn count(&self, day: Day, place: Place<'_>, counts: &Counts) {
        if let Some(shard) = self.0.get(SHARD.get()) {
            shard.with(|rows| rows.add(day, place, counts));
        }
    }

    /// Takes what was counted; a place may have several rows.
    pub fn take(&self, today: Day) -> Vec<Row> {
        let shards = self.0.iter();
        shards
            .flat_map(|shard| shard.with(|rows| rows.take(today)))
            .collect()
    }
}

impl Shard {
    fn with<T>(&self, work: impl FnOnce(&mut Rows) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Rows {
    /// Adds `counts` to the row of `place`, or to that of the others where there are too many.
    pub fn add(&mut self, day: Day, place: Place<'_>, counts: &Counts) {
        let at = self.find(day, place);
        let at = match at {
            Err(_) if self.of(day) >= MOST_ROWS => {
                let other = Place::other(place.dialect);
                self.find(day, other).map_err(|at| (at, other))
            }
            at => at.map_err(|at| (at, place)),
        };
        match at {
            Ok(at) => {
                if let Some(row) = self.rows.get_mut(at) {
                    row.counts.merge(counts);
                }
            }
            Err((at, place)) => self.rows.insert(at, place.row(day, counts.clone())),
        }
    }

    /// Takes what was counted. The rows of `today` stay, at zero: they are found again, and still bound the others.
    pub fn take(&mut self, today: Day) -> Vec<Row> {
        let mut taken = Vec::new();
        self.rows.retain_mut(|row| {
            if !row.counts.is_empty() {
                taken.push(row.clone());
                row.counts = Counts::default();
            }
            row.day == today
        });
        taken
    }

    /// Forgets the days before `first`.
    pub fn forget_before(&mut self, first: Day) {
        let old = self.rows.partition_point(|row| row.day < first);
        drop(self.rows.drain(..old));
    }

    /// Returns the rows in which something was counted.
    pub fn iter(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.counts.is_empty())
    }

    fn find(&self, day: Day, place: Place<'_>) -> Result<usize, usize> {
        let asked = (day, place);
        self.rows
            .binary_search_by(|row| (row.day, row.place()).cmp(&asked))
    }

    /// Returns how many rows `day` has.
    fn of(&self, day: Day) -> usize {
        let end = self.rows.partition_point(|row| row.day <= day);
        end - self.rows.partition_point(|row| row.day < day)
    }
}

#[cfg(test)]
mod tests;
