//! Purges on request: what they would concern, doing them, and the sweep behind them.
//!
//! # Scope
//! A purge is done when [`Generations`](super::generations::Generations) has it; here it is also written down, counted, and
//! told how many entries it concerns. Whoever asks has been let in by then: who may purge what is decided above.
//!
//! # The sweep
//! Once a minute, if anything was purged, every entry is looked at, off the way of calls: those in memory one by one, those on the
//! disk by their cards, those in Redis by their heads, in pages. What is dead is deleted; a pass that has found nothing
//! dead lets the purges be forgotten.
//!
//! Redis is shared and has better uses for its memory, so behind a purge here it is cleared up at once: by the index of
//! the tag, where that is what was purged, else by a pass.

use std::{
    collections::HashSet,
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore},
    task::yield_now,
    time::{Instant, sleep, timeout_at},
};

pub use super::generations::{Purge, Selector};
use super::{
    Label,
    behind::Behind,
    disk::Disk,
    generations::{Standing, Traits, Unpurged},
    record::Lying,
    redis::Redis,
    tiered::Tiered,
};
use crate::{
    answer::verdict::Tier,
    call::{Slot, key::Key},
};

/// Purges entries of a store; clones share it.
#[derive(Clone, Debug)]
pub struct Purger(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Tiered,
    /// Whether there is to be a disk that does not work.
    lacks_disk: bool,
    /// Lets the operator look through all entries, once at a time.
    looking: Semaphore,
    /// Lets one caller at a time do so for its own.
    looking_within: Semaphore,
    done: [AtomicU64; Selector::KINDS.len()],
    due: Mutex<Due>,
    /// Something is due.
    news: Notify,
}

/// What Redis is to be cleared of soon.
#[derive(Debug, Default)]
struct Due {
    /// The entries with these tags.
    tags: Vec<String>,
    /// Everything that is dead.
    all: bool,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The purges, at least one.
    pub purges: Vec<Purge>,
    /// Whether it is only to be told what it would concern.
    pub dry_run: bool,
}

/// What came of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the purge survives a crash; `None` for a dry run.
    pub durable: Option<bool>,
    /// Where it is written down to survive one.
    pub tier: Option<Tier>,
    /// What it concerns, where that was looked up: for a dry run, a pattern and an age.
    pub concerned: Option<Concerned>,
}

/// The entries that a purge concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Concerned {
    /// How many there are.
    pub entries: u64,
    /// Some of them.
    pub samples: Vec<Sample>,
}

/// An entry, as far as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its key.
    pub key: Key,
    /// Name of the upstream that made it.
    pub upstream: String,
    /// What it can be found by.
    pub label: Label,
    /// Its tags.
    pub tags: Vec<String>,
}

/// Why an order was not carried out: others have to be done first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too many purges are remembered.
    #[error("too many purges wait to be cleared up behind; try again in a minute")]
    Full,
    /// Somebody else is looking through the entries, or the disk does not answer.
    #[error("the entries cannot be looked through right now; try again in a moment")]
    Busy,
    /// The system has no random bytes.
    #[error("no random bytes for the purge")]
    Random,
}

impl Purger {
    /// Makes a purger of `store`; `lacks_disk` tells whether there is to be a disk that could not be opened: what lies
    /// there is not told of any purge.
    pub fn new(store: Tiered, lacks_disk: bool) -> Self {
        Self(Arc::new(Inner {
            store,
            lacks_disk,
            looking: Semaphore::new(1),
            looking_within: Semaphore::new(1),
            done: std::array::from_fn(|_| AtomicU64::new(0)),
            due: Mutex::default(),
            news: Notify::new(),
        }))
    }

    /// Carries out `order`.
    pub async fn run(&self, order: &Order) -> Result<Outcome, Refused> {
        let Order { purges, dry_run } = order;
        let is_tried = |purge: &Purge| purge.selector.is_tried();
        let concerned = if *dry_run || purges.iter().any(is_tried) {
            Some(self.concerned(purges).await?)
        } else {
            None
        };
        let durable = if *dry_run {
            None
        } else {
            Some(self.purge(purges).await?)
        };
        let tier = self.tier();
        Ok(Outcome {
            durable,
            tier,
            concerned,
        })
    }

    /// Purges the entries of `key`, if there is one in `scope`; `None` if there is none.
    pub async fn delete(&self, key: Key, scope: &[u8]) -> Result<Option<bool>, Refused> {
        if !self.is_in(key, scope).await? {
            return Ok(None);
        }
        self.delete_unseen(key).await.map(Some)
    }

    /// Purges the entries of `key`, whether there are any or not; returns whether that survives a crash.
    pub async fn delete_unseen(&self, key: Key) -> Result<bool, Refused> {
        let purge = Purge {
            selector: Selector::Key(key),
            within: None,
            soft: false,
        };
        self.purge(&[purge]).await
    }

    /// Returns how many purges were done of each of [`Selector::KINDS`].
    pub fn counts(&self) -> [u64; Selector::KINDS.len()] {
        let done = self.0.done.each_ref();
        done.map(|count| count.load(Ordering::Relaxed))
    }

    /// Returns the moment so long ago, milliseconds of Unix time.
    pub fn ago(&self, age: Duration) -> u64 {
        let now = self.0.store.generations.now();
        now.saturating_sub(super::codec::millis(age))
    }

    /// Clears up behind purges, for ever.
    pub async fn look_after(self) {
        let Inner {
            store, due, news, ..
        } = &*self.0;
        loop {
            let next = Instant::now() + PAUSE;
            while timeout_at(next, news.notified()).await.is_ok() {
                // One purge is often one of many.
                sleep(SOON).await;
                let due = mem::take(&mut *due.lock().unwrap_or_else(PoisonError::into_inner));
                store.clear(due).await;
            }
            store.sweep().await;
        }
    }

    /// Returns what keeps purges, if anything does or should.
    fn tier(&self) -> Option<Tier> {
        let Inner {
            store, lacks_disk, ..
        } = &*self.0;
        let behind = store.behind.as_ref().map(Behind::tier);
        behind.or(lacks_disk.then_some(Tier::Disk))
    }

    /// Has Redis cleared of what was purged.
    fn clear_soon(&self, purges: &[Purge]) {
        let Inner { due, news, .. } = &*self.0;
        due.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(purges);
        news.notify_one();
    }

    /// Does the purges; returns whether they survive a crash.
    async fn purge(&self, purges: &[Purge]) -> Result<bool, Refused> {
        let Inner {
            store,
            lacks_disk,
            done,
            ..
        } = &*self.0;
        for purge in purges {
            store.generations.purge(purge).map_err(|why| match why {
                Unpurged::Full => Refused::Full,
                Unpurged::Random => Refused::Random,
            })?;
            if let Some(count) = done.get(usize::from(purge.selector.number())) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            tracing::info!(kind = purge.selector.kind(), soft = purge.soft, "purged");
        }
        let is_durable = match &store.behind {
            Some(behind) => behind.save().await,
            None => !lacks_disk,
        };
        if let Some(Behind::Redis(_)) = &store.behind {
            self.clear_soon(purges);
        }
        Ok(is_durable)
    }

    /// Returns whether `key` is that of an entry in `scope`.
    async fn is_in(&self, key: Key, scope: &[u8]) -> Result<bool, Refused> {
        let store = &self.0.store;
        let usual = store.get(&Slot { key, delivery: 0 });
        if let Some(entry) = usual {
            return Ok(entry.label.scope == scope);
        }
        let purge = Purge {
            selector: Selector::Key(key),
            within: Some(scope.to_vec()),
            soft: false,
        };
        let concerned = self.concerned(&[purge]).await?;
        Ok(concerned.entries > 0)
    }

    /// Looks through all entries for those that a purge concerns.
    async fn concerned(&self, purges: &[Purge]) -> Result<Concerned, Refused> {
        let Inner {
            store,
            looking,
            looking_within,
            ..
        } = &*self.0;
        let is_callers = purges.iter().all(|purge| purge.within.is_some());
        let turns = if is_callers { looking_within } else { looking };
        let _alone = turns.try_acquire().map_err(|_| Refused::Busy)?;
        let mut concerned = Concerned::default();
        let seen = store.look_at_memory(purges, &mut concerned).await;
        if let Some(behind) = &store.behind {
            let looked = store.look_behind(behind, purges, &seen, &mut concerned);
            looked.await.ok_or(Refused::Busy)?;
        }
        Ok(concerned)
    }
}

impl Due {
    fn add(&mut self, purges: &[Purge]) {
        for purge in purges {
            match &purge.selector {
                Selector::Tag(tag) if self.tags.contains(tag) => {}
                Selector::Tag(tag) if self.tags.len() < MOST_TAGS => self.tags.push(tag.clone()),
                _ => self.all = true,
            }
        }
    }
}

impl Tiered {
    /// Clears Redis of what is due.
    async fn clear(&self, due: Due) {
        let Some(Behind::Redis(redis)) = &self.behind else {
            return;
        };
        if due.all {
            redis.sweep().await;
            return;
        }
        for tag in &due.tags {
            redis.sweep_tag(tag).await;
        }
    }

    /// Deletes what is dead; forgets the purges behind which nothing dead is left.
    pub(super) async fn sweep(&self) {
        let epoch = self.generations.settleable();
        if self.generations.settled() < epoch {
            self.sweep_memory().await;
            self.generations.forget_released(epoch);
            let found = match &self.behind {
                Some(behind) => self.sweep_behind(behind).await,
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

    /// Has what is dead behind the memory deleted; returns how much was found there, `None` if not all of it was seen.
    async fn sweep_behind(&self, behind: &Behind) -> Option<u64> {
        match behind {
            Behind::Disk(disk) => self.sweep_disk(disk).await,
            Behind::Redis(redis) => redis.sweep().await,
        }
    }

    /// Counts what purges concern of the entries behind the memory; `None` if not all of them were seen.
    async fn look_behind(
        &self,
        behind: &Behind,
        purges: &[Purge],
        seen: &HashSet<Slot>,
        concerned: &mut Concerned,
    ) -> Option<()> {
        match behind {
            Behind::Disk(disk) => self.look_at_disk(disk, purges, seen, concerned).await,
            Behind::Redis(redis) => self.look_at_redis(redis, purges, seen, concerned).await,
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

    /// Counts what purges concern of the entries that are in memory only; returns those that may lie on the disk soon.
    async fn look_at_memory(&self, purges: &[Purge], concerned: &mut Concerned) -> HashSet<Slot> {
        let mut seen = HashSet::new();
        for (number, entry) in self.memory.iter().enumerate() {
            let made = self.generations.wall(entry.made);
            let traits = Traits::of(&entry, made);
            let is_concerned = purges.iter().any(|purge| purge.concerns(&traits));
            let lies_deeper = || {
                let behind = self.behind.as_ref();
                behind.is_some_and(|behind| behind.knows(&entry.slot))
            };
            if is_concerned && !lies_deeper() && !self.is_dead(&entry) {
                concerned.add(&traits);
                if self.behind.is_some() {
                    seen.insert(entry.slot);
                }
            }
            breathe(number).await;
        }
        seen
    }

    /// Counts what purges concern of the entries that lie on the disk.
    async fn look_at_disk(
        &self,
        disk: &Disk,
        purges: &[Purge],
        seen: &HashSet<Slot>,
        concerned: &mut Concerned,
    ) -> Option<()> {
        let key = match purges {
            [
                Purge {
                    selector: Selector::Key(key),
                    ..
                },
            ] => Some(*key),
            _ => None,
        };
        let mut after = 0;
        loop {
            let page = disk.page(after, key).await?;
            let Some(last) = page.last else {
                return Some(());
            };
            after = last;
            for lying in &page.entries {
                self.look_at(lying, purges, seen, concerned);
            }
            yield_now().await;
        }
    }

    /// Counts what purges concern of the entries that lie in Redis.
    async fn look_at_redis(
        &self,
        redis: &Redis,
        purges: &[Purge],
        seen: &HashSet<Slot>,
        concerned: &mut Concerned,
    ) -> Option<()> {
        let tag = match purges {
            [
                Purge {
                    selector: Selector::Tag(tag),
                    ..
                },
            ] => Some(tag.as_str()),
            _ => None,
        };
        let looked = redis.look_through(tag, |lying| self.look_at(lying, purges, seen, concerned));
        looked.await
    }

    /// Counts an entry that lies behind the memory, if purges concern it.
    fn look_at(
        &self,
        lying: &Lying,
        purges: &[Purge],
        seen: &HashSet<Slot>,
        concerned: &mut Concerned,
    ) {
        let traits = lying.traits();
        let judged = || self.generations.judge(&traits, &lying.inscription());
        let is_concerned = purges.iter().any(|purge| purge.concerns(&traits));
        if is_concerned && !seen.contains(&lying.slot) && judged() != Standing::Dead {
            concerned.add(&traits);
        }
    }
}

impl Concerned {
    fn add(&mut self, traits: &Traits<'_>) {
        self.entries += 1;
        if self.samples.len() < SAMPLES {
            self.samples.push(Sample {
                key: *traits.key,
                upstream: String::from_utf8_lossy(traits.upstream.unwrap_or_default()).into_owned(),
                label: traits.label.clone(),
                tags: traits.tags.to_vec(),
            });
        }
    }
}

/// Lets others work once in a while.
async fn breathe(number: usize) {
    if number % 256 == 255 {
        yield_now().await;
    }
}

/// Entries that are shown.
const SAMPLES: usize = 20;
/// Between two sweeps.
const PAUSE: Duration = Duration::from_secs(60);
/// From a purge until Redis is cleared up behind it.
const SOON: Duration = Duration::from_secs(1);
/// Tags by which Redis is cleared up at once; for more it is looked through.
const MOST_TAGS: usize = 64;

#[cfg(test)]
mod tests;
