//! Metrics that are counted elsewhere, in Prometheus' text form.

use std::{fmt::Write as _, time::Duration};

/// A metric without labels: name, type, help, value.
pub(super) type Row<'a> = (&'a str, &'a str, &'a str, u64);

/// Writes metrics without labels.
pub(super) fn rows(text: &mut String, rows: &[Row<'_>]) {
    for (name, kind, help, value) in rows {
        let total = if *kind == "counter" { "_total" } else { "" };
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "# HELP refrain_{name} {help}.\n# TYPE refrain_{name} {kind}\nrefrain_{name}{total} {value}\n"
        );
    }
}

/// Writes a counter of time.
pub(super) fn seconds(text: &mut String, name: &str, help: &str, time: Duration) {
    let seconds = time.as_secs_f64();
    // Writing to a String does not fail.
    let _ = write!(
        text,
        "# HELP refrain_{name} {help}.\n# TYPE refrain_{name} counter\nrefrain_{name}_total {seconds}\n"
    );
}

/// Writes a counter with one label.
pub(super) fn family(
    text: &mut String,
    name: &str,
    help: &str,
    label: &str,
    series: impl Iterator<Item = (&'static str, u64)>,
) {
    let labelled = series.map(|(value, count)| (self::label(label, value), count));
    counters(text, name, help, labelled);
}

/// Writes a gauge for each of `series`: its labels and its value.
pub(super) fn gauges(
    text: &mut String,
    name: &str,
    help: &str,
    series: impl Iterator<Item = (String, u64)>,
) {
    labelled(text, name, help, ("gauge", ""), series);
}

/// Writes a counter for each of `series`: its labels and its value.
pub(super) fn counters(
    text: &mut String,
    name: &str,
    help: &str,
    series: impl Iterator<Item = (String, u64)>,
) {
    labelled(text, name, help, ("counter", "_total"), series);
}

/// Returns a label; values need no escapes, being names from closed lists or the configuration.
pub(super) fn label(name: &str, value: &str) -> String {
    format!("{name}=\"{value}\"")
}

fn labelled(
    text: &mut String,
    name: &str,
    help: &str,
    (kind, suffix): (&str, &str),
    series: impl Iterator<Item = (String, u64)>,
) {
    // Writing to a String does not fail.
    let _ = write!(
        text,
        "# HELP refrain_{name} {help}.\n# TYPE refrain_{name} {kind}\n"
    );
    for (labels, value) in series {
        let _ = writeln!(text, "refrain_{name}{suffix}{{{labels}}} {value}");
    }
}
