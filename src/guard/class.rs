//! What came of a try, as far as it says something of the upstream. Pure.
//!
//! # What counts as what
//! A failure is the upstream's: no connection, a timer that ran out, a connection that broke before or in the body, a 5xx, an
//! error instead of a stream's content by which the server blames itself. One that names nobody known is [`Class::Unclear`]:
//! for all that is known it may be the request's, which must not count against everybody's upstream. A 429 is [`Class::Busy`]: whose quota is used up depends on whose key it is. Any other
//! 4xx is the client's, and says only that somebody is there. So are a 501 and a 505: they tell of the request, and whoever
//! repeats it gets the same. 529, which one vendor says for "overloaded", is a 5xx.
//!
//! # Scope
//! It sorts. What follows for the circuit is [`Class::outcome`]'s to say, what follows for the call is the retry's. What
//! Refrain itself refuses, and what broke because of the client, is [`Class::Ours`] and says nothing.

use http::StatusCode;

use super::circuit::Outcome;
use crate::{dialect::opening::Fault, error::Kind};

/// Whose doing it is what came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The upstream did what it should.
    Success,
    /// The upstream failed.
    Failure,
    /// The upstream has no room for whoever holds the key (429).
    Busy,
    /// The upstream refuses what this client asked for.
    Client,
    /// The upstream did not do it, and does not say whose doing that is.
    Unclear,
    /// The upstream had no part in it.
    Ours,
}

impl Class {
    /// Returns the class of an upstream's answer by its `status`.
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::TOO_MANY_REQUESTS => Self::Busy,
            StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => Self::Client,
            _ if status.is_client_error() => Self::Client,
            _ if status.is_server_error() => Self::Failure,
            _ => Self::Success,
        }
    }

    /// Returns the class of an error on the way to an upstream, or in the middle of its answer.
    pub fn of_error(kind: Kind) -> Self {
        match kind {
            Kind::Unreachable | Kind::Timeout | Kind::Broken => Self::Failure,
            Kind::BadHeader
            | Kind::BadRequest
            | Kind::BadPath
            | Kind::IncompleteRequest
            | Kind::SlowRequest
            | Kind::Unauthorized
            | Kind::Forbidden
            | Kind::NotFound
            | Kind::ModelNotFound
            | Kind::NotCached
            | Kind::Busy
            | Kind::Loop
            | Kind::Unavailable
            | Kind::Stalled
            | Kind::Internal => Self::Ours,
        }
    }

    /// Returns the class of a stream that began with an error.
    pub fn of_fault(fault: Fault) -> Self {
        match fault {
            Fault::Server => Self::Failure,
            Fault::Busy => Self::Busy,
            Fault::Client => Self::Client,
            Fault::Unknown => Self::Unclear,
        }
    }

    /// Returns what it is to a circuit. `own_key`: the calls are made with the proxy's own key, so that "busy" is said to all
    /// of them and not to one caller.
    pub fn outcome(self, own_key: bool) -> Outcome {
        match self {
            Self::Success => Outcome::Success,
            Self::Failure => Outcome::Failure,
            Self::Busy if own_key => Outcome::Failure,
            Self::Busy | Self::Client | Self::Unclear => Outcome::Alive,
            Self::Ours => Outcome::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_sorted_by_whose_doing_it_is() {
        for (status, class) in [
            (101, Class::Success),
            (200, Class::Success),
            (206, Class::Success),
            (307, Class::Success),
            (400, Class::Client),
            (401, Class::Client),
            (403, Class::Client),
            (404, Class::Client),
            (408, Class::Client),
            (413, Class::Client),
            (429, Class::Busy),
            (451, Class::Client),
            (500, Class::Failure),
            (501, Class::Client),
            (502, Class::Failure),
            (503, Class::Failure),
            (504, Class::Failure),
            (505, Class::Client),
            (529, Class::Failure),
            (599, Class::Failure),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Class::of_status(status), class, "{status}");
        }
    }

    #[test]
    fn no_answer_of_the_clients_doing_is_a_failure_to_any_circuit() {
        for status in (400..500).filter(|status| *status != 429) {
            let class = Class::of_status(StatusCode::from_u16(status).unwrap());
            for own_key in [false, true] {
                assert_eq!(class.outcome(own_key), Outcome::Alive, "{status}");
            }
        }
    }

    #[test]
    fn busy_is_a_failure_only_with_the_proxys_own_key() {
        assert_eq!(Class::Busy.outcome(true), Outcome::Failure);
        assert_eq!(Class::Busy.outcome(false), Outcome::Alive);
    }

    #[test]
    fn an_error_is_the_upstreams_or_says_nothing_of_it() {
        for kind in Kind::ALL {
            let failed = Class::of_error(kind) == Class::Failure;
            // An open circuit is no news of the upstream: it would hold itself open.
            let expected = kind.is_upstream() && kind != Kind::Unavailable;
            assert_eq!(failed, expected, "{kind:?}");
            let outcome = Class::of_error(kind).outcome(true);
            assert_eq!(outcome == Outcome::Unknown, !expected, "{kind:?}");
        }
    }
}
