//! The sweep of the entries in Redis: what a purge has killed is deleted.
//!
//! # Scope
//! What entries there are `walk` finds. What is not ours is left alone. A node that fails ends the sweep, which is done again
//! later. A sweep has found nothing only if it has seen all: every hash slot lay somewhere, and where it lay before, and what
//! another version of Refrain has written, which cannot be judged here, was not among it. Which purges it knew of is left in
//! Redis, so that replicas that know of the same need not see all once more.

use std::{sync::atomic::Ordering, time::Duration};

use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::{
    Kind, Trouble,
    entries::{Redis, Shared},
    walk::{AT_ONCE, Among, Head, List, PATIENCE},
};
use crate::store::{
    codec::{self, Damage},
    generations::{Generations, Standing},
    record::Lying,
};

/// What is to become of an entry that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing.
    Keep,
    /// It is marked as stale.
    Soften,
    /// It is deleted.
    Delete,
}

impl Redis {
    /// Deletes what is dead, marks what is stale; returns how many there were of both. `None` if not everything was seen, or
    /// another replica is at it.
    pub(in crate::store) async fn sweep(&self) -> Option<u64> {
        let shared = &*self.0;
        // While it is not known what replicas have purged, everything looks dead.
        if !shared.options.generations.is_ready() || !shared.take_turn().await {
            return None;
        }
        let found = shared.sweep_all().await;
        shared.end_turn().await;
        let told = |trouble: &Trouble| tracing::debug!(error = %trouble, "sweep not finished");
        found.inspect_err(told).ok()
    }

    /// Does the same, unless another replica has found nothing dead that knew of the same purges up to `epoch`.
    pub(in crate::store) async fn sweep_for(&self, epoch: u64) -> Option<u64> {
        let shared = &*self.0;
        let known = shared.options.generations.digest(epoch);
        if shared.is_swept_of(&known).await {
            return Some(0);
        }
        let found = self.sweep().await;
        if found == Some(0) {
            shared.was_swept_of(&known).await;
        }
        found
    }

    /// Deletes what is dead and marks what is stale of these entries.
    pub(in crate::store) async fn sweep_among(&self, among: Among<'_>) {
        if !self.0.options.generations.is_ready() {
            return;
        }
        let Ok(lists) = self.0.lists(among) else {
            return;
        };
        for list in lists {
            let mut walk = self.0.walk(list);
            while let Ok(Some(heads)) = walk.next().await {
                if self.0.settle(&heads).await.is_err() {
                    return;
                }
            }
        }
    }
}

impl Shared {
    async fn sweep_all(&self) -> Result<u64, Trouble> {
        let mut found = 0;
        let mut kept = Instant::now();
        let survey = self.link.survey().await?;
        for master in survey.masters() {
            let mut walk = self.walk(List::Master(master.clone()));
            while let Some(heads) = walk.next().await? {
                found += self.settle(&heads).await? + unjudged(&heads);
                if kept.elapsed() > TURN / 4 {
                    kept = Instant::now();
                    self.keep_turn().await?;
                }
            }
        }
        if self.link.survey().await? != survey {
            return Err(Trouble::new(Kind::Refused, "keys were moved meanwhile"));
        }
        Ok(found)
    }

    /// Returns whether the last replica that found nothing dead knew of these purges, and no others.
    async fn is_swept_of(&self, known: &[u8; 32]) -> bool {
        let key = self.layout.fact("swept");
        let mut command = redis::cmd("GETRANGE");
        command.arg(&key).arg(0).arg(known.len());
        let last: Result<Vec<u8>, Trouble> = self.link.ask(&key, &command, PATIENCE).await;
        last.is_ok_and(|last| last == known)
    }

    async fn was_swept_of(&self, known: &[u8; 32]) {
        let key = self.layout.fact("swept");
        let mut command = redis::cmd("SET");
        command
            .arg(&key)
            .arg(&known[..])
            .arg("PX")
            .arg(codec::millis(DAY));
        // If that fails, the others look for themselves.
        let _: Result<(), Trouble> = self.link.ask(&key, &command, PATIENCE).await;
    }

    /// Takes the turn of all replicas to sweep, if none has it. It is no lock: two that sweep at once do no harm.
    async fn take_turn(&self) -> bool {
        let key = self.layout.fact("sweep");
        let mut invocation = self.scripts.turn.arg(codec::millis(TURN));
        invocation.key(&key);
        let taken: Result<bool, Trouble> = self.link.run(&key, &invocation, PATIENCE).await;
        taken.unwrap_or_default()
    }

    async fn keep_turn(&self) -> Result<(), Trouble> {
        let key = self.layout.fact("sweep");
        let mut command = redis::cmd("PEXPIRE");
        command.arg(&key).arg(codec::millis(TURN));
        self.link.ask(&key, &command, PATIENCE).await
    }

    async fn end_turn(&self) {
        let key = self.layout.fact("sweep");
        let mut command = redis::cmd("UNLINK");
        command.arg(&key);
        // If that fails, it ends by itself.
        let _: Result<(), Trouble> = self.link.ask(&key, &command, PATIENCE).await;
    }

    /// Does to entries what purges have made of them; returns to how many there was something to do.
    async fn settle(&self, heads: &[Head]) -> Result<u64, Trouble> {
        let mut found = 0;
        for some in heads.chunks(AT_ONCE) {
            let done = try_join_all(some.iter().map(|head| self.settle_one(head))).await?;
            found += done.into_iter().map(u64::from).sum::<u64>();
        }
        self.counts.purged.fetch_add(found, Ordering::Relaxed);
        Ok(found)
    }

    async fn settle_one(&self, head: &Head) -> Result<bool, Trouble> {
        let script = match fate(&head.lying, &self.options.generations) {
            Fate::Keep => return Ok(false),
            Fate::Soften => &self.scripts.soften,
            Fate::Delete => &self.scripts.discard,
        };
        let mut invocation = script.key(&head.key);
        invocation.arg(head.identity.as_slice());
        let () = self.link.run(&head.key, &invocation, PATIENCE).await?;
        Ok(true)
    }
}

/// Returns what is to become of what lies under an entry's key.
fn fate(lying: &Result<Lying, Damage>, generations: &Generations) -> Fate {
    match lying {
        Ok(lying) => match generations.judge(&lying.traits(), &lying.inscription()) {
            Standing::Dead => Fate::Delete,
            Standing::Stale if !lying.softened => Fate::Soften,
            Standing::Alive | Standing::Stale | Standing::Doubted => Fate::Keep,
        },
        // Another program's, or another Refrain's.
        Err(Damage::Magic | Damage::Version) => Fate::Keep,
        Err(_) => Fate::Delete,
    }
}

/// Returns how many of these another version of Refrain has written.
fn unjudged(heads: &[Head]) -> u64 {
    let others = heads
        .iter()
        .filter(|head| matches!(head.lying, Err(Damage::Version)));
    others.count() as u64
}

/// How long a replica has the turn to sweep, once it says no more.
const TURN: Duration = Duration::from_secs(60);
/// How long it is known of which purges nothing is left.
const DAY: Duration = Duration::from_secs(24 * 3_600);

#[cfg(test)]
mod tests;
