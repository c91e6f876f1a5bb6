//! The way of a complete answer into the store: gathers the facts, asks `storable`, makes the entry.

use http::{HeaderMap, HeaderValue};

use crate::{
    answer::{retold::Retold, verdict::NotStored},
    cache::storable::{Facts, Rules, storable},
    guard::coalesce::Flown,
    store::{Entry, generations::Seen},
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
        headers: detached(headers::end_to_end(&recording.head.headers)),
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

/// Copies the values. As they arrive they are slices of the network's buffer, and a single one would keep all of that
/// for as long as the entry lives.
fn detached(mut headers: HeaderMap) -> HeaderMap {
    for value in headers.values_mut() {
        if let Ok(mut copy) = HeaderValue::from_bytes(value.as_bytes()) {
            copy.set_sensitive(value.is_sensitive());
            *value = copy;
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn an_entrys_headers_do_not_keep_the_buffer_that_they_came_in() {
        let buffer = Bytes::from(b"text/plain".repeat(1_000));
        let slice = HeaderValue::from_maybe_shared(buffer.slice(..10)).unwrap();
        let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, slice)]);
        let kept = detached(headers.clone());
        assert_eq!(kept, headers);
        let [kept, came] =
            [kept, headers].map(|headers| headers["content-type"].as_bytes().as_ptr());
        assert_ne!(kept, came);
    }
}
