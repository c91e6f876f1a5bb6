//! Whether what stands behind the memory works, and whether that is news for the operator. Pure but for its lock.
//!
//! A disk at its limit takes a small batch after it has refused a large one, again and again: that is one trouble, and is
//! told once.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// What the last try told; `K` is a kind of failure.
#[derive(Debug)]
pub(super) struct Working<K> {
    up: AtomicBool,
    told: Mutex<Option<Told<K>>>,
}

/// The last failure that the operator was told of.
#[derive(Debug)]
struct Told<K> {
    kind: K,
    at: Instant,
    /// Whether nothing better was told since.
    down: bool,
}

impl<K> Default for Working<K> {
    fn default() -> Self {
        Self {
            up: AtomicBool::new(true),
            told: Mutex::default(),
        }
    }
}

impl<K: PartialEq> Working<K> {
    /// Returns whether the last try was a success.
    pub(super) fn up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Notes a success; returns whether it is news.
    pub(super) fn works(&self) -> bool {
        if self.up.swap(true, Ordering::Relaxed) {
            return false;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.as_mut()
            .is_some_and(|told| std::mem::take(&mut told.down))
    }

    /// Notes a failure at `now`; returns whether it is news.
    pub(super) fn fails(&self, kind: K, now: Instant) -> bool {
        self.up.store(false, Ordering::Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = told.as_ref().is_some_and(|told| {
            told.down || (told.kind == kind && now.saturating_duration_since(told.at) < QUIET)
        });
        if !is_known {
            *told = Some(Told {
                kind,
                at: now,
                down: true,
            });
        }
        !is_known
    }
}

/// How long a failure of the same kind is no news, although it worked in between.
const QUIET: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::{super::disk::Kind, *};

    #[test]
    fn a_disk_that_comes_and_goes_is_told_once_a_minute() {
        let working = Working::default();
        let start = Instant::now();
        assert!(!working.works(), "it did all the time");
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            assert_eq!(working.fails(Kind::Full, now), second == 0, "{second}");
            assert!(!working.up());
            assert_eq!(working.works(), second == 0, "{second}");
            assert!(working.up());
        }
        assert!(working.fails(Kind::Full, start + QUIET));
    }

    #[test]
    fn a_disk_that_stays_away_after_a_good_moment_is_told_in_the_end() {
        let working = Working::default();
        let start = Instant::now();
        assert!(working.fails(Kind::Full, start));
        assert!(working.works());
        assert!(!working.fails(Kind::Full, start + QUIET / 2));
        assert!(working.fails(Kind::Full, start + QUIET));
        assert!(!working.fails(Kind::Full, start + QUIET * 3), "still down");
        assert!(working.works());
    }

    #[test]
    fn another_kind_of_failure_is_news() {
        let working = Working::default();
        let now = Instant::now();
        assert!(working.fails(Kind::Full, now));
        assert!(working.works());
        assert!(working.fails(Kind::Io, now));
    }
}
