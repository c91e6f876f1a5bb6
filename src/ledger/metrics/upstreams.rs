//! What stands before each upstream: its places, its second calls.

use super::text;
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

/// What a metric tells of an upstream: name, help, value.
type Reading<'a> = (&'a str, &'a str, fn(&Upstream) -> u64);

/// Writes what stands before the upstreams.
pub(super) fn write(out: &mut String, upstreams: &[Upstream]) {
    for (name, help, value) in GAUGES {
        text::gauges(out, name, help, series(upstreams, value));
    }
    for (name, help, value) in COUNTERS {
        text::counters(out, name, help, series(upstreams, value));
    }
}

fn series(
    upstreams: &[Upstream],
    value: fn(&Upstream) -> u64,
) -> impl Iterator<Item = (String, u64)> {
    let series = upstreams.iter();
    series.map(move |of| (text::label("upstream", &of.name), value(of)))
}

const GAUGES: [Reading<'_>; 2] = [
    (
        "limit_taken",
        "Calls that have a place at the upstream",
        |of| of.limit.taken,
    ),
    (
        "limit_waiting",
        "Calls that wait for a place at the upstream",
        |of| of.limit.waiting,
    ),
];

const COUNTERS: [Reading<'_>; 4] = [
    (
        "limit_waited",
        "Calls that had to wait for a place at the upstream",
        |of| of.limit.waited,
    ),
    (
        "limit_shed",
        "Calls that were refused for want of a place at the upstream",
        |of| of.limit.shed,
    ),
    (
        "hedges",
        "Second calls, made because the first was late",
        |of| of.hedge.sent,
    ),
    (
        "hedges_won",
        "Second calls that were answered first",
        |of| of.hedge.won,
    ),
];
