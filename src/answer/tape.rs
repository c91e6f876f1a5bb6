//! The tape: an append-only recording of one answer, with many readers and an end.
//!
//! The first client, the followers of a flight, and the store all read the same tape. It starts before the head of the
//! answer is there, so that one mechanism carries a call from the moment it is sent.
//!
//! # Who drives it
//! Somebody must poll the upstream. As long as there is one reader, it does so inline: no extra task, no extra
//! wake-up. Once a second reader joins, or the first one leaves or stalls, a tracked task takes over. Readers do not
//! notice.
//!
//! ## Inline -> Task
//! A reader joins; or the inline reader is dropped and the answer is worth finishing, which one that was not even asked for is not; or the inline reader has not
//! come back for a second after it was given a piece (its client does not read). There is no way back.
//!
//! # Bounds
//! A tape *records* until it exceeds `max_entry`, or all open tapes together exceed their share. From then on it is
//! *windowed*: it takes no more readers, will not be stored, and holds only what its slowest reader has not had yet,
//! up to [`Limits::window`]. A reader that holds up a full window for longer than [`Limits::stall`] is let go.
//!
//! # Scope
//! A tape knows bytes and the facts that its [`Listener`] gathers beside them; whether the result is worth storing is
//! the [`Keep`]er's business.

mod seat;
mod shared;
mod state;

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use self::{
    seat::{Seat, Stage},
    shared::Shared,
    state::{Driver, Place, State},
};
use crate::{
    answer::{Content, Head, tasks::Tasks, verdict::NotStored},
    dialect::{
        Listener,
        chat::{reply::Outcome, strip::Strip},
        usage::Usage,
    },
    error::Error,
};

/// What all tapes share: their bounds, their budget, their tasks.
#[derive(Clone)]
pub struct Tapes(Arc<Pool>);

/// One recording; a handle that reads nothing by itself.
#[derive(Clone, Debug)]
pub struct Tape(Arc<Shared>);

/// One reader of a tape. Dropping it is a hang-up.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    id: usize,
    next: usize,
    done: bool,
    /// Takes out the usage, for a client that did not ask for it.
    strip: Option<Box<Strip>>,
}

/// Bounds of the tapes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest recording that may be stored, bytes.
    pub max_entry: u64,
    /// What all open tapes together may hold, bytes.
    pub share: u64,
    /// What a windowed tape holds at most, bytes, give or take one piece.
    pub window: u64,
    /// How long a reader may hold up a full window.
    pub stall: Duration,
    /// Whether an answer whose last reader left is finished for the store.
    pub finish: bool,
    /// How long such an answer may take.
    pub linger: Duration,
}

/// The answer that a tape records: a head to come, and its content; `None` if it has come another way, and the tape is
/// of no use.
pub type Source = Pin<Box<dyn Future<Output = Result<Option<Sourced>, Error>> + Send>>;

/// What a source brings.
pub type Sourced = (Head, Content, Listener);

/// Whether the call for an answer has left Refrain; clones share it. Before that nothing is lost with it.
#[derive(Clone, Debug, Default)]
pub struct Sent(Arc<AtomicBool>);

/// Hears what became of an answer.
pub type Told = Box<dyn Fn(Summary) + Send + Sync>;

/// Cuts off a client that does not read.
pub type Cut = Box<dyn FnOnce() + Send>;

/// Decides about a tape that has come to its end, and stores it. Where nothing of it can be stored it hears why, as soon as
/// that is certain; of a tape that is abandoned it hears nothing.
pub type Keep = Box<dyn FnOnce(Result<Recording<'_>, NotStored>) -> Result<(), NotStored> + Send>;

/// A tape that is complete, as its keeper sees it.
#[derive(Debug)]
pub struct Recording<'a> {
    /// The head.
    pub head: &'a Head,
    /// The whole body in one piece.
    pub body: Bytes,
    /// What the body was.
    pub outcome: &'a Outcome,
}

/// What is known of an answer once it has ended.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// Whether it was stored, and why not.
    pub kept: Result<(), NotStored>,
    /// Its tokens, where it tells.
    pub usage: Option<Usage>,
}

struct Pool {
    limits: Limits,
    told: Told,
    held: AtomicU64,
    tapes: Mutex<Vec<Weak<Shared>>>,
    tasks: Tasks,
}

/// After this time away, the inline reader is taken for stalled.
const AWAY: Duration = Duration::from_secs(1);
/// The inline reader is always the first.
const LEADER: usize = 0;

impl fmt::Debug for Tapes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tapes({} bytes held)", self.held())
    }
}

impl Tapes {
    /// Makes a pool of tapes; its tasks belong to `tasks`.
    /// `told` hears what became of each answer, whoever was there to read it.
    pub fn new(limits: Limits, tasks: Tasks, told: Told) -> Self {
        Self(Arc::new(Pool {
            limits,
            told,
            held: AtomicU64::new(0),
            tapes: Mutex::default(),
            tasks,
        }))
    }

    /// Starts a tape and its first reader. Nothing happens before the reader is polled. `sent` is what `source` notes that it
    /// has gone upstream by. `wanted` tells whether the caller wants the result stored.
    pub fn record(&self, source: Source, sent: Sent, keep: Keep, wanted: bool) -> (Tape, Reader) {
        let shared = Arc::new(Shared {
            pool: self.0.clone(),
            sent,
            wanted: AtomicBool::new(wanted),
            seat: Mutex::new(Seat {
                stage: Stage::Calling(source),
                keep: Some(keep),
            }),
            state: Mutex::new(State {
                readers: vec![Some(Place::default())],
                ..State::default()
            }),
        });
        lock(&self.0.tapes).push(Arc::downgrade(&shared));
        let reader = Reader {
            shared: shared.clone(),
            id: LEADER,
            next: 0,
            done: false,
            strip: None,
        };
        (Tape(shared), reader)
    }

    /// Returns the largest recording that may be stored, bytes.
    pub fn max_entry(&self) -> usize {
        usize::try_from(self.0.limits.max_entry).unwrap_or(usize::MAX)
    }

    /// Returns what all open tapes hold, bytes.
    pub fn held(&self) -> u64 {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Looks after the open tapes, once a second, for ever: takes over from readers that stall, lets go of those that
    /// hold others up, ends what nobody reads any more.
    pub async fn look_after(self) {
        let mut tick = tokio::time::interval(AWAY);
        loop {
            tick.tick().await;
            self.sweep(Instant::now());
        }
    }

    fn sweep(&self, now: Instant) {
        let tapes: Vec<Arc<Shared>> = {
            let mut list = lock(&self.0.tapes);
            list.retain(|tape| tape.strong_count() > 0);
            list.iter().filter_map(Weak::upgrade).collect()
        };
        for tape in tapes {
            tape.sweep(now);
        }
    }
}

impl Tape {
    /// Adds a reader that starts at the beginning, or returns `None` where the beginning is gone or the tape has
    /// failed. `wanted` tells whether the new caller wants the result stored.
    pub fn join(&self, wanted: bool) -> Option<Reader> {
        let id = {
            let mut state = self.0.state();
            let failed = matches!(state.end, Some(Err(_)));
            if state.windowed || state.cancelled || failed {
                return None;
            }
            state.orphaned = None;
            self.0.wanted.fetch_or(wanted, Ordering::Relaxed);
            state.enter()
        };
        self.0.hand_over();
        Some(Reader {
            shared: self.0.clone(),
            id,
            next: 0,
            done: false,
            strip: None,
        })
    }
}

impl Reader {
    /// Waits for the head of the answer.
    pub async fn head(&mut self) -> Result<Arc<Head>, Error> {
        poll_fn(|cx| self.poll_head(cx)).await
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arc<Head>, Error>> {
        loop {
            {
                let mut state = self.shared.state();
                if let Some(head) = state.head() {
                    state.served(self.id);
                    return Poll::Ready(Ok(head));
                }
                if let Some(Err(error)) = &state.end {
                    return Poll::Ready(Err(error.clone()));
                }
                if state.wait(self.id, cx) {
                    return Poll::Pending;
                }
            }
            if self.shared.poll_source(Driver::Inline, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Waits for the end of the answer without reading it, and returns whether all of it is there: not where the tape has
    /// had to let go of its beginning.
    pub async fn complete(&mut self) -> Result<bool, Error> {
        poll_fn(|cx| self.poll_complete(cx)).await
    }

    fn poll_complete(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        loop {
            {
                let mut state = self.shared.state();
                if state.windowed {
                    return Poll::Ready(Ok(false));
                }
                if let Some(end) = state.end.clone() {
                    return Poll::Ready(end.map(|()| true));
                }
                if state.wait_for_the_end(self.id, cx) {
                    return Poll::Pending;
                }
            }
            if self.shared.poll_source(Driver::Inline, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Returns what is recorded, in one piece; it is copied together unless it was stored.
    pub fn whole(&self) -> Bytes {
        self.shared.state().whole()
    }

    /// Withholds the usage of the stream, none of which has been read yet, from this reader.
    pub fn withhold_usage(&mut self) {
        self.strip = Some(Box::default());
    }

    /// Returns the next piece, `None` after the last one of a complete answer, or the error that broke the tape after
    /// the last piece before the break. Where the usage is withheld, an event that broke off is none of those pieces.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            let piece = ready!(self.poll_piece(cx));
            let Some(strip) = &mut self.strip else {
                return Poll::Ready(piece);
            };
            let passes = match piece {
                Some(Ok(piece)) => strip.push(&piece),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None if strip.is_empty() => return Poll::Ready(None),
                None => strip.finish(),
            };
            if !passes.is_empty() {
                return Poll::Ready(Some(Ok(Bytes::from(passes))));
            }
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if self.done {
            return Poll::Ready(None);
        }
        loop {
            {
                let mut state = self.shared.state();
                if let Some(piece) = state.take(self.id, &mut self.next) {
                    self.shared.trim_if_windowed(&mut state);
                    return Poll::Ready(Some(Ok(piece)));
                }
                if let Some(end) = state.end_for(self.id) {
                    self.done = true;
                    return Poll::Ready(end.err().map(Err));
                }
                if state.wait(self.id, cx) {
                    return Poll::Pending;
                }
            }
            if self.shared.poll_source(Driver::Inline, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Has `cut` called if the reader is let go for holding others up.
    pub fn on_let_go(&self, cut: Cut) {
        let mut state = self.shared.state();
        if let Some(Some(place)) = state.readers.get_mut(self.id) {
            place.cut = Some(cut);
        }
    }

    /// Returns whether a complete answer has been read to its end.
    pub fn is_done(&self) -> bool {
        let is_empty = self.strip.as_ref().is_none_or(|strip| strip.is_empty());
        is_empty && (self.done || self.shared.state().is_done(self.id, self.next))
    }

    /// Returns whether the reader was let go for holding others up.
    pub fn is_let_go(&self) -> bool {
        let state = self.shared.state();
        let place = state.readers.get(self.id).and_then(Option::as_ref);
        place.is_some_and(|place| place.aborted)
    }

    /// Returns what is known of the answer, once it has ended.
    pub fn summary(&self) -> Option<Summary> {
        self.shared.state().summary
    }
}

impl Sent {
    /// Notes that the call has left.
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.leave(self.id);
    }
}

/// Locks a mutex; a panic elsewhere leaves data that is still sound, as every change of it is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
