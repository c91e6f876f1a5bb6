//! Whether a credential may read the cache: what its upstream has said about it, and how long ago. Pure.
//!
//! # Scope
//! In scope `credential` an entry exists only because that very credential was accepted: it is served while an old proof is
//! renewed behind. In a wider scope the entry may be another's: nothing is served before the proof is renewed, and the
//! proof is of the model, too. A credential that was refused is not served in either, until a call of it succeeds.

use std::time::Duration;

use crate::store::proofs::Known;

/// What is known when a call asks.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// What the upstream has said of the credential.
    pub credential: Known,
    /// What it has said of the credential and the model, in scopes wider than `credential`.
    pub model: Option<Known>,
    /// Whether it can be asked beside the call.
    pub probe: bool,
    /// Whether it was asked in vain since it last said something.
    pub in_vain: bool,
    /// Whether that was so recently that it is not asked again yet.
    pub waits: bool,
}

/// How long proofs last.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// For so long a proof needs no renewal.
    pub ttl: Duration,
    /// For so long after that it holds while the upstream cannot be asked.
    pub hold: Duration,
}

/// What a credential may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may read.
    Proven,
    /// It may read; the proof is renewed behind.
    ServeAndRenew,
    /// It may read once its proof is renewed by a probe.
    RenewFirst,
    /// This call is forwarded to renew the proof; where the upstream cannot answer, the old proof holds.
    RenewByCall,
    /// It may not read: the call is forwarded.
    Unproven,
}

/// Decides what the credential of a call may do.
pub fn judge(facts: Facts, terms: Terms) -> Verdict {
    let Some(age) = age(facts) else {
        return Verdict::Unproven;
    };
    if age < terms.ttl {
        return Verdict::Proven;
    }
    let holds = age < terms.ttl.saturating_add(terms.hold);
    match facts.model {
        _ if facts.waits && holds => Verdict::Proven,
        _ if facts.waits => Verdict::Unproven,
        Some(_) if facts.probe => Verdict::RenewFirst,
        None if facts.in_vain && !holds => Verdict::Unproven,
        None if facts.probe => Verdict::ServeAndRenew,
        _ if holds => Verdict::RenewByCall,
        _ => Verdict::Unproven,
    }
}

/// Decides whether an entry may stand in for an upstream that failed.
pub fn holds(facts: Facts, terms: Terms) -> bool {
    age(facts).is_some_and(|age| age < terms.ttl.saturating_add(terms.hold))
}

/// Returns the age of the proof, if there is one.
fn age(facts: Facts) -> Option<Duration> {
    let Known::Proven(age) = facts.credential else {
        return None;
    };
    match facts.model {
        None => Some(age),
        Some(Known::Proven(since)) if since < MODEL => Some(age),
        Some(_) => None,
    }
}

/// A probe says nothing of models: what was said of one, by a call, is asked for anew after this time.
const MODEL: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TERMS: Terms = Terms {
        ttl: Duration::from_secs(60),
        hold: Duration::from_secs(600),
    };
    const FRESH: Known = Known::Proven(Duration::from_secs(59));
    const OLD: Known = Known::Proven(Duration::from_secs(60));
    const ANCIENT: Known = Known::Proven(Duration::from_secs(660));

    fn narrow(credential: Known) -> Facts {
        Facts {
            credential,
            model: None,
            probe: true,
            in_vain: false,
            waits: false,
        }
    }

    fn wide(credential: Known) -> Facts {
        Facts {
            model: Some(FRESH),
            ..narrow(credential)
        }
    }

    #[test]
    fn in_scope_credential_an_old_proof_is_renewed_behind_and_a_refusal_counts() {
        type Change = fn(&mut Facts);
        let table: &[(Known, Change, Verdict)] = &[
            (FRESH, |_| {}, Verdict::Proven),
            (FRESH, |f| f.probe = false, Verdict::Proven),
            (OLD, |_| {}, Verdict::ServeAndRenew),
            (ANCIENT, |_| {}, Verdict::ServeAndRenew),
            (OLD, |f| f.probe = false, Verdict::RenewByCall),
            (OLD, |f| f.in_vain = true, Verdict::ServeAndRenew),
            (ANCIENT, |f| f.in_vain = true, Verdict::Unproven),
            (OLD, |f| f.waits = true, Verdict::Proven),
            (ANCIENT, |f| f.waits = true, Verdict::Unproven),
            (Known::Ended, |_| {}, Verdict::Unproven),
            (Known::Missing, |_| {}, Verdict::Unproven),
        ];
        for (number, (credential, change, expected)) in table.iter().enumerate() {
            let mut facts = narrow(*credential);
            change(&mut facts);
            assert_eq!(judge(facts, TERMS), *expected, "row {number}");
        }
    }

    #[test]
    fn in_wider_scopes_nothing_is_served_before_the_proof_is_renewed() {
        type Change = fn(&mut Facts);
        let table: &[(Known, Change, Verdict)] = &[
            (FRESH, |_| {}, Verdict::Proven),
            (OLD, |_| {}, Verdict::RenewFirst),
            (ANCIENT, |_| {}, Verdict::RenewFirst),
            (OLD, |f| f.probe = false, Verdict::RenewByCall),
            (ANCIENT, |f| f.probe = false, Verdict::Unproven),
            (OLD, |f| f.waits = true, Verdict::Proven),
            (ANCIENT, |f| f.waits = true, Verdict::Unproven),
            (Known::Ended, |_| {}, Verdict::Unproven),
            (Known::Missing, |_| {}, Verdict::Unproven),
            (FRESH, |f| f.model = Some(Known::Missing), Verdict::Unproven),
            (FRESH, |f| f.model = Some(Known::Ended), Verdict::Unproven),
            (
                FRESH,
                |f| f.model = Some(Known::Proven(MODEL)),
                Verdict::Unproven,
            ),
            (FRESH, |f| f.model = Some(ANCIENT), Verdict::Proven),
        ];
        for (number, (credential, change, expected)) in table.iter().enumerate() {
            let mut facts = wide(*credential);
            change(&mut facts);
            assert_eq!(judge(facts, TERMS), *expected, "row {number}");
        }
    }

    fn known() -> impl Strategy<Value = Known> {
        prop_oneof![
            Just(Known::Missing),
            Just(Known::Ended),
            (0_u64..200_000).prop_map(|age| Known::Proven(Duration::from_secs(age))),
        ]
    }

    proptest! {
        #[test]
        fn a_credential_that_was_refused_or_never_heard_of_reads_nothing(
            model in proptest::option::of(known()), probe: bool, in_vain: bool, waits: bool, ended: bool,
        ) {
            let credential = if ended { Known::Ended } else { Known::Missing };
            let facts = Facts { credential, model, probe, in_vain, waits };
            prop_assert_eq!(judge(facts, TERMS), Verdict::Unproven);
            prop_assert!(!holds(facts, TERMS));
        }

        #[test]
        fn in_wider_scopes_only_a_young_proof_or_one_that_holds_reads_at_once(
            credential in known(), model in known(), probe: bool, in_vain: bool, waits: bool,
        ) {
            let facts = Facts { credential, model: Some(model), probe, in_vain, waits };
            let verdict = judge(facts, TERMS);
            prop_assert_ne!(verdict, Verdict::ServeAndRenew);
            let young = matches!(credential, Known::Proven(age) if age < TERMS.ttl);
            if verdict == Verdict::Proven {
                prop_assert!(matches!(model, Known::Proven(_)));
                prop_assert!(young || waits && holds(facts, TERMS));
            }
        }
    }
}
