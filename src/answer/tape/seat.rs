//! The driver's seat: the answer to come, and what is done with it at its end.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Body as _;

use super::{Keep, Recording, Source};
use crate::{
    answer::{Content, Head, verdict::NotStored},
    dialect::Listener,
    error::{Error, Kind},
};

/// The driver's seat.
pub(super) struct Seat {
    pub(super) stage: Stage,
    pub(super) keep: Option<Keep>,
}

pub(super) enum Stage {
    Calling(Source),
    Flowing(Content, Listener),
    Over,
}

/// What one step of the source brought.
pub(super) enum News {
    Head(Head),
    Piece(Bytes),
    Complete(Listener),
    Broken(Error),
    /// The answer has come another way.
    Elsewhere,
    Nothing,
}

impl Seat {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<News> {
        match &mut self.stage {
            Stage::Calling(source) => match ready!(source.as_mut().poll(cx)) {
                Ok(Some((head, content, listener))) => {
                    self.stage = Stage::Flowing(content, listener);
                    Poll::Ready(News::Head(head))
                }
                Ok(None) => Poll::Ready(News::Elsewhere),
                Err(error) => Poll::Ready(News::Broken(error)),
            },
            Stage::Flowing(content, listener) => {
                let frame = ready!(Pin::new(content).poll_frame(cx));
                Poll::Ready(match frame {
                    // Trailers of a keyed answer are no part of the recording.
                    Some(Ok(frame)) => frame.into_data().map_or(News::Nothing, |piece| {
                        listener.hear(&piece);
                        News::Piece(piece)
                    }),
                    Some(Err(error)) => News::Broken(error),
                    None => self.finish(),
                })
            }
            // Nobody asks after the end; were it to happen, waiting for ever would be the worst answer.
            Stage::Over => Poll::Ready(News::Broken(Error::new(Kind::Internal, "nothing is left"))),
        }
    }

    /// Lets the keeper decide about a complete answer.
    pub(super) fn keep(&mut self, recording: Recording<'_>) -> Result<(), NotStored> {
        let keep = self.keep.take();
        keep.map_or(Err(NotStored::Broken), |keep| keep(Ok(recording)))
    }

    /// Tells the keeper, if it was told nothing yet, why nothing will be stored.
    pub(super) fn refuse(&mut self, why: NotStored) -> Result<(), NotStored> {
        let keep = self.keep.take();
        keep.map_or(Err(why), |keep| keep(Err(why)))
    }

    /// An empty seat; nothing is driven and nothing kept any more.
    pub(super) fn over() -> Self {
        Self {
            stage: Stage::Over,
            keep: None,
        }
    }

    /// Returns whether the content says of itself that nothing more will come. Then it is complete now: a client that has
    /// the announced length does not wait for more, and its next call must find the entry.
    pub(super) fn is_at_end(&self) -> bool {
        matches!(&self.stage, Stage::Flowing(content, _) if content.is_end_stream())
    }

    pub(super) fn finish(&mut self) -> News {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Flowing(_, listener) => News::Complete(listener),
            Stage::Calling(_) | Stage::Over => News::Nothing,
        }
    }
}
