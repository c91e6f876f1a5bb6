//! An upstream on raw TCP that answers, misbehaves by the [`Mood`] it is in, dies and comes back.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
    time::sleep,
};

use crate::{
    answer,
    dice::Dice,
    fault::{Fault, Mood},
};

/// An upstream; it ends with its value.
pub(crate) struct Upstream {
    /// Where it listens, when it lives.
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    server: JoinSet<()>,
    /// Holds the port while nobody listens there.
    _port: TcpSocket,
}

struct State {
    mood: Mutex<Mood>,
    /// When each call was read.
    calls: Mutex<Vec<Instant>>,
}

/// A call that was read.
#[derive(Clone, Copy, Debug)]
struct Asked {
    number: u64,
    streams: bool,
    revoked: bool,
}

/// Whether a connection can carry another call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Next,
    Over,
    /// Nothing is said any more.
    Dead,
}

impl Upstream {
    /// Starts it, well.
    pub(crate) fn start() -> Result<Self> {
        let port = bound(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let mut upstream = Self {
            address: port.local_addr()?,
            state: Arc::new(State {
                mood: Mutex::new(Mood::Well),
                calls: Mutex::default(),
            }),
            server: JoinSet::new(),
            _port: port,
        };
        upstream.revive()?;
        Ok(upstream)
    }

    /// Returns the section of the configuration that says where it is, with more `settings`.
    pub(crate) fn section(&self, name: &str, settings: &str) -> String {
        let address = self.address;
        format!("[[upstream]]\nname = \"{name}\"\nbase_url = \"http://{address}/v1\"\n{settings}\n")
    }

    /// Changes how it fares from the next call on.
    pub(crate) fn fares(&self, mood: Mood) {
        *lock(&self.state.mood) = mood;
    }

    /// Returns how many calls it has read.
    pub(crate) fn calls(&self) -> usize {
        lock(&self.state.calls).len()
    }

    /// Returns when each call since `start` was read.
    pub(crate) fn calls_since(&self, start: Instant) -> Vec<Instant> {
        let calls = lock(&self.state.calls);
        calls.iter().copied().filter(|at| *at >= start).collect()
    }

    /// Breaks all connections off; new ones are refused.
    pub(crate) async fn kill(&mut self) {
        self.server.shutdown().await;
    }

    /// Listens (again).
    pub(crate) fn revive(&mut self) -> Result<()> {
        let listener = bound(self.address)?.listen(1024)?;
        self.server.spawn(accept(listener, self.state.clone()));
        Ok(())
    }
}

/// Locks what no panic can leave in disorder.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bound(address: SocketAddr) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    while let Ok((stream, _)) = listener.accept().await {
        number += 1;
        let (state, dice) = (state.clone(), Dice::new(number));
        connections.spawn(async move {
            // A connection that breaks is the proxy's business: it tells its client.
            let _ = converse(stream, &state, dice).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(mut stream: TcpStream, state: &State, mut dice: Dice) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some(asked) = read(&mut stream, &mut buffer).await? {
        lock(&state.calls).push(Instant::now());
        let mood = *lock(&state.mood);
        sleep(Duration::from_millis(dice.below(20))).await;
        let fault = mood.fault(&mut dice);
        match perform(&mut stream, asked, fault, &mut dice).await? {
            After::Next => {}
            After::Over => return Ok(()),
            After::Dead => return silence(&mut stream).await,
        }
    }
    Ok(())
}

/// Says nothing until the other side has gone.
async fn silence(stream: &mut TcpStream) -> Result<()> {
    let mut sink = [0; 1024];
    while stream.read(&mut sink).await? > 0 {}
    Ok(())
}

/// Reads one call; `None` at the end of the connection, and at a call that nobody here makes.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Option<Asked>> {
    loop {
        if let Some((length, body)) = whole(buffer) {
            let revoked = format!("bearer sk-soak-{REVOKED}\r\n");
            let revoked = buffer
                .windows(revoked.len())
                .any(|bytes| bytes.eq_ignore_ascii_case(revoked.as_bytes()));
            let asked = answer::asked(&body);
            buffer.drain(..length);
            return Ok(asked.map(|(number, streams)| Asked {
                number,
                streams,
                revoked,
            }));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// Returns the length of the first request, if it is whole, and its body.
fn whole(buffer: &[u8]) -> Option<(usize, Vec<u8>)> {
    let head = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let fields = std::str::from_utf8(buffer.get(..head)?)
        .ok()?
        .to_ascii_lowercase();
    let length = fields
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|value| value.trim().parse::<usize>().ok())
        .unwrap_or(0);
    let body = buffer.get(head..head.checked_add(length)?)?;
    Some((head + length, body.to_vec()))
}

async fn perform(
    stream: &mut TcpStream,
    asked: Asked,
    fault: Option<Fault>,
    dice: &mut Dice,
) -> Result<After> {
    match fault {
        _ if asked.revoked => refuse(stream, "401 Unauthorized", "").await,
        None => tell(stream, asked, usize::MAX).await,
        Some(Fault::Slow) => {
            sleep(Duration::from_millis(200 + dice.below(300))).await;
            tell(stream, asked, usize::MAX).await
        }
        Some(Fault::Failing) => refuse(stream, "500 Internal Server Error", "").await,
        Some(Fault::Busy) => refuse(stream, "429 Too Many Requests", "retry-after: 1\r\n").await,
        Some(Fault::Reset) => reset(stream),
        Some(Fault::HalfHead) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await?;
            Ok(After::Over)
        }
        Some(Fault::Hang) => Ok(After::Dead),
        Some(Fault::Cut) => {
            tell(stream, asked, 3).await?;
            reset(stream)
        }
        Some(Fault::Close) => {
            tell(stream, asked, 3).await?;
            Ok(After::Over)
        }
        Some(Fault::Stall) => {
            tell(stream, asked, 3).await?;
            Ok(After::Dead)
        }
        Some(Fault::Error) => odd(stream, asked, 0).await,
        Some(Fault::LateError) => odd(stream, asked, 3).await,
        Some(Fault::NoEnd) if asked.streams => {
            let events = answer::events(asked.number);
            send(stream, OK_STREAM, &chunked(&events.concat(), true)).await
        }
        Some(Fault::NoEnd) => plain(stream, "200 OK", "", "{}").await,
        Some(Fault::DeadAfter) => {
            tell(stream, asked, usize::MAX).await?;
            Ok(After::Dead)
        }
    }
}

fn reset(stream: &TcpStream) -> Result<After> {
    stream.set_zero_linger().context("no linger")?;
    Ok(After::Over)
}

/// Tells the answer, at most `pieces` of it.
async fn tell(stream: &mut TcpStream, asked: Asked, pieces: usize) -> Result<After> {
    if !asked.streams {
        let body = answer::completion(asked.number);
        let told = body.len().min(pieces.saturating_mul(50));
        let head = format!("{OK_PLAIN}content-length: {}\r\n\r\n", body.len());
        return send(stream, &head, body.get(..told).unwrap_or_default()).await;
    }
    stream.write_all(OK_STREAM.as_bytes()).await?;
    let events = answer::events(asked.number);
    for event in events.iter().take(pieces) {
        stream.write_all(chunked(event, false).as_bytes()).await?;
        sleep(Duration::from_millis(2)).await;
    }
    if pieces > events.len() {
        stream
            .write_all(chunked(answer::DONE, true).as_bytes())
            .await?;
    }
    Ok(After::Next)
}

/// Tells `pieces` of the answer and then an error, and ends as if all were well.
async fn odd(stream: &mut TcpStream, asked: Asked, pieces: usize) -> Result<After> {
    if asked.streams {
        let mut events: Vec<String> = answer::events(asked.number);
        events.truncate(pieces);
        events.extend([
            format!("data: {}\n\n", answer::ERROR),
            answer::DONE.to_owned(),
        ]);
        return send(stream, OK_STREAM, &chunked(&events.concat(), true)).await;
    }
    let body = answer::completion(asked.number);
    let half = body.get(..body.len() / 2).unwrap_or_default();
    let body = if pieces == 0 { answer::ERROR } else { half };
    plain(stream, "200 OK", "", body).await
}

async fn refuse(stream: &mut TcpStream, status: &str, fields: &str) -> Result<After> {
    plain(stream, status, fields, answer::ERROR).await
}

async fn plain(stream: &mut TcpStream, status: &str, fields: &str, body: &str) -> Result<After> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{fields}content-length: {}\r\n\r\n",
        body.len()
    );
    send(stream, &head, body).await
}

async fn send(stream: &mut TcpStream, head: &str, body: &str) -> Result<After> {
    stream.write_all([head, body].concat().as_bytes()).await?;
    Ok(After::Next)
}

fn chunked(text: &str, last: bool) -> String {
    let end = if last { "0\r\n\r\n" } else { "" };
    format!("{:x}\r\n{text}\r\n{end}", text.len())
}

/// The caller whose key is refused.
pub(crate) const REVOKED: u64 = 4711;

const OK_PLAIN: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
const OK_STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
