//! What replicas share, where there is a Redis: the link to it, and what goes by it.

use std::sync::Arc;

use super::keep_stale;
use crate::{
    answer::tasks::Tasks,
    config::Config,
    ledger::{clock, metrics::redis::Counts},
    store::{
        generations::Generations,
        redis::{Channel, Link, Options, Redis, Trouble, layout::Layout},
    },
};

/// What is shared; clones share it, too.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) link: Link,
    pub(super) entries: Redis,
    pub(super) channel: Channel,
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
        let layout = Layout::new(&redis.prefix).in_database(redis.address.database);
        let budget = redis.budget;
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
        let channel = Channel::new(link.clone(), &layout);
        keepers.spawn_until_stop(channel.clone().listen());
        let entries = Redis::new(link.clone(), layout, options);
        keepers.spawn_until_stop(entries.clone().write_behind());
        Some(Self {
            link,
            entries,
            channel,
        })
    }

    /// Returns what is wrong, if anything is.
    pub(super) fn trouble(&self) -> Option<String> {
        let is_deaf = !self.channel.is_hearing();
        let deaf = || is_deaf.then(|| "redis: news of other replicas are not heard".to_owned());
        let away = self.link.trouble();
        let told = |trouble: Trouble| format!("redis: {}: {trouble}", trouble.kind.as_str());
        away.map(told).or_else(deaf)
    }

    /// Returns what was done so far.
    pub(super) fn counts(&self) -> Counts {
        Counts {
            link: self.link.counts(),
            hearing: self.channel.is_hearing(),
            entries: self.entries.counts(),
        }
    }
}
