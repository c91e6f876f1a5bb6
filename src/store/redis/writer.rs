//! The writer: carries out what waits in the queue, many jobs at once, one about each slot at a time.
//!
//! # Scope
//! While Redis is away what waits stays in the queue for a while. What failed for a reason that passes is tried again,
//! what failed for another is lost and counted. At the end each job is tried once.
//!
//! The first entry of a slot takes one command and is nobody's news. One in place of another is written and told in one step: nobody
//! dies between the two.

use std::{sync::atomic::Ordering, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::{
    Kind, Trouble,
    entries::{Redis, Shared},
    queue::{Batch, Follower, Job, LONGEST, Put, Work},
    value,
};
use crate::{
    call::Slot,
    store::{
        Entry,
        codec::{self, Record},
    },
};

impl Redis {
    /// Writes what waits, until the queue is closed and empty.
    pub async fn write_behind(self) {
        let shared = &*self.0;
        while let Some(batch) = shared.queue.take().await {
            let jobs = batch.len();
            let left = shared.carry_out(batch).await;
            let (is_stuck, is_left) = (left.len() == jobs, !left.is_empty());
            shared.queue.settle(left);
            if is_stuck {
                sleep(PAUSE).await;
            }
            if is_left && let Some(moment) = Instant::now().checked_sub(LONGEST) {
                shared.lose(shared.queue.give_up(moment));
            }
        }
    }
}

impl Shared {
    /// Carries out all jobs of `batch`; returns those that are to be tried again.
    async fn carry_out(&self, batch: Batch) -> Batch {
        let jobs = batch.into_iter().map(|(slot, job)| async move {
            let job = self.carry_out_one(&slot, job).await?;
            Some((slot, job))
        });
        join_all(jobs).await.into_iter().flatten().collect()
    }

    /// Carries out a job, and then what follows; returns what is left to be done.
    async fn carry_out_one(&self, slot: &Slot, mut job: Job) -> Option<Job> {
        if let Some(work) = job.work.take()
            && let Err(trouble) = self.work(slot, &work).await
        {
            job.work = self.after(work, trouble.kind);
            if job.work.is_some() {
                return Some(job);
            }
        }
        for Follower { key, command } in &job.followers {
            // What fails of it ends by itself.
            let _: Result<(), Trouble> = self.link.ask(key, command, PATIENCE).await;
        }
        None
    }

    async fn work(&self, slot: &Slot, work: &Work) -> Result<(), Trouble> {
        let key = self.layout.entry(slot);
        if !self.link.reaches(&key) {
            // Nothing is packed in vain.
            return Err(Trouble::new(Kind::Away, "its server is away"));
        }
        let mut invocation = match work {
            Work::Put(put) => return self.write(&key, put).await,
            Work::Outdate(moment) => {
                let mut invocation = self.scripts.outdate.arg(self.wall(*moment));
                invocation.arg(self.layout.channel());
                invocation.arg(self.replaced(*slot));
                invocation
            }
            Work::Discard(identity) => self.scripts.discard.arg(identity.as_slice()),
        };
        invocation.key(&key);
        self.link.run(&key, &invocation, PATIENCE).await
    }

    /// Returns what is to be done after `work` has failed.
    fn after(&self, work: Work, kind: Kind) -> Option<Work> {
        if self.queue.is_closed() {
            self.lose(u64::from(matches!(work, Work::Put(_))));
            return None;
        }
        if passes(kind) {
            return Some(work);
        }
        let Work::Put(Put { entry, .. }) = work else {
            return None;
        };
        self.lose(1);
        Some(Work::Outdate(entry.made))
    }

    /// Writes an entry, unless it was purged or has ended meanwhile.
    async fn write(&self, key: &str, put: &Put) -> Result<(), Trouble> {
        if self.facts.is_behind() {
            return Err(Trouble::new(Kind::Away, "purges may have been missed"));
        }
        let entry = &put.entry;
        let left = self.left(entry);
        if left == 0 {
            return Ok(());
        }
        let Some(value) = self.value(entry).await else {
            self.lose(1);
            return Ok(());
        };
        if value.len() as u64 > value::limit(self.options.max_entry) {
            self.lose(1);
            return Ok(());
        }
        let stored = self.store(key, put, value, left).await;
        self.note(stored.as_ref().err());
        stored?;
        self.counts.written.fetch_add(1, Ordering::Relaxed);
        self.add_to_indexes(entry, left).await;
        Ok(())
    }

    /// Stores the value of an entry, which lives for `left` milliseconds.
    async fn store(&self, key: &str, put: &Put, value: Vec<u8>, left: u64) -> Result<(), Trouble> {
        if put.entry.slot.delivery != 0 {
            // First the list: who asks what lies under the key goes by that.
            let deliveries = self.layout.deliveries(&put.entry.slot.key);
            self.list(&deliveries, &put.entry, left).await?;
        }
        if !put.replaces && self.store_first(key, &value, left).await? {
            return Ok(());
        }
        let mut replace = self.scripts.replace.arg(value);
        replace.arg(left).arg(self.layout.channel());
        replace.arg(self.replaced(put.entry.slot)).key(key);
        self.link.run(key, &replace, PATIENCE).await
    }

    /// Notes how a write has ended, and says where Redis begins or ceases to refuse them.
    fn note(&self, trouble: Option<&Trouble>) {
        let mut refusal = self.refusal();
        match trouble {
            None => {
                if refusal.take().is_some() {
                    tracing::info!("redis takes entries again");
                }
            }
            Some(trouble) if refuses(trouble.kind) => {
                if refusal.is_none() {
                    tracing::warn!(
                        reason = trouble.kind.as_str(), error = %trouble,
                        "redis takes no entries: what is new is kept in memory only"
                    );
                }
                *refusal = Some(trouble.clone());
            }
            // It says nothing about the next one.
            Some(_) => {}
        }
    }

    /// Stores what lives for `left` milliseconds where nothing lies; returns whether that was so.
    async fn store_first(&self, key: &str, value: &[u8], left: u64) -> Result<bool, Trouble> {
        let mut command = redis::cmd("SET");
        command.arg(key).arg(value).arg("PX").arg(left).arg("NX");
        let written: Option<String> = self.link.ask(key, &command, PATIENCE).await?;
        Ok(written.is_some())
    }

    /// Returns the value of an entry; nothing if it was purged meanwhile, or cannot be told.
    async fn value(&self, entry: &Entry) -> Option<Vec<u8>> {
        let inscription = self.options.generations.inscribe(entry)?;
        let record = Record::of(entry, self.wall(entry.made), inscription.pairs);
        let encode = move || value::encode(&record, inscription.softened).ok();
        self.run(entry.body.len(), encode).await.flatten()
    }

    /// Returns for how long an entry is to be kept from now on, milliseconds.
    fn left(&self, entry: &Entry) -> u64 {
        let lifetime = entry.lifetime.min(self.options.max_ttl);
        let end = entry.made + lifetime + self.options.keep_stale;
        codec::millis(end.saturating_duration_since(Instant::now()))
    }

    /// Has the entry found by its tags, as well as that goes: what is not found by them is found by looking at everything.
    async fn add_to_indexes(&self, entry: &Entry, left: u64) {
        for tag in &entry.tags {
            if let Err(trouble) = self.list(&self.layout.tag(tag), entry, left).await {
                tracing::debug!(error = %trouble, "entry not added to the index of its tag");
                return;
            }
        }
    }

    /// Adds an entry to the index at `key`, for as long as it is kept.
    async fn list(&self, key: &str, entry: &Entry, left: u64) -> Result<(), Trouble> {
        let now = self.now();
        let mut invocation = self.scripts.index.arg(self.layout.member(&entry.slot));
        invocation.arg(now.saturating_add(left)).arg(now).key(key);
        self.link.run(key, &invocation, PATIENCE).await
    }

    fn lose(&self, entries: u64) {
        self.counts.dropped.fetch_add(entries, Ordering::Relaxed);
    }
}

/// Returns whether a failure of this kind passes by itself.
fn passes(kind: Kind) -> bool {
    match kind {
        Kind::Away | Kind::Timeout | Kind::Io | Kind::Readonly | Kind::Refused => true,
        Kind::Denied | Kind::Full | Kind::Type => false,
    }
}

/// Returns whether the next entry would be refused like this one.
fn refuses(kind: Kind) -> bool {
    matches!(kind, Kind::Denied | Kind::Full | Kind::Readonly)
}

/// For one write.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks for Redis, or two tries.
const PAUSE: Duration = Duration::from_millis(100);
