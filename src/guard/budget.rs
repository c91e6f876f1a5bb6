//! How many further tries there may be: a share of the calls, so that an outage is not multiplied. Pure.
//!
//! A bucket of tokens (as Finagle's `RetryBudget`): every call earns a part of one, every repeated try spends one. What is
//! saved up is bounded, so that an hour without trouble does not pay for a storm; and a little comes with time, so that a
//! quiet proxy can repeat a try at all.

use std::time::Instant;

/// The tokens, and when they were counted last.
#[derive(Clone, Debug)]
pub struct Budget {
    ratio: f64,
    tokens: f64,
    counted: Instant,
}

impl Budget {
    /// Makes a full budget of `ratio` tries per call; 0 allows none at all.
    pub fn new(ratio: f64, now: Instant) -> Self {
        Self {
            ratio,
            tokens: if ratio > 0.0 { MOST } else { 0.0 },
            counted: now,
        }
    }

    /// Notes a call.
    pub fn earn(&mut self) {
        self.add(self.ratio);
    }

    /// Takes what a further try costs; returns whether it was there.
    pub fn spend(&mut self, now: Instant) -> bool {
        if self.ratio > 0.0 {
            self.add(now.saturating_duration_since(self.counted).as_secs_f64() * TRICKLE);
        }
        self.counted = now;
        let affordable = self.tokens >= 1.0;
        if affordable {
            self.tokens -= 1.0;
        }
        affordable
    }

    fn add(&mut self, tokens: f64) {
        self.tokens = (self.tokens + tokens).min(MOST);
    }
}

/// Most tries that are saved up.
pub const MOST: f64 = 10.0;
/// Tries that a second brings, whatever the calls.
pub const TRICKLE: f64 = 0.1;

#[cfg(test)]
mod tests;
