//! The ways to the upstreams: what stands before each of them, as the operator says.

use std::sync::Arc;

use crate::{
    cache::prover::Prover,
    call::plan::Policy,
    config::{self, Config},
    error::Error,
    guard::{
        breaker::{self, Circuits},
        circuit,
        failover::{self, Failover, Way},
        hedge::Hedges,
        limit::{self, Places},
        retry,
        tally::{self, Tally},
    },
    ledger::{clock, metrics},
    stack::{Guards, ToUpstream, to_upstream},
    upstream::Upstream,
};

/// What stands before each upstream, in the configuration's order, and what it counts.
#[derive(Clone, Debug)]
pub(super) struct Ways {
    named: Vec<(String, Guards)>,
    tally: Tally,
}

impl Ways {
    /// Makes what stands before the upstreams of `config`.
    pub(super) fn new(config: &Config) -> Self {
        let upstreams = config.upstreams.iter();
        let named: Vec<_> = upstreams
            .map(|upstream| (upstream.name.clone(), guards(upstream, &config.breaker)))
            .collect();
        let called: Vec<_> = config.upstreams.iter().map(|of| of.name.clone()).collect();
        Self {
            named,
            tally: Tally::new(&called),
        }
    }

    /// Prepares the upstreams themselves; connects to none yet.
    ///
    /// # Errors
    /// Those of [`Upstream::new`].
    pub(super) fn upstreams(
        &self,
        config: &Config,
        policy: &Arc<Policy>,
        prover: &Prover,
    ) -> Result<Failover<ToUpstream>, Error> {
        let rules = &config.rules;
        let way = |(upstream, (name, guards)): (&config::Upstream, &(String, Guards))| {
            let leaf = Upstream::new(upstream, rules, policy.clone())?;
            Ok(Way {
                name: name.clone(),
                timeouts: upstream.timeouts,
                inner: to_upstream(guards, leaf),
            })
        };
        let ways = config.upstreams.iter().zip(&self.named).map(way);
        let ways: Result<Vec<_>, Error> = ways.collect();
        let prover = prover.clone();
        let options = failover::Options {
            terms: retry(&config.retry),
            vouches: Arc::new(move |call| prover.vouches_for(call)),
            wall: clock::wall,
            tally: self.tally.clone(),
        };
        Ok(Failover::new(ways?, options))
    }

    /// Returns the circuits of each upstream.
    pub(super) fn circuits(&self) -> impl Iterator<Item = &Circuits> {
        self.named.iter().map(|(_, guards)| &guards.circuits)
    }

    /// Returns what came of the tries so far.
    pub(super) fn tries(&self) -> tally::Counts {
        self.tally.counts()
    }

    /// Returns what the metrics tell of each upstream.
    pub(super) fn readings(&self) -> Vec<metrics::Upstream> {
        let named = self.named.iter();
        named
            .map(|(name, guards)| metrics::Upstream {
                name: name.clone(),
                limit: guards.places.counts(),
                hedge: guards.hedges.counts(),
            })
            .collect()
    }
}

fn guards(upstream: &config::Upstream, breaker: &config::Breaker) -> Guards {
    let terms = limit::Terms {
        max_concurrent: upstream.max_concurrent,
        max_wait: upstream.max_wait,
    };
    let places = Places::new(upstream.name.clone(), terms);
    Guards {
        circuits: circuits(breaker, upstream),
        hedges: Hedges::new(upstream.hedge, places.clone()),
        places,
    }
}

fn circuits(breaker: &config::Breaker, upstream: &config::Upstream) -> Circuits {
    let config::Breaker {
        window,
        min_calls,
        ratio,
        open,
        max_open,
    } = *breaker;
    Circuits::new(breaker::Options {
        upstream: upstream.name.clone(),
        terms: circuit::Terms {
            window,
            min_calls,
            ratio: ratio.get(),
            open,
            max_open,
        },
        own_key: upstream.api_key.is_some(),
    })
}

fn retry(retry: &config::Retry) -> retry::Terms {
    let config::Retry {
        attempts,
        budget,
        max_wait,
        backoff,
        max_backoff,
    } = *retry;
    retry::Terms {
        attempts,
        budget: budget.get(),
        max_wait,
        backoff,
        max_backoff,
    }
}
