//! A client's connection: its deadlines, and whether what was written has left.
//!
//! hyper's own header timer also ends idle connections, long before a client's pool would, and it has none for a client
//! that does not read; so all deadlines are kept here, by one timer that is set anew only when it goes off.
//!
//! # Deadlines
//! While something waits to be written, the client has the write deadline to make some room, whether a call is under
//! way or its answer is already hyper's: to hyper a short answer is over long before the client has read it. Otherwise a
//! call under way has no deadline here. Without one, the client has the header deadline once bytes of a next call have
//! come, and else the idle deadline.

use std::{
    cell::RefCell,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

use super::connections::Connected;

/// A client's connection.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    line: Arc<Line>,
    deadlines: Deadlines,
    /// Since when no call has been under way.
    idle_since: Option<Instant>,
    /// Whether bytes of a next call have been coming.
    has_head: bool,
    /// Since when, as far as anybody has waited for the rest of them.
    head_since: Option<Instant>,
    /// Since when the client has made no room for what is to be written.
    full_since: Option<Instant>,
    /// HTTP/2 has no heads to wait for: its connections may chat without a call, and that is idle, too.
    is_h2: Option<bool>,
    /// How many calls had begun at the last look at the deadline.
    begun: u64,
    timer: Option<Pin<Box<Sleep>>>,
    /// Its place, also when it has become a tunnel.
    _connected: Connected,
}

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For the head of a request to arrive.
    pub header: Duration,
    /// Between two calls.
    pub idle: Duration,
    /// For a client that does not read to make room again.
    pub write: Duration,
}

/// What a connection and the calls on it know of each other.
#[derive(Debug, Default)]
pub struct Line {
    /// Calls: those under way in the lower half, all that have begun in the upper.
    calls: AtomicU64,
    flushes: AtomicU64,
    flushed: AtomicWaker,
    is_cut: AtomicBool,
    cut: AtomicWaker,
    is_reset: AtomicBool,
    /// Whether the answer under way goes up to the close, so that any early close would pass for its end.
    to_close: AtomicBool,
}

/// Counts one call on a connection.
#[derive(Debug)]
pub struct OnLine(Arc<Line>);

thread_local! {
    /// Small pieces while they are written as one.
    static JOINED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// So many bytes are written as one piece, at most.
const SMALL: usize = 4 << 10;
/// One call under way.
const UNDER_WAY: u64 = 1;
/// One call that has begun.
const BEGUN: u64 = 1 << 32;

impl Line {
    /// Notes that a call has begun, until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> OnLine {
        self.calls.fetch_add(BEGUN | UNDER_WAY, Ordering::Relaxed);
        OnLine(self.clone())
    }

    fn has_calls(&self) -> bool {
        self.calls.load(Ordering::Relaxed) & (BEGUN - 1) > 0
    }

    fn begun(&self) -> u64 {
        self.calls.load(Ordering::Relaxed) / BEGUN
    }

    /// Ends the connection at its next write that cannot be done at once.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.cut.wake();
    }

    /// Has the connection end by a reset, not by a close that looks like the end of an answer.
    pub fn reset(&self) {
        self.is_reset.store(true, Ordering::Release);
    }

    /// Notes that the answer under way goes up to the close: until it is whole, the connection ends by a reset.
    pub fn goes_to_close(&self) {
        self.to_close.store(true, Ordering::Release);
    }

    /// Returns whether the connection was cut because its client does not read.
    pub fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }

    /// Returns whether the connection is to end by a reset. That also frees what the kernel holds for a client that
    /// does not read.
    fn ends_by_reset(&self) -> bool {
        self.is_reset.load(Ordering::Acquire) || self.is_cut()
    }
}

impl OnLine {
    /// Returns the connection.
    pub fn line(&self) -> &Arc<Line> {
        &self.0
    }

    /// Returns how often everything written has left for the kernel.
    pub fn flushes(&self) -> u64 {
        self.0.flushes.load(Ordering::Acquire)
    }

    /// Has the task woken at the next flush.
    pub fn wake_on_flush(&self, cx: &Context<'_>) {
        self.0.flushed.register(cx.waker());
    }
}

impl Drop for OnLine {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(UNDER_WAY, Ordering::Relaxed);
    }
}

impl Socket {
    /// Wraps an accepted connection.
    pub fn new(
        stream: TcpStream,
        line: Arc<Line>,
        deadlines: Deadlines,
        connected: Connected,
    ) -> Self {
        Self {
            stream,
            line,
            deadlines,
            idle_since: None,
            has_head: false,
            head_since: None,
            full_since: None,
            is_h2: None,
            begun: 0,
            timer: None,
            _connected: connected,
        }
    }

    /// Returns when our patience with the client ends; `None` while a call is under way and the client reads.
    fn deadline(&mut self) -> Option<Instant> {
        if let Some(since) = self.full_since {
            return Some(since + self.deadlines.write);
        }
        // A call may come and go between two looks.
        let begun = self.line.begun();
        if std::mem::replace(&mut self.begun, begun) != begun {
            self.idle_since = None;
            self.has_head = false;
            self.head_since = None;
        }
        if self.line.has_calls() {
            self.idle_since = None;
            return None;
        }
        if self.has_head {
            let since = *self.head_since.get_or_insert_with(Instant::now);
            return Some(since + self.deadlines.header);
        }
        let since = *self.idle_since.get_or_insert_with(Instant::now);
        Some(since + self.deadlines.idle)
    }

    /// Fails once the deadline has passed.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let deadline = self.deadline();
            // Without a deadline the timer runs on: it only has to look again some time.
            let idle = self.deadlines.idle;
            let look = || deadline.unwrap_or_else(|| Instant::now() + idle);
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(look())));
            if deadline.is_some_and(|deadline| timer.deadline() > deadline) {
                timer.as_mut().reset(look());
            }
            ready!(timer.as_mut().poll(cx));
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                if self.full_since.is_some() {
                    self.line.cut();
                }
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            timer.as_mut().reset(look());
        }
    }

    /// Waits for the client to make room; fails once it is cut off.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.full_since.get_or_insert_with(Instant::now);
        self.line.cut.register(cx.waker());
        if self.line.is_cut() {
            return Poll::Ready(io::ErrorKind::TimedOut.into());
        }
        self.poll_deadline(cx)
    }

    /// Passes on what came of a write, unless the client has to be cut off.
    fn settled(
        &mut self,
        written: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            return self.poll_room(cx).map(Err);
        }
        self.has_written();
        written
    }

    /// Writes `pieces` as one. Of so few bytes a copy costs less than what the kernel takes for a list of them.
    fn poll_write_joined(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        JOINED.with_borrow_mut(|joined| {
            joined.clear();
            for piece in pieces {
                joined.extend_from_slice(piece);
            }
            Pin::new(&mut self.stream).poll_write(cx, joined)
        })
    }

    /// Notes that the client has made room: all waiting begins anew.
    fn has_written(&mut self) {
        self.full_since = None;
        if self.is_h2 != Some(true) {
            self.idle_since = None;
        }
        self.head_since = None;
    }

    fn has_read(&mut self, bytes: &[u8]) {
        let is_h2 = *self.is_h2.get_or_insert_with(|| bytes.starts_with(b"PRI"));
        if !is_h2 && !bytes.is_empty() && !self.line.has_calls() {
            self.has_head = true;
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buffer) {
            this.has_read(buffer.filled().get(before..).unwrap_or_default());
            return Poll::Ready(read);
        }
        this.poll_deadline(cx).map(Err)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.settled(written, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let written = if length <= SMALL {
            this.poll_write_joined(cx, pieces)
        } else {
            Pin::new(&mut this.stream).poll_write_vectored(cx, pieces)
        };
        this.settled(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = ready!(Pin::new(&mut this.stream).poll_flush(cx));
        this.line.flushes.fetch_add(1, Ordering::Release);
        this.line.flushed.wake();
        Poll::Ready(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.line.ends_by_reset() {
            return Poll::Ready(Ok(()));
        }
        // hyper gets here when all of an answer has been written, and only then.
        this.line.to_close.store(false, Ordering::Release);
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.line.ends_by_reset() || self.line.to_close.load(Ordering::Acquire) {
            // Without the option the client sees an end instead of an abort; there is no other way to tell it.
            let _ = self.stream.set_zero_linger();
        }
    }
}
