//! Between an entry and what is written of it.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Entry,
    codec::{self, Card, Record},
    generations::{Generations, Inscription, Traits},
    packed,
};
use crate::{answer::retold::Retold, call::Slot};

/// An entry that was found behind the memory.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) record: Record,
    /// Whether a soft purge has made it stale.
    pub(super) softened: bool,
}

/// An entry that lies behind the memory, as far as it can be told without reading it whole.
#[derive(Clone, Debug)]
pub struct Lying {
    /// Its slot.
    pub slot: Slot,
    /// Its card.
    pub card: Card,
    /// Whether a soft purge has made it stale.
    pub softened: bool,
}

/// What an entry is held to that comes back from behind the memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    /// What was purged.
    pub(super) generations: &'a Generations,
    /// Upper bound on every lifetime, also on one that was written under a laxer bound.
    pub(super) max_ttl: Duration,
}

impl Record {
    /// Returns what is written of `entry`, which was made at `made` milliseconds of Unix time and saw these generations.
    pub(super) fn of(entry: &Entry, made: u64, generations: Vec<(u64, u64)>) -> Self {
        Self {
            slot: entry.slot,
            variant: 0,
            alias: false,
            form: entry.form,
            made,
            lifetime: entry.lifetime,
            status: entry.status,
            usage: entry.usage,
            upstream: entry.upstream.clone(),
            label: entry.label.clone(),
            tags: entry.tags.clone(),
            generations,
            headers: entry.headers.clone(),
            body: entry.body.clone(),
        }
    }
}

/// Makes an entry of what was found at `now`, which is `wall` milliseconds of Unix time. Its age is never negative,
/// although clocks are set back a little. `None` for what was purged, for what only a later version writes, for what is
/// older than the clock can tell, and for what is dated ahead of it by more than [`SKEW`]: that would be fresh for as long
/// again, or for years.
pub(super) fn restore(found: &Found, terms: Terms<'_>, now: Instant, wall: u64) -> Option<Entry> {
    let Found { record, softened } = found;
    let latest = wall.saturating_add(codec::millis(SKEW));
    if record.alias || record.variant != 0 || record.made > latest {
        return None;
    }
    let traits = Traits {
        key: &record.slot.key,
        upstream: Some(record.upstream.as_bytes()),
        label: &record.label,
        tags: &record.tags,
        made: Some(record.made),
    };
    let inscription = Inscription {
        pairs: record.generations.clone(),
        softened: *softened,
    };
    let seen = terms.generations.admit(&traits, &inscription)?;
    let age = Duration::from_millis(wall.saturating_sub(record.made));
    Some(Entry {
        slot: record.slot,
        form: record.form,
        status: record.status,
        headers: packed(record.headers.clone()),
        body: record.body.clone(),
        upstream: record.upstream.clone(),
        usage: record.usage,
        made: now.checked_sub(age)?,
        lifetime: record.lifetime.min(terms.max_ttl),
        tags: record.tags.clone(),
        label: record.label.clone(),
        retold: Retold::default(),
        seen,
    })
}

impl Lying {
    /// Returns what purges go by.
    pub(super) fn traits(&self) -> Traits<'_> {
        Traits {
            key: &self.slot.key,
            upstream: Some(&self.card.upstream),
            label: &self.card.label,
            tags: &self.card.tags,
            made: Some(self.card.made),
        }
    }

    /// Returns which purges it has seen.
    pub(super) fn inscription(&self) -> Inscription {
        Inscription {
            pairs: self.card.generations.clone(),
            softened: self.softened,
        }
    }
}

/// How far clocks may be set back, or be apart, without an entry losing its date.
pub(super) const SKEW: Duration = Duration::from_secs(5 * 60);
