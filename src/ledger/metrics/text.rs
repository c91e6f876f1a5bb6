//! Metrics that are counted elsewhere, in Prometheus' text form.

use std::fmt::Write as _;

/// Writes metrics without labels: name, type, help, value.
pub(super) fn rows(text: &mut String, rows: &[(&str, &str, &str, u64)]) {
    for (name, kind, help, value) in rows {
        let total = if *kind == "counter" { "_total" } else { "" };
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "# HELP refrain_{name} {help}.\n# TYPE refrain_{name} {kind}\nrefrain_{name}{total} {value}\n"
        );
    }
}

/// Writes a counter with one label.
pub(super) fn family(
    text: &mut String,
    name: &str,
    help: &str,
    label: &str,
    series: impl Iterator<Item = (&'static str, u64)>,
) {
    // Writing to a String does not fail.
    let _ = write!(
        text,
        "# HELP refrain_{name} {help}.\n# TYPE refrain_{name} counter\n"
    );
    for (value, count) in series {
        let _ = writeln!(text, "refrain_{name}_total{{{label}=\"{value}\"}} {count}");
    }
}
