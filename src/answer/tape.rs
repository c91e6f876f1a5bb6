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
//! A reader joins; or the inline reader is dropped and the answer is worth finishing; or the inline reader has not
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

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use tokio::time::Instant;

use crate::{
    answer::{Content, Head, tasks::Tasks, verdict::NotStored},
    dialect::{Listener, chat::reply::Outcome, usage::Usage},
    error::{Error, Kind},
};

/// What all tapes share: their bounds, their budget, their tasks.
#[derive(Clone, Debug)]
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

/// The answer that a tape records: a head to come, and its content.
pub type Source = Pin<Box<dyn Future<Output = Result<(Head, Content, Listener), Error>> + Send>>;

/// Decides about a tape that has come to its end, and stores it.
pub type Keep = Box<dyn FnOnce(Recording<'_>) -> Result<(), NotStored> + Send>;

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

#[derive(Debug)]
struct Pool {
    limits: Limits,
    held: AtomicU64,
    tapes: Mutex<Vec<Weak<Shared>>>,
    tasks: Tasks,
}

struct Shared {
    pool: Arc<Pool>,
    /// Whether anybody wants the result stored.
    wanted: AtomicBool,
    // Lock order: `seat` before `state`. `seat` is held while the upstream is polled, `state` never.
    seat: Mutex<Seat>,
    state: Mutex<State>,
}

/// The driver's seat.
struct Seat {
    stage: Stage,
    keep: Option<Keep>,
}

enum Stage {
    Calling(Source),
    Flowing(Content, Listener),
    Over,
}

#[derive(Default)]
struct State {
    head: Option<Arc<Head>>,
    /// What is held; the first piece is number `first`.
    pieces: VecDeque<Bytes>,
    first: usize,
    held: u64,
    segment: BytesMut,
    windowed: bool,
    end: Option<Result<(), Error>>,
    summary: Option<Summary>,
    readers: Vec<Option<Place>>,
    driver: Driver,
    driver_waker: Option<Waker>,
    /// Nobody has read since.
    orphaned: Option<Instant>,
    cancelled: bool,
}

/// Where a reader stands.
#[derive(Default)]
struct Place {
    next: usize,
    waker: Option<Waker>,
    /// It has been given a piece then, and has not come back for the next.
    away: Option<Instant>,
    aborted: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Driver {
    /// The first reader.
    #[default]
    Inline,
    Task,
}

/// After this time away, the inline reader is taken for stalled.
const AWAY: Duration = Duration::from_secs(1);
/// Smallest and largest piece of memory that small pieces are copied together in, bytes.
const SEGMENT: (usize, usize) = (1 << 10, 16 << 10);
/// Pieces that a driving task takes before it lets others run.
const TURN: usize = 64;
/// The inline reader is always the first.
const LEADER: usize = 0;

impl Tapes {
    /// Makes a pool of tapes; its tasks belong to `tasks`.
    pub fn new(limits: Limits, tasks: Tasks) -> Self {
        Self(Arc::new(Pool {
            limits,
            held: AtomicU64::new(0),
            tapes: Mutex::default(),
            tasks,
        }))
    }

    /// Starts a tape and its first reader. Nothing happens before the reader is polled. `wanted` tells whether the
    /// caller wants the result stored.
    pub fn record(&self, source: Source, keep: Keep, wanted: bool) -> (Tape, Reader) {
        let shared = Arc::new(Shared {
            pool: self.0.clone(),
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
            state.readers.push(Some(Place::default()));
            state.readers.len() - 1
        };
        self.0.wanted.fetch_or(wanted, Ordering::Relaxed);
        self.0.hand_over();
        Some(Reader {
            shared: self.0.clone(),
            id,
            next: 0,
            done: false,
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
                if let Some(head) = &state.head {
                    return Poll::Ready(Ok(head.clone()));
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

    /// Returns the next piece, `None` after the last one of a complete answer, or the error that broke the tape after
    /// the last piece before the break.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if self.done {
            return Poll::Ready(None);
        }
        loop {
            {
                let mut state = self.shared.state();
                if let Some(piece) = state.take(self.id, &mut self.next) {
                    if state.windowed {
                        self.shared.trim(&mut state);
                    }
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

    /// Returns what is known of the answer, once it has ended.
    pub fn summary(&self) -> Option<Summary> {
        self.shared.state().summary
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.leave(self.id);
    }
}

impl State {
    /// Hands the reader piece number `next`, if it is there.
    fn take(&mut self, id: usize, next: &mut usize) -> Option<Bytes> {
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
    fn wait(&mut self, id: usize, cx: &Context<'_>) -> bool {
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
    fn end_for(&self, id: usize) -> Option<Result<(), Error>> {
        let place = self.readers.get(id).and_then(Option::as_ref);
        if place.is_some_and(|place| place.aborted) {
            let message = "the client did not read for too long";
            return Some(Err(Error::new(Kind::Stalled, message)));
        }
        self.end.clone()
    }

    /// Takes the wakers of all who wait for news.
    fn wakers(&mut self) -> Vec<Waker> {
        let places = self.readers.iter_mut().flatten();
        places.filter_map(|place| place.waker.take()).collect()
    }

    fn has_readers(&self) -> bool {
        self.readers.iter().flatten().any(|place| !place.aborted)
    }

    /// Copies small pieces together, so that a recording does not pin the network's larger buffers.
    fn own(&mut self, piece: &Bytes) -> Bytes {
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

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Drives the source one step; `Ready` means that the state has news.
    fn poll_source(self: &Arc<Self>, who: Driver, cx: &mut Context<'_>) -> Poll<()> {
        let mut seat = lock(&self.seat);
        // Only under the seat's lock is it certain who drives: were the old driver to poll after the new one, the
        // source would wake the wrong task.
        if self.state().driver != who {
            return Poll::Pending;
        }
        // A panic in there is the leader's alone: it must break the tape, not its readers' connections.
        let polled = catch_unwind(AssertUnwindSafe(|| seat.poll(cx)));
        let news = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(news)) => news,
            Err(_) => News::Broken(Error::new(Kind::Internal, "the call failed inside Refrain")),
        };
        match news {
            News::Head(head) => self.set_head(head),
            News::Piece(piece) => self.append(&piece),
            News::Complete(listener) => self.complete(&mut seat, listener),
            News::Broken(error) => {
                *seat = Seat::over();
                self.end(Err(error), Err(NotStored::Broken), None);
            }
            News::Nothing => {}
        }
        Poll::Ready(())
    }

    fn set_head(&self, head: Head) {
        let wakers = {
            let mut state = self.state();
            state.head = Some(Arc::new(head));
            state.wakers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn append(&self, piece: &Bytes) {
        let length = piece.len() as u64;
        let limits = &self.pool.limits;
        let wakers = {
            let mut state = self.state();
            let piece = state.own(piece);
            state.pieces.push_back(piece);
            state.held += length;
            let all = self.pool.held.fetch_add(length, Ordering::Relaxed) + length;
            if state.held > limits.max_entry || all > limits.share {
                state.windowed = true;
            }
            if state.windowed {
                self.trim(&mut state);
            }
            state.wakers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Lets go of what every reader of a windowed tape has had.
    fn trim(&self, state: &mut State) {
        let places = state.readers.iter().flatten();
        let slowest = places
            .filter(|place| !place.aborted)
            .map(|place| place.next)
            .min()
            .unwrap_or(usize::MAX);
        let was_full = state.held > self.pool.limits.window;
        while state.first < slowest {
            let Some(piece) = state.pieces.pop_front() else {
                break;
            };
            state.first += 1;
            state.held -= piece.len() as u64;
            self.pool
                .held
                .fetch_sub(piece.len() as u64, Ordering::Relaxed);
        }
        if was_full && state.held <= self.pool.limits.window {
            if let Some(waker) = state.driver_waker.take() {
                waker.wake();
            }
        }
    }

    /// The source has ended cleanly: lets the keeper decide, then tells the readers.
    fn complete(&self, seat: &mut Seat, listener: Listener) {
        let (head, body, windowed) = {
            let state = self.state();
            let body = if state.windowed {
                Bytes::new()
            } else {
                concat(&state.pieces)
            };
            (state.head.clone(), body, state.windowed)
        };
        let Some(head) = head else { return };
        let outcome = listener.finish(&body);
        if !head.framed && !outcome.ended && !windowed {
            let message = "the upstream closed its answer without the end mark";
            let error = Error::new(Kind::Broken, message);
            seat.keep = None;
            return self.end(Err(error), Err(NotStored::Incomplete), None);
        }
        let kept = match seat.keep.take() {
            Some(_) if windowed => Err(NotStored::TooLarge),
            Some(_) if !self.wanted.load(Ordering::Relaxed) => Err(NotStored::NoStore),
            Some(keep) => keep(Recording {
                head: &head,
                body,
                outcome: &outcome,
            }),
            None => Err(NotStored::Broken),
        };
        self.end(Ok(()), kept, outcome.usage);
    }

    fn end(&self, end: Result<(), Error>, kept: Result<(), NotStored>, usage: Option<Usage>) {
        let wakers = {
            let mut state = self.state();
            if state.end.is_none() {
                state.end = Some(end);
                state.summary = Some(Summary { kept, usage });
            }
            state.wakers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Lets a task drive from now on.
    fn hand_over(self: &Arc<Self>) {
        {
            let _seat = lock(&self.seat);
            let mut state = self.state();
            if state.driver == Driver::Task || state.end.is_some() {
                return;
            }
            state.driver = Driver::Task;
        }
        let shared = self.clone();
        self.pool
            .tasks
            .spawn(poll_fn(move |cx| shared.poll_drive(cx)));
    }

    /// What a driving task does: polls the source while there is room, until the end.
    fn poll_drive(self: &Arc<Self>, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURN {
            {
                let mut state = self.state();
                if state.end.is_some() {
                    return Poll::Ready(());
                }
                state.driver_waker = Some(cx.waker().clone());
                if state.cancelled {
                    drop(state);
                    self.abandon();
                    return Poll::Ready(());
                }
                if state.windowed && state.held > self.pool.limits.window {
                    return Poll::Pending;
                }
            }
            if self.poll_source(Driver::Task, cx).is_pending() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Drops the source: the upstream sees a hang-up.
    fn abandon(&self) {
        let seat = std::mem::replace(&mut *lock(&self.seat), Seat::over());
        drop(seat);
        let error = Error::new(Kind::Internal, "nobody waits for this answer any more");
        self.end(Err(error), Err(NotStored::Broken), None);
    }

    /// A reader hangs up.
    fn leave(self: &Arc<Self>, id: usize) {
        let inline = {
            let mut state = self.state();
            if let Some(place) = state.readers.get_mut(id) {
                *place = None;
            }
            if state.windowed {
                self.trim(&mut state);
            }
            if state.end.is_some() || state.has_readers() {
                return;
            }
            state.orphaned = Some(Instant::now());
            state.cancelled = !self.worth_finishing(&state);
            if let Some(waker) = state.driver_waker.take() {
                waker.wake();
            }
            state.driver == Driver::Inline
        };
        if inline {
            self.leader_left();
        }
    }

    /// The only reader of a tape that it drove itself is gone.
    fn leader_left(self: &Arc<Self>) {
        if self.state().cancelled {
            self.abandon();
        } else {
            self.hand_over();
        }
    }

    fn worth_finishing(&self, state: &State) -> bool {
        let good = state
            .head
            .as_ref()
            .is_none_or(|head| head.status.is_success());
        let wanted = self.wanted.load(Ordering::Relaxed);
        self.pool.limits.finish && wanted && good && !state.windowed
    }

    /// The once-a-second look.
    fn sweep(self: &Arc<Self>, now: Instant) {
        let limits = &self.pool.limits;
        let mut wakers = Vec::new();
        let stalled = {
            let mut state = self.state();
            if state.end.is_some() {
                return;
            }
            let overdue = state
                .orphaned
                .is_some_and(|since| now.duration_since(since) >= limits.linger);
            if overdue && !state.has_readers() {
                state.cancelled = true;
                wakers.extend(state.driver_waker.take());
            }
            if state.windowed && state.held > limits.window {
                wakers.extend(state.let_go(now, limits.stall));
                self.trim(&mut state);
            }
            state.driver == Driver::Inline && state.is_away(LEADER, now, AWAY)
        };
        wakers.into_iter().for_each(Waker::wake);
        if stalled {
            self.hand_over();
        }
    }
}

impl State {
    fn is_away(&self, id: usize, now: Instant, longer_than: Duration) -> bool {
        let place = self.readers.get(id).and_then(Option::as_ref);
        place
            .and_then(|place| place.away)
            .is_some_and(|since| now.duration_since(since) >= longer_than)
    }

    /// Aborts the readers that stand at the start of a full window and have been away for `stall`.
    fn let_go(&mut self, now: Instant, stall: Duration) -> Vec<Waker> {
        let first = self.first;
        let mut wakers = Vec::new();
        for place in self.readers.iter_mut().flatten() {
            let away = place
                .away
                .is_some_and(|since| now.duration_since(since) >= stall);
            if place.next == first && away && !place.aborted {
                place.aborted = true;
                wakers.extend(place.waker.take());
            }
        }
        wakers
    }
}

/// What one step of the source brought.
enum News {
    Head(Head),
    Piece(Bytes),
    Complete(Listener),
    Broken(Error),
    Nothing,
}

impl Seat {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<News> {
        match &mut self.stage {
            Stage::Calling(source) => match std::task::ready!(source.as_mut().poll(cx)) {
                Ok((head, content, listener)) => {
                    self.stage = Stage::Flowing(content, listener);
                    Poll::Ready(News::Head(head))
                }
                Err(error) => Poll::Ready(News::Broken(error)),
            },
            Stage::Flowing(content, listener) => {
                let frame = std::task::ready!(Pin::new(content).poll_frame(cx));
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
            Stage::Over => Poll::Ready(News::Nothing),
        }
    }

    /// An empty seat; nothing is driven and nothing kept any more.
    fn over() -> Self {
        Self {
            stage: Stage::Over,
            keep: None,
        }
    }

    fn finish(&mut self) -> News {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Flowing(_, listener) => News::Complete(listener),
            Stage::Calling(_) | Stage::Over => News::Nothing,
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let held = self.state.get_mut().map_or(0, |state| state.held);
        self.pool.held.fetch_sub(held, Ordering::Relaxed);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tape")
    }
}

fn concat(pieces: &VecDeque<Bytes>) -> Bytes {
    let mut whole = Vec::with_capacity(pieces.iter().map(Bytes::len).sum());
    for piece in pieces {
        whole.extend_from_slice(piece);
    }
    Bytes::from(whole)
}

/// Locks a mutex; a panic elsewhere leaves data that is still sound, as every change of it is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
