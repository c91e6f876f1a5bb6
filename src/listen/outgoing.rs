//! An answer's body on its way to the client: the record is kept beside it, and a break becomes an abort.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{
    breaking::{Breaking, Way},
    socket::OnLine,
};
use crate::{answer::Body, error::Error, ledger::Record};

/// An answer's body on its way to the client.
pub struct Outgoing {
    body: Body,
    record: Option<Box<Record>>,
    line: OnLine,
    way: Way,
    breaking: Option<Box<Breaking>>,
}

impl Outgoing {
    /// Sends `body` on `line`; `record` is written when it is over.
    pub fn new(body: Body, mut record: Box<Record>, line: OnLine, way: Way) -> Self {
        if body.is_end_stream() {
            record.complete(&body);
        }
        // An HTTP/2 connection has other streams; a client that does not read one keeps only itself waiting.
        if let Body::Tape(reader) = &body
            && !matches!(way, Way::Stream(_))
        {
            let line = line.line().clone();
            reader.on_let_go(Box::new(move || line.cut()));
        }
        let mut outgoing = Self::unrecorded(body, line, way);
        outgoing.record = Some(record);
        outgoing
    }

    /// Sends `body` on `line`, for what is no call.
    pub fn unrecorded(body: Body, line: OnLine, way: Way) -> Self {
        if matches!(way, Way::ToClose) {
            line.line().goes_to_close();
        }
        Self {
            body,
            record: None,
            line,
            way,
            breaking: None,
        }
    }

    /// Hands over a frame.
    fn hand_over(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if let Some(record) = &mut self.record {
            record.piece(frame.data_ref().map_or(0, Bytes::len));
        }
        if self.is_end_stream() {
            self.completed();
        }
        frame
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
        self.breaking = Some(Box::new(Breaking::new(error, &self.line)));
    }

    /// Waits until a break may show.
    fn poll_break(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.breaking {
            Some(breaking) => breaking
                .poll(&self.way, &self.line, cx)
                .map(|error| Some(Err(error))),
            None => Poll::Ready(None),
        }
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
        if let Some(frame) = this.way.next() {
            return Poll::Ready(Some(Ok(this.hand_over(frame))));
        }
        if this.breaking.is_some() {
            return this.poll_break(cx);
        }
        match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                let frame = this.way.first(frame);
                Poll::Ready(Some(Ok(this.hand_over(frame))))
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
        self.breaking.is_none() && self.way.rest() == 0 && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.way.rest();
        let hint = self.body.size_hint();
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower() + rest);
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper + rest);
        }
        whole
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(record) = &mut self.record {
            let cut = self.line.line().is_cut() || self.way.is_stalled();
            record.left(&self.body, cut);
        }
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outgoing({:?})", self.body)
    }
}
