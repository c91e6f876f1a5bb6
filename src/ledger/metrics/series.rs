//! How the series that calls move are made: each at the start, at zero.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};

/// One label and its value.
pub(super) type Label = [(&'static str, &'static str); 1];

/// Makes one counter for each of the `values` of a `label`, in their order.
pub(super) fn counters<const N: usize>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    label: &'static str,
    values: [&'static str; N],
) -> [Counter; N] {
    let family = Family::<Label, Counter>::default();
    registry.register(name, help, family.clone());
    values.map(|value| member(&family, &[(label, value)]))
}

/// Returns one series of a family. The guard that the family hands out must not outlive the look-up: the next one would
/// wait for it for ever.
pub(super) fn member<L, M, C>(family: &Family<L, M, C>, labels: &L) -> M
where
    L: Clone + Eq + std::hash::Hash,
    M: Clone,
    C: MetricConstructor<M>,
{
    family.get_or_create(labels).clone()
}

/// Makes a counter without labels.
pub(super) fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::<u64, AtomicU64>::default();
    registry.register(name, help, counter.clone());
    counter
}

/// Makes a gauge without labels.
pub(super) fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

/// Makes a histogram of seconds without labels.
pub(super) fn seconds(registry: &mut Registry, name: &str, help: &str) -> Histogram {
    let histogram = histogram();
    registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
    histogram
}

/// Makes a histogram that belongs to no family yet.
pub(super) fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

/// Seconds: from a hit's tens of microseconds to a reasoning model's minutes.
const BUCKETS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 300.0,
];
