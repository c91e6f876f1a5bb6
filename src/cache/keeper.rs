//! The way of a complete answer into the store: gathers the facts, asks `storable`, makes the entry.

use crate::{
    answer::{retold::Retold, verdict::NotStored},
    cache::storable::{Facts, Rules, storable},
    guard::coalesce::Flown,
    store::{Entry, generations::Seen, packed},
    upstream::headers,
};

/// Makes an entry of a flight's answer, or says why not.
pub fn keep(flown: Flown<'_>, rules: &Rules) -> Result<Entry, NotStored> {
    let Flown {
        slot,
        form,
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
            stream: form.is_stream(),
            other_model: recording.head.asked.other_model,
            withheld: recording.head.asked.withheld,
            outcome: recording.outcome,
            lifetime: wishes.lifetime,
        },
        rules,
    )?;
    Ok(Entry {
        slot,
        form,
        status: recording.head.status,
        headers: packed(headers::end_to_end(&recording.head.headers)),
        body: recording.body,
        upstream: recording.head.upstream.clone(),
        usage: recording.outcome.usage,
        made: now,
        lifetime,
        tags: wishes.tags.clone(),
        label: label.clone(),
        retold: Retold::default(),
        seen: Seen::default(),
    })
}
