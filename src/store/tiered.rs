//! The store that the layers know: memory in front, the disk or Redis behind it where there is one.
//!
//! # Scope
//! Memory is asked first and at once; only what is not there and may lie behind it is worth a wait. What that
//! brings is kept in memory from then on, unless something newer has come meanwhile. What was purged is not found.
//!
//! What other replicas may have replaced is looked for behind the memory once more, where it can be: what lies there takes its
//! place, unless it is older, and where nothing does it stays.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Entry,
    behind::Behind,
    changes::Changes,
    generations::{Generations, Standing},
    memory::Memory,
    trust::Trust,
};
use crate::{
    answer::{
        retold::{Retold, Teller},
        verdict::Tier,
    },
    call::Slot,
};

/// Both tiers; clones share them.
#[derive(Clone, Debug)]
pub struct Tiered {
    pub(super) memory: Memory,
    pub(super) behind: Option<Behind>,
    pub(super) generations: Generations,
    pub(super) changes: Arc<Changes>,
    trust: Trust,
    teller: Teller,
}

impl Tiered {
    /// Puts `memory` in front of `behind`; `generations` says what was purged in both, `teller` tells
    /// entries in other forms.
    pub fn new(
        memory: Memory,
        behind: Option<Behind>,
        generations: Generations,
        teller: Teller,
    ) -> Self {
        Self {
            memory,
            behind,
            generations,
            changes: Arc::default(),
            trust: Trust::new(Duration::MAX, Instant::now()),
            teller,
        }
    }

    /// Has entries count as fresh as long as `trust` says.
    #[must_use]
    pub fn trusted(self, trust: Trust) -> Self {
        Self { trust, ..self }
    }

    /// Returns how far entries are trusted.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Returns who tells recordings in other forms.
    pub fn teller(&self) -> &Teller {
        &self.teller
    }

    /// Has the entry at `slot` count for what was told of it, if it is the one of `retold`.
    pub fn recount(&self, slot: &Slot, retold: &Retold) {
        if retold.counted() != retold.bytes() {
            self.memory.recount(slot, retold);
        }
    }

    /// Returns what was purged.
    pub fn generations(&self) -> &Generations {
        &self.generations
    }

    /// Returns the entry at `slot`, if it is in memory and needs no look behind it.
    pub fn get(&self, slot: &Slot) -> Option<Arc<Entry>> {
        let entry = self.memory.get(slot)?;
        match self.generations.standing(&entry) {
            Standing::Alive | Standing::Stale => Some(entry),
            Standing::Doubted => (!self.lies_deeper(slot)).then_some(entry),
            Standing::Dead => {
                self.memory.remove(&entry);
                None
            }
        }
    }

    /// Returns whether the entry at `slot` may be found behind the memory.
    pub fn lies_deeper(&self, slot: &Slot) -> bool {
        let behind = self.behind.as_ref();
        behind.is_some_and(|behind| behind.holds(slot))
    }

    /// Returns whether another replica may have put a newer entry of `slot` behind the memory than the one in it.
    pub fn may_lie_newer(&self, slot: &Slot) -> bool {
        matches!(self.behind, Some(Behind::Redis(_))) && self.lies_deeper(slot)
    }

    /// Returns the entry at `slot`, brought from behind the memory, and where it was: while it was looked for there, it may
    /// have come to memory. It does not take longer than the store's budget.
    pub async fn fetch(&self, slot: &Slot) -> Option<(Arc<Entry>, Tier)> {
        let behind = self.behind.as_ref()?;
        let (epoch, changes) = (self.generations.epoch(), self.changes.of(slot));
        let looked = behind.get(slot).await;
        if let Ok(Some(found)) = looked {
            let (entry, tier) = self.promote(&found, behind.tier());
            if self.changes.of(slot) != changes {
                // It may be what was read before. It answers this call, which was under way by then, and no other.
                self.memory.remove(&entry);
            } else if tier == Tier::Memory {
                self.generations.vouch(&entry, epoch);
                if entry.supersedes(&found) {
                    // What lies there has been lost and was put back, or never was replaced.
                    behind.put(entry.clone(), true);
                }
            }
            return Some((self.unless_dead(entry)?, tier));
        }
        let entry = self.unless_dead(self.memory.get(slot)?)?;
        if looked.is_ok() {
            self.generations.vouch(&entry, epoch);
        }
        Some((entry, Tier::Memory))
    }

    /// Keeps what was `found` in the tier behind the memory in it, in place of what is doubted there and not newer. Returns what is
    /// there now, and of which tier it is.
    fn promote(&self, found: &Arc<Entry>, tier: Tier) -> (Arc<Entry>, Tier) {
        let doubted = self.memory.get(&found.slot);
        let doubted = doubted.filter(|kept| self.generations.standing(kept) == Standing::Doubted);
        if let Some(kept) = doubted {
            // What still waits to be written is found as itself.
            if Arc::ptr_eq(&kept, found) || kept.supersedes(found) {
                return (kept, Tier::Memory);
            }
            self.memory.remove(&kept);
        }
        (self.memory.promote(found), tier)
    }

    /// Returns whether `entry`, which was found a while ago, was purged meanwhile.
    pub fn is_dead(&self, entry: &Entry) -> bool {
        self.generations.standing(entry) == Standing::Dead
    }

    fn unless_dead(&self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        if self.is_dead(&entry) {
            self.memory.remove(&entry);
            return None;
        }
        Some(entry)
    }

    /// Returns the entry at `slot` from wherever it is, and where that was.
    pub async fn find(&self, slot: &Slot) -> Option<(Arc<Entry>, Tier)> {
        if let Some(entry) = self.get(slot) {
            return Some((entry, Tier::Memory));
        }
        if !self.lies_deeper(slot) {
            return None;
        }
        self.fetch(slot).await
    }

    /// Keeps `entry`: in memory at once, behind it soon. Where it `replaces` one that other replicas may have, they hear of it.
    pub fn put(&self, entry: Entry, replaces: bool) {
        let entry = Arc::new(entry);
        self.memory.put(entry.clone());
        if let Some(behind) = &self.behind {
            behind.put(entry, replaces);
        }
    }
}
