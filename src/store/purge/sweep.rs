//! Clearing up behind purges.
//!
//! # Scope
//! What is dead is deleted wherever it lies. That nothing dead is left is only said where everything was seen, by this
//! replica or by another that knew of the same purges.

use tokio::task::yield_now;

use super::breathe;
use crate::{
    call::key::Key,
    store::{
        behind::Behind,
        disk::Disk,
        generations::{Purge, Selector, Standing},
        redis::Among,
        tiered::Tiered,
    },
};

/// What Redis is to be cleared of soon.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// The entries of these keys.
    keys: Vec<Key>,
    /// The entries with these tags.
    tags: Vec<String>,
    /// Everything that is dead.
    pub(super) all: bool,
}

impl Due {
    /// Adds what `purges` leave. Who may purge one key at a time may have nobody look at everything; what is too much is found
    /// by the next look.
    pub(super) fn add(&mut self, purges: &[Purge]) {
        for purge in purges {
            match &purge.selector {
                Selector::Key(key) => {
                    if !self.keys.contains(key) && self.keys.len() < MOST_KEYS {
                        self.keys.push(*key);
                    }
                }
                Selector::Tag(tag) if self.tags.contains(tag) => {}
                Selector::Tag(tag) if self.tags.len() < MOST_TAGS => self.tags.push(tag.clone()),
                _ => self.all = true,
            }
        }
    }
}

impl Tiered {
    /// Clears Redis of what lies in the lists that are due.
    pub(super) async fn clear(&self, due: &Due) {
        let Some(Behind::Redis(redis)) = &self.behind else {
            return;
        };
        for key in &due.keys {
            redis.sweep_among(Among::Key(*key)).await;
        }
        for tag in &due.tags {
            redis.sweep_among(Among::Tag(tag)).await;
        }
    }

    /// Clears Redis of everything that is dead.
    pub(super) async fn clear_all(&self) {
        if let Some(Behind::Redis(redis)) = &self.behind {
            redis.sweep().await;
        }
    }

    /// Deletes what is dead; forgets the purges behind which nothing dead is left.
    pub(in crate::store) async fn sweep(&self) {
        let epoch = self.generations.settleable();
        if self.generations.settled() < epoch {
            self.sweep_memory().await;
            self.generations.forget_released(epoch);
            let found = match &self.behind {
                Some(behind) => self.sweep_behind(behind, epoch).await,
                None => Some(0),
            };
            if found == Some(0) {
                self.generations.settle(epoch);
            }
        }
        let forgettable = self.generations.forgettable();
        if forgettable.is_empty() {
            return;
        }
        let is_gone = match &self.behind {
            Some(behind) => behind.forget(&forgettable).await,
            None => true,
        };
        if is_gone {
            self.generations.forget(&forgettable);
        }
    }

    async fn sweep_memory(&self) {
        for (number, entry) in self.memory.iter().enumerate() {
            if self.is_dead(&entry) {
                self.memory.remove(&entry);
            }
            breathe(number).await;
        }
    }

    /// Has what is dead behind the memory deleted; returns how much the purges up to `epoch` have left there, `None` if not all of
    /// it was seen.
    async fn sweep_behind(&self, behind: &Behind, epoch: u64) -> Option<u64> {
        match behind {
            Behind::Disk(disk) => self.sweep_disk(disk).await,
            Behind::Redis(redis) => redis.sweep_for(epoch).await,
        }
    }

    /// Has what is dead on the disk deleted, and what is stale noted; returns how many there were of both.
    async fn sweep_disk(&self, disk: &Disk) -> Option<u64> {
        let (mut found, mut after) = (0, 0);
        loop {
            let page = disk.page(after, None).await?;
            let Some(last) = page.last else {
                return Some(found);
            };
            after = last;
            for lying in &page.entries {
                match self
                    .generations
                    .judge(&lying.traits(), &lying.inscription())
                {
                    Standing::Dead => disk.discard(&lying.slot),
                    Standing::Stale if !lying.softened => disk.soften(&lying.slot),
                    Standing::Alive | Standing::Stale | Standing::Doubted => continue,
                }
                found += 1;
            }
            yield_now().await;
        }
    }
}

/// Tags by which Redis is cleared up at once; for more it is looked through.
const MOST_TAGS: usize = 64;
/// Keys of which Redis is cleared at once.
const MOST_KEYS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn purges(selectors: impl IntoIterator<Item = Selector>) -> Vec<Purge> {
        let purge = |selector| Purge {
            selector,
            within: None,
            soft: false,
        };
        selectors.into_iter().map(purge).collect()
    }

    #[test]
    fn however_many_keys_are_purged_nobody_looks_at_everything() {
        let mut due = Due::default();
        for number in 0..MOST_KEYS as u64 + 10 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_le_bytes());
            let key = Key::from_bytes(key);
            due.add(&purges([Selector::Key(key), Selector::Key(key)]));
        }
        assert_eq!((due.keys.len(), due.all), (MOST_KEYS, false));
    }

    #[test]
    fn what_has_no_list_is_found_by_a_look_at_everything() {
        let mut due = Due::default();
        let tag = |number: usize| Selector::Tag(number.to_string());
        due.add(&purges((0..MOST_TAGS).chain([0]).map(tag)));
        assert_eq!((due.tags.len(), due.all), (MOST_TAGS, false));
        due.add(&purges([tag(MOST_TAGS)]));
        assert!(due.all, "too many tags");
        let mut due = Due::default();
        due.add(&purges([Selector::All]));
        assert!(due.all);
    }
}
