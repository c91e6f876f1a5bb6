//! What lies on the disk, known in memory, so that a miss does not touch the disk.
//!
//! A slot is known by 64 bits of it: between 10 and 20 bytes for each entry, some 20 MB for a million. Two slots
//! of one fingerprint cost a look that finds nothing, or one entry that is not found; what is read is verified anyway.

use std::{
    collections::HashSet,
    sync::{PoisonError, RwLock},
};

use crate::call::Slot;

/// Fingerprints of the slots that lie on the disk.
#[derive(Debug, Default)]
pub(super) struct Present(RwLock<HashSet<u64>>);

impl Present {
    /// Returns whether the entry of `slot` lies on the disk, as far as is known.
    pub(super) fn holds(&self, slot: &Slot) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.contains(&fingerprint(slot))
    }

    /// Notes that the entry of `slot` lies on the disk.
    pub(super) fn insert(&self, slot: &Slot) {
        self.change(|known| known.insert(fingerprint(slot)));
    }

    /// Forgets the entry of `slot`; returns whether it was known.
    pub(super) fn remove(&self, slot: &Slot) -> bool {
        self.change(|known| known.remove(&fingerprint(slot)))
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.change(|known| *known = HashSet::new());
    }

    /// Returns how many are known.
    pub(super) fn len(&self) -> u64 {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.len() as u64
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashSet<u64>) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A key is an HMAC: any 64 bits of it are as good as any other.
fn fingerprint(slot: &Slot) -> u64 {
    let head = slot.key.as_bytes().first_chunk().copied();
    u64::from_le_bytes(head.unwrap_or_default()) ^ slot.delivery
}
