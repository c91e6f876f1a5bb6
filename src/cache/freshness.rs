//! Whether an entry fits a call: RFC 9111 §4.2 and §5.2.1, RFC 5861. Pure.

use std::time::Duration;

use crate::{answer::verdict::Reason, call::plan::Plan};

/// What is known of an entry at the moment of the call. The lifetime of one that was marked stale ended then.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Time since it was made.
    pub age: Duration,
    /// How long it is fresh.
    pub lifetime: Duration,
    /// How long it counts as fresh because purges of other replicas may have been missed; `None` where none were.
    pub trusted: Option<Duration>,
}

/// Whether an entry fits a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It is fresh enough.
    Fresh,
    /// It is past its lifetime, as far as the caller allows.
    Stale,
    /// It is past its lifetime, as far as the operator allows for the time that a new one is fetched in.
    StaleWhileRevalidate,
    /// It is not to be served, for this reason.
    No(Reason),
}

impl Facts {
    /// Returns the seconds of freshness left; negative once stale.
    pub fn ttl(self) -> i64 {
        // By whole seconds, so that it adds up with `Age`.
        let whole = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        whole(self.counted()).saturating_sub(whole(self.age))
    }

    fn is_fresh(self) -> bool {
        self.age < self.counted()
    }

    fn staleness(self) -> Duration {
        self.age.saturating_sub(self.counted())
    }

    /// Returns how long it counts as fresh.
    fn counted(self) -> Duration {
        let trusted = self.trusted.unwrap_or(Duration::MAX);
        self.lifetime.min(trusted)
    }

    /// Returns why it is not fresh any more.
    fn over(self) -> Reason {
        if self.age < self.lifetime {
            Reason::Untrusted
        } else {
            Reason::Expired
        }
    }
}

/// Decides whether an entry may answer a call.
pub fn fit(facts: Facts, plan: &Plan) -> Fit {
    if plan.refresh {
        return Fit::No(Reason::Refresh);
    }
    if plan.max_age.is_some_and(|limit| facts.age >= limit) {
        return Fit::No(Reason::MaxAge);
    }
    if facts.is_fresh() {
        let left = facts.counted().saturating_sub(facts.age);
        return match plan.min_fresh {
            Some(least) if left < least => Fit::No(Reason::MinFresh),
            _ => Fit::Fresh,
        };
    }
    // Who asks for freshness left does not take what has none, and who bounds staleness takes no more.
    let staleness = facts.staleness();
    if plan.min_fresh.is_some() || plan.max_stale.is_some_and(|limit| staleness > limit) {
        return Fit::No(facts.over());
    }
    if !plan.stale_while_revalidate.is_zero() && staleness <= plan.stale_while_revalidate {
        return Fit::StaleWhileRevalidate;
    }
    match plan.max_stale {
        Some(_) => Fit::Stale,
        None => Fit::No(facts.over()),
    }
}

/// Decides whether a newer entry than one that was passed over for this reason may answer the call.
pub fn is_cured_by_newer(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Expired
            | Reason::MaxAge
            | Reason::MinFresh
            | Reason::Untrusted
            | Reason::UsageMissing
    )
}

/// Decides whether an entry past its lifetime may stand in for a failed upstream: not where the caller asked for a new
/// answer or for freshness left, nor past the caller's own `max-age`.
pub fn stands_in(facts: Facts, plan: &Plan) -> bool {
    let too_old = plan.max_age.is_some_and(|limit| facts.age >= limit);
    let allowed = !plan.stale_if_error.is_zero() && facts.staleness() <= plan.stale_if_error;
    allowed && !too_old && !plan.refresh && plan.min_fresh.is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan() -> Plan {
        Plan {
            bypass: false,
            refresh: false,
            store: true,
            only_if_cached: false,
            apology: true,
            max_age: None,
            min_fresh: None,
            max_stale: None,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            asked_stale_if_error: false,
            lifetime: secs(100),
            asked_lifetime: false,
            namespace: String::new(),
            tags: Vec::new(),
        }
    }

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn at(age: u64) -> Facts {
        Facts {
            age: secs(age),
            lifetime: secs(100),
            trusted: None,
        }
    }

    #[test]
    fn each_directive_has_its_say() {
        type Change = fn(&mut Plan);
        let table: &[(u64, Change, Fit)] = &[
            (0, |_| {}, Fit::Fresh),
            (99, |_| {}, Fit::Fresh),
            (100, |_| {}, Fit::No(Reason::Expired)),
            (0, |p| p.refresh = true, Fit::No(Reason::Refresh)),
            (0, |p| p.max_age = Some(secs(0)), Fit::No(Reason::MaxAge)),
            (9, |p| p.max_age = Some(secs(10)), Fit::Fresh),
            (10, |p| p.max_age = Some(secs(10)), Fit::No(Reason::MaxAge)),
            (50, |p| p.min_fresh = Some(secs(50)), Fit::Fresh),
            (
                51,
                |p| p.min_fresh = Some(secs(50)),
                Fit::No(Reason::MinFresh),
            ),
            (110, |p| p.max_stale = Some(secs(10)), Fit::Stale),
            (
                111,
                |p| p.max_stale = Some(secs(10)),
                Fit::No(Reason::Expired),
            ),
            (9_999, |p| p.max_stale = Some(Duration::MAX), Fit::Stale),
            (
                110,
                |p| {
                    p.max_stale = Some(secs(60));
                    p.max_age = Some(secs(105));
                },
                Fit::No(Reason::MaxAge),
            ),
            (
                110,
                |p| {
                    p.max_stale = Some(secs(60));
                    p.min_fresh = Some(secs(0));
                },
                Fit::No(Reason::Expired),
            ),
        ];
        for (number, (age, change, expected)) in table.iter().enumerate() {
            let mut plan = plan();
            change(&mut plan);
            assert_eq!(fit(at(*age), &plan), *expected, "row {number}");
        }
    }

    #[test]
    fn for_a_while_an_entry_is_served_and_fetched_anew_unless_the_caller_says_otherwise() {
        type Change = fn(&mut Plan);
        let no = Fit::No;
        let table: &[(u64, Change, Fit)] = &[
            (99, |_| {}, Fit::Fresh),
            (100, |_| {}, Fit::StaleWhileRevalidate),
            (110, |_| {}, Fit::StaleWhileRevalidate),
            (111, |_| {}, no(Reason::Expired)),
            (105, |p| p.refresh = true, no(Reason::Refresh)),
            (105, |p| p.max_age = Some(secs(105)), no(Reason::MaxAge)),
            (105, |p| p.min_fresh = Some(secs(0)), no(Reason::Expired)),
            (105, |p| p.max_stale = Some(secs(4)), no(Reason::Expired)),
            (
                105,
                |p| p.max_stale = Some(secs(60)),
                Fit::StaleWhileRevalidate,
            ),
            (150, |p| p.max_stale = Some(secs(60)), Fit::Stale),
        ];
        for (number, (age, change, expected)) in table.iter().enumerate() {
            let mut plan = plan();
            plan.stale_while_revalidate = secs(10);
            change(&mut plan);
            assert_eq!(fit(at(*age), &plan), *expected, "row {number}");
        }
    }

    #[test]
    fn a_stale_entry_stands_in_as_long_as_stale_if_error_says() {
        let mut plan = plan();
        assert!(!stands_in(at(101), &plan));
        plan.stale_if_error = secs(5);
        assert!(stands_in(at(105), &plan));
        assert!(!stands_in(at(106), &plan));
        plan.max_age = Some(secs(104));
        assert!(stands_in(at(103), &plan));
        assert!(!stands_in(at(104), &plan), "the caller's own bound stands");
        plan.max_age = None;
        plan.min_fresh = Some(secs(0));
        assert!(!stands_in(at(101), &plan), "it has no freshness left");
        plan.min_fresh = None;
        plan.refresh = true;
        assert!(
            !stands_in(at(50), &plan),
            "who asks for a new answer does not get an old one"
        );
    }

    #[test]
    fn an_entry_that_is_not_trusted_any_more_counts_as_stale_and_says_so() {
        let untrusted = |age| Facts {
            trusted: Some(secs(40)),
            ..at(age)
        };
        let mut plan = plan();
        assert_eq!(fit(untrusted(39), &plan), Fit::Fresh);
        assert_eq!(fit(untrusted(40), &plan), Fit::No(Reason::Untrusted));
        assert_eq!(fit(untrusted(100), &plan), Fit::No(Reason::Expired));
        assert_eq!(untrusted(30).ttl(), 10);
        plan.max_stale = Some(secs(20));
        assert_eq!(fit(untrusted(60), &plan), Fit::Stale);
        assert_eq!(fit(untrusted(61), &plan), Fit::No(Reason::Untrusted));
        plan.stale_if_error = secs(30);
        assert!(stands_in(untrusted(70), &plan));
        assert!(!stands_in(untrusted(71), &plan));
    }

    #[test]
    fn a_newer_entry_cures_what_is_wrong_with_an_older_one_and_not_what_the_call_wants() {
        let cured: Vec<_> = Reason::ALL
            .into_iter()
            .filter(|reason| is_cured_by_newer(*reason))
            .map(Reason::as_str)
            .collect();
        let mut expected = [
            "expired",
            "max_age",
            "min_fresh",
            "untrusted",
            "usage_missing",
        ];
        let mut cured = cured;
        cured.sort_unstable();
        expected.sort_unstable();
        assert_eq!(cured, expected);
    }

    #[test]
    fn the_lifetime_left_is_negative_once_stale() {
        assert_eq!(at(20).ttl(), 80);
        assert_eq!(at(100).ttl(), 0);
        assert_eq!(at(130).ttl(), -30);
    }

    proptest! {
        #[test]
        fn an_entry_never_gets_fresher_with_time(
            early in 0_u64..300, later in 0_u64..300,
            max_age in proptest::option::of(0_u64..300),
            min_fresh in proptest::option::of(0_u64..300),
            max_stale in proptest::option::of(0_u64..300),
            revalidate in 0_u64..300,
        ) {
            let plan = Plan {
                max_age: max_age.map(secs),
                min_fresh: min_fresh.map(secs),
                max_stale: max_stale.map(secs),
                stale_while_revalidate: secs(revalidate),
                ..plan()
            };
            let rank = |fit| match fit {
                Fit::Fresh => 3,
                Fit::StaleWhileRevalidate => 2,
                Fit::Stale => 1,
                Fit::No(_) => 0,
            };
            let (early, later) = (early.min(later), early.max(later));
            prop_assert!(rank(fit(at(early), &plan)) >= rank(fit(at(later), &plan)));
        }
    }
}
