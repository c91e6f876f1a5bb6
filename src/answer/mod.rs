//! What goes back to a client: a head, a body, and how it came to be.
//!
//! The body of a keyed answer is a [`tape`]: one recording, many readers. Everything else is a plain stream with one
//! reader, or a tunnel.

pub mod apology;
pub mod replay;
pub mod resumed;
pub mod retold;
pub mod tape;
pub mod tasks;
pub mod verdict;

use std::{
    fmt,
    future::{Future, Ready},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::Either;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::upgrade::OnUpgrade;

use crate::{
    answer::{replay::Replay, tape::Reader, verdict::Served},
    error::{Error, Tries},
};

/// What goes back to a client.
#[derive(Debug)]
pub struct Answer {
    /// Status and headers.
    pub head: Head,
    /// The content.
    pub body: Body,
    /// How it came to be.
    pub served: Served,
}

/// An answer that is there at once and fails nobody, or comes in its time; what is there needs no box.
pub type Eventual = Either<
    Ready<Result<Answer, Error>>,
    Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>,
>;

/// Status and headers of an answer, as the upstream sent them.
#[derive(Clone, Debug)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// Whether the body says itself where it ends: by length, chunks or HTTP/2 frames, not by closing.
    pub framed: bool,
    /// Name of the upstream.
    pub upstream: HeaderValue,
    /// How that was asked.
    pub asked: Asked,
    /// What the upstream took, where this answer had it asked.
    pub timing: Option<Arc<Timing>>,
}

/// How an upstream was asked; by default not by the caller, as for what was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Whether with the caller's own credential, at the upstream that is meant to judge it: only then its answer says
    /// anything of that credential.
    pub by_caller: bool,
    /// Whether for another model than the key covers.
    pub other_model: bool,
    /// Whether without something that the key covers: the query, a header.
    pub withheld: bool,
}

/// How long an upstream took; filled in while its answer flows.
#[derive(Debug, Default)]
pub struct Timing {
    total_us: AtomicU64,
    failed: OnceLock<Tries>,
    /// Whether the call had waited for another replica's before it was sent.
    has_waited: AtomicBool,
}

/// The content of an answer.
pub enum Body {
    /// A recording under way.
    Tape(Reader),
    /// A finished recording.
    Replay(Replay),
    /// Bytes that nobody keeps; one reader, backpressure, trailers kept.
    Stream(Content),
    /// A switched protocol (101): the edge connects the two sides.
    Tunnel(OnUpgrade),
}

/// Bytes flowing from an upstream.
pub type Content = UnsyncBoxBody<Bytes, Error>;

impl Timing {
    /// Notes how long the upstream has taken so far: at the head of its answer, and at every piece.
    pub fn note(&self, elapsed: Duration) {
        self.total_us.store(micros(elapsed), Ordering::Relaxed);
    }

    /// Notes the tries that failed before this one, once.
    pub fn note_failed(&self, failed: Tries) {
        // A second note is not made: a call has one answer.
        let _ = self.failed.set(failed);
    }

    /// Returns the tries that failed before this one, if any did.
    pub fn failed(&self) -> Option<Tries> {
        self.failed.get().copied()
    }

    /// Notes that the call had waited for another replica's before it was sent.
    pub fn note_waited(&self) {
        self.has_waited.store(true, Ordering::Relaxed);
    }

    /// Returns whether the call had waited for another replica's before it was sent.
    pub fn has_waited(&self) -> bool {
        self.has_waited.load(Ordering::Relaxed)
    }

    /// Returns the time until the end, or as far as the answer got.
    pub fn total(&self) -> Duration {
        Duration::from_micros(self.total_us.load(Ordering::Relaxed))
    }
}

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Self::Tape(reader) => reader.poll_chunk(cx).map_ok(Frame::data),
            Self::Replay(replay) => Poll::Ready(replay.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => Pin::new(stream).poll_frame(cx),
            Self::Tunnel(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Tape(reader) => reader.is_done(),
            Self::Replay(replay) => replay.is_done(),
            Self::Stream(stream) => stream.is_end_stream(),
            Self::Tunnel(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Tape(_) => SizeHint::default(),
            Self::Replay(replay) => SizeHint::with_exact(replay.remaining()),
            Self::Stream(stream) => stream.size_hint(),
            Self::Tunnel(_) => SizeHint::with_exact(0),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tape(_) => "Tape",
            Self::Replay(_) => "Replay",
            Self::Stream(_) => "Stream",
            Self::Tunnel(_) => "Tunnel",
        })
    }
}
