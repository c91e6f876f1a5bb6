//! The way of a complete answer into the store: gathers the facts, asks `storable`, makes the entry.

use crate::{
    answer::verdict::NotStored,
    cache::storable::{Facts, Rules, storable},
    guard::coalesce::Flown,
    store::Entry,
    upstream::headers,
};

/// Makes an entry of a flight's answer, or says why not.
pub fn keep(flown: Flown<'_>, rules: &Rules) -> Result<Entry, NotStored> {
    let Flown {
        slot,
        stream,
        label,
        wishes,
        recording,
        now,
    } = flown;
    let lifetime = storable(
        &Facts {
            status: recording.head.status,
            headers: &recording.head.headers,
            length: recording.body.len() as u64,
            stream,
            outcome: recording.outcome,
            lifetime: wishes.lifetime,
        },
        rules,
    )?;
    Ok(Entry {
        slot,
        status: recording.head.status,
        headers: headers::end_to_end(&recording.head.headers),
        body: recording.body,
        upstream: recording.head.upstream.clone(),
        usage: recording.outcome.usage,
        made: now,
        lifetime,
        tags: wishes.tags.clone(),
        label: label.clone(),
        restored: false,
    })
}
