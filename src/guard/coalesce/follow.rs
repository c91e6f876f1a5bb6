//! What a follower gets of a flight: its tape as it is recorded, or its answer in another form.
//!
//! # Forms
//! A stream without usage that follows one with it reads the same tape live, the usage taken out on the way. Between a
//! stream and a plain answer there is no live way: the follower waits for the whole and gets it told anew.
//!
//! # Scope
//! Where the flight turns out not to serve this follower (an error that may be the leader's form's own, no usage, more
//! than `max_entry`, unreadable), nothing was sent yet, so the call goes on by itself.

use std::future::poll_fn;

use bytes::{Bytes, BytesMut};
use http::{StatusCode, header::CONTENT_TYPE};

use crate::{
    answer::{
        Answer, Body, Head,
        replay::Replay,
        tape::Reader,
        verdict::{Reason, Served, Verdict},
    },
    call::key::Key,
    dialect::{
        self,
        chat::{convert, form::Form},
        usage::Usage,
    },
    error::{Error, Kind},
    store::retell,
    upstream::headers,
};

/// What a call wants of a flight that it follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Following {
    /// The form that it asked for.
    pub(super) asked: Form,
    /// Its key.
    pub(super) key: Key,
    /// The largest answer that is told anew, bytes.
    pub(super) limit: usize,
    /// Whether other credentials share its scope.
    pub(super) wide: bool,
}

/// Follows a flight of the form `flown`; `None` if the flight does not serve the call.
pub(super) async fn follow(
    mut reader: Reader,
    flown: Form,
    following: &Following,
) -> Result<Option<Answer>, Error> {
    let Following {
        asked,
        key,
        limit,
        wide,
    } = *following;
    let mut head = followed(&*reader.head().await?);
    if wide && OF_THE_CREDENTIAL.contains(&head.status) {
        return Ok(None);
    }
    let is_as_flown = head.status.is_success() && is_event_stream(&head) == flown.is_stream();
    if flown == asked || !is_as_flown && flown.is_stream() == asked.is_stream() {
        return Ok(Some(answer(head, Body::Tape(reader), key)));
    }
    if !is_as_flown {
        return Ok(None);
    }
    retell(&mut head.headers, flown, asked);
    if flown.is_stream() == asked.is_stream() {
        reader.withhold_usage();
        return Ok(Some(answer(head, Body::Tape(reader), key)));
    }
    let Some((recording, usage)) = whole(reader, limit).await? else {
        return Ok(None);
    };
    if !flown.lends(usage.is_some(), asked) {
        return Ok(None);
    }
    let told = convert(&recording, flown, asked).ok().map(Bytes::from);
    Ok(told.map(|told| answer(head, Body::Replay(Replay::new(told, usage)), key)))
}

/// Reads a tape to its end; `None` if there is more than `limit` bytes, or if the reader was let go.
async fn whole(mut reader: Reader, limit: usize) -> Result<Option<(Bytes, Option<Usage>)>, Error> {
    let mut whole = BytesMut::new();
    while let Some(piece) = poll_fn(|cx| reader.poll_chunk(cx)).await {
        match piece {
            Ok(piece) if whole.len() + piece.len() <= limit => whole.extend_from_slice(&piece),
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == Kind::Stalled => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let usage = reader.summary().and_then(|summary| summary.usage);
    Ok(Some((whole.freeze(), usage)))
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
const OF_THE_CREDENTIAL: [StatusCode; 5] = [
    StatusCode::UNAUTHORIZED,
    StatusCode::PAYMENT_REQUIRED,
    StatusCode::FORBIDDEN,
    StatusCode::NOT_FOUND,
    StatusCode::TOO_MANY_REQUESTS,
];
