//! Failures on demand, each behind a model name.

use std::time::Duration;

use super::refusal::Refusal;

/// A failure that a caller can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Answers 401.
    WrongKey,
    /// Answers 429.
    Busy,
    /// Answers 500.
    Failing,
    /// Breaks the answer off and aborts the connection.
    Cut,
    /// Breaks the answer off and keeps the connection open.
    Stall,
    /// Sends the first byte late.
    Slow,
}

impl Fault {
    /// Every fault.
    pub(super) const ALL: [Self; 6] = [
        Self::WrongKey,
        Self::Busy,
        Self::Failing,
        Self::Cut,
        Self::Stall,
        Self::Slow,
    ];

    /// What [`Fault::Slow`] adds to the latency.
    pub(super) const SLOW: Duration = Duration::from_secs(5);

    /// Returns the fault that `model` asks for.
    pub(super) fn of(model: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.model() == model)
    }

    /// Returns the model name that asks for it.
    pub(super) fn model(self) -> &'static str {
        match self {
            Self::WrongKey => "mock-401",
            Self::Busy => "mock-429",
            Self::Failing => "mock-500",
            Self::Cut => "mock-cut",
            Self::Stall => "mock-stall",
            Self::Slow => "mock-slow",
        }
    }

    /// Returns the refusal that takes the answer's place, if it is that kind of fault.
    pub(super) fn refusal(self) -> Option<Refusal> {
        match self {
            Self::WrongKey => Some(Refusal::wrong_key()),
            Self::Busy => Some(Refusal::busy()),
            Self::Failing => Some(Refusal::failing()),
            Self::Cut | Self::Stall | Self::Slow => None,
        }
    }
}
