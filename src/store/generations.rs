//! Generations: what was purged, and which entries have seen that.
//!
//! A purge gives a name (`all`, a tag, a model, ...) a new random value; an entry counts as having seen the values of
//! before it was forwarded, and is dead once one of them differs. So a purge touches no entry, and none can escape it: not
//! one under way, in a queue, or being read.
//!
//! # Two clocks
//! In this process purges are counted: the count of the last one is the **epoch**, and an entry carries the epoch up to
//! which it is known to be alive ([`Seen`]). On the disk, where a count would not survive a lost write, it carries the values.
//!
//! # One registry for many replicas
//! Where replicas share entries they share the purges, too ([`shared`]): each has all of them here, and hears of new ones.
//! An entry that they share carries the era as well, the life of what they share them by: were that lost, nothing written
//! before could be told from what was purged.
//!
//! That an entry was replaced they tell each other, too (`store::heed`). Where that may have been missed, a **doubt** takes
//! the place of a purge: entries that have not seen it are alive, but looked up once more where they are shared.
//!
//! # Scope
//! Decides what is dead, what is stale, and what may be forgotten. Nothing is deleted here: entries give way lazily, to
//! reads, to evictions and to the sweep (`store::purge`). A purge may be forgotten once a sweep has found nothing that
//! it concerns; what has not been looked at since then is dead without a look (`Registry::floor`).

mod name;
mod registry;
pub mod shared;

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sha2::{Digest, Sha256};
use tokio::time::Instant;

pub use self::{
    name::{Purge, Selector, Traits, is_name},
    registry::{HEARD, LONGEST_READ, Row, TakenIn},
};
use self::{
    registry::{Era, Registry},
    shared::{Known, Plan, State, Theirs},
};
use super::{Entry, codec};

/// What was purged; clones share it.
#[derive(Clone, Debug)]
pub struct Generations(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The registry's epoch, to be read without its lock.
    epoch: AtomicU64,
    registry: RwLock<Registry>,
    /// A moment, and its milliseconds of Unix time.
    anchor: (Instant, u64),
    /// How far the clock that replicas share is ahead of that, milliseconds.
    ahead: AtomicI64,
}

/// Purges whose names are to be purged again, each with the value that it gets.
struct Fresh(Vec<(Row, u64)>);

/// Up to which epoch an entry is known to be alive, and whether a soft purge has made it stale. The epoch is all but the
/// lowest bit.
#[derive(Debug, Default)]
pub struct Seen(AtomicU64);

/// What purges have made of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Alive,
    /// A soft purge concerns it: it is stale, whatever its lifetime.
    Stale,
    /// A purge concerns it.
    Dead,
    /// No purge concerns it, but another replica may have replaced it: what they share knows.
    Doubted,
}

/// What is written of an entry beside itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inscription {
    /// The generations that concern it, as fingerprint of the name and value.
    pub pairs: Vec<(u64, u64)>,
    /// Whether a soft purge has made it stale.
    pub softened: bool,
}

/// Why a purge was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpurged {
    /// More purges are remembered than there is room for, until the next sweep.
    #[error("too many purges wait for the sweep")]
    Full,
    /// The system has no random bytes.
    #[error("no random bytes")]
    Random,
}

impl Generations {
    /// Makes a registry of no purges; `wall` is the time of day.
    pub fn new(wall: SystemTime) -> Self {
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(Arc::new(Inner {
            epoch: AtomicU64::new(0),
            registry: RwLock::default(),
            anchor: (Instant::now(), codec::millis(since)),
            ahead: AtomicI64::new(0),
        }))
    }

    /// Returns the count of the last purge: what begins now has seen that one.
    pub fn epoch(&self) -> u64 {
        self.0.epoch.load(Ordering::Acquire)
    }

    /// Returns the time of day, milliseconds of Unix time.
    pub fn now(&self) -> u64 {
        self.wall(Instant::now())
    }

    /// Does `purge`, from this moment on.
    pub fn purge(&self, purge: &Purge) -> Result<(), Unpurged> {
        let value = getrandom::u64().map_err(|_| Unpurged::Random)?;
        let (now, uptime) = (self.now(), self.uptime());
        self.change(|registry| registry.purge(purge, value, now, uptime))
    }

    /// Returns what purges have made of `entry`. Costs two loads where nothing was purged since the last look.
    pub fn standing(&self, entry: &Entry) -> Standing {
        let (seen, softened) = entry.seen.get();
        if seen == self.epoch() {
            return if softened {
                Standing::Stale
            } else {
                Standing::Alive
            };
        }
        self.look(entry, seen, softened)
    }

    /// Looks an entry up in the registry, and notes that it was.
    fn look(&self, entry: &Entry, seen: u64, softened: bool) -> Standing {
        let made = self.wall(entry.made);
        let registry = self.read();
        let standing = match registry.standing(&Traits::of(entry, made), seen) {
            Standing::Alive if softened => Standing::Stale,
            standing => standing,
        };
        if standing == Standing::Dead {
            return standing;
        }
        let stale = standing == Standing::Stale;
        if registry.doubts(seen) {
            entry.seen.advance(seen, stale);
            return Standing::Doubted;
        }
        entry.seen.advance(registry.epoch(), stale);
        standing
    }

    /// Has all entries in memory be doubted: others may have replaced them, and it was not heard.
    pub fn doubt(&self) {
        self.change(Registry::doubt);
    }

    /// Ends the doubts of `entry` that were there at `epoch`, when it was looked for and no other was found.
    pub fn vouch(&self, entry: &Entry, epoch: u64) {
        let (seen, softened) = entry.seen.get();
        let made = self.wall(entry.made);
        let standing = self.read().standing(&Traits::of(entry, made), seen);
        if standing != Standing::Dead {
            let stale = softened || standing == Standing::Stale;
            entry.seen.advance(epoch, stale);
        }
    }

    /// Returns what purges after epoch `seen` have made of something with these traits.
    pub fn since(&self, traits: &Traits<'_>, seen: u64) -> Standing {
        if seen == self.epoch() {
            return Standing::Alive;
        }
        self.read().standing(traits, seen)
    }

    /// Returns what is to be written of `entry`; `None` if it is dead.
    pub fn inscribe(&self, entry: &Entry) -> Option<Inscription> {
        let made = self.wall(entry.made);
        let traits = Traits::of(entry, made);
        let (seen, softened) = entry.seen.get();
        // One look for both: a purge between two would be written down as seen.
        let registry = self.read();
        match registry.standing(&traits, seen) {
            Standing::Dead => None,
            _ if registry.era() == Era::Unknown => None,
            standing => Some(Inscription {
                pairs: registry.pairs(&traits),
                softened: softened || standing == Standing::Stale,
            }),
        }
    }

    /// Returns what purges have made of what was written with this inscription.
    pub fn judge(&self, traits: &Traits<'_>, inscription: &Inscription) -> Standing {
        self.read().judge(traits, inscription)
    }

    /// Takes back in what was written with this inscription; `None` if it is dead.
    pub fn admit(&self, traits: &Traits<'_>, inscription: &Inscription) -> Option<Seen> {
        let registry = self.read();
        match registry.judge(traits, inscription) {
            Standing::Dead => None,
            standing => Some(Seen::at(registry.epoch(), standing == Standing::Stale)),
        }
    }

    /// Takes in what an earlier process or another replica has written; returns how many purges found no room, behind which
    /// all is purged that was made before.
    pub fn load(&self, rows: impl IntoIterator<Item = Row>) -> u64 {
        let (now, uptime) = (self.now(), self.uptime());
        self.change(|registry| registry.load(rows, now, uptime))
    }

    /// Has purges shared from now on: until it is known which there are, nothing is taken in.
    pub fn share(&self) {
        self.change(|registry| registry.begin(Era::Unknown));
    }

    /// Returns what is to be done so that this replica and the others, who keep `theirs`, know the same purges.
    pub fn plan(&self, known: Option<&Known>, is_lost: bool, theirs: &Theirs) -> Plan {
        shared::plan(&self.read().ours(), known, is_lost, theirs)
    }

    /// Takes in a purge that another replica has told of.
    pub fn take_in(&self, row: Row) -> TakenIn {
        let (now, uptime) = (self.now(), self.uptime());
        self.change(|registry| registry.take_in(row, now, uptime))
    }

    /// Does this replica's part of a plan, all but what is to be written; returns how many purges found no room.
    ///
    /// # Errors
    /// [`Unpurged::Random`]: then nothing was done.
    pub fn follow(&self, plan: Plan) -> Result<u64, Unpurged> {
        let fresh = Fresh::of(plan.anew)?;
        let (now, uptime) = (self.now(), self.uptime());
        let unfit = self.change(|registry| {
            let unfit = registry.load(plan.load, now, uptime);
            registry.note_all(&plan.there, State::Written, uptime);
            registry.note_all(&plan.put_back, State::Pending, uptime);
            registry.note_all(&plan.release, State::Released, uptime);
            fresh.purge(registry, now, uptime);
            if plan.distrust {
                registry.raise();
            }
            unfit
        });
        Ok(unfit)
    }

    /// Purges the names of these purges again, later than those were done; unless they were meanwhile.
    ///
    /// # Errors
    /// [`Unpurged::Random`]: then nothing was done.
    pub fn purge_anew(&self, rows: Vec<Row>) -> Result<(), Unpurged> {
        let fresh = Fresh::of(rows)?;
        let (now, uptime) = (self.now(), self.uptime());
        self.change(|registry| fresh.purge(registry, now, uptime));
        Ok(())
    }

    /// Goes by this era from now on: what was written in another is dead.
    pub fn begin(&self, era: u64) {
        self.change(|registry| registry.begin(Era::Of(era)));
    }

    /// Returns the purges that others are still to be told of.
    pub fn pending(&self) -> Vec<Row> {
        self.read().in_state(State::Pending)
    }

    /// Notes that others were told of these purges, unless their names were purged again.
    pub fn confirm(&self, rows: &[Row]) {
        let uptime = self.uptime();
        self.write().note_all(rows, State::Written, uptime);
    }

    /// Forgets the purges up to epoch `swept` that the others have forgotten, now that nothing in memory is left of them.
    pub fn forget_released(&self, swept: u64) {
        self.change(|registry| {
            let released = registry.released(swept);
            registry.forget(&released);
        });
    }

    /// Returns whether entries that others have written may be judged.
    pub fn is_ready(&self) -> bool {
        self.read().era() != Era::Unknown
    }

    fn change<T>(&self, change: impl FnOnce(&mut Registry) -> T) -> T {
        let mut registry = self.write();
        let result = change(&mut registry);
        self.0.epoch.store(registry.epoch(), Ordering::Release);
        result
    }

    /// Returns the purges after epoch `seen`, and the epoch now.
    pub fn after(&self, seen: u64) -> (Vec<Row>, u64) {
        let registry = self.read();
        (registry.after(seen), registry.epoch())
    }

    /// Returns what stands for the purges up to `epoch`, on whichever replica: two that know of the same have the same.
    pub fn digest(&self, epoch: u64) -> [u8; 32] {
        let mut digest = Sha256::new();
        for Row { name, value, .. } in self.read().until(epoch) {
            digest.update((name.len() as u64).to_le_bytes());
            digest.update(&name);
            digest.update(value.to_le_bytes());
        }
        digest.finalize().into()
    }

    /// Notes that a sweep for the purges up to `epoch` has found nothing dead. What may have been written since it began is left to
    /// the next.
    pub fn settle(&self, epoch: u64) {
        let uptime = self.uptime();
        self.write().settle(epoch, uptime);
    }

    /// Returns up to which epoch nothing dead is left.
    pub fn settled(&self) -> u64 {
        self.read().settled()
    }

    /// Returns up to which epoch a sweep that begins now can find that nothing dead is left. Where purges are shared,
    /// those who have not heard of one yet may still write what it concerns, for up to [`HEARD`].
    pub fn settleable(&self) -> u64 {
        self.read().settleable(self.uptime())
    }

    /// Returns the purges that may be forgotten.
    pub fn forgettable(&self) -> Vec<Row> {
        let (now, uptime) = (self.now(), self.uptime());
        self.read().forgettable(now, uptime)
    }

    /// Forgets these purges, unless their names were purged again.
    pub fn forget(&self, rows: &[Row]) {
        self.write().forget(rows);
    }

    /// Returns how many purges are remembered.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Returns whether no purge is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a moment's milliseconds of Unix time.
    pub fn wall(&self, moment: Instant) -> u64 {
        let (anchor, wall) = self.0.anchor;
        let later = codec::millis(moment.saturating_duration_since(anchor));
        let earlier = codec::millis(anchor.saturating_duration_since(moment));
        let ahead = self.0.ahead.load(Ordering::Relaxed);
        let wall = wall.saturating_add(later).saturating_sub(earlier);
        wall.saturating_add_signed(ahead)
    }

    /// Goes by another clock from now on, that which all go by who share entries: `asked` then, it told `wall` milliseconds of Unix
    /// time, which `took` so long to be read. Where that was long, what may be right is left as it is.
    pub fn set_clock(&self, wall: u64, asked: Instant, took: Duration) {
        let error = took / 2;
        let off = i128::from(wall) - i128::from(self.wall(asked + error));
        let may_be_right = off.unsigned_abs() <= error.as_millis();
        if took > PROMPT && may_be_right {
            return;
        }
        let off = i64::try_from(off).unwrap_or_default();
        self.0.ahead.fetch_add(off, Ordering::Relaxed);
    }

    /// Returns for how long this registry has been there, milliseconds. Nobody sets that clock.
    fn uptime(&self) -> u64 {
        codec::millis(self.0.anchor.0.elapsed())
    }

    fn read(&self) -> RwLockReadGuard<'_, Registry> {
        let registry = self.0.registry.read();
        registry.unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Registry> {
        let registry = self.0.registry.write();
        registry.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fresh {
    fn of(rows: Vec<Row>) -> Result<Self, Unpurged> {
        let fresh = |row| getrandom::u64().map(|value| (row, value));
        let fresh: Result<_, _> = rows.into_iter().map(fresh).collect();
        fresh.map(Self).map_err(|_| Unpurged::Random)
    }

    fn purge(self, registry: &mut Registry, now: u64, uptime: u64) {
        for (row, value) in self.0 {
            registry.renew(row, value, now, uptime);
        }
    }
}

impl Seen {
    /// Returns the mark of what has seen all purges up to `epoch`.
    pub fn at(epoch: u64, softened: bool) -> Self {
        Self(AtomicU64::new(epoch << 1 | u64::from(softened)))
    }

    /// Returns whether a soft purge is known to have made the entry stale.
    pub fn is_softened(&self) -> bool {
        self.get().1
    }

    fn get(&self) -> (u64, bool) {
        let mark = self.0.load(Ordering::Relaxed);
        (mark >> 1, mark & 1 == 1)
    }

    /// Moves on to `epoch`. Whoever gets further has seen all that the others have, stale or not.
    fn advance(&self, epoch: u64, softened: bool) {
        let mark = epoch << 1 | u64::from(softened);
        self.0.fetch_max(mark, Ordering::Relaxed);
    }
}

/// A clock that is read within this time is as good as what entries are told apart by.
const PROMPT: Duration = Duration::from_millis(200);
