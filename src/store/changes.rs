//! Whether other replicas have replaced an entry while it was read.
//!
//! # Scope
//! Counts, in a few cells that slots share by a part of their keys. That a count has changed says that an entry may be the old
//! one, and at most one look too many comes of it; that it has not changed is certain. Who looks reads the count before, and
//! once more behind having kept what it found; who hears of a change counts first, and drops what is kept then.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::call::Slot;

/// Counts of changes.
#[derive(Debug)]
pub(super) struct Changes([AtomicU64; CELLS]);

impl Changes {
    /// Returns the count for `slot`.
    pub(super) fn of(&self, slot: &Slot) -> u64 {
        self.cell(slot)
            .map_or(0, |cell| cell.load(Ordering::Acquire))
    }

    /// Counts a change at `slot`.
    pub(super) fn note(&self, slot: &Slot) {
        if let Some(cell) = self.cell(slot) {
            cell.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Counts a change everywhere.
    pub(super) fn note_all(&self) {
        for cell in &self.0 {
            cell.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn cell(&self, slot: &Slot) -> Option<&AtomicU64> {
        let [first, ..] = *slot.key.as_bytes();
        self.0.get(usize::from(first))
    }
}

impl Default for Changes {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// One for each first byte of a key, which is as good as random.
const CELLS: usize = 256;
