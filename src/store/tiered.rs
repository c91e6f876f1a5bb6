//! The store that the layers know: memory in front, the disk behind it where there is one.
//!
//! # Scope
//! Memory is asked first and at once; only what is not there and is known to lie on the disk is worth a wait. What the
//! disk brings is kept in memory from then on, unless something newer has come meanwhile.

use std::sync::Arc;

use super::{Entry, disk::Disk, memory::Memory};
use crate::{answer::verdict::Tier, call::Slot};

/// Both tiers; clones share them.
#[derive(Clone, Debug)]
pub struct Tiered {
    memory: Memory,
    disk: Option<Disk>,
}

impl Tiered {
    /// Puts `memory` in front of `disk`.
    pub fn new(memory: Memory, disk: Option<Disk>) -> Self {
        Self { memory, disk }
    }

    /// Returns the entry at `slot`, if it is in memory.
    pub fn get(&self, slot: &Slot) -> Option<Arc<Entry>> {
        self.memory.get(slot)
    }

    /// Returns whether the entry at `slot` may be found behind the memory.
    pub fn lies_deeper(&self, slot: &Slot) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.holds(slot))
    }

    /// Returns the entry at `slot`, brought from behind the memory; it does not take longer than
    /// [`BUDGET`](super::disk::BUDGET).
    pub async fn fetch(&self, slot: &Slot) -> Option<Arc<Entry>> {
        let entry = self.disk.as_ref()?.get(slot).await?;
        Some(self.memory.promote(&Arc::new(entry)))
    }

    /// Returns the entry at `slot` from wherever it is, and where that was.
    pub async fn find(&self, slot: &Slot) -> Option<(Arc<Entry>, Tier)> {
        if let Some(entry) = self.get(slot) {
            return Some((entry, Tier::Memory));
        }
        if !self.lies_deeper(slot) {
            return None;
        }
        Some((self.fetch(slot).await?, Tier::Disk))
    }

    /// Keeps `entry`, in place of an older one: in memory at once, on the disk soon.
    pub fn put(&self, entry: Entry) {
        let entry = Arc::new(entry);
        self.memory.put(entry.clone());
        if let Some(disk) = &self.disk {
            disk.put(entry);
        }
    }
}
