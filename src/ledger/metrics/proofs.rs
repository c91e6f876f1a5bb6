//! What upstreams have said of credentials.

use super::text;
use crate::store::proofs::{Counts, Event};

/// Writes what upstreams have said of credentials.
pub(super) fn write(out: &mut String, proofs: &Counts) {
    let help = "Proofs of credentials that are kept, refusals included";
    text::rows(out, &[("kept_proofs", "gauge", help, proofs.kept)]);
    let events = Event::ALL.map(Event::as_str).into_iter().zip(proofs.events);
    let help = "What happened to proofs of credentials";
    text::family(out, "proofs", help, "event", events);
}
