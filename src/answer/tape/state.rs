//! What a tape holds, and where its readers stand.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::{Cut, LEADER, Summary};
use crate::{
    answer::Head,
    error::{Error, Kind},
};

/// What a tape holds.
#[derive(Default)]
pub(super) struct State {
    pub(super) head: Option<Arc<Head>>,
    /// What is held; the first piece is number `first`.
    pub(super) pieces: VecDeque<Bytes>,
    pub(super) first: usize,
    pub(super) held: u64,
    pub(super) segment: BytesMut,
    pub(super) windowed: bool,
    pub(super) end: Option<Result<(), Error>>,
    pub(super) summary: Option<Summary>,
    pub(super) readers: Vec<Option<Place>>,
    pub(super) driver: Driver,
    pub(super) driver_waker: Option<Waker>,
    /// Nobody has read since.
    pub(super) orphaned: Option<Instant>,
    pub(super) cancelled: bool,
}

/// Where a reader stands.
#[derive(Default)]
pub(super) struct Place {
    pub(super) next: usize,
    pub(super) waker: Option<Waker>,
    /// It has been given a piece then, and has not come back for the next.
    pub(super) away: Option<Instant>,
    pub(super) aborted: bool,
    /// Cuts the reader's client off: who does not read is not reached otherwise.
    pub(super) cut: Option<Cut>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Driver {
    /// The first reader.
    #[default]
    Inline,
    Task,
}

impl State {
    /// Hands the reader piece number `next`, if it is there.
    pub(super) fn take(&mut self, id: usize, next: &mut usize) -> Option<Bytes> {
        let place = self.readers.get_mut(id)?.as_mut()?;
        if place.aborted {
            return None;
        }
        let piece = self.pieces.get(next.checked_sub(self.first)?)?.clone();
        *next += 1;
        place.next = *next;
        place.away = Some(Instant::now());
        Some(piece)
    }

    /// Registers the reader's waker; returns whether waiting is all it has to do, because somebody else drives.
    pub(super) fn wait(&mut self, id: usize, cx: &Context<'_>) -> bool {
        if let Some(Some(place)) = self.readers.get_mut(id) {
            place.away = None;
            match &mut place.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => place.waker = Some(cx.waker().clone()),
            }
        }
        self.driver == Driver::Task || id != LEADER
    }

    /// Returns how the tape ended for this reader, if it did.
    pub(super) fn end_for(&self, id: usize) -> Option<Result<(), Error>> {
        let place = self.readers.get(id).and_then(Option::as_ref);
        if place.is_some_and(|place| place.aborted) {
            let message = "the client did not read for too long";
            return Some(Err(Error::new(Kind::Stalled, message)));
        }
        self.end.clone()
    }

    /// Takes the wakers of all who wait for news.
    pub(super) fn wakers(&mut self) -> Vec<Waker> {
        let places = self.readers.iter_mut().flatten();
        places.filter_map(|place| place.waker.take()).collect()
    }

    /// Returns whether this reader has had all of a complete answer.
    pub(super) fn is_done(&self, next: usize) -> bool {
        matches!(self.end, Some(Ok(()))) && next >= self.first + self.pieces.len()
    }

    pub(super) fn has_readers(&self) -> bool {
        self.readers.iter().flatten().any(|place| !place.aborted)
    }

    /// Copies small pieces together, so that a recording does not pin the network's larger buffers.
    pub(super) fn own(&mut self, piece: &Bytes) -> Bytes {
        if piece.len() >= SEGMENT.1 {
            return piece.clone();
        }
        if self.segment.capacity() < piece.len() {
            let doubled = usize::try_from(self.held).unwrap_or(SEGMENT.1);
            let room = doubled.clamp(SEGMENT.0, SEGMENT.1).max(piece.len());
            self.segment = BytesMut::with_capacity(room);
        }
        self.segment.extend_from_slice(piece);
        self.segment.split().freeze()
    }
}

impl State {
    /// Returns all pieces as one.
    pub(super) fn whole(&self) -> Bytes {
        let mut whole = Vec::with_capacity(self.pieces.iter().map(Bytes::len).sum());
        for piece in &self.pieces {
            whole.extend_from_slice(piece);
        }
        Bytes::from(whole)
    }

    pub(super) fn is_away(&self, id: usize, now: Instant, longer_than: Duration) -> bool {
        let place = self.readers.get(id).and_then(Option::as_ref);
        place
            .and_then(|place| place.away)
            .is_some_and(|since| now.duration_since(since) >= longer_than)
    }

    /// Aborts the readers that stand at the start of a full window and have been away for `stall`.
    pub(super) fn let_go(&mut self, now: Instant, stall: Duration) -> Vec<Waker> {
        let first = self.first;
        let mut wakers = Vec::new();
        for place in self.readers.iter_mut().flatten() {
            let away = place
                .away
                .is_some_and(|since| now.duration_since(since) >= stall);
            if place.next == first && away && !place.aborted {
                place.aborted = true;
                wakers.extend(place.waker.take());
                if let Some(cut) = place.cut.take() {
                    cut();
                }
            }
        }
        wakers
    }
}

/// Smallest and largest piece of memory that small pieces are copied together in, bytes.
const SEGMENT: (usize, usize) = (1 << 10, 16 << 10);
