//! What a tape holds, and where its readers stand.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::{AWAY, Cut, LEADER, Summary};
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
    /// What the pieces take, bytes.
    pub(super) held: u64,
    /// All that was ever recorded, bytes.
    pub(super) total: u64,
    /// The whole body as it was stored; the pieces are gone then.
    pub(super) entry: Option<Bytes>,
    pub(super) segment: BytesMut,
    pub(super) windowed: bool,
    /// The last of the answer is there, its end is not: nothing is handed out until it was decided whether it is stored.
    /// A client that knows the length would ask again at once.
    pub(super) is_closing: bool,
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
    /// How many bytes it has had.
    had: usize,
    pub(super) waker: Option<Waker>,
    /// It waits for the end and is not to be woken before.
    for_the_end: bool,
    /// It has been given something then, and has not come back for more.
    pub(super) away: Option<Instant>,
    /// How long it has stood at the start of a full window, less the time that it did not.
    in_the_way: Duration,
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
    /// Returns the head, if it is there.
    pub(super) fn head(&self) -> Option<Arc<Head>> {
        self.head.clone().filter(|_| !self.holds_back())
    }

    /// Hands the reader piece number `next`, if it is there.
    pub(super) fn take(&mut self, id: usize, next: &mut usize) -> Option<Bytes> {
        if self.holds_back() {
            return None;
        }
        let place = self.readers.get_mut(id)?.as_mut()?;
        if place.aborted {
            return None;
        }
        let piece = match &self.entry {
            Some(entry) if place.had < entry.len() => entry.slice(place.had..),
            Some(_) => return None,
            None => self.pieces.get(next.checked_sub(self.first)?)?.clone(),
        };
        *next += 1;
        place.next = *next;
        place.had += piece.len();
        place.away = Some(Instant::now());
        Some(piece)
    }

    fn holds_back(&self) -> bool {
        self.is_closing && self.end.is_none()
    }

    /// Records a piece; returns what it takes.
    pub(super) fn push(&mut self, piece: &Bytes) -> u64 {
        let piece = self.own(piece);
        let cost = cost(&piece);
        self.total += piece.len() as u64;
        self.held += cost;
        self.pieces.push_back(piece);
        cost
    }

    /// Drops the pieces before number `next`; returns what they took.
    pub(super) fn drop_before(&mut self, next: usize) -> u64 {
        let mut freed = 0;
        while self.first < next
            && let Some(piece) = self.pieces.pop_front()
        {
            self.first += 1;
            freed += cost(&piece);
        }
        self.held -= freed;
        freed
    }

    /// Gives a new reader a place.
    pub(super) fn enter(&mut self) -> usize {
        // The first place is the leader's, for ever: who has it may drive.
        let mut places = self.readers.iter_mut().enumerate().skip(LEADER + 1);
        if let Some((id, free)) = places.find(|(_, place)| place.is_none()) {
            *free = Some(Place::default());
            return id;
        }
        self.readers.push(Some(Place::default()));
        self.readers.len() - 1
    }

    /// Notes that a reader was given something.
    pub(super) fn served(&mut self, id: usize) {
        if let Some(Some(place)) = self.readers.get_mut(id) {
            place.away = Some(Instant::now());
        }
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

    /// Registers the waker of a reader that has no use for a part; returns the same as [`State::wait`].
    pub(super) fn wait_for_the_end(&mut self, id: usize, cx: &Context<'_>) -> bool {
        if let Some(Some(place)) = self.readers.get_mut(id) {
            place.for_the_end = true;
        }
        self.wait(id, cx)
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

    /// Takes the wakers of all who wait for news. Who drives inline is not among them: it has just brought the news
    /// itself, and would wake the task that it runs in.
    pub(super) fn wakers(&mut self) -> Vec<Waker> {
        if self.holds_back() {
            return Vec::new();
        }
        let first = match self.driver {
            Driver::Inline => LEADER + 1,
            Driver::Task => LEADER,
        };
        let is_over = self.end.is_some() || self.windowed;
        let places = self.readers.iter_mut().skip(first).flatten();
        let places = places.filter(|place| is_over || !place.for_the_end);
        places.filter_map(|place| place.waker.take()).collect()
    }

    /// Returns whether this reader has had all of a complete answer.
    pub(super) fn is_done(&self, id: usize, next: usize) -> bool {
        let all = match (&self.entry, self.readers.get(id)) {
            (Some(entry), Some(Some(place))) => place.had >= entry.len(),
            _ => next >= self.first + self.pieces.len(),
        };
        matches!(self.end, Some(Ok(()))) && all
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

    /// Returns all pieces as one.
    pub(super) fn whole(&self) -> Bytes {
        if let Some(entry) = &self.entry {
            return entry.clone();
        }
        if let Some(only) = self.pieces.front().filter(|_| self.pieces.len() == 1)
            && (SEGMENT.0..SEGMENT.1).contains(&only.len())
        {
            // It has a piece of memory of its own, of just its size.
            return only.clone();
        }
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

    /// Looked at every [`AWAY`]: aborts the readers that have stood at the start of a full window for `stall` while others wait behind them; one
    /// that is alone may be slow, but not away for as long.
    pub(super) fn let_go(&mut self, full: bool, now: Instant, stall: Duration) -> Vec<Waker> {
        let first = self.first;
        let places = self.readers.iter_mut().flatten();
        let places: Vec<_> = places.filter(|place| !place.aborted).collect();
        let alone = places.len() == 1;
        let mut wakers = Vec::new();
        for place in places {
            let in_the_way = full && place.next == first;
            place.in_the_way = if in_the_way {
                place.in_the_way + AWAY
            } else {
                place.in_the_way.saturating_sub(AWAY)
            };
            let away = place.away.map(|since| now.duration_since(since));
            let waited = if alone {
                away.unwrap_or_default()
            } else {
                place.in_the_way
            };
            if in_the_way && waited >= stall {
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

/// Returns what a piece takes, its place in the list included.
fn cost(piece: &Bytes) -> u64 {
    (piece.len() + size_of::<Bytes>()) as u64
}

/// Smallest and largest piece of memory that small pieces are copied together in, bytes.
const SEGMENT: (usize, usize) = (1 << 10, 16 << 10);
