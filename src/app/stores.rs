//! Opens what stands behind the memory, the disk or Redis, with what is kept there beside answers.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::shared::{Agreed, Shared};
use crate::{
    answer::{retold::Teller, tasks::Tasks},
    call::key::Secret,
    config::{Cache, Config},
    error::Error,
    ledger::clock,
    store::{
        behind::Behind,
        disk::{self, Counts, Disk, Kept},
        generations::Generations,
        memory::Memory,
        tiered::Tiered,
        trust::Trust,
    },
};

/// What answers are kept with.
pub(super) struct Stores {
    pub(super) memory: Memory,
    pub(super) disk: Option<Disk>,
    pub(super) redis: Option<Shared>,
    /// What stands behind the memory.
    pub(super) behind: Option<Behind>,
    /// The memory with what stands behind it.
    pub(super) tiered: Tiered,
    /// What keys are made with.
    pub(super) secret: Secret,
    /// What upstreams have said of credentials, as far as it was kept.
    pub(super) proofs: Vec<disk::Proof>,
    /// What is counted where there is no disk.
    pub(super) refused: Counts,
}

/// What the start makes of `[store] path`.
struct Opened {
    disk: Option<Disk>,
    kept: Kept,
    /// What is counted where there is no disk.
    refused: Counts,
}

impl Stores {
    /// Opens what `config` names. `tasks` are those of calls, `keepers` run what goes on as long as the process.
    pub(super) async fn open(
        config: &Config,
        tasks: &Tasks,
        keepers: &Tasks,
    ) -> Result<Self, Error> {
        let memory = Memory::new(super::entries(config), config.cache.max_entry);
        let generations = Generations::new(clock::wall());
        let opened = open_disk(config, generations.clone()).await?;
        let trust = Trust::new(config.store.trust, Instant::now());
        let secret = secret(config, &opened.kept);
        let agreed = Agreed {
            secret: secret.clone(),
            generations: generations.clone(),
            trust: trust.clone(),
        };
        let redis = Shared::connect(config, agreed, tasks, keepers).await;
        let behind = match &redis {
            Some(redis) => Some(Behind::Redis(redis.entries.clone())),
            None => opened.disk.clone().map(Behind::Disk),
        };
        let teller = Teller::new(tasks.clone());
        let tiered = Tiered::new(memory.clone(), behind.clone(), generations, teller);
        let tiered = tiered.trusted(trust);
        if let Some(redis) = &redis {
            redis.tell(tiered.clone(), keepers);
        }
        Ok(Self {
            memory,
            disk: opened.disk,
            redis,
            behind,
            tiered,
            secret,
            proofs: opened.kept.proofs,
            refused: opened.refused,
        })
    }
}

/// Returns what keys are made with: what the operator says, else what is kept.
fn secret(config: &Config, kept: &Kept) -> Secret {
    let configured = config.key.secret.as_ref();
    let configured = configured.map(|text| Secret::of_text(text.expose()));
    configured.unwrap_or_else(|| kept.secret.clone())
}

/// Opens the disk tier, if there is to be one; a disk that cannot be used is a warning and no more.
async fn open_disk(config: &Config, generations: Generations) -> Result<Opened, Error> {
    let without = |refused| {
        Ok(Opened {
            disk: None,
            kept: Kept {
                secret: Secret::random()?,
                proofs: Vec::new(),
            },
            refused,
        })
    };
    let Some(settings) = &config.store.disk else {
        return without(Counts::default());
    };
    let options = disk::Options {
        path: settings.path.clone(),
        max_size: settings.max_size,
        max_entry: config.cache.max_entry,
        memory: super::entries(config),
        max_ttl: config.cache.max_ttl,
        keep_stale: keep_stale(config),
        budget: settings.budget,
        clock: Arc::new(clock::wall),
        generations,
    };
    match Disk::open(options).await {
        Ok((disk, kept)) => Ok(Opened {
            disk: Some(disk),
            kept,
            refused: Counts::default(),
        }),
        Err(trouble) => {
            tracing::warn!(
                path = %settings.path.display(), reason = trouble.kind.as_str(), error = %trouble,
                "no disk store: answers are kept in memory only"
            );
            without(Counts::refused(trouble.kind))
        }
    }
}

/// Returns how long past its lifetime an entry may be of use to anybody.
pub(super) fn keep_stale(config: &Config) -> Duration {
    let Cache {
        stale_if_error,
        stale_while_revalidate,
        max_ttl,
        ..
    } = &config.cache;
    let of_rules = config
        .rules
        .iter()
        .flat_map(|rule| [rule.stale_if_error, rule.stale_while_revalidate]);
    let all = of_rules
        .flatten()
        .chain([*stale_if_error, *stale_while_revalidate]);
    all.max().unwrap_or_default().min(*max_ttl)
}
