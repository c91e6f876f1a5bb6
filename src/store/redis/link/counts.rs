//! What the link has done so far.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::store::redis::trouble::Kind;

/// What the link has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Whether every server that keys lie on can be asked.
    pub up: bool,
    /// Asks that were sent.
    pub asks: u64,
    /// How long they took, all together.
    pub took: Duration,
    /// Connections that were made in place of a lost one.
    pub reconnects: u64,
    /// Asks that failed, by [`Kind::ALL`].
    pub troubles: [u64; Kind::ALL.len()],
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    asks: AtomicU64,
    micros: AtomicU64,
    reconnects: AtomicU64,
    troubles: [AtomicU64; Kind::ALL.len()],
}

impl Counters {
    /// Notes that a reply to an ask was waited for.
    pub(super) fn asked(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.asks.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Notes that an ask failed.
    pub(super) fn failed(&self, kind: Kind) {
        let index = Kind::ALL.iter().position(|known| *known == kind);
        if let Some(count) = index.and_then(|index| self.troubles.get(index)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes that a connection was let in, in place of a lost one.
    pub(super) fn reconnected(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the counts.
    pub(super) fn read(&self, up: bool) -> Counts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            up,
            asks: load(&self.asks),
            took: Duration::from_micros(load(&self.micros)),
            reconnects: load(&self.reconnects),
            troubles: self.troubles.each_ref().map(load),
        }
    }
}
