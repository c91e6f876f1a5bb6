//! Counters and histograms, in Prometheus' form. All labels come from closed lists; `docs/telemetry.md` has them all.

use std::{
    fmt::Write as _,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use http::StatusCode;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};

use crate::{
    answer::verdict::{NotStored, Verdict},
    dialect::Dialect,
    ledger::refresh::Outcome,
    store::{
        codec::Damage,
        disk::{Counts, Kind},
        proofs::{self, Event},
        purge::Selector,
    },
};

/// Every series that calls move; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Series>);

#[derive(Debug)]
struct Series {
    registry: Registry,
    calls: [[[Counter; CLASSES]; VERDICTS]; DIALECTS],
    under_way: Gauge,
    ttfb: [Histogram; VERDICTS],
    upstream: Histogram,
    overhead: Histogram,
    stored: Counter,
    not_stored: [Counter; NotStored::ALL.len()],
    refreshes: [Counter; Outcome::ALL.len()],
    sent: Counter,
    saved_input: Counter,
    saved_output: Counter,
}

/// What is counted elsewhere and read when the metrics are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Readings {
    /// Entries in memory.
    pub entries: u64,
    /// What they take, bytes.
    pub entry_bytes: u64,
    /// Entries that gave way.
    pub evicted: u64,
    /// What open tapes hold, bytes.
    pub tape_bytes: u64,
    /// Flights under way.
    pub flights: u64,
    /// Flights led since the start.
    pub led: u64,
    /// Calls that joined a flight since the start.
    pub followers: u64,
    /// Log lines dropped since the start.
    pub log_dropped: u64,
    /// Purges by what they were about, as in [`Selector::KINDS`].
    pub purges: [u64; Selector::KINDS.len()],
    /// What the disk tier has done.
    pub disk: Counts,
    /// What upstreams have said of credentials.
    pub proofs: proofs::Counts,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    dialect: &'static str,
    verdict: &'static str,
    status_class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabel {
    verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabel {
    kind: &'static str,
}

/// Label values, by position.
const DIALECT_NAMES: [&str; DIALECTS] = ["chat", "other"];
const CLASS_NAMES: [&str; CLASSES] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const DIALECTS: usize = 2;
const CLASSES: usize = 5;
/// The verdicts, and `none` for calls that got no answer.
const VERDICTS: usize = Verdict::ALL.len() + 1;

/// Seconds: from a hit's tens of microseconds to a reasoning model's minutes.
const BUCKETS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 300.0,
];

impl Metrics {
    /// Makes all series, at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("refrain");
        let calls = Family::<CallLabels, Counter>::default();
        registry.register("calls", "Calls by how they were answered", calls.clone());
        let ttfb =
            Family::<VerdictLabel, Histogram, fn() -> Histogram>::new_with_constructor(histogram);
        registry.register_with_unit(
            "ttfb",
            "Time from a call to the first byte of its answer's body",
            Unit::Seconds,
            ttfb.clone(),
        );
        let not_stored = Family::<ReasonLabel, Counter>::default();
        registry.register(
            "not_stored",
            "Answers of keyed calls that were not stored, by reason",
            not_stored.clone(),
        );
        let refreshes = Family::<ResultLabel, Counter>::default();
        registry.register(
            "refreshes",
            "Entries asked for anew in the background, by what came of it",
            refreshes.clone(),
        );
        let saved = Family::<TokenLabel, Counter>::default();
        registry.register(
            "saved_tokens",
            "Tokens that answers from the cache or from another call would have cost",
            saved.clone(),
        );
        let series = Series {
            calls: std::array::from_fn(|dialect| {
                std::array::from_fn(|verdict| {
                    std::array::from_fn(|class| {
                        let labels = CallLabels {
                            dialect: name(&DIALECT_NAMES, dialect),
                            verdict: verdict_name(verdict),
                            status_class: name(&CLASS_NAMES, class),
                        };
                        member(&calls, &labels)
                    })
                })
            }),
            ttfb: std::array::from_fn(|verdict| {
                let verdict = verdict_name(verdict);
                member(&ttfb, &VerdictLabel { verdict })
            }),
            not_stored: NotStored::ALL.map(|reason| {
                let reason = reason.as_str();
                member(&not_stored, &ReasonLabel { reason })
            }),
            refreshes: Outcome::ALL.map(|outcome| {
                let result = outcome.as_str();
                member(&refreshes, &ResultLabel { result })
            }),
            saved_input: member(&saved, &TokenLabel { kind: "input" }),
            saved_output: member(&saved, &TokenLabel { kind: "output" }),
            under_way: gauge(&mut registry, "calls_under_way", "Calls being answered"),
            upstream: seconds(
                &mut registry,
                "upstream",
                "Time that upstreams took, per call",
            ),
            overhead: seconds(
                &mut registry,
                "overhead",
                "Total time of a call, less what the upstream took",
            ),
            stored: counter(&mut registry, "stored", "Answers stored"),
            sent: counter(&mut registry, "sent_bytes", "Body bytes sent to clients"),
            registry,
        };
        Self(Arc::new(series))
    }

    /// Notes that a call has begun.
    pub fn begun(&self) {
        self.0.under_way.inc();
    }

    /// Notes that a call has ended.
    pub fn ended(&self, ended: &Ended) {
        let series = &*self.0;
        series.under_way.dec();
        let verdict = verdict_index(ended.verdict);
        let dialect = usize::from(ended.dialect.is_none());
        let calls = series.calls.get(dialect).and_then(|of| of.get(verdict));
        if let Some(counter) = calls.and_then(|of| of.get(class_index(ended.status))) {
            counter.inc();
        }
        if let (Some(ttfb), Some(histogram)) = (ended.ttfb, series.ttfb.get(verdict)) {
            histogram.observe(ttfb.as_secs_f64());
        }
        if let Some(upstream) = ended.upstream {
            series.upstream.observe(upstream.as_secs_f64());
        }
        if let Some(overhead) = ended.overhead {
            series.overhead.observe(overhead.as_secs_f64());
        }
        series.sent.inc_by(ended.bytes);
    }

    /// Notes whether an answer was stored.
    pub fn kept(&self, kept: Result<(), NotStored>) {
        match kept {
            Ok(()) => drop(self.0.stored.inc()),
            Err(reason) => {
                let index = NotStored::ALL.iter().position(|known| *known == reason);
                if let Some(counter) = index.and_then(|index| self.0.not_stored.get(index)) {
                    counter.inc();
                }
            }
        }
    }

    /// Notes a refresh, and the time that the upstream took, where it answered.
    pub fn refreshed(&self, outcome: Outcome, upstream: Option<Duration>) {
        let index = Outcome::ALL.iter().position(|known| *known == outcome);
        if let Some(counter) = index.and_then(|index| self.0.refreshes.get(index)) {
            counter.inc();
        }
        if let Some(upstream) = upstream {
            self.0.upstream.observe(upstream.as_secs_f64());
        }
    }

    /// Notes the tokens that a caller did not have to pay for.
    pub fn saved(&self, input: u64, output: u64) {
        self.0.saved_input.inc_by(input);
        self.0.saved_output.inc_by(output);
    }

    /// Returns everything in the `OpenMetrics` text format.
    pub fn render(&self, readings: &Readings) -> String {
        let mut text = String::new();
        // Encoding into a String does not fail.
        let _ = encode(&mut text, &self.0.registry);
        let end = "# EOF\n";
        let body = text.strip_suffix(end).unwrap_or(&text).to_owned();
        body + &readings.render() + end
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// What the metrics need to know of a call that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Its dialect.
    pub dialect: Option<Dialect>,
    /// How it was answered, if it was.
    pub verdict: Option<Verdict>,
    /// With which status.
    pub status: StatusCode,
    /// Time to the first byte of the body.
    pub ttfb: Option<Duration>,
    /// Time that the upstream took, where it was asked and answered.
    pub upstream: Option<Duration>,
    /// Time that Refrain itself took, where that can be told.
    pub overhead: Option<Duration>,
    /// Body bytes sent.
    pub bytes: u64,
}

impl Readings {
    fn render(&self) -> String {
        let Self {
            entries,
            entry_bytes,
            evicted,
            tape_bytes,
            flights,
            led,
            followers,
            log_dropped,
            purges,
            disk,
            proofs,
        } = *self;
        let rows = [
            ("store_entries", "gauge", "Entries in memory", entries),
            (
                "store_bytes",
                "gauge",
                "What the entries in memory take",
                entry_bytes,
            ),
            (
                "store_evictions",
                "counter",
                "Entries that gave way to others",
                evicted,
            ),
            (
                "tape_bytes",
                "gauge",
                "What open recordings hold",
                tape_bytes,
            ),
            (
                "flights",
                "gauge",
                "Upstream calls that others can join",
                flights,
            ),
            (
                "flights_led",
                "counter",
                "Upstream calls that others could join",
                led,
            ),
            (
                "followers",
                "counter",
                "Calls that joined another's",
                followers,
            ),
            (
                "log_lines_dropped",
                "counter",
                "Log lines lost to a slow writer",
                log_dropped,
            ),
        ];
        let mut text = String::new();
        write_rows(&mut text, &rows);
        let help = "Purges, by what they were about";
        let kinds = Selector::KINDS.into_iter().zip(purges);
        write_family(&mut text, "purges", help, "kind", kinds);
        write_disk(&mut text, &disk);
        write_proofs(&mut text, &proofs);
        text
    }
}

/// Writes what the disk tier has done.
fn write_disk(text: &mut String, disk: &Counts) {
    let up = u64::from(disk.up);
    let rows = [
        ("disk_up", "gauge", "Whether the disk store works", up),
        ("disk_entries", "gauge", "Entries on the disk", disk.entries),
        (
            "disk_bytes",
            "gauge",
            "What the entries on the disk take",
            disk.bytes,
        ),
        (
            "disk_written",
            "counter",
            "Entries written to the disk",
            disk.written,
        ),
        (
            "disk_dropped",
            "counter",
            "Entries that were to be written to the disk and were not",
            disk.dropped,
        ),
        (
            "disk_evictions",
            "counter",
            "Entries on the disk that gave way to others",
            disk.evicted,
        ),
        (
            "disk_expirations",
            "counter",
            "Entries on the disk that were deleted because they were over",
            disk.expired,
        ),
        (
            "disk_slow",
            "counter",
            "Look-ups that the disk did not answer in time",
            disk.slow,
        ),
    ];
    write_rows(text, &rows);
    let errors = Kind::ALL.map(Kind::as_str).into_iter().zip(disk.errors);
    let help = "Failures of the disk, by kind";
    write_family(text, "disk_errors", help, "kind", errors);
    let damaged = Damage::ALL.map(Damage::as_str).into_iter();
    let help = "Entries on the disk that did not verify, by what was wrong";
    write_family(
        text,
        "disk_damaged",
        help,
        "reason",
        damaged.zip(disk.damaged),
    );
}

/// Writes what upstreams have said of credentials.
fn write_proofs(text: &mut String, proofs: &proofs::Counts) {
    let help = "Proofs of credentials that are kept, refusals included";
    write_rows(text, &[("kept_proofs", "gauge", help, proofs.kept)]);
    let events = Event::ALL.map(Event::as_str).into_iter().zip(proofs.events);
    let help = "What happened to proofs of credentials";
    write_family(text, "proofs", help, "event", events);
}

/// Writes metrics without labels: name, type, help, value.
fn write_rows(text: &mut String, rows: &[(&str, &str, &str, u64)]) {
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
fn write_family(
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

/// Returns one series of a family. The guard that the family hands out must not outlive the look-up: the next one would
/// wait for it for ever.
fn member<L, M, C>(family: &Family<L, M, C>, labels: &L) -> M
where
    L: Clone + Eq + std::hash::Hash,
    M: Clone,
    C: MetricConstructor<M>,
{
    family.get_or_create(labels).clone()
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

fn seconds(registry: &mut Registry, name: &str, help: &str) -> Histogram {
    let histogram = histogram();
    registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
    histogram
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::<u64, AtomicU64>::default();
    registry.register(name, help, counter.clone());
    counter
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

fn name(names: &[&'static str], index: usize) -> &'static str {
    names.get(index).copied().unwrap_or("other")
}

fn verdict_name(index: usize) -> &'static str {
    Verdict::ALL
        .get(index)
        .map_or("none", |verdict| verdict.as_str())
}

fn verdict_index(verdict: Option<Verdict>) -> usize {
    let known = Verdict::ALL.iter();
    verdict
        .and_then(|verdict| known.clone().position(|known| *known == verdict))
        .unwrap_or(VERDICTS - 1)
}

fn class_index(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_verdict_and_status_class() {
        let metrics = Metrics::new();
        metrics.begun();
        metrics.ended(&Ended {
            dialect: Some(Dialect::Chat),
            verdict: Some(Verdict::Hit),
            status: StatusCode::OK,
            ttfb: Some(Duration::from_micros(80)),
            upstream: None,
            overhead: Some(Duration::from_micros(90)),
            bytes: 12,
        });
        metrics.kept(Err(NotStored::Incomplete));
        let text = metrics.render(&Readings {
            entries: 3,
            ..Readings::default()
        });
        for line in [
            r#"refrain_calls_total{dialect="chat",verdict="hit",status_class="2xx"} 1"#,
            r#"refrain_calls_total{dialect="other",verdict="none",status_class="5xx"} 0"#,
            r#"refrain_ttfb_seconds_bucket{le="0.0001",verdict="hit"} 1"#,
            r#"refrain_not_stored_total{reason="incomplete"} 1"#,
            "refrain_calls_under_way 0",
            "refrain_sent_bytes_total 12",
            "refrain_store_entries 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert_eq!(text.matches("# EOF").count(), 1);
    }

    #[test]
    fn every_verdict_has_a_series_of_its_own() {
        let mut names: Vec<_> = (0..VERDICTS).map(verdict_name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), VERDICTS);
        assert_eq!(verdict_name(verdict_index(None)), "none");
        assert_eq!(class_index(StatusCode::SWITCHING_PROTOCOLS), 0);
    }
}
