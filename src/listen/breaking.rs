//! A break on its way to the client: when it may show, and how.
//!
//! hyper throws away what it has not written when a body fails, but a client must see every byte before the break, and
//! then an abort, never a clean end. So the failure is held back until what came before has left.
//!
//! # Framed -> abort
//! The connection has flushed since the break. A client that does not read has the write deadline, as ever.
//!
//! # To the close -> abort
//! On HTTP/1.0 without a length, closing early looks like the end, so the connection is reset. A reset also throws away
//! what the kernel still holds: after the flush, that is given a moment to leave. When Refrain itself ends before the
//! answer does, there is no such moment: the connection is reset at once.
//!
//! # Stream -> abort
//! On HTTP/2 every piece handed over has left. A client gets ten seconds for each; one that grants nothing for so long
//! does not read. Nothing tells when a head has left that no piece followed: that, too, is given a moment.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Version, header};
use http_body::{Body as _, Frame};
use tokio::time::Sleep;

use super::{departing::Departing, socket::OnLine};
use crate::{answer::Body, error::Error};

/// How a body travels, which decides how a break shows.
#[derive(Debug)]
pub enum Way {
    /// In chunks or with a length, or it cannot break.
    Framed,
    /// Up to the close of the connection.
    ToClose,
    /// On a stream of an HTTP/2 connection.
    Stream(Departing),
}

/// A failure that is held back.
#[derive(Debug)]
pub(super) struct Breaking {
    error: Error,
    /// How often the connection had flushed.
    flushes: u64,
    /// How many pieces had left at the last look.
    left: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

/// How long a client on HTTP/2 may take for each piece before a break.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a head is given to leave on HTTP/2.
const MOMENT: Duration = Duration::from_millis(50);
/// What the kernel is given to send before a reset.
const SETTLING: Duration = Duration::from_secs(1);

impl Way {
    /// Returns how `body` travels under a head with `headers`.
    pub fn of(version: Version, headers: &HeaderMap, body: &Body) -> Self {
        let has_length =
            || headers.contains_key(header::CONTENT_LENGTH) || body.size_hint().exact().is_some();
        match body {
            Body::Tunnel(_) => Self::Framed,
            _ if version == Version::HTTP_2 => Self::Stream(Departing::of_this_stream()),
            Body::Replay(_) => Self::Framed,
            _ if version < Version::HTTP_11 && !has_length() => Self::ToClose,
            Body::Tape(_) | Body::Stream(_) => Self::Framed,
        }
    }

    /// Returns what is handed over of `frame`; the rest of it comes next.
    pub(super) fn first(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let Self::Stream(departing) = self else {
            return frame;
        };
        match frame.into_data() {
            Ok(bytes) => {
                departing.add(bytes);
                Frame::data(departing.next().unwrap_or_default())
            }
            Err(frame) => frame,
        }
    }

    /// Returns what is handed over next of an earlier frame, if anything is left.
    pub(super) fn next(&mut self) -> Option<Frame<Bytes>> {
        match self {
            Self::Stream(departing) => departing.next().map(Frame::data),
            Self::Framed | Self::ToClose => None,
        }
    }

    /// Returns whether the answer was given up because its client takes nothing of it.
    pub(super) fn is_stalled(&self) -> bool {
        matches!(self, Self::Stream(departing) if departing.is_stalled())
    }

    /// Returns how many bytes of an earlier frame are left.
    pub(super) fn rest(&self) -> u64 {
        match self {
            Self::Stream(departing) => departing.rest(),
            Self::Framed | Self::ToClose => 0,
        }
    }
}

impl Breaking {
    /// Holds `error` back, which came up now.
    pub(super) fn new(error: Error, line: &OnLine) -> Self {
        Self {
            error,
            flushes: line.flushes(),
            left: 0,
            timer: None,
        }
    }

    /// Waits until the break may show.
    pub(super) fn poll(&mut self, way: &Way, line: &OnLine, cx: &mut Context<'_>) -> Poll<Error> {
        match way {
            Way::Framed => ready!(self.poll_flushed(line, cx)),
            Way::ToClose => {
                ready!(self.poll_flushed(line, cx));
                ready!(self.poll_timer(SETTLING, cx));
                line.line().reset();
            }
            Way::Stream(departing) if departing.has_begun() => {
                ready!(self.poll_left(departing, cx));
            }
            Way::Stream(_) => ready!(self.poll_timer(MOMENT, cx)),
        }
        Poll::Ready(self.error.clone())
    }

    fn poll_flushed(&self, line: &OnLine, cx: &Context<'_>) -> Poll<()> {
        line.wake_on_flush(cx);
        if line.flushes() > self.flushes {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn poll_left(&mut self, departing: &Departing, cx: &mut Context<'_>) -> Poll<()> {
        departing.wake_on_leave(cx);
        if departing.has_left() {
            return Poll::Ready(());
        }
        let left = departing.left();
        if left > self.left {
            self.left = left;
            self.timer = None;
        }
        self.poll_timer(PATIENCE, cx)
    }

    fn poll_timer(&mut self, limit: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::task::noop_waker_ref;

    use super::*;
    use crate::{error::Kind, listen::socket::Line};

    fn handed_over(departing: &mut Departing) -> Bytes {
        departing.add(Bytes::from_static(b"piece"));
        departing.next().unwrap()
    }

    fn breaking(line: &OnLine) -> Breaking {
        Breaking::new(Error::new(Kind::Broken, "broke off"), line)
    }

    #[tokio::test(start_paused = true)]
    async fn a_break_on_http2_shows_as_soon_as_every_piece_has_left() {
        let mut cx = Context::from_waker(noop_waker_ref());
        let line = Arc::<Line>::default().begin();
        let mut departing = Departing::default();
        let (first, last) = (handed_over(&mut departing), handed_over(&mut departing));
        let way = Way::Stream(departing);
        let mut held_back = breaking(&line);
        assert!(held_back.poll(&way, &line, &mut cx).is_pending());
        drop(first);
        assert!(held_back.poll(&way, &line, &mut cx).is_pending());
        drop(last);
        assert!(held_back.poll(&way, &line, &mut cx).is_ready());
        assert!(breaking(&line).poll(&way, &line, &mut cx).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn patience_begins_anew_with_each_piece_that_leaves() {
        let mut cx = Context::from_waker(noop_waker_ref());
        let line = Arc::<Line>::default().begin();
        let mut departing = Departing::default();
        let (first, _last) = (handed_over(&mut departing), handed_over(&mut departing));
        let way = Way::Stream(departing);
        let mut held_back = breaking(&line);
        assert!(held_back.poll(&way, &line, &mut cx).is_pending());
        tokio::time::advance(PATIENCE / 10 * 9).await;
        drop(first);
        assert!(held_back.poll(&way, &line, &mut cx).is_pending());
        tokio::time::advance(PATIENCE / 10 * 9).await;
        assert!(held_back.poll(&way, &line, &mut cx).is_pending());
        tokio::time::advance(PATIENCE / 10 * 2).await;
        assert!(held_back.poll(&way, &line, &mut cx).is_ready());
    }
}
