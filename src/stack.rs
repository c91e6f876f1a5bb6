//! THE order of the layers. Nothing else decides it.

use tower::ServiceBuilder;

use crate::{
    cache::{Cache, CacheLayer, prover::Prover, refresh::Refreshes},
    guard::{
        apology::{self, Apology, ApologyLayer},
        breaker::{Breaker, BreakerLayer, Circuits},
        coalesce::{Coalesce, CoalesceLayer, Flights},
        failover::Failover,
        hedge::{Hedge, HedgeLayer, Hedges},
        limit::{Limit, LimitLayer, Places},
        witness::{Witness, WitnessLayer},
    },
    ledger::{Ledger, RecordLayer, Recorder},
    store::tiered::Tiered,
    upstream::Upstream,
};

/// The whole way of a call below the edge.
pub type Stack = Recorder<Apology<Cache<Coalesce<Witness<Failover<ToUpstream>>>>>>;

/// The last part of it, once for each upstream.
pub type ToUpstream = Breaker<Hedge<Limit<Upstream>>>;

/// What stands right before an upstream.
#[derive(Clone, Debug)]
pub struct Guards {
    /// Whether it is called at all.
    pub circuits: Circuits,
    /// How many calls it is sent at a time.
    pub places: Places,
    /// Which calls it is sent twice.
    pub hedges: Hedges,
}

/// Puts the layers in order; a call passes them from top to bottom, its answer from bottom to top.
pub fn stack(
    ledger: Ledger,
    apologies: apology::Terms,
    store: Tiered,
    prover: Prover,
    refreshes: Refreshes,
    flights: Flights,
    upstreams: Failover<ToUpstream>,
) -> Stack {
    let proofs = prover.proofs().clone();
    ServiceBuilder::new()
        // One line per call, also for those that fail or whose client hangs up: so it sees everything.
        .layer(RecordLayer::new(ledger))
        // Above the cache, so that a stale entry goes first and no apology is stored.
        .layer(ApologyLayer::new(apologies))
        // A hit ends here and waits for nothing below.
        .layer(CacheLayer::new(store, prover, refreshes))
        // Below the cache, so that only misses are joined; above everything that costs the upstream something.
        .layer(CoalesceLayer::new(flights))
        // Below both, so that it hears of each credential what the upstream said to it, and not to another's call.
        .layer(WitnessLayer::new(proofs))
        // To the first upstream that will have it; below the witness, which hears of the one answer that came of all tries.
        .service(upstreams)
}

/// Puts what stands right before an upstream in order; each try of a call passes it.
pub fn to_upstream(guards: &Guards, upstream: Upstream) -> ToUpstream {
    ServiceBuilder::new()
        // An upstream that fails is left alone for a while; below whoever tries again, so that each try counts.
        .layer(BreakerLayer::new(guards.circuits.clone()))
        // Above the limit, so that a second call needs a place like any other.
        .layer(HedgeLayer::new(guards.hedges.clone()))
        // Last, so that a place is taken by what really leaves, and by nothing else.
        .layer(LimitLayer::new(guards.places.clone()))
        // The only station that leaves the machine.
        .service(upstream)
}
