//! What the handles and readers of one tape share: who drives it, and how it moves on.

use std::{
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    AWAY, LEADER, Pool, Recording, Sent, Summary, lock,
    seat::{News, Seat},
    state::{Driver, State},
};
use crate::{
    answer::{Head, verdict::NotStored},
    dialect::{Listener, usage::Usage},
    error::{Error, Kind},
};

/// One tape.
pub(super) struct Shared {
    pub(super) pool: Arc<Pool>,
    pub(super) sent: Sent,
    /// Whether anybody wants the result stored.
    pub(super) wanted: AtomicBool,
    // Lock order: `seat` before `state`. `seat` is held while the upstream is polled, `state` never.
    pub(super) seat: Mutex<Seat>,
    pub(super) state: Mutex<State>,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Drives the source one step; `Ready` means that the state has news.
    pub(super) fn poll_source(self: &Arc<Self>, who: Driver, cx: &mut Context<'_>) -> Poll<()> {
        let mut seat = lock(&self.seat);
        // Only under the seat's lock is it certain who drives: were the old driver to poll after the new one, the
        // source would wake the wrong task.
        if self.state().driver != who {
            return Poll::Pending;
        }
        // A panic in there is the leader's alone: it must break the tape, not its readers' connections.
        let stepped = catch_unwind(AssertUnwindSafe(|| self.step(&mut seat, cx)));
        stepped.unwrap_or_else(|_| {
            let error = Error::new(Kind::Internal, "the call failed inside Refrain");
            // What went wrong is no fault of the answer: the keeper does not hear of it.
            seat.keep = None;
            self.tell(&mut seat, News::Broken(error));
            Poll::Ready(())
        })
    }

    fn step(&self, seat: &mut Seat, cx: &mut Context<'_>) -> Poll<()> {
        let news = ready!(seat.poll(cx));
        self.state().is_closing = seat.is_at_end();
        self.tell(seat, news);
        if seat.is_at_end() {
            let end = seat.finish();
            self.tell(seat, end);
        }
        Poll::Ready(())
    }

    fn tell(&self, seat: &mut Seat, news: News) {
        match news {
            News::Head(head) => self.set_head(head),
            News::Piece(piece) => self.append(seat, &piece),
            News::Complete(listener) => self.complete(seat, listener),
            News::Broken(error) => {
                let kept = seat.refuse(NotStored::Broken);
                *seat = Seat::over();
                self.end(Err(error), kept, None);
            }
            News::Elsewhere => {
                *seat = Seat::over();
                let error = Error::new(Kind::Internal, "the answer has come another way");
                self.conclude(Err(error), None);
            }
            News::Nothing => {}
        }
    }

    fn set_head(&self, head: Head) {
        let wakers = {
            let mut state = self.state();
            state.head = Some(Arc::new(head));
            self.cancel_if_useless(&mut state);
            state.wakers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn append(&self, seat: &mut Seat, piece: &Bytes) {
        let limits = &self.pool.limits;
        let (windowed, wakers) = {
            let mut state = self.state();
            let cost = state.push(piece);
            let all = self.pool.held.fetch_add(cost, Ordering::Relaxed) + cost;
            if state.total > limits.max_entry || all > limits.share {
                state.windowed = true;
            }
            self.trim_if_windowed(&mut state);
            self.cancel_if_useless(&mut state);
            (state.windowed, state.wakers())
        };
        if windowed {
            // Others may wait for what will not come: they are told now, not at the end.
            let _ = seat.refuse(NotStored::TooLarge);
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn trim_if_windowed(&self, state: &mut State) {
        if state.windowed {
            self.trim(state);
        }
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
        let freed = state.drop_before(slowest);
        self.pool.held.fetch_sub(freed, Ordering::Relaxed);
        if was_full
            && state.held <= self.pool.limits.window
            && let Some(waker) = state.driver_waker.take()
        {
            waker.wake();
        }
    }

    /// The source has ended cleanly: lets the keeper decide, then tells the readers.
    fn complete(&self, seat: &mut Seat, listener: Listener) {
        let (head, body, windowed) = {
            let state = self.state();
            let body = if state.windowed {
                Bytes::new()
            } else {
                state.whole()
            };
            (state.head.clone(), body, state.windowed)
        };
        let Some(head) = head else { return };
        let outcome = listener.finish(&body);
        // Only of a success is there a mark to miss: an error's body may be anything, or nothing.
        if !head.framed && head.status.is_success() && !outcome.ended && !windowed {
            let message = "the upstream closed its answer without the end mark";
            let error = Error::new(Kind::Broken, message);
            let kept = seat.refuse(NotStored::Incomplete);
            return self.end(Err(error), kept, None);
        }
        let kept = if windowed {
            seat.refuse(NotStored::TooLarge)
        } else if !self.wanted.load(Ordering::Relaxed) {
            seat.refuse(NotStored::NoStore)
        } else {
            seat.keep(Recording {
                head: &head,
                body: body.clone(),
                outcome: &outcome,
            })
        };
        if kept.is_ok() {
            self.read_on_from(body);
        }
        self.end(Ok(()), kept, outcome.usage);
    }

    /// Lets the readers that are not through yet go on with the entry's bytes, so that a slow one costs the tapes' share
    /// nothing.
    fn read_on_from(&self, body: Bytes) {
        let mut state = self.state();
        state.entry = Some(body);
        let freed = state.drop_before(usize::MAX);
        self.pool.held.fetch_sub(freed, Ordering::Relaxed);
    }

    fn end(&self, end: Result<(), Error>, kept: Result<(), NotStored>, usage: Option<Usage>) {
        self.conclude(end, Some(Summary { kept, usage }));
    }

    /// Ends the tape; there is nothing to tell where nothing was to be recorded.
    fn conclude(&self, end: Result<(), Error>, summary: Option<Summary>) {
        let wakers = {
            let mut state = self.state();
            if state.end.is_some() {
                return;
            }
            state.end = Some(end);
            state.summary = summary;
            state.wakers()
        };
        if let Some(summary) = summary {
            (self.pool.told)(summary);
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Lets a task drive from now on.
    pub(super) fn hand_over(self: &Arc<Self>) {
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
    pub(super) fn leave(self: &Arc<Self>, id: usize) {
        let inline = {
            let mut state = self.state();
            if let Some(place) = state.readers.get_mut(id) {
                *place = None;
            }
            self.trim_if_windowed(&mut state);
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

    /// Gives up an answer that nobody reads, once it turns out that it cannot be stored either.
    fn cancel_if_useless(&self, state: &mut State) {
        if state.orphaned.is_some() && !state.has_readers() && !self.worth_finishing(state) {
            state.cancelled = true;
        }
    }

    /// Returns whether an answer that nobody reads is to be finished. One that was not even asked for costs nothing yet.
    fn worth_finishing(&self, state: &State) -> bool {
        let good = state
            .head
            .as_ref()
            .is_none_or(|head| head.status.is_success());
        let wanted = self.wanted.load(Ordering::Relaxed);
        self.pool.limits.finish && self.sent.is_so() && wanted && good && !state.windowed
    }

    /// The once-a-second look.
    pub(super) fn sweep(self: &Arc<Self>, now: Instant) {
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
            let full = state.windowed && state.held > limits.window;
            wakers.extend(state.let_go(full, now, limits.stall));
            self.trim_if_windowed(&mut state);
            if full && !state.has_readers() {
                state.cancelled = true;
                wakers.extend(state.driver_waker.take());
            }
            state.driver == Driver::Inline && state.is_away(LEADER, now, AWAY)
        };
        wakers.into_iter().for_each(Waker::wake);
        if stalled {
            self.hand_over();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        self.pool.held.fetch_sub(state.held, Ordering::Relaxed);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tape")
    }
}

/// Pieces that a driving task takes before it lets others run.
const TURN: usize = 64;
