//! Builds what the layers need, hands it to [`stack`](crate::stack), runs the listeners and ends them.

mod gauges;
mod shared;
mod stores;
mod ways;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpListener;

use self::{gauges::Gauges, stores::Stores, ways::Ways};
use crate::{
    admin::{self, Readiness, Views},
    answer::{
        tape::{Limits, Tapes, Told},
        tasks::Tasks,
    },
    cache::{
        self, keeper,
        proof::Terms,
        prover::{self, Prover},
        refresh::{self, Refreshes},
        storable::Rules,
    },
    call::{
        callers::Callers,
        key::Secret,
        keying::{self, Keying},
        plan::Policy,
    },
    config::{self, Config, Directive, OnDisconnect},
    error::Error,
    guard::{
        apology,
        coalesce::{Flights, Judge},
    },
    ledger::{
        Ledger, clock,
        journal::{Archive, Journal},
        log::Log,
        metrics::Metrics,
    },
    listen::{
        self, End,
        connections::Connections,
        cors::Cors,
        edge::{Edge, Parts},
        incoming::Budget,
        origin::Guard,
        own::Own,
        socket::Deadlines,
    },
    stack::{Stack, stack},
    store::{behind::Behind, disk, proofs::Proofs, purge::Purger},
};

/// A running Refrain. Dropping it stops at once; [`App::stop`] drains.
#[derive(Debug)]
pub struct App {
    /// Addresses that calls are accepted on.
    pub proxy: Vec<SocketAddr>,
    /// Address of the admin listener, if there is one.
    pub admin: Option<SocketAddr>,
    readiness: Readiness,
    /// Calls, and what they need to end well.
    tasks: Tasks,
    /// What runs as long as the process does.
    keepers: Tasks,
    end: End,
    drain: Duration,
    min_drain: Duration,
    /// What stands behind the memory.
    behind: Option<Behind>,
    journal: Journal,
    ledger: Ledger,
}

/// Lifetime of a chat completion where nobody says otherwise.
const CHAT_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an answer is finished for the store after its last reader left.
const LINGER: Duration = Duration::from_secs(60);
/// For calls that are cut off to be written down.
const CUT: Duration = Duration::from_secs(1);
/// What a tape that records no more holds for its slowest reader, bytes.
const WINDOW: u64 = 256 << 10;
/// For what stands behind the memory to take what still waits for it, at the end.
const FLUSH: Duration = Duration::from_secs(5);
/// The tapes' part of the memory, as a divisor.
const TAPES: u64 = 4;

impl App {
    /// Starts as `config` says. On an error nothing is left running.
    pub async fn start(config: &Config, log: Log) -> Result<Self, Error> {
        let tasks = Tasks::default();
        let readiness = Readiness::default();
        let ledger = Ledger::new(log, Metrics::new());
        let tapes = Tapes::new(limits(config), tasks.clone(), told(&ledger));
        let keepers = Tasks::default();
        let Stores {
            memory,
            disk,
            redis,
            behind,
            tiered: store,
            secret,
            proofs,
            refused,
        } = Stores::open(config, &tasks, &keepers).await?;
        let archive = behind.as_ref().map(Archive::from);
        let journal = Journal::new(ledger.totals().clone(), archive, clock::wall)?;
        let prover = prover(config, &secret, &proofs, behind.clone(), &tasks);
        let lacks_disk = disk.is_none() && config.store.disk.is_some();
        let purger = Purger::new(store.clone(), lacks_disk);
        let flights = Flights::new(
            tapes.clone(),
            store.clone(),
            judge(config),
            cache::fits,
            redis.as_ref().and_then(|redis| redis.fleet.clone()),
        );
        let policy = Arc::new(Policy::new(&config.cache, &config.upstreams, CHAT_TTL));
        let refreshes = Refreshes::new(tasks.clone(), refreshed(&ledger));
        let ways = Ways::new(config);
        let upstreams = ways.upstreams(config, &policy, &prover)?;
        let connections = Connections::new(config.limits.connections);
        if let Some(redis) = &redis {
            redis.look_after(prover.proofs().clone(), &keepers);
        }
        let keying = Keying::new(config, secret.clone(), policy.clone());
        let readings = Gauges {
            ways,
            connections: connections.clone(),
            ledger: ledger.clone(),
            memory,
            memo: keying.memo().clone(),
            disk,
            redis,
            refused,
            tapes: tapes.clone(),
            flights: flights.clone(),
            proofs: prover.proofs().clone(),
            purger: purger.clone(),
        };
        let own = own(config, &purger, &flights, &prover);
        let edge = Edge::new(Parts {
            stack: stack(
                ledger.clone(),
                apologies(config),
                store,
                prover,
                refreshes,
                flights,
                upstreams,
            ),
            ledger: ledger.clone(),
            own,
            callers: Callers::new(&config.callers, &secret),
            guard: guard(config),
            cors: Cors::new(&config.cors),
            keying,
            policy,
            budget: Budget::new(config.limits.buffered),
            pause: config.limits.body,
            tasks: tasks.clone(),
            readiness: readiness.clone(),
        })?;

        let mut app = Self {
            proxy: Vec::new(),
            admin: None,
            readiness,
            tasks,
            keepers,
            end: End::default(),
            drain: config.limits.drain,
            min_drain: config.limits.min_drain.min(config.limits.drain),
            behind,
            journal: journal.clone(),
            ledger,
        };
        let proxies = app.bind(config).await?;
        app.listen_for_operator(config, readings, purger.clone())
            .await?;
        app.listen_for_calls(proxies, &edge, deadlines(&config.limits), connections);
        app.keepers.spawn_until_stop(tapes.look_after());
        app.keepers.spawn_until_stop(purger.look_after());
        app.keepers.spawn_until_stop(journal.look_after());
        app.readiness.ready();
        Ok(app)
    }

    async fn bind(&mut self, config: &Config) -> Result<Vec<TcpListener>, Error> {
        let mut listeners = Vec::new();
        for address in &config.listen {
            let listener = listen::bind(address).await?;
            self.proxy.push(listen::address(&listener)?);
            listeners.push(listener);
        }
        Ok(listeners)
    }

    fn listen_for_calls(
        &self,
        listeners: Vec<TcpListener>,
        edge: &Edge<Stack>,
        deadlines: Deadlines,
        connections: Connections,
    ) {
        let terms = listen::Terms {
            deadlines,
            connections,
            tasks: self.tasks.clone(),
            end: self.end.clone(),
        };
        for listener in listeners {
            let serving = listen::serve(listener, edge.clone(), terms.clone());
            self.tasks.spawn(serving);
        }
    }

    async fn listen_for_operator(
        &mut self,
        config: &Config,
        gauges: Gauges,
        purger: Purger,
    ) -> Result<(), Error> {
        let Some(address) = &config.admin.listen else {
            return Ok(());
        };
        let listener = listen::bind(address).await?;
        let address = listen::address(&listener)?;
        self.admin = Some(address);
        let gauges = Arc::new(gauges);
        let metrics = gauges.clone();
        let router = admin::router(Views {
            readiness: self.readiness.clone(),
            metrics: Arc::new(move || metrics.render()),
            troubles: Arc::new(move || gauges.troubles()),
            purger,
            journal: self.journal.clone(),
            guard: Arc::new(admin::guard::Guard {
                token: config.admin.token.clone(),
                is_loopback: address.ip().is_loopback(),
            }),
        });
        // It stays up while calls drain: that is when an operator looks.
        self.keepers.spawn_until_stop(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(error = %error, "admin listener ended");
            }
        });
        Ok(())
    }

    /// Returns whether answers are also kept on the disk.
    pub fn has_disk(&self) -> bool {
        matches!(self.behind, Some(Behind::Disk(_)))
    }

    /// Drains: says that it is not ready, accepts no more calls after `[limits] min_drain`, and waits for those under way,
    /// all in all at most as long as `[limits] drain`. Returns whether all of them ended; those that did not are cut off.
    /// Whoever drops the future goes on with [`App::cut`].
    pub async fn stop(&self) -> bool {
        self.readiness.draining();
        if !self.min_drain.is_zero() {
            tokio::time::sleep(self.min_drain).await;
        }
        self.end.stop.cancel();
        let patience = self.drain.saturating_sub(self.min_drain);
        let drained = self.tasks.finish(patience).await;
        if !drained {
            tracing::warn!(drain = ?self.drain, "calls cut off: the time to drain is over");
            self.ledger.cuts_off();
            self.end.cut.cancel();
            self.tasks.finish(CUT).await;
        }
        // The last calls are counted by now.
        if !self.write_totals(FLUSH).await {
            tracing::warn!("counters of the last seconds lost: the store does not take them");
        }
        if let Some(behind) = &self.behind
            && !behind.close(FLUSH).await
        {
            tracing::warn!(store = behind.tier().as_str(), "store not closed in time");
        }
        self.keepers.finish(Duration::ZERO).await;
        drained
    }

    /// Cuts off the calls under way and ends, within a second: each leaves its line, what stands behind the memory takes what it can.
    pub async fn cut(&self) {
        self.end.stop.cancel();
        self.ledger.cuts_off();
        self.end.cut.cancel();
        let written = self.tasks.finish(CUT);
        let kept = async {
            self.write_totals(CUT / 2).await;
            match &self.behind {
                Some(behind) => behind.close(CUT / 2).await,
                None => true,
            }
        };
        tokio::join!(written, kept);
    }

    /// Has the store take the counters; returns whether it did, within `patience`.
    async fn write_totals(&self, patience: Duration) -> bool {
        let flushed = tokio::time::timeout(patience, self.journal.flush()).await;
        flushed.unwrap_or(false)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.end.stop.cancel();
    }
}

/// Returns what the proxy answers itself.
fn own(config: &Config, purger: &Purger, flights: &Flights, prover: &Prover) -> Own {
    Own {
        purger: purger.clone(),
        flights: flights.clone(),
        may_purge: config.cache.allow.contains(&Directive::Purge),
        proofs: prover.proofs().clone(),
        judges: judges(config),
    }
}

/// Returns the upstreams that judge callers' credentials; none where one is asked with the proxy's own key, so that entries
/// are made for callers that nobody has accepted.
fn judges(config: &Config) -> Vec<usize> {
    let upstreams = &config.upstreams;
    if upstreams.iter().any(|upstream| upstream.api_key.is_some()) {
        return Vec::new();
    }
    (0..upstreams.len()).collect()
}

/// Makes who asks the upstreams about credentials, with what they have said before.
fn prover(
    config: &Config,
    secret: &Secret,
    kept: &[disk::Proof],
    behind: Option<Behind>,
    tasks: &Tasks,
) -> Prover {
    // Another place under the same name has said nothing yet.
    let place =
        |upstream: &config::Upstream| vec![upstream.name.clone(), upstream.base_url.to_string()];
    let name = |upstream: &config::Upstream| upstream.name.clone();
    let places: Vec<_> = config.upstreams.iter().map(place).collect();
    let ttl = config.cache.proof_ttl;
    Prover::new(prover::Options {
        proofs: Proofs::new(secret.clone(), &places, ttl, behind, kept),
        names: config.upstreams.iter().map(name).collect(),
        asked_by: config.upstreams.iter().map(asked_by).collect(),
        terms: Terms {
            ttl,
            hold: config.cache.stale_if_error,
        },
        tasks: tasks.clone(),
    })
}

/// Returns how an upstream is asked about callers' credentials.
fn asked_by(upstream: &config::Upstream) -> config::Proof {
    // With the proxy's own key there is nothing to ask about a caller's.
    if upstream.api_key.is_some() {
        config::Proof::Off
    } else {
        upstream.proof.clone()
    }
}

/// Returns what stands before the proxy's own key where no caller has to show one.
fn guard(config: &Config) -> Guard {
    let spends =
        config.callers.is_empty() && config.upstreams.iter().any(config::Upstream::holds_key);
    Guard::new(spends, &config.limits.hosts)
}

/// Returns how callers are told of a failure. Before a circuit would let a probe through, there is nothing to try.
fn apologies(config: &Config) -> apology::Terms {
    apology::Terms {
        fallback: config.fallback.clone(),
        retry_after: config.breaker.open,
        clock: clock::wall,
    }
}

fn deadlines(limits: &config::Limits) -> Deadlines {
    Deadlines {
        header: limits.header,
        idle: limits.idle,
        write: limits.write,
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        max_entry: config.cache.max_entry,
        share: config.store.memory / TAPES,
        window: WINDOW,
        stall: config.cache.stall,
        finish: config.cache.on_disconnect == OnDisconnect::Finish,
        linger: LINGER,
    }
}

fn told(ledger: &Ledger) -> Told {
    let metrics = ledger.metrics().clone();
    Box::new(move |summary| metrics.kept(summary.kept))
}

fn refreshed(ledger: &Ledger) -> refresh::Told {
    let ledger = ledger.clone();
    Box::new(move |refreshed| ledger.refreshed(refreshed))
}

/// What is left of the memory for entries, when the tapes and the bodies of requests have their parts.
fn entries(config: &Config) -> u64 {
    let memory = config.store.memory;
    memory - memory / TAPES - keying::share(memory)
}

fn judge(config: &Config) -> Judge {
    let rules = Rules {
        max_entry: config.cache.max_entry,
        finish_reasons: config.cache.finish_reasons.clone(),
    };
    Arc::new(move |flown| keeper::keep(flown, &rules))
}
