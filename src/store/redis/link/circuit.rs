//! When a connection is given up, and when the next one is tried: decided here, from a clock that is an argument.
//!
//! ## Closed → open
//! When the connection breaks, or after [`LATE`] asks in a row without a reply in time. A reply for which a call would not
//! have waited does not end the row: what is patient is replied to by a server, too, that is too slow for calls.
//! ## Open
//! Every ask fails at once. The keeper tries to connect: at once, then every half a second.
//! ## Open → closed
//! When a new connection has shown that it answers.
//!
//! A connection that did not last is not followed at once by the next: a server that is slow, but not slow enough to be
//! refused, would have calls wait again and again.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use crate::store::redis::trouble::Kind;

/// When the next connection to a server is tried.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tries {
    /// Since when the connection is there that others ask by.
    since: Option<Instant>,
    /// Connections in a row that did not last.
    short: u32,
    due: Option<Instant>,
}

/// Asks by a connection, in a row, that had no reply in time.
#[derive(Debug, Default)]
pub(super) struct Silence(AtomicU32);

impl Silence {
    /// Notes a reply for which a call would have waited.
    pub(super) fn broken(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Notes an ask without a reply in time; returns whether the connection is to be given up.
    pub(super) fn goes_on(&self) -> bool {
        let late = self.0.fetch_add(1, Ordering::Relaxed);
        late.saturating_add(1) >= LATE
    }
}

impl Tries {
    /// Returns when the next try is due; `None` for at once.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Returns whether the next try is due at `now`.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| due <= now)
    }

    /// Notes that a connection is there.
    pub(super) fn succeeded(&mut self, now: Instant) {
        self.since = Some(now);
        self.due = None;
    }

    /// Notes that the connection is gone, or that none came of a try; `dice` is between 0 and 1.
    pub(super) fn failed(&mut self, kind: Kind, now: Instant, dice: f64) {
        let lasted = self
            .since
            .take()
            .map(|since| now.saturating_duration_since(since));
        let pause = match lasted {
            Some(lasted) if lasted >= CALM => {
                self.short = 0;
                Duration::ZERO
            }
            Some(_) => {
                self.short = self.short.saturating_add(1);
                let doubled = PAUSE.saturating_mul(1 << self.short.min(8).saturating_sub(1));
                doubled.min(LONGEST)
            }
            // It will not change its mind soon, and each try is a line in its log.
            None if kind == Kind::Denied => LONGEST,
            None => PAUSE,
        };
        self.due = Some(now + pause.mul_f64(0.8 + dice.clamp(0.0, 1.0) * 0.4));
    }
}

/// Asks in a row without a reply in time.
const LATE: u32 = 3;
/// Between two tries, give or take a fifth: replicas that lost their server together shall not come back together.
const PAUSE: Duration = Duration::from_millis(500);
/// Where the doubling of that ends.
const LONGEST: Duration = Duration::from_secs(4);
/// How long a connection has to last for its loss to be followed at once by a try.
const CALM: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(tries: &Tries, now: Instant) -> Duration {
        tries
            .due()
            .map_or(Duration::ZERO, |due| due.saturating_duration_since(now))
    }

    #[test]
    fn the_first_try_is_at_once_and_the_next_ones_half_a_second_apart() {
        let now = Instant::now();
        let mut tries = Tries::default();
        assert!(tries.is_due(now));
        for _ in 0..5 {
            tries.failed(Kind::Io, now, 0.5);
            assert_eq!(pause(&tries, now), PAUSE);
            assert!(!tries.is_due(now) && tries.is_due(now + PAUSE));
        }
        tries.failed(Kind::Denied, now, 0.5);
        assert_eq!(pause(&tries, now), LONGEST, "a refused password");
    }

    #[test]
    fn a_connection_that_lasted_is_made_anew_at_once() {
        let now = Instant::now();
        let mut tries = Tries::default();
        tries.succeeded(now);
        tries.failed(Kind::Timeout, now + CALM, 0.5);
        assert!(tries.is_due(now + CALM));
    }

    #[test]
    fn connections_that_do_not_last_are_tried_ever_less_often() {
        let now = Instant::now();
        let mut tries = Tries::default();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            tries.succeeded(now);
            tries.failed(Kind::Timeout, now, 0.5);
            pauses.push(pause(&tries, now).as_millis());
        }
        assert_eq!(pauses.get(..5).unwrap(), [500, 1000, 2000, 4000, 4000]);
        assert_eq!(pauses.last(), Some(&4000));
        tries.succeeded(now);
        tries.failed(Kind::Timeout, now + CALM, 0.5);
        tries.succeeded(now + CALM);
        tries.failed(Kind::Timeout, now + CALM, 0.5);
        assert_eq!(pause(&tries, now + CALM), PAUSE, "it has lasted once");
    }

    #[test]
    fn tries_of_many_are_spread() {
        let now = Instant::now();
        let spread = [0.0, 1.0, 7.0].map(|dice| {
            let mut tries = Tries::default();
            tries.failed(Kind::Io, now, dice);
            pause(&tries, now).as_millis()
        });
        assert_eq!(spread, [400, 600, 600]);
    }

    #[test]
    fn it_takes_three_late_replies_in_a_row() {
        let silence = Silence::default();
        let asks = |count| (0..count).map(|_| silence.goes_on()).collect::<Vec<_>>();
        assert_eq!(asks(2), [false, false]);
        silence.broken();
        assert_eq!(asks(4), [false, false, true, true]);
    }
}
