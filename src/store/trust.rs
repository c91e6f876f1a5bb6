//! How far the memory is trusted while this replica may miss purges of others.
//!
//! # Scope
//! Holds since when purges may have been missed, and says how long from its making an entry may count as fresh: an
//! entry that was made before may have been purged since. Who finds out is `store::redis`; where nothing is
//! shared, nothing is ever missed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// The trust in the memory; clones share it.
#[derive(Clone, Debug)]
pub struct Trust(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// How long an entry is trusted from the moment on that purges may have been missed.
    allowance: Duration,
    anchor: Instant,
    /// Since when purges may have been missed, microseconds since the anchor; [`KEPT`] where none were.
    lost: AtomicU64,
}

/// No purge was missed.
const KEPT: u64 = u64::MAX;

impl Trust {
    /// Makes a trust that is not lost at `now`; once it is, entries are trusted for `allowance` longer.
    pub fn new(allowance: Duration, now: Instant) -> Self {
        Self(Arc::new(Inner {
            allowance,
            anchor: now,
            lost: AtomicU64::new(KEPT),
        }))
    }

    /// Returns how long an entry that was `made` then may count as fresh from that moment on; `None` where that is as long
    /// as it is.
    pub fn of(&self, made: Instant) -> Option<Duration> {
        let lost = self.0.lost.load(Ordering::Relaxed);
        (lost != KEPT).then(|| self.since(lost, made))
    }

    #[cold]
    fn since(&self, lost: u64, made: Instant) -> Duration {
        let lost = self.0.anchor + Duration::from_micros(lost);
        let before = lost.saturating_duration_since(made);
        before.saturating_add(self.0.allowance)
    }

    /// Notes that purges may have been missed since this moment, unless some may have been since an earlier one; returns
    /// whether that is new.
    pub fn lose(&self, since: Instant) -> bool {
        let since = since.saturating_duration_since(self.0.anchor).as_micros();
        let since = u64::try_from(since).map_or(KEPT - 1, |since| since.min(KEPT - 1));
        self.0.lost.fetch_min(since, Ordering::Relaxed) == KEPT
    }

    /// Notes that none is missed; returns whether that is new.
    pub fn regain(&self) -> bool {
        self.0.lost.swap(KEPT, Ordering::Relaxed) != KEPT
    }

    /// Returns whether purges may have been missed.
    pub fn is_lost(&self) -> bool {
        self.0.lost.load(Ordering::Relaxed) != KEPT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn trust_ends_after_the_loss_or_the_making_whichever_is_later() {
        let anchor = Instant::now() + secs(1_000);
        let trust = Trust::new(secs(30), anchor);
        let at = |seconds| anchor + secs(seconds);
        assert_eq!(trust.of(at(0)), None);
        assert!(trust.lose(at(100)));
        assert!(!trust.lose(at(200)), "it was lost before");
        for (made, trusted) in [(at(100), 30), (at(500), 30), (at(40), 90), (at(0), 130)] {
            assert_eq!(trust.of(made), Some(secs(trusted)));
        }
        assert_eq!(trust.of(anchor - secs(900)), Some(secs(1_030)));
        assert!(trust.is_lost());
        assert!(trust.regain());
        assert!(!trust.regain());
        assert_eq!(trust.of(at(0)), None);
    }

    #[test]
    fn trust_without_end_is_never_over() {
        let now = Instant::now();
        let trust = Trust::new(Duration::MAX, now);
        trust.lose(now + secs(1));
        assert_eq!(trust.of(now), Some(Duration::MAX));
    }
}
