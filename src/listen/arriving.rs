//! A request's body on its way in: every piece has to come in time.
//!
//! # Scope
//! Only waiting for the client counts. While nobody asks for the next piece, because an upstream takes no more, no time
//! passes.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::waking;
use crate::error::{Error, Kind};

/// A request's body on its way in.
#[derive(Debug)]
pub struct Arriving<B = Incoming> {
    body: B,
    pause: Duration,
    /// Runs while a piece is waited for.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<B> Arriving<B> {
    /// Wraps `body`, whose client may let at most `pause` pass before each piece.
    pub fn new(body: B, pause: Duration) -> Self {
        Self {
            body,
            pause,
            waiting: None,
        }
    }

    /// Fails once the next piece is overdue.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let pause = self.pause;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        ready!(waiting.as_mut().poll(cx));
        let message = format!("nothing more of the request's body came for {pause:?}");
        Poll::Ready(Error::new(Kind::SlowRequest, message))
    }
}

impl<B> Body for Arriving<B>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let frame = waking::while_taking(
            &mut this.body,
            cx,
            |body, cx| Pin::new(body).poll_frame(cx),
            |body| !body.is_end_stream(),
        );
        match frame {
            Poll::Ready(frame) => {
                this.waiting = None;
                Poll::Ready(frame.map(|frame| frame.map_err(incomplete)))
            }
            Poll::Pending => this.poll_overdue(cx).map(|error| Some(Err(error))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn incomplete(error: hyper::Error) -> Error {
    let message = "the request's body ended before its announced end";
    Error::with_source(Kind::IncompleteRequest, message, error)
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    type Pieces = UnboundedReceiver<Bytes>;

    const PAUSE: Duration = Duration::from_secs(60);

    /// Returns a body of what comes out of `pieces`.
    fn arriving(pieces: Pieces) -> Arriving<impl Body<Data = Bytes, Error = hyper::Error> + Unpin> {
        let frames = futures_util::stream::unfold(pieces, |mut pieces| async {
            let piece = pieces.recv().await?;
            Some((Ok(Frame::data(piece)), pieces))
        });
        Arriving::new(StreamBody::new(Box::pin(frames)), PAUSE)
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_that_does_not_come_in_time_is_a_slow_request() {
        let (client, pieces) = unbounded_channel();
        let mut body = arriving(pieces);
        client.send(Bytes::from_static(b"half")).unwrap();
        assert!(body.frame().await.unwrap().is_ok());
        let error = body.frame().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), Kind::SlowRequest);
        assert_eq!(error.kind().status().as_u16(), 408);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_time_between_two_pieces_counts() {
        let (client, pieces) = unbounded_channel();
        let mut body = arriving(pieces);
        for _ in 0..5 {
            let soon = tokio::time::timeout(PAUSE * 2 / 3, body.frame()).await;
            assert!(soon.is_err(), "no piece was sent");
            client.send(Bytes::from_static(b"piece")).unwrap();
            assert!(body.frame().await.unwrap().is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_time_passes_while_nobody_asks_for_more() {
        let (client, pieces) = unbounded_channel();
        let mut body = arriving(pieces);
        client.send(Bytes::from_static(b"half")).unwrap();
        assert!(body.frame().await.unwrap().is_ok());
        tokio::time::advance(PAUSE * 10).await;
        client.send(Bytes::from_static(b"rest")).unwrap();
        assert!(body.frame().await.unwrap().is_ok());
    }
}
