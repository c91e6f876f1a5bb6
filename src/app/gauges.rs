//! What an operator reads off a running Refrain: metrics, and what does not work.

use super::{shared::Shared, ways::Ways};
use crate::{
    answer::tape::Tapes,
    call::keying::Memo,
    guard::{breaker::Circuits, coalesce::Flights},
    ledger::{Ledger, metrics::Readings, panics},
    listen::connections::Connections,
    store::{
        disk::{Counts, Disk},
        memory::Memory,
        proofs::Proofs,
        purge::Purger,
    },
};

/// What the metrics read when they are asked for.
#[derive(Debug)]
pub(super) struct Gauges {
    pub(super) ways: Ways,
    pub(super) connections: Connections,
    pub(super) ledger: Ledger,
    pub(super) memory: Memory,
    pub(super) memo: Memo,
    pub(super) disk: Option<Disk>,
    pub(super) redis: Option<Shared>,
    /// What stands for a disk that there is not.
    pub(super) refused: Counts,
    pub(super) tapes: Tapes,
    pub(super) flights: Flights,
    pub(super) proofs: Proofs,
    pub(super) purger: Purger,
}

impl Gauges {
    /// Returns the metrics as they are now.
    pub(super) fn render(&self) -> String {
        let (led, followers) = self.flights.counts();
        self.ledger.metrics().render(&Readings {
            entries: self.memory.entries(),
            entry_bytes: self.memory.bytes(),
            evicted: self.memory.evicted(),
            memo_bytes: self.memo.bytes(),
            tape_bytes: self.tapes.held(),
            flights: self.flights.under_way(),
            led,
            followers,
            awaited: self.flights.awaited(),
            log_dropped: self.ledger.log().dropped(),
            purges: self.purger.counts(),
            disk: self.disk.as_ref().map_or(self.refused, Disk::counts),
            redis: self.redis.as_ref().map(Shared::counts).unwrap_or_default(),
            proofs: self.proofs.counts(),
            upstreams: self.ways.readings(),
            connections: self.connections.open(),
            accept_pauses: self.connections.pauses(),
            panics: panics::count(),
            tries: self.ways.tries(),
            circuits: self.ways.circuits().map(Circuits::counts).collect(),
        })
    }

    /// Returns what does not work, a line each.
    pub(super) fn troubles(&self) -> Vec<String> {
        let troubles = self.ways.circuits().flat_map(Circuits::troubles);
        let troubles = troubles.map(|trouble| trouble.to_string());
        let redis = self.redis.as_ref().and_then(Shared::trouble);
        troubles.chain(redis).collect()
    }
}
