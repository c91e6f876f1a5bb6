//! The one thread that writes: opens the database, takes what waits in batches, keeps the size and deletes what is over.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::{
    Kept, Shared,
    file::{self, Opened, Place},
    generations,
    proofs::{self, Proof},
    queue::{Batch, Errand, Job, Put},
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
    /// What keys are made with, also after the database had to be replaced.
    secret: Secret,
    /// None while the database cannot be opened.
    connection: Option<Connection>,
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
            Err(trouble) if trouble.kind == Kind::Corrupt => {
                shared.count_error(trouble.kind);
                place.set_aside(&trouble)?;
                load(&mut place, &fresh, &shared)?
            }
            result => result?,
        };
        let kept = Kept {
            proofs,
            secret: opened.secret.clone(),
        };
        let saved = shared.options.generations.epoch();
        let writer = Self {
            shared,
            place,
            secret: opened.secret,
            connection: Some(opened.connection),
            tidied: None,
            saved,
            pause: Duration::ZERO,
        };
        Ok((writer, kept))
    }

    fn work(&mut self) {
        while let Some(mut batch) = self.shared.queue.take(TICK) {
            let errands = std::mem::take(&mut batch.errands);
            if batch.damaged == Some(self.shared.edition.load(Ordering::Relaxed)) {
                self.replace(&Trouble::new(Kind::Corrupt, "an entry could not be read"));
            }
            let written = self.write(&batch, &errands);
            let is_written = written.is_ok();
            match written {
                Ok(done) => {
                    self.done(&batch, &done);
                    self.tidy().unwrap_or_else(|trouble| self.failed(&trouble));
                }
                Err(trouble) => self.lost(&batch, &trouble),
            }
            for errand in errands {
                // Who asked may have given up by now.
                let _ = errand.reply.send(is_written);
            }
            // What is to be removed is tried again until it is: not without end on a disk that fails.
            self.shared.queue.rest(self.pause);
        }
        // Readers may still have it open, so closing does not empty the log; what is in it is read at the next start.
        if let Some(connection) = self.connection.take() {
            let emptied = connection.pragma_update(None, "wal_checkpoint", "TRUNCATE");
            tracing::debug!(?emptied, "disk store closed");
        }
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
        }
        done.evicted = evict(&transaction, shared.options.max_size)?;
        done.bytes = used(&transaction)?;
        transaction.commit()?;
        self.saved = epoch;
        Ok(done)
    }

    fn done(&mut self, batch: &Batch, done: &Done) {
        self.pause = Duration::ZERO;
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
        let dropped = &self.shared.counts.dropped;
        dropped.fetch_add(lost as u64, Ordering::Relaxed);
        self.shared.queue.failed(batch);
        self.failed(trouble);
    }

    fn failed(&mut self, trouble: &Trouble) {
        self.pause = longer(self.pause);
        if trouble.kind == Kind::Corrupt {
            self.shared.count_error(trouble.kind);
            self.replace(trouble);
        } else {
            self.shared.fails(trouble);
        }
    }

    /// Puts an empty database in place of a damaged one.
    fn replace(&mut self, why: &Trouble) {
        self.connection = None;
        self.saved = 0;
        self.shared.queue.present().clear();
        if let Err(trouble) = self.place.set_aside(why) {
            self.shared.fails(&trouble);
        }
        // Who reads finds out by this, and opens the new one.
        self.shared.edition.fetch_add(1, Ordering::Release);
    }

    /// Lets go of a database that was deleted, or replaced by another, behind our back.
    fn vanished(&mut self) {
        self.connection = None;
        self.saved = 0;
        self.shared.queue.present().clear();
        self.shared.count_error(Kind::Io);
        // Who reads finds out by this.
        self.shared.edition.fetch_add(1, Ordering::Release);
        tracing::warn!(path = %self.shared.options.path.display(), "database gone: deleted, or another file put in its place");
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
            let slots = delete_some(&transaction, expired, params![now, SOME])?;
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
        self.tidied = Some(Instant::now());
        Ok(())
    }
}

/// Opens the database and notes what lies in it.
fn load(
    place: &mut Place,
    fresh: &Secret,
    shared: &Shared,
) -> Result<(Opened, Vec<Proof>), Trouble> {
    let present = shared.queue.present();
    present.clear();
    let opened = place.open(fresh, shared.pages())?;
    opened.slots(|slot| present.insert(slot))?;
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
        remove_body(transaction, id)?;
    }
    Ok(())
}

fn remove_body(transaction: &Transaction<'_>, id: i64) -> Result<(), Trouble> {
    transaction
        .prepare_cached("DELETE FROM body WHERE id = ?1")?
        .execute([id])?;
    Ok(())
}

/// Deletes what was used least recently until `max_size` holds.
fn evict(transaction: &Transaction<'_>, max_size: u64) -> Result<Vec<Slot>, Trouble> {
    let least = "SELECT id, key, delivery FROM entry ORDER BY used LIMIT ?1";
    let mut evicted = Vec::new();
    while used(transaction)? > max_size {
        let some = delete_some(transaction, least, params![SOME])?;
        if some.is_empty() {
            break;
        }
        evicted.extend(some);
    }
    Ok(evicted)
}

/// Deletes the entries that `query` finds and returns their slots.
fn delete_some(
    transaction: &Transaction<'_>,
    query: &str,
    parameters: &[&dyn rusqlite::ToSql],
) -> Result<Vec<Slot>, Trouble> {
    let mut statement = transaction.prepare_cached(query)?;
    let rows = statement.query_map(parameters, |row| {
        Ok((row.get(0)?, file::slot(row.get(1)?, row.get(2)?)))
    })?;
    let found: Vec<(i64, Slot)> = rows.collect::<Result<_, _>>()?;
    let mut delete = transaction.prepare_cached("DELETE FROM entry WHERE id = ?1")?;
    for (id, _) in &found {
        delete.execute([id])?;
        remove_body(transaction, *id)?;
    }
    Ok(found.into_iter().map(|(_, slot)| slot).collect())
}

/// Returns the bytes of the pages that hold something.
fn used(connection: &Connection) -> Result<u64, Trouble> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = number("page_count")? - number("freelist_count")?;
    Ok((pages * number("page_size")?).max(0).cast_unsigned())
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
