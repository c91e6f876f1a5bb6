//! The log: one writer for the call lines and for everything that is traced, so that lines never mix.
//!
//! Lines are gathered in memory and written by a thread of their own: no call ever waits for a terminal, a pipe or a
//! disk. When those are too slow, lines are dropped and counted.

use std::{
    io::{self, Write},
    sync::mpsc,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::config::{self, LogFormat};

/// The way to the log; clones share it.
#[derive(Clone, Debug)]
pub struct Log(Arc<Shared>);

/// Writes what is left when dropped.
#[derive(Debug)]
pub struct Flush {
    log: Log,
    /// Told when everything is written.
    written: mpsc::Receiver<()>,
}

#[derive(Debug, Default)]
struct Shared {
    json: bool,
    waiting: Mutex<Vec<u8>>,
    news: Condvar,
    closed: AtomicBool,
    dropped: AtomicU64,
}

/// Most bytes that wait to be written.
const ROOM: usize = 8 << 20;
/// From so many bytes on, the writing thread is woken at once.
const BATCH: usize = 512 << 10;
/// Most bytes that room is kept for when they are written.
const KEPT: usize = 1 << 20;
/// Longest time that the end waits for the last lines.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest time that a line waits otherwise.
const DELAY: Duration = Duration::from_millis(50);

impl Log {
    /// Starts the log on `out`, as `config` says; `terminal` tells whether a person reads it. What is added after the
    /// returned guard is dropped may be lost.
    pub fn start(
        config: &config::Log,
        terminal: bool,
        mut out: impl Write + Send + 'static,
    ) -> (Self, Flush) {
        let log = Self(Arc::new(Shared {
            json: match config.format {
                LogFormat::Auto => !terminal,
                LogFormat::Text => false,
                LogFormat::Json => true,
            },
            ..Shared::default()
        }));
        let writer = log.clone();
        let (done, written) = mpsc::channel();
        let thread = std::thread::Builder::new().name("log".to_owned());
        let started = thread.spawn(move || {
            let mut batch = Vec::new();
            while writer.write_batch(&mut batch, &mut out) {}
            // Nobody may be waiting.
            let _ = done.send(());
        });
        // Without the thread nothing is written, and nobody waits: `done` went with it.
        drop(started);
        let flush = Flush {
            log: log.clone(),
            written,
        };
        (log, flush)
    }

    /// Sends what is traced to this log. Does nothing where a subscriber is set already.
    pub fn trace(&self, level: &str) {
        let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(self.clone());
        let set = if self.0.json {
            builder.json().flatten_event(true).try_init()
        } else {
            builder.with_ansi(false).try_init()
        };
        drop(set);
    }

    /// Returns whether lines are JSON.
    pub fn is_json(&self) -> bool {
        self.0.json
    }

    /// Adds a whole line, its end included.
    pub fn add(&self, line: &[u8]) {
        let mut waiting = self.waiting();
        if waiting.len() + line.len() > ROOM {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let before = waiting.len();
        waiting.extend_from_slice(line);
        let crossed = before < BATCH && waiting.len() >= BATCH;
        drop(waiting);
        if crossed {
            self.0.news.notify_one();
        }
    }

    /// Returns how many lines were dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<u8>> {
        let waiting = self.0.waiting.lock();
        waiting.unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what waits, after at most [`DELAY`]; returns whether to go on. `batch` is empty before and after: it and
    /// the waiting lines take turns, so that neither has to grow anew.
    fn write_batch(&self, batch: &mut Vec<u8>, out: &mut impl Write) -> bool {
        let closed = self.0.closed.load(Ordering::Acquire);
        let mut waiting = self.waiting();
        if !closed && waiting.len() < BATCH {
            let waited = self.0.news.wait_timeout(waiting, DELAY);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::swap(&mut *waiting, batch);
        drop(waiting);
        // A log that cannot be written is nothing to fail for.
        let _ = out.write_all(batch).and_then(|()| out.flush());
        batch.clear();
        batch.shrink_to(KEPT);
        !closed
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        self.log.0.closed.store(true, Ordering::Release);
        self.log.0.news.notify_one();
        // Whoever reads the log may have stopped; the process must end all the same.
        let _ = self.written.recv_timeout(PATIENCE);
    }
}

impl Write for &Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = &'a Log;

    fn make_writer(&'a self) -> &'a Log {
        self
    }
}
