//! What came of the tries of calls.

use std::fmt::Write as _;

use crate::guard::tally::{Count, Counts};

/// Writes what came of tries, which were repeated, and who took over.
pub(super) fn write(out: &mut String, tries: &Counts) {
    let Counts {
        tries,
        retries,
        failovers,
    } = tries;
    let help = "Tries of calls, by what came of them";
    family(out, "tries", help, ["upstream", "outcome"], tries);
    let help = "Tries that were repeated at the same upstream, by how the one before failed";
    family(out, "retries", help, ["upstream", "reason"], retries);
    let help = "Calls that went on to another upstream";
    family(out, "failovers", help, ["from", "to"], failovers);
}

/// Writes a counter with two labels. Names of upstreams are tokens: nothing in them needs escaping.
fn family(out: &mut String, name: &str, help: &str, labels: [&str; 2], series: &[Count]) {
    let [first, second] = labels;
    // Writing to a String does not fail.
    let _ = write!(
        out,
        "# HELP refrain_{name} {help}.\n# TYPE refrain_{name} counter\n"
    );
    for Count {
        upstream,
        what,
        count,
    } in series
    {
        let _ = writeln!(
            out,
            "refrain_{name}_total{{{first}=\"{upstream}\",{second}=\"{what}\"}} {count}"
        );
    }
}
