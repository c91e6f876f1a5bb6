//! A body on its way, judged at its end.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use super::circuits::Admission;
use crate::{
    answer::{Body, Content},
    dialect::opening::{Opening, Start},
    error::Error,
    guard::class::Class,
};

/// An upstream's body, and the permit of its call.
struct Judged {
    content: Content,
    /// Until it is settled. Dropped with the body before, it says nothing.
    admission: Option<Admission>,
    /// How a stream of events begins, until that is known.
    opening: Option<Opening>,
}

/// Returns `content` with the permit of its call; `is_stream` tells whether it is one of events.
pub(super) fn follow(content: Content, admission: Admission, is_stream: bool) -> Body {
    let mut judged = Judged {
        content,
        admission: Some(admission),
        opening: is_stream.then(Opening::new),
    };
    judged.look_for_the_end();
    Body::Stream(judged.boxed_unsync())
}

impl Judged {
    fn settle(&mut self, class: Class, why: Option<&'static str>) {
        self.opening = None;
        if let Some(admission) = self.admission.take() {
            admission.settle(class, why);
        }
    }

    /// Settles where nothing more is to come: a reader need not ask for the end of a body whose length it knows.
    fn look_for_the_end(&mut self) {
        if self.content.is_end_stream() {
            self.settle(Class::Success, None);
        }
    }

    fn hear(&mut self, frame: &Frame<Bytes>) {
        let Some(opening) = &mut self.opening else {
            return;
        };
        match frame.data_ref().and_then(|piece| opening.hear(piece)) {
            None => {}
            Some(Start::Content) => self.opening = None,
            Some(Start::Error(fault)) => self.settle(Class::of_fault(fault), Some("error_event")),
        }
    }
}

impl HttpBody for Judged {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.content).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                this.hear(frame);
                this.look_for_the_end();
            }
            Some(Err(error)) => {
                if let Some(admission) = this.admission.take() {
                    admission.settle_error(error);
                }
            }
            None => this.settle(Class::Success, None),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}
