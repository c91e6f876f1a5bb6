//! Counters and histograms, in Prometheus' form. All labels come from closed lists; `docs/telemetry.md` has them all.
//!
//! What calls move stands in files by what it is about; what others count themselves is read when it is asked for
//! ([`Readings`]).

mod answers;
mod apologies;
mod calls;
mod circuits;
mod disk;
mod facts;
mod proofs;
pub mod redis;
mod series;
mod text;
mod tries;
mod upstreams;

use std::{sync::Arc, time::Duration};

use prometheus_client::{encoding::text::encode, registry::Registry};

use self::{answers::Answers, apologies::Apologies, calls::Calls};
pub use self::{calls::Ended, upstreams::Upstream};
use crate::{
    answer::verdict::{Failure, NotStored},
    guard::{
        breaker,
        coalesce::fleet::{self, Awaited},
        tally,
    },
    ledger::refresh::Outcome,
    store::{self, purge::Selector},
};

/// Every series that calls move; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Series>);

#[derive(Debug)]
struct Series {
    registry: Registry,
    calls: Calls,
    answers: Answers,
    apologies: Apologies,
}

/// What is counted elsewhere and read when the metrics are.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    /// Entries in memory.
    pub entries: u64,
    /// What they take, bytes.
    pub entry_bytes: u64,
    /// Entries that gave way.
    pub evicted: u64,
    /// What the bodies of requests that are remembered take, bytes.
    pub memo_bytes: u64,
    /// What open tapes hold, bytes.
    pub tape_bytes: u64,
    /// Flights under way.
    pub flights: u64,
    /// Flights led since the start.
    pub led: u64,
    /// Calls that joined a flight since the start.
    pub followers: u64,
    /// What waits for flights of other replicas came to.
    pub awaited: fleet::Counts,
    /// Log lines dropped since the start.
    pub log_dropped: u64,
    /// Purges by what they were about, as in [`Selector::KINDS`].
    pub purges: [u64; Selector::KINDS.len()],
    /// What the disk tier has done.
    pub disk: store::disk::Counts,
    /// What was done with Redis.
    pub redis: redis::Counts,
    /// What upstreams have said of credentials.
    pub proofs: store::proofs::Counts,
    /// What came of the tries of calls.
    pub tries: tally::Counts,
    /// What the circuits of each upstream have done.
    pub circuits: Vec<breaker::Counts>,
    /// What stands before each upstream.
    pub upstreams: Vec<Upstream>,
    /// Connections of clients.
    pub connections: u64,
    /// How often accepting them had to pause.
    pub accept_pauses: u64,
    /// Faults of Refrain's own that ended a task.
    pub panics: u64,
}

impl Metrics {
    /// Makes all series, at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("refrain");
        Self(Arc::new(Series {
            calls: Calls::new(&mut registry),
            answers: Answers::new(&mut registry),
            apologies: Apologies::new(&mut registry),
            registry,
        }))
    }

    /// Notes that a call has begun.
    pub fn begun(&self) {
        self.0.calls.begun();
    }

    /// Notes that a call has ended.
    pub fn ended(&self, ended: &Ended) {
        self.0.calls.ended(ended);
    }

    /// Notes whether an answer was stored.
    pub fn kept(&self, kept: Result<(), NotStored>) {
        self.0.answers.kept(kept);
    }

    /// Notes a refresh, and the time that the upstream took, where it answered.
    pub fn refreshed(&self, outcome: Outcome, upstream: Option<Duration>) {
        self.0.answers.refreshed(outcome);
        if let Some(upstream) = upstream {
            self.0.calls.waited(upstream);
        }
    }

    /// Notes an apology, and what it stood in for.
    pub fn apologised(&self, failure: Failure) {
        self.0.apologies.made(failure);
    }

    /// Notes the tokens that a caller did not have to pay for.
    pub fn saved(&self, input: u64, output: u64) {
        self.0.answers.saved(input, output);
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

impl Readings {
    fn render(&self) -> String {
        let Self {
            entries: _,
            entry_bytes: _,
            evicted: _,
            memo_bytes: _,
            tape_bytes: _,
            flights,
            led,
            followers,
            awaited,
            log_dropped,
            purges,
            ref disk,
            ref redis,
            ref proofs,
            ref circuits,
            ref upstreams,
            connections,
            accept_pauses,
            panics,
            ref tries,
        } = *self;
        let rows = [
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
            (
                "connections",
                "gauge",
                "Connections of clients",
                connections,
            ),
            (
                "accept_pauses",
                "counter",
                "Times that accepting waited for a connection to end",
                accept_pauses,
            ),
            (
                "panics",
                "counter",
                "Faults of Refrain's own that ended a task",
                panics,
            ),
        ];
        let mut out = String::new();
        text::rows(&mut out, &self.memory());
        text::rows(&mut out, &rows);
        let help = "Purges, by what they were about";
        let kinds = Selector::KINDS.into_iter().zip(purges);
        text::family(&mut out, "purges", help, "kind", kinds);
        let help = "Waits for flights of other replicas, by what they came to";
        let outcomes = Awaited::ALL.map(Awaited::as_str).into_iter().zip(awaited);
        text::family(&mut out, "flights_awaited", help, "outcome", outcomes);
        disk::write(&mut out, disk);
        redis::write(&mut out, redis);
        proofs::write(&mut out, proofs);
        circuits::write(&mut out, circuits);
        upstreams::write(&mut out, upstreams);
        tries::write(&mut out, tries);
        out
    }

    /// Returns what `[store] memory` is used for.
    fn memory(&self) -> [text::Row<'static>; 5] {
        [
            ("store_entries", "gauge", "Entries in memory", self.entries),
            (
                "store_bytes",
                "gauge",
                "What the entries in memory take",
                self.entry_bytes,
            ),
            (
                "store_evictions",
                "counter",
                "Entries that gave way to others",
                self.evicted,
            ),
            (
                "memo_bytes",
                "gauge",
                "What the bodies of requests that are remembered take",
                self.memo_bytes,
            ),
            (
                "tape_bytes",
                "gauge",
                "What open recordings hold",
                self.tape_bytes,
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::{answer::verdict::Verdict, dialect::Dialect};

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
}
