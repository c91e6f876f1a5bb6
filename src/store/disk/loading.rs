//! Reads through a database that was just opened, a piece at a time: calls do not wait for it, and neither do writes.
//!
//! # Scope
//! Reads slots and nothing else: from the index over them, which is small beside the entries.

use std::time::Duration;

use rusqlite::{Connection, params};
use tokio::time::Instant;

use super::{
    file,
    present::Present,
    trouble::{Kind, Trouble},
};
use crate::call::Slot;

/// How far a database has been read.
#[derive(Debug)]
pub(super) struct Loading {
    /// The place of the last slot; the first time an empty one, in front of all others.
    after: (Vec<u8>, i64),
    began: Instant,
    /// When to go on after a failure.
    due: Option<Instant>,
}

impl Loading {
    /// Begins to read a database of which `present` knows nothing from here on.
    pub(super) fn begin(present: &Present) -> Self {
        present.begin();
        Self {
            after: (Vec::new(), i64::MIN),
            began: Instant::now(),
            due: None,
        }
    }

    /// Returns how long there is nothing to do, after a failure.
    pub(super) fn patience(&self) -> Duration {
        self.due.map_or(Duration::ZERO, |due| {
            due.saturating_duration_since(Instant::now())
        })
    }

    /// Reads on; returns whether that was the end. After a failure it may go on where it was, a little later.
    pub(super) fn step(
        &mut self,
        connection: &Connection,
        present: &Present,
    ) -> Result<bool, Trouble> {
        self.due = Some(Instant::now() + PAUSE);
        if self.after.0.is_empty() {
            let count: i64 =
                connection.query_row("SELECT count(*) FROM entry", [], |row| row.get(0))?;
            present.reserve(usize::try_from(count).unwrap_or(0));
        }
        let slots = self.page(connection)?;
        present.load(&slots);
        self.due = None;
        let Some(last) = slots.last() else {
            present.complete();
            let took = self.began.elapsed();
            tracing::debug!(
                entries = present.len(),
                ms = took.as_millis(),
                "disk store read through"
            );
            return Ok(true);
        };
        let place = place(last);
        if place <= self.after {
            // It would never end.
            let what = "the index of the entries is out of order";
            return Err(Trouble::new(Kind::Corrupt, what));
        }
        self.after = place;
        Ok(false)
    }

    fn page(&self, connection: &Connection) -> Result<Vec<Slot>, Trouble> {
        let mut statement = connection.prepare_cached(BEHIND)?;
        let rows = statement.query_map(params![self.after.0, self.after.1, PAGE], |row| {
            Ok(file::slot(row.get(0)?, row.get(1)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn place(slot: &Slot) -> (Vec<u8>, i64) {
    (slot.key.as_bytes().to_vec(), slot.delivery.cast_signed())
}

const BEHIND: &str = "SELECT key, delivery FROM entry
    WHERE (key, delivery) > (?1, ?2) ORDER BY key, delivery LIMIT ?3";
/// Slots read at once: the fingerprints are locked for so many.
const PAGE: i64 = 1_000;
/// After a failure.
const PAUSE: Duration = Duration::from_secs(1);
