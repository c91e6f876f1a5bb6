//! The look through the entries in Redis: to count what a purge would concern, and to delete what one has.
//!
//! # Scope
//! All entries are found by SCAN on every master, those with a tag by its index; in small pages, with a pause between two,
//! so that Redis is never busy with it. Of each entry only the head is read, which is not verified: it is good for
//! deleting and counting. What is not ours is left alone. A node that fails ends the look; the sweep looks again later.
//!
//! A sweep has found nothing only if it has seen all: every hash slot lay somewhere, and where it lay before, and what another
//! version of Refrain has written, which cannot be judged here, was not among it.

use std::{sync::atomic::Ordering, time::Duration};

use futures_util::future::{join_all, try_join_all};
use tokio::time::{Instant, sleep};

use super::{
    Kind, Trouble,
    entries::{Redis, Shared},
    link::Master,
    page::{Bounds, Page},
    value,
};
use crate::store::{
    codec::Damage,
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

/// Where keys of entries are listed.
#[derive(Clone, Copy)]
enum List<'a> {
    Master(&'a Master),
    Tag(&'a str),
}

/// A walk through a list.
struct Walk<'a> {
    shared: &'a Shared,
    list: List<'a>,
    /// Where to go on; `None` at the end.
    cursor: Option<u64>,
}

/// The head of an entry.
#[derive(Debug)]
struct Head {
    key: String,
    /// What tells it from others that may lie under its key.
    identity: Vec<u8>,
    lying: Result<Lying, Damage>,
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

    /// Deletes what is dead and marks what is stale of the entries with this tag, as far as its index knows them.
    pub(in crate::store) async fn sweep_tag(&self, tag: &str) {
        if !self.0.options.generations.is_ready() {
            return;
        }
        let mut walk = self.0.walk(List::Tag(tag));
        while let Ok(Some(heads)) = walk.next().await {
            if self.0.settle(&heads).await.is_err() {
                return;
            }
        }
    }

    /// Calls `each` with every entry, or with those that have a tag, as far as its index knows them; `None` if not all of
    /// them were seen.
    pub(in crate::store) async fn look_through(
        &self,
        tag: Option<&str>,
        mut each: impl FnMut(&Lying),
    ) -> Option<()> {
        let masters = self.0.link.masters().ok()?;
        let lists = match tag {
            Some(tag) => vec![List::Tag(tag)],
            None => masters.iter().map(List::Master).collect(),
        };
        for list in lists {
            let mut walk = self.0.walk(list);
            while let Some(heads) = walk.next().await.ok()? {
                heads
                    .iter()
                    .flat_map(|head| &head.lying)
                    .for_each(&mut each);
            }
        }
        Some(())
    }
}

impl Shared {
    async fn sweep_all(&self) -> Result<u64, Trouble> {
        let mut found = 0;
        let mut kept = Instant::now();
        let places = self.link.places();
        for master in self.link.masters()? {
            let mut walk = self.walk(List::Master(&master));
            while let Some(heads) = walk.next().await? {
                found += self.settle(&heads).await? + unjudged(&heads);
                if kept.elapsed() > TURN / 4 {
                    kept = Instant::now();
                    self.keep_turn().await?;
                }
            }
        }
        if self.link.places() != places {
            return Err(Trouble::new(Kind::Refused, "keys were moved meanwhile"));
        }
        Ok(found)
    }

    /// Takes the turn of all replicas to sweep, if none has it. It is no lock: two that sweep at once do no harm.
    async fn take_turn(&self) -> bool {
        let key = self.layout.fact("sweep");
        let mut invocation = self.scripts.turn.arg(millis(TURN));
        invocation.key(&key);
        let taken: Result<bool, Trouble> = self.link.run(&key, &invocation, PATIENCE).await;
        taken.unwrap_or_default()
    }

    async fn keep_turn(&self) -> Result<(), Trouble> {
        let key = self.layout.fact("sweep");
        let mut command = redis::cmd("PEXPIRE");
        command.arg(&key).arg(millis(TURN));
        self.link.ask(&key, &command, PATIENCE).await
    }

    async fn end_turn(&self) {
        let key = self.layout.fact("sweep");
        let mut command = redis::cmd("UNLINK");
        command.arg(&key);
        // If that fails, it ends by itself.
        let _: Result<(), Trouble> = self.link.ask(&key, &command, PATIENCE).await;
    }

    fn walk<'a>(&'a self, list: List<'a>) -> Walk<'a> {
        Walk {
            shared: self,
            list,
            cursor: Some(0),
        }
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

    async fn heads(&self, keys: &[String]) -> Result<Vec<Head>, Trouble> {
        let mut heads = Vec::with_capacity(keys.len());
        for some in keys.chunks(AT_ONCE) {
            for head in join_all(some.iter().map(|key| self.head(key))).await {
                heads.push(head?);
            }
        }
        Ok(heads)
    }

    /// Reads the head of what lies under `key`.
    async fn head(&self, key: &str) -> Result<Head, Trouble> {
        let mut front = self.front(key, FRONT).await?;
        let mut lying = value::decode_head(&front);
        if lying.is_err() && front.len() > FRONT {
            front = self.front(key, LONG_FRONT).await?;
            lying = value::decode_head(&front);
        }
        let is_there = |lying: &Lying| self.layout.entry(&lying.slot) == key;
        Ok(Head {
            key: key.to_owned(),
            identity: value::identity(&front).to_vec(),
            lying: lying.and_then(|lying| is_there(&lying).then_some(lying).ok_or(Damage::Key)),
        })
    }

    /// Returns the first bytes of what lies under `key`, one more than `most`; none where there are none.
    async fn front(&self, key: &str, most: usize) -> Result<Vec<u8>, Trouble> {
        let mut command = redis::cmd("GETRANGE");
        command.arg(key).arg(0).arg(most);
        match self.link.ask(key, &command, PATIENCE).await {
            // Another program's.
            Err(trouble) if trouble.kind == Kind::Type => Ok(Vec::new()),
            front => front,
        }
    }
}

impl Walk<'_> {
    /// Returns the heads of the next page; `None` at the end.
    async fn next(&mut self) -> Result<Option<Vec<Head>>, Trouble> {
        let Some(cursor) = self.cursor else {
            return Ok(None);
        };
        if cursor != 0 {
            sleep(PAUSE).await;
        }
        let (next, mut keys) = match self.list {
            List::Master(master) => self.scan(master, cursor).await?,
            List::Tag(tag) => self.indexed(tag, cursor).await?,
        };
        self.cursor = Some(next).filter(|next| *next != 0);
        // While its table changes in size, Redis may say the same twice.
        keys.sort_unstable();
        keys.dedup();
        self.shared.heads(&keys).await.map(Some)
    }

    async fn scan(&self, master: &Master, cursor: u64) -> Result<(u64, Vec<String>), Trouble> {
        let Shared { link, layout, .. } = self.shared;
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(layout.entries());
        command.arg("COUNT").arg(PAGE).arg("TYPE").arg("string");
        let (next, keys): (u64, Vec<Vec<u8>>) = link.ask_master(master, &command, PATIENCE).await?;
        let keys = keys.into_iter().flat_map(String::from_utf8);
        Ok((next, keys.collect()))
    }

    async fn indexed(&self, tag: &str, cursor: u64) -> Result<(u64, Vec<String>), Trouble> {
        let Shared {
            link,
            layout,
            scripts,
            ..
        } = self.shared;
        let key = layout.tag(tag);
        let mut page = scripts.pages.of(&key, MEMBERS, "ZSCAN");
        page.arg(cursor).arg("COUNT").arg(PAGE);
        let (next, members, _): Page<Vec<u8>> = link.run(&key, &page, PATIENCE).await?;
        let slots = members.iter().filter_map(|(member, _)| layout.slot(member));
        Ok((next, slots.map(|slot| layout.entry(&slot)).collect()))
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

fn millis(duration: Duration) -> u64 {
    crate::store::codec::millis(duration)
}

/// Keys of a page, about.
const PAGE: usize = 200;
/// Members of an index are shorter.
const MEMBERS: Bounds = Bounds {
    name: 64,
    value: 32,
};
/// Questions that are put at once.
const AT_ONCE: usize = 64;
/// Bytes that a head usually has at most.
const FRONT: usize = 1 << 10;
/// Bytes that a head has at most.
const LONG_FRONT: usize = 64 << 10;
/// Between two pages.
const PAUSE: Duration = Duration::from_millis(5);
/// For one question.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a replica has the turn to sweep, once it says no more.
const TURN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
