//! What stands before each upstream: its places, its second calls.

use super::text::{self, Kind};
use crate::guard::{hedge, limit};

/// What is read of one upstream.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    /// Its name.
    pub name: String,
    /// Its places.
    pub limit: limit::Counts,
    /// Its second calls.
    pub hedge: hedge::Counts,
}

/// Writes what stands before the upstreams.
pub(super) fn write(out: &mut String, upstreams: &[Upstream]) {
    type Reading = fn(&Upstream) -> u64;
    let families: [(&str, Kind, &str, Reading); 6] = [
        (
            "limit_taken",
            Kind::Gauge,
            "Calls that have a place at the upstream",
            |of| of.limit.taken,
        ),
        (
            "limit_waiting",
            Kind::Gauge,
            "Calls that wait for a place at the upstream",
            |of| of.limit.waiting,
        ),
        (
            "limit_waited",
            Kind::Counter,
            "Calls that had to wait for a place at the upstream",
            |of| of.limit.waited,
        ),
        (
            "limit_shed",
            Kind::Counter,
            "Calls that were refused for want of a place at the upstream",
            |of| of.limit.shed,
        ),
        (
            "hedges",
            Kind::Counter,
            "Second calls, made because the first was late",
            |of| of.hedge.sent,
        ),
        (
            "hedges_won",
            Kind::Counter,
            "Second calls that were answered first",
            |of| of.hedge.won,
        ),
    ];
    for (name, kind, help, reading) in families {
        let series = upstreams.iter().map(|of| (of.name.as_str(), reading(of)));
        text::labelled(out, (name, kind, help), "upstream", series);
    }
}
