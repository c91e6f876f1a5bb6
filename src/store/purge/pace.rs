//! When everything is looked at: decided from a clock that is an argument.
//!
//! # Scope
//! Once a minute, and soon where somebody wants it; but for a tenth of the time at most, so that a store in which a look takes
//! minutes is not looked at all the time.

use std::time::Duration;

use tokio::time::Instant;

/// The looks at everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// When the next one is by itself.
    due: Instant,
    /// When one may be, after the last.
    free: Instant,
    /// Whether one is wanted sooner.
    is_wanted: bool,
}

impl Pace {
    /// Begins at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            due: now + PAUSE,
            free: now,
            is_wanted: false,
        }
    }

    /// Notes that a look is wanted as soon as may be.
    pub(super) fn want(&mut self) {
        self.is_wanted = true;
    }

    /// Returns whether one is wanted that is not due by itself.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// Returns when the next one may begin.
    pub(super) fn next(&self) -> Instant {
        if self.is_wanted {
            self.free
        } else {
            self.due.max(self.free)
        }
    }

    /// Returns whether one is due at `now` by itself.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due <= now
    }

    /// Notes the end of what was done from `begun` to `now`; `was_due` says whether the look that was due was among it.
    pub(super) fn looked(&mut self, begun: Instant, now: Instant, was_due: bool) {
        self.free = now + now.saturating_duration_since(begun) * REST;
        self.is_wanted = false;
        if was_due {
            self.due = now + PAUSE;
        }
    }
}

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(60);
/// How many times as long as a look the rest behind it is.
const REST: u32 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_look_is_once_a_minute_and_at_once_where_it_is_wanted() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(pace.next(), now + PAUSE);
        assert!(!pace.is_due(now) && !pace.is_wanted());
        pace.want();
        assert!(pace.is_wanted() && pace.next() <= now);
        pace.looked(now, now + SECOND, false);
        assert_eq!(
            pace.next(),
            now + PAUSE,
            "one that was wanted puts off none"
        );
        assert!(pace.is_due(now + PAUSE));
        pace.looked(now + PAUSE, now + PAUSE + SECOND, true);
        assert_eq!(pace.next(), now + PAUSE + SECOND + PAUSE);
    }

    #[test]
    fn a_long_look_is_followed_by_a_longer_rest_whoever_wants_the_next() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        pace.looked(now, now + 100 * SECOND, true);
        assert_eq!(pace.next(), now + 1_000 * SECOND);
        pace.want();
        assert_eq!(pace.next(), now + 1_000 * SECOND);
    }
}
