//! THE order of the layers. Nothing else decides it.

use tower::ServiceBuilder;

use crate::{
    cache::{Cache, CacheLayer, prover::Prover, refresh::Refreshes},
    guard::{
        breaker::{Breaker, BreakerLayer, Circuits},
        coalesce::{Coalesce, CoalesceLayer, Flights},
        witness::{Witness, WitnessLayer},
    },
    ledger::{Ledger, RecordLayer, Recorder},
    store::tiered::Tiered,
    upstream::Upstream,
};

/// The whole way of a call below the edge.
pub type Stack = Recorder<Cache<Coalesce<Witness<Breaker<Upstream>>>>>;

/// Puts the layers in order; a call passes them from top to bottom, its answer from bottom to top.
pub fn stack(
    ledger: Ledger,
    store: Tiered,
    prover: Prover,
    refreshes: Refreshes,
    flights: Flights,
    circuits: Circuits,
    upstream: Upstream,
) -> Stack {
    let proofs = prover.proofs().clone();
    let one_key = upstream.has_one_key();
    ServiceBuilder::new()
        // One line per call, also for those that fail or whose client hangs up: so it sees everything.
        .layer(RecordLayer::new(ledger))
        // A hit ends here and waits for nothing below.
        .layer(CacheLayer::new(store, prover, refreshes))
        // Below the cache, so that only misses are joined; above everything that costs the upstream something.
        .layer(CoalesceLayer::new(flights, one_key))
        // Below both, so that it hears of each credential what the upstream said to it, and not to another's call.
        .layer(WitnessLayer::new(proofs, one_key))
        // An upstream that fails is left alone for a while; closest to it, so that each try counts.
        .layer(BreakerLayer::new(circuits))
        // The only station that leaves the machine.
        .service(upstream)
}
