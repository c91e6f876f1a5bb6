//! What replicas share, where there is a Redis: the link to it, what goes by it, and what they agree on.

use super::stores::keep_stale;
use crate::{
    answer::tasks::Tasks,
    call::key::Secret,
    config::Config,
    guard::coalesce::fleet::{Fleet, Terms},
    ledger::metrics::redis::Counts,
    store::{
        generations::Generations,
        proofs::Proofs,
        redis::{
            Channel, Link, Options, Redis, Trouble,
            layout::Layout,
            lease::{Leases, Scripts},
            sync::{self, Facts},
        },
        tiered::Tiered,
        trust::Trust,
    },
};

/// What is shared; clones share it, too.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) link: Link,
    pub(super) entries: Redis,
    pub(super) channel: Channel,
    /// `None` where replicas do not wait for each other.
    pub(super) fleet: Option<Fleet>,
    facts: Facts,
}

/// What this replica has to agree on with others.
pub(super) struct Agreed {
    pub(super) secret: Secret,
    pub(super) generations: Generations,
    pub(super) trust: Trust,
}

impl Shared {
    /// Connects to Redis, if there is to be one; it may come later. `keepers` run what goes on as long as the process.
    pub(super) async fn connect(
        config: &Config,
        agreed: Agreed,
        tasks: &Tasks,
        keepers: &Tasks,
    ) -> Option<Self> {
        let redis = config.store.redis.clone()?;
        let layout = Layout::new(&redis.prefix).in_database(redis.address.database);
        let budget = redis.budget;
        let generations = agreed.generations.clone();
        let facts = Facts::new(layout.clone(), of(agreed, config));
        let greeter = facts.clone();
        let greeting = move |early| {
            let greeter = greeter.clone();
            async move { greeter.greet(&early).await }
        };
        let link = Link::start(redis, keepers, greeting).await;
        let options = Options {
            max_entry: config.cache.max_entry,
            max_ttl: config.cache.max_ttl,
            keep_stale: keep_stale(config),
            budget,
            generations,
            tasks: tasks.clone(),
        };
        let channel = Channel::new(link.clone(), &layout);
        keepers.spawn_until_stop(channel.clone().listen());
        let entries = Redis::new(link.clone(), layout.clone(), facts.clone(), options);
        keepers.spawn_until_stop(entries.clone().write_behind());
        let fleet = config.coalesce.wait.map(|wait| {
            let scripts = Scripts::new(link.clone(), layout, entries.clone());
            let leases = Leases::new(Box::new(scripts), tasks.clone());
            keepers.spawn_until_stop(leases.clone().listen(channel.ears()));
            Fleet::new(Terms {
                leases,
                wait,
                budget,
            })
        });
        Some(Self {
            link,
            entries,
            channel,
            fleet,
            facts,
        })
    }

    /// Stays in agreement with the others, also about `proofs`, as long as the keepers run.
    pub(super) fn look_after(&self, proofs: Proofs, keepers: &Tasks) {
        let facts = self.facts.clone();
        let listening = facts.clone().listen(self.channel.clone(), proofs.clone());
        keepers.spawn_until_stop(listening);
        keepers.spawn_until_stop(facts.look_after(self.link.clone(), proofs));
    }

    /// Has `store` know what other replicas replace, as long as the keepers run.
    pub(super) fn tell(&self, store: Tiered, keepers: &Tasks) {
        let ears = self.channel.ears();
        let is_hearing = self.channel.is_hearing();
        keepers.spawn_until_stop(store.heed(ears, is_hearing));
    }

    /// Returns what is wrong, if anything is.
    pub(super) fn trouble(&self) -> Option<String> {
        let is_deaf = !self.channel.is_hearing();
        let deaf = || is_deaf.then(|| "redis: news of other replicas are not heard".to_owned());
        let is_unsure = !self.facts.counts().trusted;
        let unsure =
            || is_unsure.then(|| "redis: purges of other replicas may be missed".to_owned());
        let away = self.link.trouble();
        let told = |trouble: Trouble| format!("redis: {}: {trouble}", trouble.kind.as_str());
        let refused = || self.entries.refusal().map(told);
        away.map(told)
            .or_else(unsure)
            .or_else(deaf)
            .or_else(refused)
    }

    /// Returns what was done so far.
    pub(super) fn counts(&self) -> Counts {
        Counts {
            link: self.link.counts(),
            hearing: self.channel.is_hearing(),
            entries: self.entries.counts(),
            facts: self.facts.counts(),
        }
    }
}

fn of(agreed: Agreed, config: &Config) -> sync::Options {
    let Agreed {
        secret,
        generations,
        trust,
    } = agreed;
    let (ttl, hold) = (config.cache.proof_ttl, config.cache.stale_if_error);
    sync::Options {
        secret,
        is_configured: config.key.secret.is_some(),
        generations,
        trust,
        // Past both, nobody is served because of it.
        keep_proofs: ttl.saturating_add(hold),
    }
}
