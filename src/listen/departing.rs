//! An answer's bytes on their way into an HTTP/2 connection: what was handed over, and has not left yet.
//!
//! hyper takes a piece as soon as the stream has room for its first byte; the rest waits inside for the client to grant
//! more, and a reset throws it away. Only the buffer itself tells when it has left: it is dropped then.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Context,
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio::time::Instant;

/// The bytes of one answer, handed over piece by piece.
#[derive(Debug, Default)]
pub struct Departing {
    /// What is still to be handed over.
    rest: Bytes,
    gate: Arc<Gate>,
}

/// Counts the pieces that are handed over, and those of them that have left.
#[derive(Debug, Default)]
pub(super) struct Gate {
    handed: AtomicU64,
    left: AtomicU64,
    news: AtomicWaker,
    is_stalled: AtomicBool,
}

/// A piece that tells when it is dropped.
struct Traveller {
    bytes: Bytes,
    gate: Arc<Gate>,
}

tokio::task_local! {
    static GATE: Arc<Gate>;
}

/// How often a client is looked at within its patience.
const LOOKS: u32 = 8;
/// Largest piece, bytes: what a frame holds unless the client allows for more (RFC 9113 §4.2).
const PIECE: usize = 16 << 10;

/// Runs the task of a stream whose pieces leave through `gate`.
pub(super) fn through<F: Future>(gate: Arc<Gate>, stream: F) -> impl Future<Output = F::Output> {
    GATE.scope(gate, stream)
}

impl Gate {
    /// Waits until something has been waiting to leave for `patience` while nothing left, by the grain of an eighth.
    pub(super) async fn stalled(&self, patience: Duration) {
        let mut since = Instant::now();
        let mut seen = self.left();
        loop {
            tokio::time::sleep(patience / LOOKS).await;
            let left = self.left();
            if left != seen || left == self.handed.load(Ordering::Acquire) {
                (since, seen) = (Instant::now(), left);
            } else if since.elapsed() >= patience {
                self.is_stalled.store(true, Ordering::Release);
                return;
            }
        }
    }

    fn left(&self) -> u64 {
        self.left.load(Ordering::Acquire)
    }
}

impl Departing {
    /// Begins with the first piece of the stream that this task is of.
    pub(super) fn of_this_stream() -> Self {
        Self {
            rest: Bytes::new(),
            gate: GATE.try_with(Arc::clone).unwrap_or_default(),
        }
    }

    /// Adds what is to be handed over next; everything before has been.
    pub(super) fn add(&mut self, bytes: Bytes) {
        self.rest = bytes;
    }

    /// Hands over the next piece.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let length = self.rest.len().min(PIECE);
        let bytes = self.rest.split_to(length);
        if bytes.is_empty() {
            return None;
        }
        self.gate.handed.fetch_add(1, Ordering::Release);
        Some(Bytes::from_owner(Traveller {
            bytes,
            gate: self.gate.clone(),
        }))
    }

    /// Returns how many bytes are still to be handed over.
    pub(super) fn rest(&self) -> u64 {
        self.rest.len() as u64
    }

    /// Returns whether anything has been handed over.
    pub(super) fn has_begun(&self) -> bool {
        self.handed() > 0
    }

    /// Returns how many pieces have left.
    pub(super) fn left(&self) -> u64 {
        self.gate.left()
    }

    /// Returns whether everything handed over has left.
    pub(super) fn has_left(&self) -> bool {
        self.left() == self.handed()
    }

    /// Returns whether the stream was given up because its client takes nothing.
    pub(super) fn is_stalled(&self) -> bool {
        self.gate.is_stalled.load(Ordering::Acquire)
    }

    fn handed(&self) -> u64 {
        self.gate.handed.load(Ordering::Acquire)
    }

    /// Has the task woken when the next piece leaves.
    pub(super) fn wake_on_leave(&self, cx: &Context<'_>) {
        self.gate.news.register(cx.waker());
    }
}

impl AsRef<[u8]> for Traveller {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Traveller {
    fn drop(&mut self) {
        self.gate.left.fetch_add(1, Ordering::Release);
        self.gate.news.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_has_left_when_its_last_part_is_dropped() {
        let mut departing = Departing::default();
        departing.add(Bytes::from(vec![7; PIECE + 1]));
        let mut first = departing.next().unwrap();
        let second = departing.next().unwrap();
        assert_eq!((first.len(), second.len()), (PIECE, 1));
        assert!(departing.rest() == 0 && departing.next().is_none());
        let part = first.split_to(100);
        drop(first);
        assert_eq!(departing.left(), 0);
        drop(part);
        assert_eq!(departing.left(), 1);
        assert!(!departing.has_left());
        drop(second);
        assert!(departing.has_left());
    }
}
