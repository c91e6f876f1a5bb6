//! Tells the operator that the upstream refuses the proxy's own key.
//!
//! # Scope
//! Clients get the upstream's answer as it came; whose key was refused they cannot know. A caller's own key is the
//! caller's concern, and nothing is said here.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::StatusCode;
use tokio::time::Instant;

/// When the operator was last told.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Option<Instant>>);

impl Refusals {
    /// Takes note of the `status` that `upstream` answered the proxy's own key with; warns if that is a refusal, once a
    /// minute at most.
    pub fn note(&self, status: StatusCode, upstream: &str) {
        if is_refusal(status) && self.is_due(Instant::now()) {
            let status = status.as_u16();
            tracing::warn!(upstream, status, "the upstream refuses the proxy's key");
        }
    }

    /// Returns whether the operator is to be told, and takes it for done.
    fn is_due(&self, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told.is_none_or(|told| now.duration_since(told) >= PAUSE);
        if is_due {
            *told = Some(now);
        }
        is_due
    }
}

fn is_refusal(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// Least time between two warnings.
const PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_is_told_once_a_minute_at_most() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        for (seconds, is_due) in [
            (0, true),
            (0, false),
            (59, false),
            (60, true),
            (119, false),
            (500, true),
        ] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(refusals.is_due(now), is_due, "{seconds}");
        }
    }

    #[test]
    fn a_refusal_is_a_401_or_a_403() {
        for (status, expected) in [
            (StatusCode::UNAUTHORIZED, true),
            (StatusCode::FORBIDDEN, true),
            (StatusCode::OK, false),
            (StatusCode::NOT_FOUND, false),
            (StatusCode::TOO_MANY_REQUESTS, false),
            (StatusCode::INTERNAL_SERVER_ERROR, false),
        ] {
            assert_eq!(is_refusal(status), expected, "{status}");
        }
    }
}
