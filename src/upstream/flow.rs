//! Bodies on their way to and from an upstream, with the timers that run beside them.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use crate::{
    answer::Timing,
    error::{Error, Kind},
};

pin_project! {
    /// An answer's body. Fails when nothing came for `idle`, or when the call took longer than it may: with
    /// [`Kind::Timeout`] where the upstream is waited for, and with [`Kind::Stalled`] where that is the client's doing.
    pub struct Flow<B = Incoming> {
        #[pin]
        body: B,
        #[pin]
        timer: Option<Sleep>,
        idle: Option<Duration>,
        total: Option<Total>,
        clock: Clock,
    }
}

/// What a call may take in all, and how long its client held it up. No time is kept where there is no such limit.
#[derive(Debug)]
struct Total {
    deadline: Deadline,
    /// Whoever reads the body counts as waited for from one piece until it asks for the next.
    client: Held,
    /// Whether the time was over while nobody asked for more.
    over_unread: bool,
}

/// When a call has to be over.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// The moment.
    pub at: Instant,
    /// The time for the whole call.
    pub total: Duration,
    /// Whether most of it was over when the upstream was asked: other tries have used it up, or the wait for a place.
    late: bool,
}

/// Notes with every piece how long the call has taken.
struct Clock {
    started: Instant,
    timing: Arc<Timing>,
}

/// How far the sending of a request is, and how long its client was waited for.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Mutex<Sending>>);

#[derive(Debug)]
struct Sending {
    /// When the last piece was sent.
    last: Instant,
    client: Held,
}

/// How long a client has held up its call. Every moment is an argument.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// Since when it is waited for.
    since: Option<Instant>,
    /// How long it was waited for before that.
    before: Duration,
}

pin_project! {
    /// A request's body, streaming from the client; tells its progress.
    pub struct Upload {
        #[pin]
        body: UnsyncBoxBody<Bytes, Error>,
        progress: Progress,
    }
}

impl<B> Flow<B> {
    /// Wraps the body of an answer to a call that began at `started` and has a `deadline`. `client` tells how long the client
    /// has held it up so far.
    pub fn new(
        body: B,
        idle: Option<Duration>,
        deadline: Option<Deadline>,
        client: Held,
        started: Instant,
        timing: Arc<Timing>,
    ) -> Self {
        let total = deadline.map(|deadline| Total::new(deadline, client));
        Self {
            body,
            timer: next_stop(idle, total.as_ref()).map(tokio::time::sleep_until),
            idle,
            total,
            clock: Clock { started, timing },
        }
    }
}

impl<B> Body for Flow<B>
where
    B: Body<Data = Bytes, Error = hyper::Error>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut this = self.project();
        if let Some(total) = this.total {
            total.asked(Instant::now());
        }
        if let Poll::Ready(frame) = this.body.poll_frame(cx) {
            if let Some(total) = this.total {
                let now = Instant::now();
                // The timer is not asked where the next piece is always there, as it is for a slow client.
                if matches!(frame, Some(Ok(_))) && total.deadline.is_over(now) {
                    return Poll::Ready(Some(Err(overdue(Some(total)))));
                }
                total.given(now);
            }
            if let (Some(timer), Some(stop)) = (
                this.timer.as_mut().as_pin_mut(),
                next_stop(*this.idle, this.total.as_ref()),
            ) {
                timer.reset(stop);
            }
            this.clock.note();
            return Poll::Ready(frame.map(|frame| frame.map_err(broken)));
        }
        match this.timer.as_pin_mut() {
            Some(timer) => {
                ready!(timer.poll(cx));
                Poll::Ready(Some(Err(overdue(this.total.as_ref()))))
            }
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Total {
    fn new(deadline: Deadline, client: Held) -> Self {
        let mut total = Self {
            deadline,
            client,
            over_unread: false,
        };
        total.given(Instant::now());
        total
    }

    /// Notes that the reader was given something.
    fn given(&mut self, now: Instant) {
        self.client.wait(now);
    }

    /// Notes that the reader asks for more.
    fn asked(&mut self, now: Instant) {
        self.over_unread |= self.client.is_waited_for_at(self.deadline.at, now);
        self.client.resume(now);
    }

    /// Returns whether it is the client's doing that the time is over.
    fn is_by_client(&self, now: Instant) -> bool {
        self.over_unread || self.client.is_to_blame(self.deadline.total, now)
    }
}

impl Deadline {
    /// Makes that of a call which began at `started`, may take `total`, and is sent to an upstream `now`.
    pub fn new(started: Instant, total: Duration, now: Instant) -> Self {
        Self {
            at: started + total,
            total,
            late: now.duration_since(started) > total / 2,
        }
    }

    /// Returns whether the time is up.
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.at
    }

    /// Returns the `error` of a try that it has ended: not the upstream's fault, if most of the time was used up before.
    pub fn excuses(&self, error: Error) -> Error {
        if self.late {
            error.blaming_nobody()
        } else {
            error
        }
    }
}

impl Clock {
    fn note(&self) {
        self.timing.note(self.started.elapsed());
    }
}

impl Progress {
    /// Returns since when the upstream may be waited for: the last piece sent, or before the first the call's own start. While
    /// the client owes a piece that is not before now.
    pub fn last(&self) -> Instant {
        let sending = self.sending();
        match sending.client.since {
            Some(_) => Instant::now(),
            None => sending.last,
        }
    }

    /// Returns how long the client has held up its call by sending it slowly.
    pub fn client(&self) -> Held {
        self.sending().client
    }

    fn sending(&self) -> MutexGuard<'_, Sending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whether a piece came from the client, or is waited for.
    fn note(&self, came: bool) {
        let now = Instant::now();
        let mut sending = self.sending();
        if came {
            sending.last = now;
            sending.client.resume(now);
        } else {
            sending.client.wait(now);
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Sending {
            last: Instant::now(),
            client: Held::default(),
        })))
    }
}

impl Held {
    /// Returns whether it is the client's doing that a call which may take `total` has taken that long by `now`: the
    /// client is waited for, or took most of the time before.
    pub fn is_to_blame(&self, total: Duration, now: Instant) -> bool {
        self.since.is_some() || self.time(now) > total / 2
    }

    /// Returns how long the client was waited for.
    fn time(&self, now: Instant) -> Duration {
        let waiting = self.since.map(|since| now.duration_since(since));
        self.before + waiting.unwrap_or_default()
    }

    /// Returns whether the client is waited for now, and was at `moment`.
    fn is_waited_for_at(&self, moment: Instant, now: Instant) -> bool {
        self.since
            .is_some_and(|since| since <= moment && moment <= now)
    }

    fn wait(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    fn resume(&mut self, now: Instant) {
        self.before = self.time(now);
        self.since = None;
    }
}

impl Upload {
    /// Wraps a client's body.
    pub fn new(body: UnsyncBoxBody<Bytes, Error>, progress: Progress) -> Self {
        Self { body, progress }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.project();
        let frame = this.body.poll_frame(cx);
        this.progress.note(frame.is_ready());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn next_stop(idle: Option<Duration>, total: Option<&Total>) -> Option<Instant> {
    let idle = idle.map(|idle| Instant::now() + idle);
    let deadline = total.map(|total| total.deadline.at);
    [idle, deadline].into_iter().flatten().min()
}

/// Returns what a call ends with whose answer does not go on in time.
fn overdue(total: Option<&Total>) -> Error {
    let now = Instant::now();
    match total.filter(|total| total.deadline.is_over(now)) {
        Some(total) if total.is_by_client(now) => {
            let limit = total.deadline.total;
            let message = format!("the client read too slowly for {limit:?} (total)");
            Error::new(Kind::Stalled, message)
        }
        over => {
            let timer = if over.is_some() { "total" } else { "idle" };
            let message = format!("the upstream stopped in the middle of its answer ({timer})");
            let error = Error::new(Kind::Timeout, message);
            match over {
                Some(total) => total.deadline.excuses(error),
                None => error,
            }
        }
    }
}

fn broken(error: hyper::Error) -> Error {
    Error::with_source(
        Kind::Broken,
        "the upstream broke off in the middle of its answer",
        error,
    )
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http_body_util::{BodyExt, StreamBody};
    use tokio::{
        sync::mpsc::{UnboundedSender, unbounded_channel},
        time::advance,
    };

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PIECE: Bytes = Bytes::from_static(b"piece");

    type Flowing = Flow<Pin<Box<dyn Body<Data = Bytes, Error = hyper::Error>>>>;

    /// Returns what an upstream says, and how it flows in a call that may take ten seconds from now.
    fn flowing(idle: Option<Duration>) -> (UnboundedSender<Bytes>, Pin<Box<Flowing>>) {
        let (upstream, mut pieces) = unbounded_channel();
        let frames = futures_util::stream::poll_fn(move |cx| {
            let piece = ready!(pieces.poll_recv(cx));
            Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
        });
        let body: Pin<Box<dyn Body<Data = Bytes, Error = hyper::Error>>> =
            Box::pin(StreamBody::new(frames));
        let timing = Arc::new(Timing::default());
        let now = Instant::now();
        let deadline = Some(Deadline::new(now, SECOND * 10, now));
        let flow = Flow::new(body, idle, deadline, Held::default(), now, timing);
        (upstream, Box::pin(flow))
    }

    /// Reads one piece of what the upstream has said.
    async fn read(flow: &mut Pin<Box<Flowing>>) {
        assert!(flow.frame().await.unwrap().is_ok());
    }

    /// Asks for a piece that does not come, and comes back when the time for that is over.
    async fn fails(flow: &mut Pin<Box<Flowing>>) -> Kind {
        let ended = poll_fn(|cx| flow.as_mut().poll_frame(cx)).await;
        ended.unwrap().unwrap_err().kind()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_did_not_read_until_the_time_was_over_is_to_blame_and_not_the_upstream() {
        let (upstream, mut flow) = flowing(None);
        upstream.send(PIECE).unwrap();
        read(&mut flow).await;
        advance(SECOND * 11).await;
        assert_eq!(fails(&mut flow).await, Kind::Stalled);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_is_over_also_where_the_next_piece_is_there() {
        let (upstream, mut flow) = flowing(None);
        for _ in 0..4 {
            upstream.send(PIECE).unwrap();
        }
        for _ in 0..3 {
            advance(SECOND * 3).await;
            read(&mut flow).await;
        }
        advance(SECOND * 3).await;
        assert_eq!(fails(&mut flow).await, Kind::Stalled);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_of_which_nothing_is_left_ends_well_after_its_time() {
        let (upstream, mut flow) = flowing(None);
        upstream.send(PIECE).unwrap();
        read(&mut flow).await;
        drop(upstream);
        advance(SECOND * 11).await;
        assert!(flow.frame().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_came_back_just_before_the_time_was_over_is_to_blame() {
        let (upstream, mut flow) = flowing(None);
        for _ in 0..3 {
            upstream.send(PIECE).unwrap();
            advance(SECOND * 3).await;
            read(&mut flow).await;
        }
        assert_eq!(fails(&mut flow).await, Kind::Stalled);
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_is_waited_for_until_the_time_is_over_has_failed() {
        let (upstream, mut flow) = flowing(None);
        upstream.send(PIECE).unwrap();
        advance(SECOND * 4).await;
        read(&mut flow).await;
        assert_eq!(fails(&mut flow).await, Kind::Timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_says_nothing_for_the_idle_time_has_failed() {
        let (_upstream, mut flow) = flowing(Some(SECOND));
        let began = Instant::now();
        assert_eq!(fails(&mut flow).await, Kind::Timeout);
        assert_eq!(began.elapsed(), SECOND);
    }
}
