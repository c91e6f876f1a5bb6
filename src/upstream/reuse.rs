//! Connections that tell whether they have been used before, and died before they said a word to the call at hand.
//!
//! A server may close an idle connection at the very moment a call is sent on it. Such a call has failed for no reason
//! of its own, and is sent once more (RFC 9112 §9.3.1). hyper's client does so by itself where nothing of the call had
//! been written; what it cannot know is whether anything came back.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
};

use http::Extensions;
use hyper_util::client::legacy::{
    Error,
    connect::{Connected, Connection},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::config::HttpVersion;

/// A connection that notes who spoke last on it.
#[derive(Debug)]
pub struct Noting<T> {
    inner: T,
    /// What is spoken on it.
    http: HttpVersion,
    last: Last,
}

/// Who spoke last on a connection: 0 as long as the upstream has said nothing at all, [`UPSTREAM`] or [`AGAIN`].
#[derive(Clone, Debug, Default)]
struct Last(Arc<AtomicU8>);

/// The upstream.
const UPSTREAM: u8 = 1;
/// Something was sent to it after it had spoken.
const AGAIN: u8 = 2;

impl<T> Noting<T> {
    /// Wraps a connection that is new, and on which `http` will be spoken.
    pub fn new(inner: T, http: HttpVersion) -> Self {
        Self {
            inner,
            http,
            last: Last::default(),
        }
    }
}

/// Returns whether `error` is that of a call on an HTTP/1.1 connection that had been used before, and that has brought
/// nothing since the call was sent. On HTTP/2 calls share a connection, and it says nothing of a single one.
pub(super) fn died_idle(error: &Error) -> bool {
    let Some(connection) = error.connect_info() else {
        return false;
    };
    let mut facts = Extensions::new();
    connection.get_extras(&mut facts);
    let last = facts.get::<Last>();
    !connection.is_negotiated_h2() && last.is_some_and(Last::is_unanswered)
}

impl Last {
    fn hears(&self) {
        self.0.store(UPSTREAM, Ordering::Relaxed);
    }

    fn sends(&self) {
        if self.0.load(Ordering::Relaxed) == UPSTREAM {
            self.0.store(AGAIN, Ordering::Relaxed);
        }
    }

    fn is_unanswered(&self) -> bool {
        self.0.load(Ordering::Relaxed) == AGAIN
    }
}

impl<T> Connection for Noting<T> {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(self.last.clone());
        // Without TLS nothing is negotiated, and yet it is HTTP/2.
        match self.http {
            HttpVersion::Http1 => connected,
            HttpVersion::Http2 => connected.negotiated_h2(),
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Noting<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        // Nothing read is the end.
        if buffer.filled().len() > before {
            self.last.hears();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Noting<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.last.sends();
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.last.sends();
        Pin::new(&mut self.inner).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_connection_has_died_idle_if_it_had_answered_before_and_says_nothing_more() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut connection = Noting::new(ours, HttpVersion::Http1);
        let last = connection.last.clone();
        connection.write_all(b"one").await.unwrap();
        assert!(!last.is_unanswered(), "a new connection");
        theirs.write_all(b"two").await.unwrap();
        let mut answer = [0; 3];
        connection.read_exact(&mut answer).await.unwrap();
        assert!(!last.is_unanswered(), "idle");
        connection.write_all(b"three").await.unwrap();
        assert!(last.is_unanswered(), "asked again");
        drop(theirs);
        assert_eq!(connection.read(&mut answer).await.unwrap(), 0);
        assert!(last.is_unanswered(), "the end is no word");
    }

    #[tokio::test]
    async fn a_connection_that_has_begun_to_answer_has_not_died_idle() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut connection = Noting::new(ours, HttpVersion::Http1);
        let mut answer = [0; 1];
        for _ in 0..2 {
            connection.write_all(b"call").await.unwrap();
            theirs.write_all(b"a").await.unwrap();
            connection.read_exact(&mut answer).await.unwrap();
        }
        drop(theirs);
        assert_eq!(connection.read(&mut answer).await.unwrap(), 0);
        assert!(!connection.last.is_unanswered());
    }
}
