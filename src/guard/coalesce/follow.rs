//! What a follower gets of a flight: its tape as it is recorded, or its answer in another form.
//!
//! # Forms
//! A stream without usage that follows one with it reads the same tape live, the usage taken out on the way. Between a
//! stream and a plain answer there is no live way: the follower waits for the end, and the whole is told anew, once for all
//! followers of its form.
//!
//! # Scope
//! Where the flight turns out not to serve this follower (an error that may be the leader's form's own, no usage, more
//! than `max_entry`, unreadable), nothing was sent yet, so the call goes on by itself.

use http::{StatusCode, header::CONTENT_TYPE};

use super::{Flight, Ticket};
use crate::{
    answer::{
        Answer, Body, Head,
        replay::Replay,
        tape::Reader,
        verdict::{Reason, Served, Verdict},
    },
    call::key::Key,
    dialect,
    error::Error,
    store::{retell, tiered::Tiered},
    upstream::headers,
};

/// Follows `flight` for the call of `ticket`; `None` if the flight does not serve it.
pub(super) async fn follow(
    mut reader: Reader,
    flight: &Flight,
    ticket: &Ticket,
    store: &Tiered,
) -> Result<Option<Answer>, Error> {
    let (flown, asked, slot) = (flight.form, ticket.form(), &ticket.keyed.slot);
    let mut head = followed(&*reader.head().await?);
    // What the upstream says to a key of the proxy's own, it says to all of them.
    if ticket.wide && head.asked.by_caller && OF_THE_CREDENTIAL.contains(&head.status) {
        return Ok(None);
    }
    let is_as_flown = head.status.is_success() && is_event_stream(&head) == flown.is_stream();
    if flown == asked || !is_as_flown && flown.is_stream() == asked.is_stream() {
        return Ok(Some(answer(head, Body::Tape(reader), slot.key)));
    }
    if !is_as_flown {
        return Ok(None);
    }
    retell(&mut head.headers, flown, asked);
    if flown.is_stream() == asked.is_stream() {
        reader.withhold_usage();
        return Ok(Some(answer(head, Body::Tape(reader), slot.key)));
    }
    if !reader.complete().await? {
        return Ok(None);
    }
    let usage = reader.summary().and_then(|summary| summary.usage);
    if !flown.lends(usage.is_some(), asked) {
        return Ok(None);
    }
    let recording = || reader.whole();
    let teller = store.teller();
    let telling = teller.tell(&flight.retold, recording, flown, asked).await;
    store.recount(slot, &flight.retold);
    let replay = telling.ok().map(|telling| Replay::new(telling, usage));
    Ok(replay.map(|replay| answer(head, Body::Replay(replay), slot.key)))
}

fn followed(head: &Head) -> Head {
    Head {
        headers: headers::end_to_end(&head.headers),
        timing: None,
        ..head.clone()
    }
}

fn is_event_stream(head: &Head) -> bool {
    let content_type = head.headers.get(CONTENT_TYPE);
    content_type.is_some_and(dialect::is_event_stream)
}

fn answer(head: Head, body: Body, key: Key) -> Answer {
    Answer {
        served: Served {
            upstream: Some(head.upstream.clone()),
            ..Served::from_upstream(Verdict::Collapsed, Reason::NotFound, Some(key))
        },
        head,
        body,
    }
}

/// Statuses that may speak of the leader's credential, and so to nobody else: a model that it has no access to is not
/// found, and an account without means has to pay.
pub(super) const OF_THE_CREDENTIAL: [StatusCode; 5] = [
    StatusCode::UNAUTHORIZED,
    StatusCode::PAYMENT_REQUIRED,
    StatusCode::FORBIDDEN,
    StatusCode::NOT_FOUND,
    StatusCode::TOO_MANY_REQUESTS,
];
