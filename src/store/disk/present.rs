//! What lies on the disk, known in memory, so that a miss does not touch the disk.
//!
//! A slot is known by 64 bits of it: between 10 and 20 bytes for each entry, some 20 MB for a million. Two slots
//! of one fingerprint cost a look that finds nothing, or one entry that is not found; what is read is verified anyway.
//!
//! ## Partial
//! From when the database is opened until it has been read through, every slot may lie there, unless it is known to have
//! gone meanwhile.
//! ## Partial → complete
//! When all fingerprints have been read, or the database has been replaced by an empty one.

use std::{
    collections::HashSet,
    hash::{BuildHasherDefault, Hasher},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use crate::call::Slot;

/// Fingerprints of the slots that lie on the disk.
#[derive(Debug, Default)]
pub(super) struct Present(RwLock<State>);

#[derive(Debug, Default)]
struct State {
    known: Fingerprints,
    /// While not everything is known: what does not lie there any more, or is about to be replaced.
    gone: Option<Fingerprints>,
}

type Fingerprints = HashSet<u64, BuildHasherDefault<AsItIs>>;

/// Hashes a number to itself: a fingerprint is made of an HMAC, and nobody outside can choose one.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Present {
    /// Returns whether the entry of `slot` may lie on the disk.
    pub(super) fn holds(&self, slot: &Slot) -> bool {
        self.read().may_hold(fingerprint(slot))
    }

    /// Returns whether the entry of `slot` is known to lie on the disk.
    pub(super) fn knows(&self, slot: &Slot) -> bool {
        self.read().known.contains(&fingerprint(slot))
    }

    /// Notes that the entry of `slot` lies on the disk.
    pub(super) fn insert(&self, slot: &Slot) {
        let mut state = self.write();
        state.known.insert(fingerprint(slot));
        if let Some(gone) = &mut state.gone {
            gone.remove(&fingerprint(slot));
        }
    }

    /// Forgets the entry of `slot`; returns whether it may have lain there.
    pub(super) fn remove(&self, slot: &Slot) -> bool {
        let mut state = self.write();
        let was_there = state.may_hold(fingerprint(slot));
        state.known.remove(&fingerprint(slot));
        if let Some(gone) = &mut state.gone {
            gone.insert(fingerprint(slot));
        }
        was_there
    }

    /// Begins anew with a database of which nothing is known yet.
    pub(super) fn begin(&self) {
        *self.write() = State {
            known: Fingerprints::default(),
            gone: Some(Fingerprints::default()),
        };
    }

    /// Makes room for so many, at once: a set that grows while calls wait for it is copied then.
    pub(super) fn reserve(&self, count: usize) {
        self.write().known.reserve(count);
    }

    /// Notes what was read in the database, except what has gone since.
    pub(super) fn load(&self, slots: &[Slot]) {
        let state = &mut *self.write();
        for mark in slots.iter().map(fingerprint) {
            if state
                .gone
                .as_ref()
                .is_some_and(|gone| !gone.contains(&mark))
            {
                state.known.insert(mark);
            }
        }
    }

    /// Notes that everything in the database is known.
    pub(super) fn complete(&self) {
        self.write().gone = None;
    }

    /// Returns whether everything in the database is known.
    #[cfg(test)]
    pub(super) fn is_complete(&self) -> bool {
        self.read().gone.is_none()
    }

    /// Forgets everything: the database is empty.
    pub(super) fn clear(&self) {
        *self.write() = State::default();
    }

    /// Returns how many are known.
    pub(super) fn len(&self) -> u64 {
        self.read().known.len() as u64
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn may_hold(&self, mark: u64) -> bool {
        let has_gone = |gone: &Fingerprints| gone.contains(&mark);
        self.known.contains(&mark) || self.gone.as_ref().is_some_and(|gone| !has_gone(gone))
    }
}

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// A key is an HMAC: any 64 bits of it are as good as any other.
fn fingerprint(slot: &Slot) -> u64 {
    let head = slot.key.as_bytes().first_chunk().copied();
    u64::from_le_bytes(head.unwrap_or_default()) ^ slot.delivery
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::key::Key;

    fn slot(number: u8) -> Slot {
        Slot {
            key: Key::from_bytes([number; 32]),
            delivery: 0,
        }
    }

    #[test]
    fn while_the_database_is_read_everything_may_lie_there_but_what_has_gone() {
        let present = Present::default();
        present.begin();
        assert!(present.holds(&slot(1)) && !present.knows(&slot(1)));
        assert!(present.remove(&slot(1)), "it may have lain there");
        assert!(!present.remove(&slot(1)), "it has been dealt with");
        assert!(!present.holds(&slot(1)));
        present.load(&[slot(1), slot(2)]);
        assert!(!present.holds(&slot(1)), "what was read is older");
        present.insert(&slot(1));
        assert!(present.holds(&slot(1)) && present.holds(&slot(3)));
        present.complete();
        assert!(present.knows(&slot(1)) && present.knows(&slot(2)));
        assert!(!present.holds(&slot(3)) && present.len() == 2);
    }

    #[test]
    fn an_emptied_database_holds_nothing() {
        let present = Present::default();
        present.begin();
        present.load(&[slot(1)]);
        present.clear();
        assert!(!present.holds(&slot(1)) && present.is_complete());
        present.load(&[slot(1)]);
        assert!(!present.holds(&slot(1)), "that was another database");
    }
}
