//! `[[rule]]`: which calls it is for, and what it says of them.

use std::time::Duration;

use http::HeaderName;

use super::{RuleFallback, Scope, Timeouts, glob::Glob};

/// A `[[rule]]`. What it does not say is as it would be without it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Its name in the log: the operator's, else `rule-` and its number from 1.
    pub name: String,
    /// The calls that it is for.
    pub when: Match,
    /// Whether they are cached; `true` also where their nature speaks against it.
    pub cache: Option<bool>,
    /// Whose entries may be shared with whom.
    pub scope: Option<Scope>,
    /// Lifetime of what they store.
    pub ttl: Option<Duration>,
    /// Tags of what they store, beside the caller's.
    pub tags: Vec<String>,
    /// How long past its lifetime an entry is served at once, and refreshed.
    pub stale_while_revalidate: Option<Duration>,
    /// How long past its lifetime an entry may stand in for a failed upstream.
    pub stale_if_error: Option<Duration>,
    /// Timers that differ from the upstream's.
    pub timeouts: Timers,
    /// What they get when they could not be answered.
    pub fallback: RuleFallback,
}

impl Rule {
    /// Returns the request header that names the tenant, if the rule takes it from one.
    pub fn tenant(&self) -> Option<&HeaderName> {
        match &self.scope {
            Some(Scope::Header(name)) => Some(name),
            _ => None,
        }
    }
}

/// What a call has to be for a rule: everything that is stated. Of several patterns one has to fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// The model asked for.
    pub model: Vec<Glob>,
    /// The path, without the query.
    pub path: Vec<Glob>,
    /// Names of dialects.
    pub dialect: Vec<String>,
    /// The namespace, empty where the call names none.
    pub namespace: Vec<Glob>,
    /// Request headers; of one that is repeated, one value has to fit.
    pub headers: Vec<(HeaderName, Vec<Glob>)>,
    /// The caller, as the log shows it.
    pub caller: Vec<Glob>,
    /// Least temperature.
    pub min_temperature: Option<Temperature>,
    /// Greatest temperature.
    pub max_temperature: Option<Temperature>,
    /// Whether the call offers tools or functions.
    pub tools: Option<bool>,
}

/// Timers of a rule: `None` leaves the upstream's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timers {
    /// To establish a connection, TLS included.
    pub connect: Option<Timer>,
    /// From the call sent to the head of the answer.
    pub first_byte: Option<Timer>,
    /// Between two pieces of the body.
    pub idle: Option<Timer>,
    /// For the whole call.
    pub total: Option<Timer>,
}

/// A timer that is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// It never runs out.
    Off,
    /// It runs out after this time.
    After(Duration),
}

/// A sampling temperature: a finite number.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Temperature(f64);

impl Timers {
    /// Returns `timeouts` with what is set here in its place.
    pub fn over(self, timeouts: Timeouts) -> Timeouts {
        let set = |timer: Option<Timer>, other| timer.map_or(other, Timer::limit);
        Timeouts {
            connect: set(self.connect, timeouts.connect),
            first_byte: set(self.first_byte, timeouts.first_byte),
            idle: set(self.idle, timeouts.idle),
            total: set(self.total, timeouts.total),
        }
    }
}

impl Timer {
    /// Returns when it runs out, if ever.
    pub fn limit(self) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::After(time) => Some(time),
        }
    }
}

impl Temperature {
    /// What the APIs take where a call states none.
    pub const DEFAULT: Self = Self(1.0);

    /// Reads a decimal number; `None` for any other text, and where it is not finite.
    pub fn parse(text: &str) -> Option<Self> {
        let value = text.parse::<f64>().ok()?;
        value.is_finite().then_some(Self(value))
    }
}

// No temperature is NaN.
impl Eq for Temperature {}

impl std::fmt::Display for Temperature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Names of the dialects, for `match.dialect`.
pub const DIALECTS: [&str; 1] = ["chat"];
/// Most tags that a call or a rule may carry.
pub const MAX_TAGS: usize = 16;
/// Longest tag or namespace, bytes.
pub const MAX_NAME: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_changes_the_timers_that_it_names_and_no_other() {
        let seconds = |n| Some(Duration::from_secs(n));
        let upstream = Timeouts {
            connect: seconds(5),
            first_byte: seconds(600),
            idle: seconds(300),
            total: None,
        };
        assert_eq!(Timers::default().over(upstream), upstream);
        let timers = Timers {
            first_byte: Some(Timer::Off),
            total: Some(Timer::After(Duration::from_secs(9))),
            ..Timers::default()
        };
        let expected = Timeouts {
            first_byte: None,
            total: seconds(9),
            ..upstream
        };
        assert_eq!(timers.over(upstream), expected);
    }

    #[test]
    fn temperatures_compare_as_numbers() {
        let read = |text| Temperature::parse(text);
        assert_eq!(read("1"), Some(Temperature::DEFAULT));
        assert_eq!(read("7e-1"), read("0.70"));
        assert!(read("0.2") < read("0.7"));
        for text in ["", "warm", "nan", "inf", "1e999"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
