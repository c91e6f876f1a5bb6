//! What the circuits of each upstream have done.

use super::text::{self, label};
use crate::guard::{breaker::Counts, circuit::State};

/// Writes what the circuits of each upstream have done.
pub(super) fn write(out: &mut String, circuits: &[Counts]) {
    let help = "The worst state of an upstream's circuits: 0 closed, 1 half-open, 2 open";
    let states = circuits
        .iter()
        .map(|counts| (of(counts), counts.state as u64));
    text::gauges(out, "circuit_state", help, states);
    let help = "How often a circuit of an upstream has become so";
    let turns = circuits.iter().flat_map(|counts| {
        let turns = State::ALL.into_iter().zip(counts.turns);
        turns.map(|(to, count)| (format!("{},to=\"{}\"", of(counts), to.as_str()), count))
    });
    text::counters(out, "circuit_transitions", help, turns);
    let help = "Calls that an upstream was spared because their circuit was open";
    let refused = circuits.iter().map(|counts| (of(counts), counts.refused));
    text::counters(out, "circuit_refused", help, refused);
}

fn of(counts: &Counts) -> String {
    label("upstream", &counts.upstream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_upstream_has_series_of_its_own() {
        let mut out = String::new();
        let counts = |upstream: &str, state| Counts {
            upstream: upstream.to_owned(),
            state,
            turns: [1, 2, 3],
            refused: 4,
        };
        write(
            &mut out,
            &[
                counts("openai", State::Open),
                counts("local", State::Closed),
            ],
        );
        for line in [
            r#"refrain_circuit_state{upstream="openai"} 2"#,
            r#"refrain_circuit_state{upstream="local"} 0"#,
            r#"refrain_circuit_transitions_total{upstream="openai",to="half_open"} 2"#,
            r#"refrain_circuit_transitions_total{upstream="openai",to="open"} 3"#,
            r#"refrain_circuit_refused_total{upstream="openai"} 4"#,
        ] {
            assert!(out.lines().any(|found| found == line), "{line} in\n{out}");
        }
    }
}
