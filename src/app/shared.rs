//! What replicas share, where there is a Redis: the link to it, and what goes by it.

use std::sync::Arc;

use super::keep_stale;
use crate::{
    answer::tasks::Tasks,
    config::Config,
    ledger::{clock, metrics::redis::Counts},
    store::{
        generations::Generations,
        redis::{Link, Options, Redis, layout::Layout},
    },
};

/// What is shared; clones share it, too.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) link: Link,
    pub(super) entries: Redis,
}

impl Shared {
    /// Connects to Redis, if there is to be one; it may come later. `keepers` run what goes on as long as the process.
    pub(super) async fn connect(
        config: &Config,
        generations: Generations,
        tasks: &Tasks,
        keepers: &Tasks,
    ) -> Option<Self> {
        let redis = config.store.redis.clone()?;
        let (layout, budget) = (Layout::new(&redis.prefix), redis.budget);
        let link = Link::start(redis, keepers, |_| async { Ok(()) }).await;
        let options = Options {
            max_entry: config.cache.max_entry,
            max_ttl: config.cache.max_ttl,
            keep_stale: keep_stale(config),
            budget,
            clock: Arc::new(clock::wall),
            generations,
            tasks: tasks.clone(),
        };
        let entries = Redis::new(link.clone(), layout, options);
        keepers.spawn_until_stop(entries.clone().write_behind());
        Some(Self { link, entries })
    }

    /// Returns what was done so far.
    pub(super) fn counts(&self) -> Counts {
        Counts {
            link: self.link.counts(),
            entries: self.entries.counts(),
        }
    }
}
