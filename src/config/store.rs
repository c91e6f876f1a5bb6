//! `[store]`: where entries are kept.

use std::{path::PathBuf, time::Duration};

use super::Redis;

/// `[store]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Bound of the memory tier, open tapes included, bytes.
    pub memory: u64,
    /// The disk tier; `None` when switched off, where there is no place for it, or beside Redis.
    pub disk: Option<Disk>,
    /// The Redis tier; `None` when switched off.
    pub redis: Option<Redis>,
    /// How long an entry counts as fresh once purges of other replicas may have been missed.
    pub trust: Duration,
}

/// The disk tier of `[store]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The database file.
    pub path: PathBuf,
    /// Its bound, bytes.
    pub max_size: u64,
    /// For all that a call may wait for it.
    pub budget: Duration,
}
