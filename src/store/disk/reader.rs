//! The threads that read: each has a connection of its own, so that no call waits for a writer.

use std::sync::{Arc, Mutex, PoisonError, atomic::Ordering, mpsc::Receiver};

use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::oneshot;

use super::{
    Shared,
    file::Place,
    trouble::{Kind, Trouble},
};
use crate::{
    call::Slot,
    store::codec::{self, Damage, Record},
};

/// A question to the readers.
#[derive(Debug)]
pub(super) struct Ask {
    /// The entry wanted.
    pub(super) slot: Slot,
    /// Takes it, or word that the disk failed.
    pub(super) reply: oneshot::Sender<Result<Option<Record>, Failed>>,
}

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
            if !ask.reply.is_closed() {
                let found = self.answer(&ask.slot);
                drop(ask.reply.send(found));
            }
        }
    }

    fn answer(&mut self, slot: &Slot) -> Result<Option<Record>, Failed> {
        let edition = self.shared.edition.load(Ordering::Acquire);
        let envelope = self.read(slot, edition);
        let envelope = envelope.map_err(|trouble| self.failed(&trouble, edition))?;
        let Some(envelope) = envelope else {
            self.shared.queue.present().remove(slot);
            return Ok(None);
        };
        let limit = usize::try_from(self.shared.options.max_entry).unwrap_or(usize::MAX);
        match codec::decode(&envelope, slot, limit) {
            Ok(record) => Ok(Some(record)),
            Err(damage) => {
                self.discard(slot, damage);
                Ok(None)
            }
        }
    }

    fn read(&mut self, slot: &Slot, edition: u64) -> Result<Option<Vec<u8>>, Trouble> {
        let connection = self.connected(edition)?;
        let mut statement = connection.prepare_cached(
            "SELECT envelope FROM body
             WHERE id = (SELECT id FROM entry WHERE key = ?1 AND delivery = ?2)",
        )?;
        let key = params![slot.key.as_bytes(), slot.delivery.cast_signed()];
        Ok(statement.query_row(key, |row| row.get(0)).optional()?)
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
    let asks = asks.lock().unwrap_or_else(PoisonError::into_inner);
    asks.recv().ok()
}
