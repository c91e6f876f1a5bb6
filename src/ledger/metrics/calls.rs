//! How calls were answered, and how long that took.

use std::time::Duration;

use http::StatusCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::series::{self, Label, member};
use crate::{answer::verdict::Verdict, dialect::Dialect};

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

/// The series that every call moves.
#[derive(Debug)]
pub(super) struct Calls {
    ended: [[[Counter; CLASSES]; VERDICTS]; DIALECTS],
    under_way: Gauge,
    ttfb: [Histogram; VERDICTS],
    upstream: Histogram,
    overhead: Histogram,
    sent: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    dialect: &'static str,
    verdict: &'static str,
    status_class: &'static str,
}

/// Label values, by position.
const DIALECT_NAMES: [&str; DIALECTS] = ["chat", "other"];
const CLASS_NAMES: [&str; CLASSES] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const DIALECTS: usize = 2;
const CLASSES: usize = 5;
/// The verdicts, and `none` for calls that got no answer.
const VERDICTS: usize = Verdict::ALL.len() + 1;

impl Calls {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            ended: calls(registry),
            under_way: series::gauge(registry, "calls_under_way", "Calls being answered"),
            ttfb: ttfb(registry),
            upstream: series::seconds(registry, "upstream", "Time that upstreams took, per call"),
            overhead: series::seconds(
                registry,
                "overhead",
                "Total time of a call, less what the upstream took",
            ),
            sent: series::counter(registry, "sent_bytes", "Body bytes sent to clients"),
        }
    }

    pub(super) fn begun(&self) {
        self.under_way.inc();
    }

    pub(super) fn ended(&self, ended: &Ended) {
        self.under_way.dec();
        let verdict = verdict_index(ended.verdict);
        let dialect = usize::from(ended.dialect.is_none());
        let calls = self.ended.get(dialect).and_then(|of| of.get(verdict));
        if let Some(counter) = calls.and_then(|of| of.get(class_index(ended.status))) {
            counter.inc();
        }
        if let (Some(ttfb), Some(histogram)) = (ended.ttfb, self.ttfb.get(verdict)) {
            histogram.observe(ttfb.as_secs_f64());
        }
        if let Some(upstream) = ended.upstream {
            self.waited(upstream);
        }
        if let Some(overhead) = ended.overhead {
            self.overhead.observe(overhead.as_secs_f64());
        }
        self.sent.inc_by(ended.bytes);
    }

    /// Notes the time that an upstream took.
    pub(super) fn waited(&self, upstream: Duration) {
        self.upstream.observe(upstream.as_secs_f64());
    }
}

fn calls(registry: &mut Registry) -> [[[Counter; CLASSES]; VERDICTS]; DIALECTS] {
    let family = Family::<CallLabels, Counter>::default();
    registry.register("calls", "Calls by how they were answered", family.clone());
    std::array::from_fn(|dialect| {
        std::array::from_fn(|verdict| {
            std::array::from_fn(|class| {
                let labels = CallLabels {
                    dialect: name(&DIALECT_NAMES, dialect),
                    verdict: verdict_name(verdict),
                    status_class: name(&CLASS_NAMES, class),
                };
                member(&family, &labels)
            })
        })
    })
}

fn ttfb(registry: &mut Registry) -> [Histogram; VERDICTS] {
    let family =
        Family::<Label, Histogram, fn() -> Histogram>::new_with_constructor(series::histogram);
    registry.register_with_unit(
        "ttfb",
        "Time from a call to the first byte of its answer's body",
        Unit::Seconds,
        family.clone(),
    );
    std::array::from_fn(|verdict| member(&family, &[("verdict", verdict_name(verdict))]))
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
    fn every_verdict_has_a_series_of_its_own() {
        let mut names: Vec<_> = (0..VERDICTS).map(verdict_name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), VERDICTS);
        assert_eq!(verdict_name(verdict_index(None)), "none");
        assert_eq!(class_index(StatusCode::SWITCHING_PROTOCOLS), 0);
    }
}
