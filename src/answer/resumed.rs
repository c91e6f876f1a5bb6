//! A body whose beginning has been read already: that comes first, then the rest as it comes.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::Content;
use crate::error::Error;

/// What has been read of a body, and the rest of it.
pub struct Resumed {
    read: VecDeque<Frame<Bytes>>,
    rest: Content,
}

impl Resumed {
    /// Puts what was `read` back in front of the `rest`.
    pub fn new(read: VecDeque<Frame<Bytes>>, rest: Content) -> Self {
        Self { read, rest }
    }
}

impl Body for Resumed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.read.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let data = self.read.iter().filter_map(Frame::data_ref);
        let read = data.map(|data| data.len() as u64).sum::<u64>();
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        // In this order: the upper bound must not lie below the lower one.
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint.set_lower(rest.lower().saturating_add(read));
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn resumed(read: &[&'static str], rest: &'static str) -> Resumed {
        let read = read
            .iter()
            .map(|data| Frame::data(Bytes::from_static(data.as_bytes())));
        let rest = Full::new(Bytes::from_static(rest.as_bytes()));
        Resumed::new(
            read.collect(),
            rest.map_err(|never| match never {}).boxed_unsync(),
        )
    }

    #[tokio::test]
    async fn what_was_read_comes_first_and_counts() {
        let body = resumed(&["a", "bc"], "def");
        assert_eq!(body.size_hint().exact(), Some(6));
        assert!(!body.is_end_stream());
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abcdef");
    }

    #[tokio::test]
    async fn it_ends_only_when_what_was_read_is_gone() {
        let mut body = resumed(&["a"], "");
        assert!(!body.is_end_stream());
        assert!(body.frame().await.is_some());
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }
}
