//! `[retry]`, `[breaker]` and `[fallback]`: what becomes of a call whose upstream fails.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;

use super::Ratio;

/// `[retry]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries of a call beyond its first, on all upstreams together.
    pub attempts: u32,
    /// Further tries as a share of all calls.
    pub budget: Ratio,
    /// Longest time that an upstream's `Retry-After` is waited for.
    pub max_wait: Duration,
    /// Upper end of the time waited before the first further try; it doubles with each.
    pub backoff: Duration,
    /// Where that doubling ends.
    pub max_backoff: Duration,
}

/// `[breaker]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// How far back calls are looked at.
    pub window: Duration,
    /// How many of them there have to be before a circuit trips; at least 1.
    pub min_calls: u32,
    /// The share of failures among them that trips it; more than 0.
    pub ratio: Ratio,
    /// How long it is open the first time; it doubles with each failed probe.
    pub open: Duration,
    /// Where that doubling ends.
    pub max_open: Duration,
}

/// `[fallback]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// What a call gets that no upstream and no entry answers.
    pub mode: FallbackMode,
    /// The words of the apology.
    pub text: Arc<str>,
}

/// What a call gets that no upstream and no entry answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "lowercase", expecting = "`apology` or `error`")]
pub enum FallbackMode {
    /// A completion that says so, unless the call could not make sense of one.
    Apology,
    /// The error.
    Error,
}

/// `fallback` of a `[[rule]]`: `None` leaves what `[fallback]` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleFallback {
    /// What a call gets.
    pub mode: Option<FallbackMode>,
    /// The words of the apology.
    pub text: Option<Arc<str>>,
}

impl RuleFallback {
    /// Returns `fallback` with what is said here in its place.
    pub fn over(&self, fallback: &Fallback) -> Fallback {
        Fallback {
            mode: self.mode.unwrap_or(fallback.mode),
            text: self.text.as_ref().unwrap_or(&fallback.text).clone(),
        }
    }
}
