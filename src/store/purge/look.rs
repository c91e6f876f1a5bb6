//! Looking for what purges would concern.
//!
//! # Scope
//! Counts, and shows some; changes nothing. What is in memory and behind it is counted once.

use std::collections::HashSet;

use tokio::task::yield_now;

use super::breathe;
use crate::{
    call::{Slot, key::Key},
    store::{
        Label,
        behind::Behind,
        disk::Disk,
        generations::{Purge, Selector, Standing, Traits},
        record::Lying,
        redis::{Among, Redis},
        tiered::Tiered,
    },
};

/// The entries that a purge concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Concerned {
    /// How many there are.
    pub entries: u64,
    /// Some of them.
    pub samples: Vec<Sample>,
}

/// An entry, as far as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its key.
    pub key: Key,
    /// Name of the upstream that made it.
    pub upstream: String,
    /// What it can be found by.
    pub label: Label,
    /// Its tags.
    pub tags: Vec<String>,
}

/// Returns which entries suffice to be looked at to find all that purges concern.
pub(super) fn among(purges: &[Purge]) -> Among<'_> {
    match purges {
        [Purge { selector, .. }] => match selector {
            Selector::Key(key) => Among::Key(*key),
            Selector::Tag(tag) => Among::Tag(tag),
            _ => Among::All,
        },
        _ => Among::All,
    }
}

impl Tiered {
    /// Counts what purges concern of the entries behind the memory; `None` if not all of them were seen.
    pub(super) async fn look_behind(
        &self,
        behind: &Behind,
        purges: &[Purge],
        seen: &HashSet<Slot>,
        concerned: &mut Concerned,
    ) -> Option<()> {
        match behind {
            Behind::Disk(disk) => self.look_at_disk(disk, purges, seen, concerned).await,
            Behind::Redis(redis) => self.look_at_redis(redis, purges, seen, concerned).await,
        }
    }

    /// Counts what purges concern of the entries that are in memory only; returns those that may lie on the disk soon.
    pub(super) async fn look_at_memory(
        &self,
        purges: &[Purge],
        concerned: &mut Concerned,
    ) -> HashSet<Slot> {
        let mut seen = HashSet::new();
        for (number, entry) in self.memory.iter().enumerate() {
            let made = self.generations.wall(entry.made);
            let traits = Traits::of(&entry, made);
            let is_concerned = purges.iter().any(|purge| purge.concerns(&traits));
            let lies_deeper = || {
                let behind = self.behind.as_ref();
                behind.is_some_and(|behind| behind.knows(&entry.slot))
            };
            if is_concerned && !lies_deeper() && !self.is_dead(&entry) {
                concerned.add(&traits);
                if self.behind.is_some() {
                    seen.insert(entry.slot);
                }
            }
            breathe(number).await;
        }
        seen
    }

    /// Counts what purges concern of the entries that lie on the disk.
    async fn look_at_disk(
        &self,
        disk: &Disk,
        purges: &[Purge],
        seen: &HashSet<Slot>,
        concerned: &mut Concerned,
    ) -> Option<()> {
        let key = match among(purges) {
            Among::Key(key) => Some(key),
            Among::All | Among::Tag(_) => None,
        };
        let mut after = 0;
        loop {
            let page = disk.page(after, key).await?;
            let Some(last) = page.last else {
                return Some(());
            };
            after = last;
            for lying in &page.entries {
                self.look_at(lying, purges, seen, concerned);
            }
            yield_now().await;
        }
    }

    /// Counts what purges concern of the entries that lie in Redis.
    async fn look_at_redis(
        &self,
        redis: &Redis,
        purges: &[Purge],
        seen: &HashSet<Slot>,
        concerned: &mut Concerned,
    ) -> Option<()> {
        let each = |lying: &Lying| self.look_at(lying, purges, seen, concerned);
        redis.look_through(among(purges), each).await
    }

    /// Counts an entry that lies behind the memory, if purges concern it.
    fn look_at(
        &self,
        lying: &Lying,
        purges: &[Purge],
        seen: &HashSet<Slot>,
        concerned: &mut Concerned,
    ) {
        let traits = lying.traits();
        let judged = || self.generations.judge(&traits, &lying.inscription());
        let is_concerned = purges.iter().any(|purge| purge.concerns(&traits));
        if is_concerned && !seen.contains(&lying.slot) && judged() != Standing::Dead {
            concerned.add(&traits);
        }
    }
}

impl Concerned {
    fn add(&mut self, traits: &Traits<'_>) {
        self.entries += 1;
        if self.samples.len() < SAMPLES {
            self.samples.push(Sample {
                key: *traits.key,
                upstream: String::from_utf8_lossy(traits.upstream.unwrap_or_default()).into_owned(),
                label: traits.label.clone(),
                tags: traits.tags.to_vec(),
            });
        }
    }
}

/// Entries that are shown.
const SAMPLES: usize = 20;
