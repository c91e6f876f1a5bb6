//! The load: connections that send one request after the other and time each.
//!
//! The client is as small as it can be, as it shares the machine with the server it measures: requests are made before
//! the clock starts, and of an answer only the status and the length are read.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use crate::{report, script};

/// What a load sends.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Whom it asks.
    server: SocketAddr,
    /// Whole requests; each connection goes round them from a place of its own.
    requests: Arc<Vec<Vec<u8>>>,
    /// Connections, each with one request under way.
    connections: usize,
}

/// What a load saw.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// Time of each request, sorted.
    pub(crate) times: Vec<Duration>,
}

/// A connection with at most one request under way.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Load {
    /// Makes a load of as many different questions.
    pub(crate) fn new(server: SocketAddr, questions: usize, connections: usize) -> Self {
        let request = |number| script::request(server, &script::question(number, false));
        Self {
            server,
            requests: Arc::new((0..questions).map(request).collect()),
            connections,
        }
    }

    /// Sends every request once, shared out to the connections.
    pub(crate) async fn once(&self) -> Result<()> {
        let mut tasks = JoinSet::new();
        for first in 0..self.connections {
            let load = self.clone();
            tasks.spawn(async move {
                let mut connection = Connection::open(load.server).await?;
                for request in load.requests.iter().skip(first).step_by(load.connections) {
                    connection.exchange(request).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Sends for `duration`.
    pub(crate) async fn run(&self, duration: Duration) -> Result<Seen> {
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for number in 0..self.connections {
            let first = self.requests.len() * number / self.connections;
            tasks.spawn(self.clone().one(first, start + duration));
        }
        let mut times = Vec::new();
        while let Some(done) = tasks.join_next().await {
            times.extend(done??);
        }
        let elapsed = start.elapsed();
        times.sort_unstable();
        Ok(Seen { elapsed, times })
    }

    async fn one(self, first: usize, end: Instant) -> Result<Vec<Duration>> {
        let mut connection = Connection::open(self.server).await?;
        let mut times = Vec::with_capacity(1 << 16);
        let mut before = Instant::now();
        for request in self.requests.iter().cycle().skip(first) {
            connection.exchange(request).await?;
            let now = Instant::now();
            times.push(now - before);
            before = now;
            if now >= end {
                break;
            }
        }
        Ok(times)
    }
}

impl Seen {
    /// Returns the requests per second.
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 requests")]
    pub(crate) fn rate(&self) -> f64 {
        self.times.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// Returns the time that half of the requests did not exceed, microseconds.
    pub(crate) fn p50(&self) -> f64 {
        report::micros(report::quantile(&self.times, 0.5))
    }

    /// Returns the time that 99 % of the requests did not exceed, microseconds.
    pub(crate) fn p99(&self) -> f64 {
        report::micros(report::quantile(&self.times, 0.99))
    }
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(16 << 10),
        })
    }

    /// Sends a request and reads its answer, which must be a 200 with a length; returns its bytes.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<&[u8]> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        let mut whole = None;
        while whole.is_none_or(|length| self.buffer.len() < length) {
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "the server closed the connection");
            if whole.is_none() {
                whole = length(&self.buffer)?;
            }
        }
        Ok(&self.buffer)
    }
}

/// Returns the length of an answer with its head, once that has arrived.
fn length(answer: &[u8]) -> Result<Option<usize>> {
    let Some(end) = memchr::memmem::find(answer, b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = answer.get(..end).unwrap_or_default();
    ensure!(
        head.starts_with(b"HTTP/1.1 200 "),
        "refused: {}",
        head.escape_ascii()
    );
    let digits = CONTENT_LENGTH
        .iter()
        .find_map(|name| head.get(memchr::memmem::find(head, name)? + name.len()..))
        .context("an answer without `content-length`")?;
    let digits = digits.split(|byte| !byte.is_ascii_digit()).next();
    let length: usize = str::from_utf8(digits.unwrap_or_default())?.parse()?;
    Ok(Some(end + 4 + length))
}

/// As hyper writes it, and as nginx does.
const CONTENT_LENGTH: [&[u8]; 2] = [b"\r\ncontent-length: ", b"\r\nContent-Length: "];
