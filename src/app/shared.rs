//! The tier that replicas share, and what they agree on.

use std::sync::Arc;

use super::keep_stale;
use crate::{
    answer::tasks::Tasks,
    call::key::Secret,
    config::{Config, Redis as Settings},
    ledger::clock,
    store::{
        generations::Generations,
        proofs::Proofs,
        redis::{
            self, Layout, Link, Redis,
            sync::{self, Facts},
        },
        trust::Trust,
    },
};

/// What this replica shares with others; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) link: Link,
    pub(super) facts: Facts,
    pub(super) redis: Redis,
}

impl Shared {
    /// Joins the replicas that share a Redis, if there is to be one; it may come later.
    pub(super) async fn join(
        config: &Config,
        secret: &Secret,
        generations: &Generations,
        trust: &Trust,
        keepers: &Tasks,
        tasks: &Tasks,
    ) -> Option<Self> {
        let settings = config.store.redis.as_ref()?;
        let layout = Layout::new(&settings.prefix);
        let facts = sync::Options {
            secret: secret.clone(),
            is_configured: config.key.secret.is_some(),
            generations: generations.clone(),
            trust: trust.clone(),
            // Past both, nobody is served because of it.
            keep_proofs: config
                .cache
                .proof_ttl
                .saturating_add(config.cache.stale_if_error),
        };
        let facts = Facts::new(layout.clone(), facts);
        let greeter = facts.clone();
        let greeting = move |early| {
            let greeter = greeter.clone();
            async move { greeter.greet(&early).await }
        };
        let link = Link::start(settings.clone(), keepers, greeting).await;
        let entries = entries(config, settings, generations, tasks);
        let redis = Redis::new(link.clone(), layout, facts.clone(), entries);
        Some(Self { link, facts, redis })
    }

    /// Has everything written and heard that is shared, as long as the keepers do.
    pub(super) fn look_after(self, proofs: Proofs, keepers: &Tasks) {
        keepers.spawn_until_stop(self.redis.write_behind());
        keepers.spawn_until_stop(self.facts.look_after(self.link, proofs));
    }
}

fn entries(
    config: &Config,
    settings: &Settings,
    generations: &Generations,
    tasks: &Tasks,
) -> redis::Options {
    redis::Options {
        max_entry: config.cache.max_entry,
        max_ttl: config.cache.max_ttl,
        keep_stale: keep_stale(config),
        budget: settings.budget,
        clock: Arc::new(clock::wall),
        generations: generations.clone(),
        tasks: tasks.clone(),
    }
}
