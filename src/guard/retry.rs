//! Whether a call that failed is tried once more, where and when. Pure.
//!
//! # Rules
//! - A call that may have an effect goes on only while nothing of it has reached an upstream.
//! - Another upstream is asked at once. That costs no budget: it sends no more to the upstream that is in trouble. A host that several
//!   upstreams stand for gets the call once for each, and no more often.
//! - The same upstream is asked again only when no other is left, after a wait, and from the [`Budget`](super::budget):
//!   an outage must not be multiplied. Waits have full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"); what the
//!   upstream itself says is waited for, and where that is too long, nothing is.
//! - Never asked again: an upstream that is busy (its 429 goes to the client, who knows best how to wait), that has used up
//!   a timer (the call has waited for as long as the operator would), or that the call could not even be sent to for reasons of ours.

use std::time::Duration;

use http::StatusCode;

use super::{class::Class, pause::Pause};
use crate::error::Kind;

/// What the operator says of further tries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Most repeated tries of one call.
    pub attempts: u32,
    /// Repeated tries per call, over all calls.
    pub budget: f64,
    /// Longest wait that an upstream may ask for.
    pub max_wait: Duration,
    /// Most that is waited before the first repetition, where the upstream does not say; it doubles with each.
    pub backoff: Duration,
    /// Where the doubling ends.
    pub max_backoff: Duration,
}

/// How a try failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection.
    Unreachable,
    /// A timer ran out.
    Timeout,
    /// The upstream broke off before the content.
    Broken,
    /// A 5xx.
    Status,
    /// The stream began with an error, or ended, before any content.
    Stream,
    /// A 429.
    Busy,
    /// The upstream that took over does not take the proxy's own key, or has no such model.
    Refused,
    /// The circuit is open: nothing was sent.
    Unavailable,
    /// The upstream has too many calls of ours to do: nothing was sent.
    Limited,
}

/// What is known when a try has failed.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The latest failure that is worth another try at the same upstream, else the latest.
    pub failure: Failure,
    /// What that upstream says of when to come again.
    pub pause: Pause,
    /// Whether there is an upstream that was not asked yet.
    pub elsewhere: bool,
    /// Whether the call can be made twice: nothing of it has reached an upstream, or it has no effect there.
    pub repeatable: bool,
    /// How many tries were repeated for it so far.
    pub retries: u32,
    /// What is left of its time, where that is limited.
    pub left: Option<Duration>,
}

/// What is done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next upstream is asked, at once.
    NextUpstream,
    /// The same upstream is asked again, after this wait.
    Retry(Duration),
    /// It was the last try.
    GiveUp,
}

/// Decides; `affords` takes one try out of the budget, if there is one, and `random` is in `0.0..=1.0`.
pub fn next(facts: &Facts, terms: &Terms, random: f64, affords: impl FnOnce() -> bool) -> Next {
    if !facts.repeatable || facts.left == Some(Duration::ZERO) {
        return Next::GiveUp;
    }
    if facts.elsewhere {
        return Next::NextUpstream;
    }
    if !facts.failure.is_worth_repeating() || facts.retries >= terms.attempts {
        return Next::GiveUp;
    }
    match wait(facts, terms, random) {
        Some(wait) if facts.left.is_none_or(|left| wait < left) && affords() => Next::Retry(wait),
        _ => Next::GiveUp,
    }
}

/// Returns how long to wait, unless that is too long.
fn wait(facts: &Facts, terms: &Terms, random: f64) -> Option<Duration> {
    match facts.pause {
        Pause::Never => None,
        Pause::For(asked) if asked > terms.max_wait => None,
        // Not sooner than asked, and not all at the same moment.
        Pause::For(asked) => Some(asked + terms.backoff.mul_f64(random)),
        Pause::Unsaid => {
            let doubled = 2_u32.saturating_pow(facts.retries);
            let ceiling = terms.backoff.saturating_mul(doubled).min(terms.max_backoff);
            Some(ceiling.mul_f64(random))
        }
    }
}

impl Failure {
    /// Every failure, in the order of the docs.
    pub const ALL: [Self; 9] = [
        Self::Unreachable,
        Self::Timeout,
        Self::Broken,
        Self::Status,
        Self::Stream,
        Self::Busy,
        Self::Refused,
        Self::Unavailable,
        Self::Limited,
    ];

    /// Returns the word in log and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Status => "status",
            Self::Stream => "stream",
            Self::Busy => "busy",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Limited => "limited",
        }
    }

    /// Returns how a try failed that ended with an error of this `kind`; `None` where it was not the upstream that did.
    pub fn of_error(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Unreachable => Some(Self::Unreachable),
            Kind::Timeout => Some(Self::Timeout),
            Kind::Broken => Some(Self::Broken),
            Kind::Unavailable => Some(Self::Unavailable),
            Kind::Busy => Some(Self::Limited),
            _ => None,
        }
    }

    /// Returns how a try failed that was answered with this `status`; `None` where it did not. What an upstream that is not
    /// the primary says of the proxy's own key, account or models there is no answer to the caller; what is said to the
    /// `callers` own key is.
    pub fn of_status(status: StatusCode, callers: bool) -> Option<Self> {
        match Class::of_status(status) {
            Class::Busy => Some(Self::Busy),
            Class::Failure => Some(Self::Status),
            _ if !callers && OPERATORS.contains(&status) => Some(Self::Refused),
            _ => None,
        }
    }

    /// Returns whether nothing was tried at all: the proxy itself held the call back.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Unavailable | Self::Limited)
    }

    /// Returns whether the call may have reached the upstream.
    pub fn reached(self) -> bool {
        !matches!(self, Self::Unreachable | Self::Unavailable | Self::Limited)
    }

    /// Returns whether the same upstream may do better in a moment.
    pub fn is_worth_repeating(self) -> bool {
        matches!(
            self,
            Self::Unreachable | Self::Broken | Self::Status | Self::Stream
        )
    }
}

/// What an upstream says to the operator whose key it is: not let in, nothing paid, not allowed, no such model.
const OPERATORS: [StatusCode; 4] = [
    StatusCode::UNAUTHORIZED,
    StatusCode::PAYMENT_REQUIRED,
    StatusCode::FORBIDDEN,
    StatusCode::NOT_FOUND,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TERMS: Terms = Terms {
        attempts: 2,
        budget: 0.2,
        max_wait: Duration::from_secs(10),
        backoff: Duration::from_millis(250),
        max_backoff: Duration::from_secs(5),
    };

    fn facts(failure: Failure) -> Facts {
        Facts {
            failure,
            pause: Pause::Unsaid,
            elsewhere: false,
            repeatable: true,
            retries: 0,
            left: None,
        }
    }

    fn decide(facts: &Facts) -> Next {
        next(facts, &TERMS, 1.0, || true)
    }

    #[test]
    fn only_what_may_pass_is_repeated_and_everything_goes_elsewhere() {
        let repeated = |failure| matches!(decide(&facts(failure)), Next::Retry(_));
        let repeated: Vec<_> = Failure::ALL.into_iter().filter(|f| repeated(*f)).collect();
        assert_eq!(
            repeated,
            [
                Failure::Unreachable,
                Failure::Broken,
                Failure::Status,
                Failure::Stream
            ]
        );
        for failure in Failure::ALL {
            let elsewhere = Facts {
                elsewhere: true,
                ..facts(failure)
            };
            let free = next(&elsewhere, &TERMS, 1.0, || panic!("costs nothing"));
            assert_eq!(free, Next::NextUpstream, "{failure:?}");
        }
    }

    #[test]
    fn a_4xx_is_final_unless_it_is_about_the_operators_key() {
        for (status, to_caller, to_operator) in [
            (200, None, None),
            (400, None, None),
            (401, None, Some(Failure::Refused)),
            (403, None, Some(Failure::Refused)),
            (404, None, Some(Failure::Refused)),
            (408, None, None),
            (422, None, None),
            (429, Some(Failure::Busy), Some(Failure::Busy)),
            (500, Some(Failure::Status), Some(Failure::Status)),
            (501, None, None),
            (529, Some(Failure::Status), Some(Failure::Status)),
        ] {
            let code = StatusCode::from_u16(status).unwrap();
            let sorted = [true, false].map(|callers| Failure::of_status(code, callers));
            assert_eq!(sorted, [to_caller, to_operator], "{status}");
        }
    }

    #[test]
    fn every_error_of_the_upstreams_is_a_failure() {
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_upstream()) {
            assert!(Failure::of_error(kind).is_some(), "{kind:?}");
        }
        assert_eq!(Failure::of_error(Kind::IncompleteRequest), None);
    }

    #[test]
    fn a_call_that_has_had_an_effect_goes_nowhere() {
        let spent = Facts {
            repeatable: false,
            elsewhere: true,
            ..facts(Failure::Status)
        };
        assert_eq!(decide(&spent), Next::GiveUp);
    }

    #[test]
    fn waits_double_up_to_their_ceiling() {
        let patient = Terms {
            attempts: 100,
            ..TERMS
        };
        for (retries, millis) in [(0, 250), (1, 500), (4, 4_000), (5, 5_000), (99, 5_000)] {
            let facts = Facts {
                retries,
                ..facts(Failure::Status)
            };
            let wait = next(&facts, &patient, 1.0, || true);
            assert_eq!(
                wait,
                Next::Retry(Duration::from_millis(millis)),
                "{retries}"
            );
        }
    }

    #[test]
    fn what_the_upstream_asks_for_is_waited_for_within_the_cap() {
        let seconds = |seconds| Pause::For(Duration::from_secs(seconds));
        for (pause, expected) in [
            (seconds(2), Next::Retry(Duration::from_millis(2_250))),
            (seconds(10), Next::Retry(Duration::from_millis(10_250))),
            (seconds(11), Next::GiveUp),
            (Pause::Never, Next::GiveUp),
        ] {
            let facts = Facts {
                pause,
                ..facts(Failure::Status)
            };
            assert_eq!(decide(&facts), expected, "{pause:?}");
        }
    }

    #[test]
    fn there_is_an_end_to_tries_time_and_budget() {
        let exhausted = Facts {
            retries: TERMS.attempts,
            ..facts(Failure::Status)
        };
        assert_eq!(decide(&exhausted), Next::GiveUp);
        let late = Facts {
            left: Some(Duration::from_millis(250)),
            ..facts(Failure::Status)
        };
        assert_eq!(decide(&late), Next::GiveUp);
        let broke = next(&facts(Failure::Status), &TERMS, 1.0, || false);
        assert_eq!(broke, Next::GiveUp);
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_its_ceiling(
            retries in 0_u32..100,
            random in 0.0..=1.0_f64,
            asked in proptest::option::of(0_u64..20_000),
        ) {
            let patient = Terms { attempts: 100, ..TERMS };
            let asked = asked.map(Duration::from_millis);
            let facts = Facts {
                retries,
                pause: asked.map_or(Pause::Unsaid, Pause::For),
                ..facts(Failure::Status)
            };
            match next(&facts, &patient, random, || true) {
                Next::Retry(wait) => {
                    let least = asked.unwrap_or_default();
                    let most = asked.map_or(TERMS.max_backoff, |asked| asked + TERMS.backoff);
                    prop_assert!(least <= wait && wait <= most, "{wait:?}");
                }
                verdict => prop_assert!(
                    verdict == Next::GiveUp && asked.is_some_and(|asked| asked > TERMS.max_wait)
                ),
            }
        }
    }
}
