//! The threads that read: each has a connection of its own, so that no call waits for a writer.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Instant,
};

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tokio::sync::{mpsc::Receiver, oneshot};

use super::{
    Shared,
    file::{self, Place},
    totals,
    trouble::{Kind, Trouble},
};
use crate::{
    call::{Slot, key::Key},
    store::{
        codec::{self, Damage},
        record::{Found, Lying},
        totals::{Day, Stored},
    },
};

/// A question to the readers.
#[derive(Debug)]
pub(super) enum Ask {
    /// An entry: who waits for it is told.
    Entry(Slot),
    /// Some entries behind a place, of one key where that is given; the reply is those, or word that the disk failed.
    Page {
        after: i64,
        key: Option<Key>,
        reply: oneshot::Sender<Result<Page, Failed>>,
    },
    /// The counters of some days, as `writer` asks for them; the reply as above.
    Totals {
        first: Day,
        last: Day,
        writer: u64,
        reply: oneshot::Sender<Result<Stored, Failed>>,
    },
}

/// Some entries that lie on the disk.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Lying>,
    /// The place of the last one, to go on behind; `None` at the end.
    pub last: Option<i64>,
}

/// What is read of an entry: its envelope, and whether it was softened.
type Envelope = (Vec<u8>, bool);
/// What is read of an entry without its envelope: place, slot, card, whether it was softened.
type Carded = (i64, Slot, Vec<u8>, bool);

/// The disk failed; why has been counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed;

/// One reader.
#[derive(Debug)]
pub(super) struct Reader {
    shared: Arc<Shared>,
    /// The connection, and which edition of the database it reads.
    connection: Option<(u64, Connection)>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            connection: None,
        }
    }

    /// Answers until nobody can ask any more.
    pub(super) fn run(mut self, asks: &Mutex<Receiver<Ask>>) {
        while let Some(ask) = next(asks) {
            // Who asked may have given up by now.
            match ask {
                Ask::Entry(slot) if self.shared.looks.are_wanted(&slot) => {
                    let began = Instant::now();
                    let answer = self.answer(&slot).map(|found| found.map(Arc::new));
                    let in_time = began.elapsed() < self.shared.options.budget;
                    self.shared.looks.answer(&slot, &answer, in_time);
                }
                Ask::Page { after, key, reply } if !reply.is_closed() => {
                    drop(reply.send(self.page(after, key)));
                }
                Ask::Totals {
                    first,
                    last,
                    writer,
                    reply,
                } if !reply.is_closed() => drop(reply.send(self.totals(first, last, writer))),
                Ask::Entry(_) | Ask::Page { .. } | Ask::Totals { .. } => {}
            }
        }
    }

    fn answer(&mut self, slot: &Slot) -> Result<Option<Found>, Failed> {
        let edition = self.shared.edition.load(Ordering::Acquire);
        let envelope = self.read(slot, edition);
        let envelope = envelope.map_err(|trouble| self.failed(&trouble, edition))?;
        let Some((envelope, softened)) = envelope else {
            self.shared.queue.present().remove(slot);
            return Ok(None);
        };
        let limit = usize::try_from(self.shared.options.max_entry).unwrap_or(usize::MAX);
        match codec::decode(&envelope, slot, limit) {
            Ok(record) => Ok(Some(Found { record, softened })),
            Err(damage) => {
                self.discard(slot, damage);
                Ok(None)
            }
        }
    }

    fn read(&mut self, slot: &Slot, edition: u64) -> Result<Option<Envelope>, Trouble> {
        let connection = self.connected(edition)?;
        let mut statement = connection.prepare_cached(AT)?;
        let key = params![slot.key.as_bytes(), slot.delivery.cast_signed()];
        let found = statement.query_row(key, |row| Ok((row.get(0)?, row.get(1)?)));
        Ok(found.optional()?)
    }

    /// Returns some entries; those whose card cannot be read are discarded.
    fn page(&mut self, after: i64, key: Option<Key>) -> Result<Page, Failed> {
        let edition = self.shared.edition.load(Ordering::Acquire);
        let rows = self.rows(after, key, edition);
        let rows = rows.map_err(|trouble| self.failed(&trouble, edition))?;
        let mut page = Page {
            entries: Vec::with_capacity(rows.len()),
            last: rows.last().map(|(id, ..)| *id),
        };
        for (_, slot, card, softened) in rows {
            match codec::decode_card(&card) {
                Ok(card) => page.entries.push(Lying {
                    slot,
                    card,
                    softened,
                }),
                Err(damage) => self.discard(&slot, damage),
            }
        }
        Ok(page)
    }

    fn totals(&mut self, first: Day, last: Day, writer: u64) -> Result<Stored, Failed> {
        let edition = self.shared.edition.load(Ordering::Acquire);
        let connected = self.connected(edition);
        let read = connected.and_then(|connection| totals::read(connection, first, last, writer));
        read.map_err(|trouble| self.failed(&trouble, edition))
    }

    fn rows(&mut self, after: i64, key: Option<Key>, edition: u64) -> Result<Vec<Carded>, Trouble> {
        let connection = self.connected(edition)?;
        let row = |row: &Row<'_>| {
            let slot = file::slot(row.get(1)?, row.get(2)?);
            Ok((row.get(0)?, slot, row.get(3)?, row.get(4)?))
        };
        let rows = if let Some(key) = key {
            connection
                .prepare_cached(OF_KEY)?
                .query_map(params![after, SOME, key.as_bytes()], row)?
                .collect::<Result<_, _>>()
        } else {
            connection
                .prepare_cached(BEHIND)?
                .query_map(params![after, SOME], row)?
                .collect::<Result<_, _>>()
        };
        Ok(rows?)
    }

    /// Returns a connection to the present edition of the database.
    fn connected(&mut self, edition: u64) -> Result<&Connection, Trouble> {
        let usable = self.connection.take().filter(|(of, _)| *of == edition);
        let connection = match usable {
            Some(usable) => usable,
            None => (edition, Place::reader(&self.shared.options.path)?),
        };
        Ok(&self.connection.insert(connection).1)
    }

    fn failed(&mut self, trouble: &Trouble, edition: u64) -> Failed {
        self.connection = None;
        self.shared.count_error(trouble.kind);
        tracing::debug!(error = %trouble, "disk not read");
        if trouble.kind == Kind::Corrupt {
            self.shared.queue.replace(edition);
        }
        Failed
    }

    fn discard(&self, slot: &Slot, damage: Damage) {
        self.shared.count_damage(damage);
        self.shared.queue.remove(slot);
        tracing::debug!(cache.key = %slot.key.short(), reason = damage.as_str(), "entry discarded");
    }
}

fn next(asks: &Mutex<Receiver<Ask>>) -> Option<Ask> {
    let mut asks = asks.lock().unwrap_or_else(PoisonError::into_inner);
    asks.blocking_recv()
}

/// What a look-up asks.
pub(super) const AT: &str = "SELECT envelope, softened FROM entry JOIN body USING (id)
    WHERE key = ?1 AND delivery = ?2";
const BEHIND: &str = "SELECT id, key, delivery, card, softened FROM entry
    WHERE id > ?1 ORDER BY id LIMIT ?2";
const OF_KEY: &str = "SELECT id, key, delivery, card, softened FROM entry
    WHERE id > ?1 AND key = ?3 ORDER BY id LIMIT ?2";
/// Entries of a page: a look-up waits for one at most.
const SOME: i64 = 512;
