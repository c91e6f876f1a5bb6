//! Entries in Redis: found within the budget, verified when read, written in the background.
//!
//! ```text
//! put ──▶ queue ──▶ writer (one task, batches) ──▶ Redis ◀── get, at most the budget; of those who ask for the same, one
//! ```
//!
//! # Scope
//! A put never waits and never fails. A get ends within [`Options::budget`]; whatever is wrong with Redis, or with what
//! lies there, is a miss and a count. What does not verify is deleted if it is still what was read.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::Cmd;
use tokio::time::{Instant, timeout};

use super::{
    Kind, Link, Trouble,
    layout::Layout,
    message::Message,
    queue::{CrowdedOut, Follower, Queue, Waiting},
    script::Scripts,
    sync::Facts,
    value,
};
use crate::{
    answer::tasks::Tasks,
    call::Slot,
    store::{
        Entry,
        codec::Damage,
        generations::Generations,
        looks::{Answer, Looks},
        record::{Found, Terms, restore},
    },
};

/// The entries in Redis; clones share them.
#[derive(Clone)]
pub struct Redis(pub(super) Arc<Shared>);

/// What entries in Redis are held to.
#[derive(Clone)]
pub struct Options {
    /// Largest body of an entry, bytes.
    pub max_entry: u64,
    /// Upper bound on every lifetime, also on one that was written under a laxer bound.
    pub max_ttl: Duration,
    /// How long an entry is kept past its lifetime.
    pub keep_stale: Duration,
    /// For all that a call may wait for Redis.
    pub budget: Duration,
    /// What was purged, and the clock that entries are dated by: that of Redis.
    pub generations: Generations,
    /// Has large bodies packed and unpacked where that may take its time.
    pub tasks: Tasks,
}

/// What was done so far about entries in Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries written.
    pub written: u64,
    /// Entries not written: the queue was full, Redis failed, or they were purged before.
    pub dropped: u64,
    /// Look-ups that were not answered, or too late.
    pub unanswered: u64,
    /// Entries deleted, or marked as stale, because they were purged.
    pub purged: u64,
    /// Values that did not verify, by [`Damage::ALL`].
    pub damaged: [u64; Damage::ALL.len()],
    /// What else found no room in the queue.
    pub crowded_out: CrowdedOut,
}

/// What the clones share.
pub(super) struct Shared {
    pub(super) link: Link,
    pub(super) layout: Layout,
    pub(super) facts: Facts,
    pub(super) options: Options,
    pub(super) queue: Queue,
    pub(super) counts: Counters,
    pub(super) scripts: Scripts,
    /// Why Redis takes no entries, if it does not.
    refusal: Mutex<Option<Trouble>>,
    /// Tells what this replica has replaced from what others have.
    by: u64,
    looks: Looks<Found, Unanswered>,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) written: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) purged: AtomicU64,
    unanswered: AtomicU64,
    damaged: [AtomicU64; Damage::ALL.len()],
}

/// Redis did not say; why has been counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered;

impl Redis {
    /// Keeps entries behind `link`, under the names of `layout`, beside the `facts` that replicas agree on. Nothing is written until [`write_behind`] runs.
    ///
    /// [`write_behind`]: Redis::write_behind
    pub fn new(link: Link, layout: Layout, facts: Facts, options: Options) -> Self {
        Self(Arc::new(Shared {
            link,
            layout,
            facts,
            options,
            queue: Queue::default(),
            counts: Counters::default(),
            scripts: Scripts::default(),
            refusal: Mutex::default(),
            // Two replicas alike would not hear each other: unlikely.
            by: getrandom::u64().unwrap_or_default(),
            looks: Looks::default(),
        }))
    }

    /// Returns whether the entry of `slot` is worth asking for.
    pub fn reaches(&self, slot: &Slot) -> bool {
        let Shared { link, layout, .. } = &*self.0;
        link.reaches(&layout.entry(slot))
    }

    /// Returns the entry of `slot`, if there is one and it comes in time.
    pub async fn get(&self, slot: &Slot) -> Result<Option<Arc<Entry>>, Unanswered> {
        let shared = &*self.0;
        match shared.queue.waiting(slot) {
            Some(Waiting::Entry(entry)) => return Ok(Some(entry)),
            Some(Waiting::Nothing) => return Ok(None),
            None => {}
        }
        let found = self.look(*slot).await.inspect_err(|_| {
            shared.counts.unanswered.fetch_add(1, Ordering::Relaxed);
        })?;
        let restore = |found: Arc<Found>| {
            restore(&found, shared.terms(), Instant::now(), shared.now()).map(Arc::new)
        };
        Ok(found.and_then(restore))
    }

    /// Hears that the entry of `slot` was replaced; returns whether by another replica. Then nobody waits any more for what is
    /// being read of it.
    pub fn hears_of(&self, slot: &Slot, by: u64) -> bool {
        let Shared { looks, by: own, .. } = &*self.0;
        if by == *own {
            return false;
        }
        looks.forget(slot);
        true
    }

    /// Has `entry` written, soon and in the background. Other replicas hear of it where another lies there, or if it `replaces`
    /// one that they may have.
    pub fn put(&self, entry: Arc<Entry>, replaces: bool) {
        let Shared {
            queue,
            counts,
            looks,
            ..
        } = &*self.0;
        let slot = entry.slot;
        if !queue.put(entry, replaces, Instant::now()) {
            counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
        looks.forget(&slot);
    }

    /// Has `command` about `key` run behind the entry of `slot` that was put before; at once, if that is written by now.
    pub fn follow(&self, slot: Slot, key: String, command: Cmd) {
        let follower = Follower { key, command };
        self.0.queue.follow(slot, follower, Instant::now());
    }

    /// Takes no more entries and waits until what waits was written or dropped; returns whether that was so within `patience`.
    pub async fn close(&self, patience: Duration) -> bool {
        self.0.queue.close();
        timeout(patience, self.0.queue.drained()).await.is_ok()
    }

    /// Returns why Redis takes no entries, if it refused the last one.
    pub fn refusal(&self) -> Option<Trouble> {
        self.0.refusal().clone()
    }

    /// Returns what was done so far.
    pub fn counts(&self) -> Counts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.0.counts;
        Counts {
            written: load(&counts.written),
            dropped: load(&counts.dropped),
            unanswered: load(&counts.unanswered),
            purged: load(&counts.purged),
            damaged: counts.damaged.each_ref().map(load),
            crowded_out: self.0.queue.crowded_out(),
        }
    }

    /// Asks for `slot`, or waits with whoever has asked for it.
    async fn look(&self, slot: Slot) -> Answer<Found, Unanswered> {
        let Shared { options, looks, .. } = &*self.0;
        let end = Instant::now() + options.budget;
        loop {
            let look = looks.join(slot);
            let left = end.saturating_duration_since(Instant::now());
            if look.is_first {
                let duty = looks.duty(slot, &look);
                // Redis would be blamed for the time that another has taken.
                if left < options.budget / 2 {
                    return Err(Unanswered);
                }
                let answer = self.read(slot, left).await;
                duty.answer(&answer);
                return answer;
            }
            match timeout(left, look.answer).await {
                Ok(Ok(answer)) => return answer,
                // Whoever asked was not interested any longer, or the entry is about to be replaced.
                Ok(Err(_)) => {}
                Err(_) => return Err(Unanswered),
            }
        }
    }

    /// Reads what lies at `slot`, within `patience`.
    async fn read(&self, slot: Slot, patience: Duration) -> Answer<Found, Unanswered> {
        let shared = &*self.0;
        let end = Instant::now() + patience;
        let key = shared.layout.entry(&slot);
        let most = value::limit(shared.options.max_entry);
        // A foreign value is not read whole however large it is.
        let mut command = redis::cmd("GETRANGE");
        command.arg(&key).arg(0).arg(most);
        let value: Vec<u8> = match shared.link.ask(&key, &command, patience).await {
            Ok(value) => value,
            Err(trouble) => {
                if trouble.kind == Kind::Type {
                    shared.queue.discard(slot, &[], Instant::now());
                }
                return Err(Unanswered);
            }
        };
        if value.is_empty() {
            return Ok(None);
        }
        let left = end.saturating_duration_since(Instant::now());
        let decoded = timeout(left, shared.decode(value, slot)).await;
        decoded.unwrap_or(Err(Unanswered))
    }
}

impl Shared {
    pub(super) fn refusal(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the time of day in milliseconds of Unix time, as all replicas have it.
    pub(super) fn now(&self) -> u64 {
        self.options.generations.now()
    }

    /// Returns a moment's milliseconds of Unix time, as all replicas have it.
    pub(super) fn wall(&self, moment: Instant) -> u64 {
        self.options.generations.wall(moment)
    }

    /// Runs `work`, which goes through so many bytes: where it may take its time, if they are many.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if bytes > LARGE {
            self.options.tasks.spawn_blocking(work).await.ok()
        } else {
            Some(work())
        }
    }

    async fn decode(&self, value: Vec<u8>, slot: Slot) -> Answer<Found, Unanswered> {
        let most = usize::try_from(self.options.max_entry).unwrap_or(usize::MAX);
        let (length, decode) = (value.len(), move || {
            let decoded = value::decode(&value, &slot, most);
            decoded.map_err(|damage| (damage, value::identity(&value).to_vec()))
        });
        match self.run(length, decode).await {
            Some(Ok(found)) => Ok(Some(Arc::new(found))),
            Some(Err((damage, identity))) => {
                self.discard(slot, damage, &identity);
                Ok(None)
            }
            None => Err(Unanswered),
        }
    }

    /// Counts what did not verify, and has it deleted. Another Refrain's is let alone: it can read it.
    fn discard(&self, slot: Slot, damage: Damage, identity: &[u8]) {
        let index = Damage::ALL.iter().position(|known| *known == damage);
        if let Some(count) = index.and_then(|index| self.counts.damaged.get(index)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        tracing::debug!(cache.key = %slot.key.short(), reason = damage.as_str(), "entry discarded");
        if damage != Damage::Version {
            self.queue.discard(slot, identity, Instant::now());
        }
    }

    /// Returns what is told when the entry of `slot` is replaced.
    pub(super) fn replaced(&self, slot: Slot) -> Vec<u8> {
        Message::Replaced { slot, by: self.by }.encode()
    }

    fn terms(&self) -> Terms<'_> {
        Terms {
            generations: &self.options.generations,
            max_ttl: self.options.max_ttl,
        }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis({:?}, {:?})", self.0.link, self.counts())
    }
}

/// What is packed and unpacked in less time than it takes to hand it to another thread and back, about.
const LARGE: usize = 64 << 10;
