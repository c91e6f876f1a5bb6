//! Reading a request's body: whole where the key needs it, else piece by piece.
//!
//! # Bounds
//! A body that is larger than `[key] max_body`, or for which `[limits] buffered` has no room left, is not held: what
//! was read of it goes ahead of the rest, as a stream.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::arriving::Arriving;
use crate::{
    call::{Payload, Unkeyed},
    error::Error,
};

/// What all request bodies together may hold; clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
    limit: u64,
    held: AtomicU64,
}

/// What a request's body was read to.
pub enum Read {
    /// Its end.
    Whole(Held),
    /// A bound, which is named; it goes on as a stream.
    Partly(Payload, Unkeyed),
}

/// Bytes that count against a budget as long as they exist.
pub struct Held {
    bytes: Bytes,
    /// Given back with the bytes.
    _share: Share,
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
struct Share {
    account: Arc<Account>,
    size: u64,
}

impl Budget {
    /// Makes a budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Account {
            limit,
            held: AtomicU64::new(0),
        }))
    }

    /// Reads a body whole, if it has at most `max` bytes and there is room, else returns it as a stream, and why.
    pub async fn read(&self, mut body: Arriving, max: u64) -> Result<Read, Error> {
        let mut share = self.share();
        let mut read = Pieces::None;
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame?.into_data() else {
                // Trailers of a request that is keyed say nothing an upstream of ours reads.
                continue;
            };
            let refused = if share.size + piece.len() as u64 > max {
                Some(Unkeyed::TooLarge)
            } else if share.grow(piece.len() as u64) {
                None
            } else {
                Some(Unkeyed::BufferFull)
            };
            read.push(piece);
            if let Some(why) = refused {
                let rest = resumed(read.into_bytes(), share, body);
                return Ok(Read::Partly(rest, why));
            }
            if body.is_end_stream() {
                break;
            }
        }
        Ok(Read::Whole(Held {
            bytes: read.into_bytes(),
            _share: share,
        }))
    }

    fn share(&self) -> Share {
        Share {
            account: self.0.clone(),
            size: 0,
        }
    }
}

impl Held {
    /// Holds `edited` in place of what was read, which it must not exceed: the share stays.
    pub fn replace(&mut self, edited: Vec<u8>) {
        self.bytes = edited.into();
    }

    /// Passes the body on whole.
    pub fn into_payload(self) -> Payload {
        Payload::Whole(Bytes::from_owner(self))
    }
}

/// Passes a body on piece by piece.
pub fn stream(body: Arriving) -> Payload {
    Payload::Stream(body.boxed_unsync())
}

/// Puts what was read in front of what is still to come.
fn resumed(read: Bytes, share: Share, rest: Arriving) -> Payload {
    let head = Bytes::from_owner(Held {
        bytes: read,
        _share: share,
    });
    let frames = futures_util::stream::unfold((Some(head), rest), next_frame);
    Payload::Stream(StreamBody::new(frames).boxed_unsync())
}

type Rest = (Option<Bytes>, Arriving);

async fn next_frame((head, mut rest): Rest) -> Option<(Result<Frame<Bytes>, Error>, Rest)> {
    if let Some(head) = head {
        return Some((Ok(Frame::data(head)), (None, rest)));
    }
    let frame = rest.frame().await?;
    Some((frame, (None, rest)))
}

/// What has been read; almost always a single piece, which then is not copied.
enum Pieces {
    None,
    One(Bytes),
    Many(BytesMut),
}

impl Pieces {
    fn push(&mut self, piece: Bytes) {
        *self = match std::mem::replace(self, Self::None) {
            Self::None => Self::One(piece),
            Self::One(first) => {
                let mut all = BytesMut::with_capacity(2 * (first.len() + piece.len()));
                all.extend_from_slice(&first);
                all.extend_from_slice(&piece);
                Self::Many(all)
            }
            Self::Many(mut all) => {
                all.extend_from_slice(&piece);
                Self::Many(all)
            }
        };
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::None => Bytes::new(),
            Self::One(piece) => piece,
            Self::Many(all) => all.freeze(),
        }
    }
}

impl Share {
    /// Takes `more` bytes of the budget; returns whether they were left.
    fn grow(&mut self, more: u64) -> bool {
        let before = self.account.held.fetch_add(more, Ordering::Relaxed);
        // Also a refused piece is held until it is sent on.
        self.size += more;
        before + more <= self.account.limit
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.account.held.fetch_sub(self.size, Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
