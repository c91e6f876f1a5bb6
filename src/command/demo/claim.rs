//! Whether what the script claims was so.

use std::collections::BTreeMap;

use super::{Act, script::Claim, taking::Taking};

/// Returns every claim that does not hold, as a sentence about its scene.
pub(super) fn broken(acts: &[Act]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut before = 0;
    for act in acts {
        let claim = &act.scene.claim;
        let replayed = claim
            .replays
            .and_then(|place| acts.get(place)?.takings.first());
        let title = act.scene.title.trim();
        let complaints = [
            verdicts(claim, &act.takings),
            upstream(claim, act.upstream.saturating_sub(before)),
            bodies(&act.takings, replayed),
        ];
        broken.extend(
            complaints
                .into_iter()
                .flatten()
                .map(|complaint| format!("{title}: {complaint}")),
        );
        before = act.upstream;
    }
    broken
}

/// Returns the verdicts of a scene, each once, with how many there are of it; the rarest first.
pub(super) fn tally(takings: &[Taking]) -> Vec<(usize, &str)> {
    let mut counts = BTreeMap::new();
    for taking in takings {
        *counts.entry(taking.verdict.as_str()).or_insert(0) += 1;
    }
    let mut tally: Vec<_> = counts
        .into_iter()
        .map(|(verdict, count)| (count, verdict))
        .collect();
    tally.sort_unstable();
    tally
}

/// Returns a tally as it is read: `HIT`, or `1 MISS, 19 COLLAPSED`.
pub(super) fn spelled(tally: &[(usize, &str)]) -> String {
    match tally {
        [(1, verdict)] => named(verdict).to_owned(),
        several => {
            let counted = several
                .iter()
                .map(|(count, verdict)| format!("{count} {}", named(verdict)));
            counted.collect::<Vec<_>>().join(", ")
        }
    }
}

/// An answer without `X-Cache` has no verdict.
fn named(verdict: &str) -> &str {
    if verdict.is_empty() { "none" } else { verdict }
}

fn verdicts(claim: &Claim, takings: &[Taking]) -> Option<String> {
    let tally = tally(takings);
    (tally != claim.verdicts).then(|| {
        format!(
            "X-Cache was {}, not {}",
            spelled(&tally),
            spelled(claim.verdicts)
        )
    })
}

fn upstream(claim: &Claim, calls: u64) -> Option<String> {
    (calls != claim.upstream).then(|| format!("{calls} upstream calls, not {}", claim.upstream))
}

fn bodies(takings: &[Taking], replayed: Option<&Taking>) -> Option<String> {
    let first = replayed.or(takings.first())?;
    let equal = takings.iter().all(|taking| taking.body == first.body);
    (!equal).then(|| "the answers are not equal byte for byte".to_owned())
}
