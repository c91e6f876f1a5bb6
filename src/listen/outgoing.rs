//! An answer's body on its way to the client: the record is kept beside it, and a break becomes an abort.
//!
//! # A break
//! hyper throws away what it has not written when a body fails. A client must see every byte before the break, and then
//! an abort, never a clean end. So the failure is held back until the connection has flushed: on HTTP/1.1 that is seen,
//! on HTTP/2, where a stream's frames mix with others', a moment is given. A client that does not read gets ten seconds.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Version;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Sleep;

use super::socket::OnLine;
use crate::{answer::Body, error::Error, ledger::Record};

/// An answer's body on its way to the client.
pub struct Outgoing {
    body: Body,
    record: Option<Box<Record>>,
    line: OnLine,
    version: Version,
    breaking: Option<Box<Breaking>>,
}

/// A failure that is held back.
struct Breaking {
    error: Error,
    flushes: u64,
    patience: Pin<Box<Sleep>>,
}

/// How long a client on HTTP/1.1 may take to read what came before a break.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the frames before a break are given on HTTP/2.
const MOMENT: Duration = Duration::from_millis(50);

impl Outgoing {
    /// Sends `body` on `line`; `record` is written when it is over.
    pub fn new(body: Body, mut record: Box<Record>, line: OnLine, version: Version) -> Self {
        if body.is_end_stream() {
            record.complete(&body);
        }
        // An HTTP/2 connection has other streams; a client that does not read one keeps only itself waiting.
        if let Body::Tape(reader) = &body
            && version < Version::HTTP_2
        {
            let line = line.line().clone();
            reader.on_let_go(Box::new(move || line.cut()));
        }
        let mut outgoing = Self::unrecorded(body, line, version);
        outgoing.record = Some(record);
        outgoing
    }

    /// Sends `body` on `line`, for what is no call.
    pub fn unrecorded(body: Body, line: OnLine, version: Version) -> Self {
        Self {
            body,
            record: None,
            line,
            version,
            breaking: None,
        }
    }

    fn completed(&mut self) {
        if let Some(record) = &mut self.record {
            record.complete(&self.body);
        }
    }

    fn hold_back(&mut self, error: Error) {
        if let Some(record) = &mut self.record {
            record.broken(&error, &self.body);
        }
        let patience = if self.version == Version::HTTP_2 {
            MOMENT
        } else {
            PATIENCE
        };
        self.breaking = Some(Box::new(Breaking {
            error,
            flushes: self.line.flushes(),
            patience: Box::pin(tokio::time::sleep(patience)),
        }));
    }

    /// Waits until what came before the break has left.
    fn poll_break(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(breaking) = &mut self.breaking else {
            return Poll::Ready(None);
        };
        if self.version != Version::HTTP_2 {
            self.line.wake_on_flush(cx);
            if self.line.flushes() > breaking.flushes {
                return Poll::Ready(Some(Err(breaking.error.clone())));
            }
        }
        ready!(breaking.patience.as_mut().poll(cx));
        Poll::Ready(Some(Err(breaking.error.clone())))
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if this.breaking.is_some() {
            return this.poll_break(cx);
        }
        match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if let Some(record) = &mut this.record {
                    record.piece(frame.data_ref().map_or(0, Bytes::len));
                }
                if this.body.is_end_stream() {
                    this.completed();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                this.hold_back(error);
                this.poll_break(cx)
            }
            None => {
                this.completed();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.breaking.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(record) = &mut self.record {
            record.left(&self.body, self.line.line().is_cut());
        }
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outgoing({:?})", self.body)
    }
}
