//! The one thread that writes: opens the database, takes what waits in batches, keeps the size and deletes what is over.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::{
    Kept, Shared,
    evict::{delete_body, delete_found, evict, used},
    file::{Opened, Place},
    generations,
    loading::Loading,
    proofs::{self, Proof},
    queue::{Batch, Errand, Job, Put},
    reserve::Reserve,
    totals,
    trouble::{Kind, Trouble},
};
use crate::{
    call::{Slot, key::Secret},
    store::codec::{self, Record},
};

/// The writer.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    place: Place,
    reserve: Reserve,
    /// What keys are made with, also after the database had to be replaced.
    secret: Secret,
    /// None while the database cannot be opened.
    connection: Option<Connection>,
    /// While the database is still being read through.
    loading: Option<Loading>,
    tidied: Option<Instant>,
    /// The last purge that is written down.
    saved: u64,
    /// How long to leave the disk alone after the last batch; zero while it works.
    pause: Duration,
}

/// What a transaction did beyond its jobs.
#[derive(Debug, Default)]
struct Done {
    written: u64,
    evicted: Vec<Slot>,
    /// What the database takes from now on.
    bytes: u64,
}

/// Runs the writer until its queue is closed; what the database has kept, or why there is none, is told to `ready`.
pub(super) fn run(shared: Arc<Shared>, ready: oneshot::Sender<Result<Kept, Trouble>>) {
    match Writer::open(shared) {
        Ok((mut writer, kept)) => {
            // Who no longer waits goes on without a disk, and with another secret.
            if ready.send(Ok(kept)).is_ok() {
                writer.work();
            }
        }
        Err(trouble) => drop(ready.send(Err(trouble))),
    }
}

impl Writer {
    fn open(shared: Arc<Shared>) -> Result<(Self, Kept), Trouble> {
        let mut place = Place::take(&shared.options.path)?;
        let fresh = Secret::random().map_err(|error| Trouble::new(Kind::Io, error.to_string()))?;
        let (opened, proofs) = match load(&mut place, &fresh, &shared) {
            Err(trouble) if matches!(trouble.kind, Kind::Corrupt | Kind::Outdated) => {
                shared.count_error(trouble.kind);
                place.set_aside(&trouble)?;
                load(&mut place, &fresh, &shared)?
            }
            result => result?,
        };
        let loading = Loading::begin(shared.queue.present());
        let kept = Kept {
            proofs,
            secret: opened.secret.clone(),
        };
        let saved = shared.options.generations.epoch();
        let writer = Self {
            reserve: Reserve::beside(&shared.options.path),
            shared,
            place,
            secret: opened.secret,
            connection: Some(opened.connection),
            loading: Some(loading),
            tidied: None,
            saved,
            pause: Duration::ZERO,
        };
        Ok((writer, kept))
    }

    fn work(&mut self) {
        self.reserve.make();
        while let Some(batch) = self.next() {
            if batch.damaged == Some(self.shared.edition.load(Ordering::Relaxed)) {
                self.replace(&Trouble::new(Kind::Corrupt, "an entry could not be read"));
            }
            let mut works = true;
            for part in batch.parts() {
                works &= self.settle(part);
            }
            if works && let Err(trouble) = self.tidy() {
                self.failed(&trouble);
                works = false;
            }
            self.pause = if works {
                Duration::ZERO
            } else {
                longer(self.pause)
            };
            // What is to be removed is tried again until it is: not without end on a disk that fails.
            self.shared.queue.rest(self.pause);
        }
        // Readers may still have it open, so closing does not empty the log; what is in it is read at the next start.
        if let Some(connection) = self.connection.take() {
            let emptied = connection.pragma_update(None, "wal_checkpoint", "TRUNCATE");
            tracing::debug!(?emptied, "disk store closed");
        }
    }

    /// Writes a batch, and tells who waits for it; returns whether it was written.
    fn settle(&mut self, mut batch: Batch) -> bool {
        let errands = std::mem::take(&mut batch.errands);
        let written = self.write(&batch, &errands);
        let is_written = written.is_ok();
        match written {
            Ok(done) => self.done(&batch, &done),
            Err(trouble) => self.lost(&batch, &trouble),
        }
        for errand in errands {
            // Who asked may have given up by now.
            let _ = errand.reply.send(is_written);
        }
        is_written
    }

    /// Reads on in the database as long as nothing waits, at least a little; then takes what waits.
    fn next(&mut self) -> Option<Batch> {
        let shared = self.shared.clone();
        let mut pages = 0;
        while self.patience().is_zero() && (pages < PAGES || !shared.queue.has_news()) {
            self.load().unwrap_or_else(|trouble| self.failed(&trouble));
            pages += 1;
        }
        shared.queue.take(self.patience())
    }

    /// Returns how long nothing is to be done unless something comes.
    fn patience(&self) -> Duration {
        self.loading.as_ref().map_or(TICK, Loading::patience)
    }

    /// Reads some fingerprints.
    fn load(&mut self) -> Result<(), Trouble> {
        if let (Some(connection), Some(loading)) = (&self.connection, &mut self.loading)
            && !loading.step(connection, self.shared.queue.present())?
        {
            return Ok(());
        }
        self.loading = None;
        Ok(())
    }

    fn write(&mut self, batch: &Batch, errands: &[Errand]) -> Result<Done, Trouble> {
        let shared = self.shared.clone();
        // Whatever failed to be written earlier is among it.
        let (purges, epoch) = shared.options.generations.after(self.saved);
        let connection = self.connected()?;
        let mut done = Done::default();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (slot, job) in &batch.jobs {
            done.written += u64::from(apply(&transaction, &shared, slot, job)?);
        }
        for (subject, line) in &batch.proofs {
            proofs::apply(&transaction, subject, *line)?;
        }
        generations::write(&transaction, &purges)?;
        for errand in errands {
            generations::delete(&transaction, &errand.forget)?;
            if let Some(batch) = &errand.totals {
                totals::add(&transaction, batch)?;
            }
        }
        let fresh: HashSet<_> = batch.jobs.iter().map(|(slot, _)| *slot).collect();
        done.evicted = evict(&transaction, shared.options.max_size, shared.now(), &fresh)?;
        done.bytes = used(&transaction)?;
        transaction.commit()?;
        self.saved = epoch;
        Ok(done)
    }

    fn done(&mut self, batch: &Batch, done: &Done) {
        let Shared { queue, counts, .. } = &*self.shared;
        queue.done(batch);
        for slot in &done.evicted {
            queue.present().remove(slot);
        }
        counts.bytes.store(done.bytes, Ordering::Relaxed);
        counts.written.fetch_add(done.written, Ordering::Relaxed);
        let evicted = done.evicted.len() as u64;
        counts.evicted.fetch_add(evicted, Ordering::Relaxed);
        self.shared.works();
    }

    fn lost(&mut self, batch: &Batch, trouble: &Trouble) {
        let puts = batch.jobs.iter();
        let lost = puts.filter(|(_, job)| matches!(job, Job::Put(_))).count();
        self.shared.queue.failed(batch);
        self.failed(trouble);
        let dropped = &self.shared.counts.dropped;
        dropped.fetch_add(lost as u64, Ordering::Relaxed);
    }

    fn failed(&mut self, trouble: &Trouble) {
        if trouble.kind == Kind::Full {
            self.reserve.spend();
        }
        if trouble.kind == Kind::Corrupt {
            self.shared.count_error(trouble.kind);
            self.replace(trouble);
        } else {
            self.shared.fails(trouble);
        }
    }

    /// Puts an empty database in place of a damaged one.
    fn replace(&mut self, why: &Trouble) {
        self.let_go();
        if let Err(trouble) = self.place.set_aside(why) {
            self.shared.fails(&trouble);
        }
        // Who reads finds out by this, and opens the new one.
        self.shared.edition.fetch_add(1, Ordering::Release);
    }

    /// Lets go of a database that was deleted, or replaced by another, behind our back.
    fn vanished(&mut self) {
        self.let_go();
        self.shared.count_error(Kind::Io);
        // Who reads finds out by this.
        self.shared.edition.fetch_add(1, Ordering::Release);
        tracing::warn!(path = %self.shared.options.path.display(), "database gone: deleted, or another file put in its place");
    }

    /// Forgets the database; the next one begins empty.
    fn let_go(&mut self) {
        self.connection = None;
        self.loading = None;
        self.saved = 0;
        self.shared.queue.present().clear();
    }

    /// Returns the connection, made anew where it was lost.
    fn connected(&mut self) -> Result<&mut Connection, Trouble> {
        if self.connection.is_some() && !self.place.is_there() {
            self.vanished();
        }
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.place
                    .open(&self.secret, self.shared.pages())?
                    .connection
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// Deletes what is over, and gives room back, once in a while.
    fn tidy(&mut self) -> Result<(), Trouble> {
        if self.tidied.is_some_and(|last| last.elapsed() < TICK) {
            return Ok(());
        }
        let shared = self.shared.clone();
        let connection = self.connected()?;
        let now = shared.now().cast_signed();
        let expired = "SELECT id, key, delivery FROM entry WHERE expires < ?1 LIMIT ?2";
        for _ in 0..SWEEPS {
            let transaction = connection.transaction()?;
            let slots = delete_found(&transaction, expired, params![now, SOME])?;
            transaction.commit()?;
            for slot in &slots {
                shared.queue.present().remove(slot);
            }
            let count = slots.len() as u64;
            shared.counts.expired.fetch_add(count, Ordering::Relaxed);
            if slots.is_empty() {
                break;
            }
        }
        let mut vacuum = connection.prepare_cached(VACUUM)?;
        let mut steps = vacuum.query([])?;
        while steps.next()?.is_some() {}
        drop(steps);
        drop(vacuum);
        self.reserve.make();
        self.tidied = Some(Instant::now());
        Ok(())
    }
}

/// Opens the database and takes in what is needed before the first call: all of it is bounded and small.
fn load(
    place: &mut Place,
    fresh: &Secret,
    shared: &Shared,
) -> Result<(Opened, Vec<Proof>), Trouble> {
    let opened = place.open(fresh, shared.pages())?;
    let purges = generations::load(&opened.connection)?;
    shared.options.generations.load(purges);
    let bytes = used(&opened.connection)?;
    shared.counts.bytes.store(bytes, Ordering::Relaxed);
    let proofs = proofs::load(&opened.connection, shared.now())?;
    Ok((opened, proofs))
}

/// Does one job; returns whether an entry was written.
fn apply(
    transaction: &Transaction<'_>,
    shared: &Shared,
    slot: &Slot,
    job: &Job,
) -> Result<bool, Trouble> {
    match job {
        Job::Put(put) => return write_entry(transaction, shared, put),
        Job::Touch => touch(transaction, slot, shared.now().cast_signed())?,
        Job::Soften => soften(transaction, slot)?,
        Job::Remove => remove(transaction, slot)?,
    }
    Ok(false)
}

fn write_entry(transaction: &Transaction<'_>, shared: &Shared, put: &Put) -> Result<bool, Trouble> {
    let slot = put.entry.slot;
    let Some((envelope, card, softened)) = written(shared, put) else {
        remove(transaction, &slot)?;
        return Ok(false);
    };
    let kept = codec::millis(put.entry.lifetime.saturating_add(shared.options.keep_stale));
    let expires = i64::try_from(put.made.saturating_add(kept)).unwrap_or(i64::MAX);
    let id: i64 = transaction
        .prepare_cached(
            "INSERT INTO entry (key, delivery, expires, used, softened, card)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (key, delivery) DO UPDATE SET expires = excluded.expires,
                 used = excluded.used, softened = excluded.softened, card = excluded.card
             RETURNING id",
        )?
        .query_row(
            params![
                slot.key.as_bytes(),
                slot.delivery.cast_signed(),
                expires,
                shared.now().cast_signed(),
                softened,
                card
            ],
            |row| row.get(0),
        )?;
    transaction
        .prepare_cached("INSERT OR REPLACE INTO body (id, envelope) VALUES (?1, ?2)")?
        .execute(params![id, envelope])?;
    Ok(true)
}

/// Returns what is written of an entry: its envelope, its card, and whether it was softened. `None` if it was purged
/// meanwhile, or cannot be written.
fn written(shared: &Shared, put: &Put) -> Option<(Vec<u8>, Vec<u8>, bool)> {
    let inscription = shared.options.generations.inscribe(&put.entry)?;
    let record = Record::of(&put.entry, put.made, inscription.pairs);
    let envelope = codec::encode(&record).ok()?;
    let card = codec::encode_card(&record).ok()?;
    Some((envelope, card, inscription.softened))
}

fn soften(transaction: &Transaction<'_>, slot: &Slot) -> Result<(), Trouble> {
    transaction
        .prepare_cached("UPDATE entry SET softened = 1 WHERE key = ?1 AND delivery = ?2")?
        .execute(params![slot.key.as_bytes(), slot.delivery.cast_signed()])?;
    Ok(())
}

fn touch(transaction: &Transaction<'_>, slot: &Slot, now: i64) -> Result<(), Trouble> {
    transaction
        .prepare_cached("UPDATE entry SET used = ?3 WHERE key = ?1 AND delivery = ?2")?
        .execute(params![
            slot.key.as_bytes(),
            slot.delivery.cast_signed(),
            now
        ])?;
    Ok(())
}

fn remove(transaction: &Transaction<'_>, slot: &Slot) -> Result<(), Trouble> {
    let id: Option<i64> = transaction
        .prepare_cached("DELETE FROM entry WHERE key = ?1 AND delivery = ?2 RETURNING id")?
        .query_row(
            params![slot.key.as_bytes(), slot.delivery.cast_signed()],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(id) = id {
        delete_body(transaction, id)?;
    }
    Ok(())
}

/// Returns how long a disk that has failed again is left alone.
fn longer(pause: Duration) -> Duration {
    (pause * 2).clamp(SHORTEST, LONGEST)
}

/// How long a disk that has failed is left alone, at first and at most.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// How often what is over is deleted.
const TICK: Duration = Duration::from_secs(60);
/// Pieces of the database that are read before what waits is looked for.
const PAGES: usize = 16;
/// Entries deleted at once.
const SOME: i64 = 64;
/// Transactions of deletions in one tick: the queue waits meanwhile.
const SWEEPS: usize = 64;
/// Gives 16 MiB back to the file system.
const VACUUM: &str = "PRAGMA incremental_vacuum(4096)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_goes_on_failing_is_left_alone_for_longer_and_longer() {
        let pauses =
            std::iter::successors(Some(longer(Duration::ZERO)), |last| Some(longer(*last)));
        let pauses: Vec<_> = pauses.take(8).map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
    }
}
