//! What stands behind the memory: the disk of this machine, or Redis, which replicas share. Never both.

use std::{sync::Arc, time::Duration};

use super::{
    Entry,
    disk::{self, Disk},
    generations::Row,
    redis::{Redis, Unanswered},
};
use crate::{answer::verdict::Tier, call::Slot};

/// The tier behind the memory; clones share it.
#[derive(Clone, Debug)]
pub enum Behind {
    /// A file of this machine.
    Disk(Disk),
    /// Shared by replicas.
    Redis(Redis),
}

impl Behind {
    /// Returns which tier it is.
    pub fn tier(&self) -> Tier {
        match self {
            Self::Disk(_) => Tier::Disk,
            Self::Redis(_) => Tier::Redis,
        }
    }

    /// Returns whether the entry of `slot` is worth asking for.
    pub fn holds(&self, slot: &Slot) -> bool {
        match self {
            Self::Disk(disk) => disk.holds(slot),
            Self::Redis(redis) => redis.reaches(slot),
        }
    }

    /// Returns whether the entry of `slot` is known to lie there.
    pub fn knows(&self, slot: &Slot) -> bool {
        match self {
            Self::Disk(disk) => disk.knows(slot),
            Self::Redis(_) => false,
        }
    }

    /// Returns the entry of `slot`, if there is one and it comes in time. The disk does not tell the two apart: what is in
    /// memory is nobody's but its own.
    pub async fn get(&self, slot: &Slot) -> Result<Option<Arc<Entry>>, Unanswered> {
        match self {
            Self::Disk(disk) => Ok(disk.get(slot).await.map(Arc::new)),
            Self::Redis(redis) => redis.get(slot).await,
        }
    }

    /// Has `entry` written, soon and in the background. Where it `replaces` one that other replicas may have, they hear of it.
    pub fn put(&self, entry: Arc<Entry>, replaces: bool) {
        match self {
            Self::Disk(disk) => disk.put(entry),
            Self::Redis(redis) => redis.put(entry, replaces),
        }
    }

    /// Has `proof` written, soon and in the background.
    pub fn keep_proof(&self, proof: disk::Proof) {
        match self {
            Self::Disk(disk) => disk.keep_proof(proof),
            Self::Redis(redis) => redis.keep_proof(&proof),
        }
    }

    /// Has what is known of `subject` deleted, soon and in the background.
    pub fn forget_proof(&self, subject: [u8; 32]) {
        match self {
            Self::Disk(disk) => disk.forget_proof(subject),
            // The other replicas may have room for it; there it ends with its age.
            Self::Redis(_) => {}
        }
    }

    /// Writes down what was purged; returns whether that was done.
    pub async fn save(&self) -> bool {
        match self {
            Self::Disk(disk) => disk.save().await,
            Self::Redis(redis) => redis.save().await,
        }
    }

    /// Deletes these purges; returns whether that was done.
    pub async fn forget(&self, rows: &[Row]) -> bool {
        match self {
            Self::Disk(disk) => disk.forget(rows.to_vec()).await,
            Self::Redis(redis) => redis.forget(rows).await,
        }
    }

    /// Writes what waits and closes; returns whether that was done within `patience`.
    pub async fn close(&self, patience: Duration) -> bool {
        match self {
            Self::Disk(disk) => disk.close(patience).await,
            Self::Redis(redis) => redis.close(patience).await,
        }
    }
}

impl From<Disk> for Behind {
    fn from(disk: Disk) -> Self {
        Self::Disk(disk)
    }
}

impl From<Redis> for Behind {
    fn from(redis: Redis) -> Self {
        Self::Redis(redis)
    }
}
