//! What apologies stood in for.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

use super::series;
use crate::answer::verdict::Failure;

/// The series that apologies move.
#[derive(Debug)]
pub(super) struct Apologies([Counter; Failure::ALL.len()]);

impl Apologies {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self(series::counters(
            registry,
            "apologies",
            "Calls that were given an apology, by what it stood in for",
            "reason",
            Failure::ALL.map(Failure::as_str),
        ))
    }

    pub(super) fn made(&self, failure: Failure) {
        let index = Failure::ALL.iter().position(|known| *known == failure);
        if let Some(counter) = index.and_then(|index| self.0.get(index)) {
            counter.inc();
        }
    }
}
