//! What the board needs to know of a call.

use std::sync::Arc;

use super::{Board, Flight, fleet::Waited};
use crate::{
    answer::tape::Sent,
    call::{Call, Keyed, plan::Plan},
    dialect::{Dialect, chat::form::Form},
    store::Label,
    upstream::headers,
};

/// A call, as far as flights are concerned.
pub(super) struct Ticket {
    pub(super) keyed: Arc<Keyed>,
    pub(super) dialect: Option<Dialect>,
    pub(super) plan: Plan,
    pub(super) passed_over: Option<std::time::Instant>,
    /// Whether nothing of other calls may answer it.
    pub(super) alone: bool,
    /// Whether others share its scope, whose credentials the upstream may think otherwise of.
    pub(super) wide: bool,
    /// Flights that this call cannot join, or could not be served by.
    pub(super) apart: Vec<u64>,
    /// How often it has come through Refrain.
    pub(super) hops: u8,
    /// Whether it has gone upstream.
    pub(super) sent: Sent,
    /// Whether it has waited for another replica.
    pub(super) waited: Waited,
}

impl Ticket {
    pub(super) fn of(call: &Call, keyed: Arc<Keyed>) -> Self {
        Self {
            keyed,
            dialect: call.dialect,
            plan: call.plan.clone(),
            passed_over: call.passed_over,
            alone: call.alone,
            wide: call.is_wide(),
            apart: Vec::new(),
            hops: headers::hops(&call.headers),
            sent: Sent::default(),
            waited: Waited::default(),
        }
    }

    pub(super) fn form(&self) -> Form {
        self.keyed.request.form()
    }

    pub(super) fn label(&self) -> Label {
        Label {
            scope: self.keyed.scope.as_bytes().to_vec(),
            dialect: self.dialect.map_or("", Dialect::as_str).to_owned(),
            model: self.keyed.request.model.clone(),
            namespace: self.plan.namespace.clone(),
        }
    }

    /// Returns whether its answer may take the place of another: it has passed one over, or looked for none.
    pub(super) fn replaces(&self) -> bool {
        self.plan.refresh || self.alone || self.passed_over.is_some()
    }

    /// Returns the flight that the call may join, if there is one.
    pub(super) fn flight<'a>(&self, board: &'a Board) -> Option<&'a Flight> {
        let slot = self.keyed.slot;
        let mut flights = self
            .form()
            .joins()
            .iter()
            .filter_map(|form| board.get(&(slot, *form)));
        flights.find(|flight| flight.takes(self) && !self.apart.contains(&flight.number))
    }
}
