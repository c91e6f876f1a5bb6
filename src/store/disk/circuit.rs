//! Whether reads are worth waiting for: a disk that has kept calls waiting is skipped for a while.
//!
//! ## Closed → open
//! After [`FAILURES`] failed reads in a row.
//! ## Open
//! Skips every read, except for one probe each [`PAUSE`].
//! ## Open → closed
//! When a read succeeds.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The circuit before the disk.
#[derive(Debug, Default)]
pub(super) struct Circuit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Reads that failed since one succeeded.
    failures: u32,
    /// While open: when the next probe is due.
    probe: Option<Instant>,
}

impl Circuit {
    /// Returns whether a read may be tried.
    pub(super) fn admits(&self, now: Instant) -> bool {
        let mut state = self.state();
        match state.probe {
            None => true,
            Some(due) if now < due => false,
            Some(_) => {
                state.probe = Some(now + PAUSE);
                true
            }
        }
    }

    /// Notes a read in time; returns whether that closed the circuit.
    pub(super) fn succeeded(&self) -> bool {
        let mut state = self.state();
        state.failures = 0;
        state.probe.take().is_some()
    }

    /// Notes a failed read; returns whether that tripped the circuit.
    pub(super) fn failed(&self, now: Instant) -> bool {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        let trips = state.probe.is_none() && state.failures >= FAILURES;
        if trips {
            state.probe = Some(now + PAUSE);
        }
        trips
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const FAILURES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_trips_after_failures_in_a_row_and_lets_one_probe_through_at_a_time() {
        let circuit = Circuit::default();
        let start = Instant::now();
        assert!(!circuit.failed(start) && !circuit.failed(start));
        assert!(!circuit.succeeded(), "it was closed");
        assert!(!circuit.failed(start) && !circuit.failed(start));
        assert!(circuit.admits(start));
        assert!(circuit.failed(start), "the third in a row");
        assert!(!circuit.failed(start), "it is tripped only once");
        assert!(!circuit.admits(start));
        let later = start + PAUSE;
        assert!(circuit.admits(later), "a probe");
        assert!(!circuit.admits(later), "one at a time");
        assert!(!circuit.failed(later));
        assert!(circuit.admits(later + PAUSE));
        assert!(circuit.succeeded());
        assert!(circuit.admits(later));
    }
}
