//! The end of a flight: its answer goes to the store, and it leaves the board.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Flights, Origin, fleet::Hold};
use crate::{
    answer::verdict::NotStored,
    dialect::chat::form::Form,
    store::{Entry, generations::Seen},
};

/// Takes its flight off the board when dropped, unless a later flight has replaced it.
pub(super) struct Landing {
    pub(super) flights: Flights,
    pub(super) of: Arc<Origin>,
    pub(super) form: Form,
    pub(super) number: u64,
    pub(super) began: Instant,
    /// Whether its answer may take the place of one that other replicas have.
    pub(super) replaces: bool,
    /// Its lease among the replicas.
    pub(super) hold: Hold,
}

impl Landing {
    /// Stores the flight's answer, unless it was purged on its way, or a refresh has replaced the flight: its answer is the newer one, whichever
    /// comes first. Nor does it replace what another form's flight has brought meanwhile and serves more calls.
    pub(super) fn land(&self, mut entry: Entry) -> Result<(), NotStored> {
        let store = &self.flights.0.store;
        entry.seen = Seen::at(self.of.seen, false);
        if store.is_dead(&entry) {
            return Err(NotStored::Purged);
        }
        let board = self.flights.board();
        let current = board.get(&(self.of.slot, self.form));
        if current.map(|flight| flight.number) != Some(self.number) {
            return Err(NotStored::Superseded);
        }
        let lends_to_all = |entry: &Entry| Form::ALL.iter().all(|form| entry.lends_to(*form));
        if !lends_to_all(&entry)
            && let Some(other) = store.get(&self.of.slot)
            && other.made >= self.began
            && lends_to_all(&other)
        {
            return Err(NotStored::Superseded);
        }
        store.put(entry, self.replaces);
        Ok(())
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut board = self.flights.board();
        let place = (self.of.slot, self.form);
        if board
            .get(&place)
            .is_some_and(|flight| flight.number == self.number)
        {
            board.remove(&place);
        }
    }
}
