//! `[retry]`, `[breaker]` and `[fallback]` as they are written.

use serde::Deserialize;

use super::{
    super::{
        FallbackMode, Ratio,
        units::{Count, Span},
    },
    MINUTE, milliseconds, ratio, seconds,
};

/// `[retry]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default, expecting = "a section, `[retry]`")]
pub(in crate::config) struct Retry {
    pub(in crate::config) attempts: Count,
    pub(in crate::config) budget: Ratio,
    pub(in crate::config) max_wait: Span,
    pub(in crate::config) backoff: Span,
    pub(in crate::config) max_backoff: Span,
}

/// `[breaker]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default, expecting = "a section, `[breaker]`")]
pub(in crate::config) struct Breaker {
    pub(in crate::config) window: Span,
    pub(in crate::config) min_calls: Count,
    pub(in crate::config) ratio: Ratio,
    pub(in crate::config) open: Span,
    pub(in crate::config) max_open: Span,
}

/// `[fallback]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default, expecting = "a section, `[fallback]`")]
pub(in crate::config) struct Fallback {
    pub(in crate::config) mode: FallbackMode,
    pub(in crate::config) text: String,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: Count(2),
            budget: ratio(0.2),
            max_wait: seconds(10),
            backoff: milliseconds(250),
            max_backoff: seconds(5),
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            window: seconds(30),
            min_calls: Count(20),
            ratio: ratio(0.5),
            open: seconds(5),
            max_open: seconds(MINUTE),
        }
    }
}

impl Default for Fallback {
    fn default() -> Self {
        Self {
            mode: FallbackMode::Apology,
            text: "I'm sorry, I'm having trouble processing your request right now. Please try again in a moment."
                .to_owned(),
        }
    }
}
