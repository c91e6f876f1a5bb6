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
//! Redis is shared and has better uses for its memory, so behind a purge here it is cleared up at once: what belongs to a
//! key, or has a tag, where that is what was purged, else by a pass. A pass takes its time, so there is a rest behind it.

mod look;
mod pace;
mod sweep;

use std::{
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

pub use self::look::{Concerned, Sample};
use self::{pace::Pace, sweep::Due};
pub use super::generations::{Purge, Selector};
use super::{behind::Behind, generations::Unpurged, redis::Among, tiered::Tiered};
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
    /// Lets one at a time look for a single key; the others wait, as that is soon done.
    looking_for_one: Semaphore,
    done: [AtomicU64; Selector::KINDS.len()],
    due: Mutex<Due>,
    /// Something is due.
    news: Notify,
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
            looking_for_one: Semaphore::new(1),
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
        let mut pace = Pace::new(Instant::now());
        loop {
            if timeout_at(pace.next(), news.notified()).await.is_ok() {
                // One purge is often one of many.
                sleep(SOON).await;
                let due = mem::take(&mut *due.lock().unwrap_or_else(PoisonError::into_inner));
                store.clear(&due).await;
                if due.all {
                    pace.want();
                }
                continue;
            }
            let begun = Instant::now();
            if pace.is_wanted() {
                store.clear_all().await;
            }
            let is_due = pace.is_due(begun);
            if is_due {
                store.sweep().await;
            }
            pace.looked(begun, Instant::now(), is_due);
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
            looking_for_one,
            ..
        } = &*self.0;
        let is_callers = purges.iter().all(|purge| purge.within.is_some());
        let turn = match look::among(purges) {
            Among::Key(_) => looking_for_one.acquire().await.ok(),
            _ if is_callers => looking_within.try_acquire().ok(),
            _ => looking.try_acquire().ok(),
        };
        let _alone = turn.ok_or(Refused::Busy)?;
        let mut concerned = Concerned::default();
        let seen = store.look_at_memory(purges, &mut concerned).await;
        if let Some(behind) = &store.behind {
            let looked = store.look_behind(behind, purges, &seen, &mut concerned);
            looked.await.ok_or(Refused::Busy)?;
        }
        Ok(concerned)
    }
}

/// Lets others work once in a while.
async fn breathe(number: usize) {
    if number % 256 == 255 {
        yield_now().await;
    }
}

/// From a purge until Redis is cleared up behind it.
const SOON: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
