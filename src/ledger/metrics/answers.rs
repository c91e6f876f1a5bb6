//! What became of answers: stored or not, fetched anew, and what they spared callers.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

use super::series;
use crate::{answer::verdict::NotStored, ledger::refresh::Outcome};

/// The series that answers move.
#[derive(Debug)]
pub(super) struct Answers {
    stored: Counter,
    not_stored: [Counter; NotStored::ALL.len()],
    refreshes: [Counter; Outcome::ALL.len()],
    /// Of the prompt, and of the completion.
    saved: [Counter; 2],
}

impl Answers {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            stored: series::counter(registry, "stored", "Answers stored"),
            not_stored: series::counters(
                registry,
                "not_stored",
                "Answers of keyed calls that were not stored, by reason",
                "reason",
                NotStored::ALL.map(NotStored::as_str),
            ),
            refreshes: series::counters(
                registry,
                "refreshes",
                "Entries asked for anew in the background, by what came of it",
                "result",
                Outcome::ALL.map(Outcome::as_str),
            ),
            saved: series::counters(
                registry,
                "saved_tokens",
                "Tokens that answers from the cache or from another call would have cost",
                "kind",
                ["input", "output"],
            ),
        }
    }

    pub(super) fn kept(&self, kept: Result<(), NotStored>) {
        match kept {
            Ok(()) => drop(self.stored.inc()),
            Err(reason) => {
                let index = NotStored::ALL.iter().position(|known| *known == reason);
                if let Some(counter) = index.and_then(|index| self.not_stored.get(index)) {
                    counter.inc();
                }
            }
        }
    }

    pub(super) fn refreshed(&self, outcome: Outcome) {
        let index = Outcome::ALL.iter().position(|known| *known == outcome);
        if let Some(counter) = index.and_then(|index| self.refreshes.get(index)) {
            counter.inc();
        }
    }

    pub(super) fn saved(&self, input: u64, output: u64) {
        for (counter, tokens) in self.saved.iter().zip([input, output]) {
            counter.inc_by(tokens);
        }
    }
}
