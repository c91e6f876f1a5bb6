//! A scripted upstream on raw TCP: it can do everything that a real one never should.
//!
//! It drips, stalls, cuts (FIN or RST), lies about its length, splits its bytes anywhere and waits at gates; it goes away
//! and comes back; and it remembers every byte it was sent. `upstream().answers(completion("hello")).start().await` is the
//! usual beginning; [`super::faulty`] has the answers that nobody wants.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::json;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpSocket, TcpStream, tcp::OwnedWriteHalf},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use super::{
    Gate, spawn,
    wire::{Body, Fields, Reader},
    within,
};

/// A running upstream; it ends with its value.
pub(crate) struct Upstream {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    record: Arc<Record>,
    server: JoinHandle<()>,
    /// Holds the port while nobody listens there: a connection is refused, and no other test takes it.
    _port: TcpSocket,
}

/// What the upstream will answer; see [`upstream`].
#[derive(Default)]
pub(crate) struct Script {
    replies: Vec<Reply>,
    by: Option<Choice>,
    slams: usize,
}

/// A call that arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The head, byte for byte.
    pub(crate) head: Vec<u8>,
    /// The method.
    pub(crate) method: String,
    /// The request target as sent.
    pub(crate) target: String,
    /// The header fields as sent.
    pub(crate) headers: Fields,
    /// The body without its framing, as far as it came.
    pub(crate) body: Vec<u8>,
    /// The trailer fields.
    pub(crate) trailers: Fields,
    /// Whether the body came to its proper end.
    pub(crate) whole: bool,
    /// Whether the other side hung up before the reply was over.
    pub(crate) hung_up: bool,
    /// Whether the connection had carried a call before.
    pub(crate) reused: bool,
}

/// An answer, as a script of what happens on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    steps: Vec<Step>,
    framing: Framing,
    trailers: Vec<(String, String)>,
    head_gate: Option<Gate>,
    mid_head_gate: Option<Gate>,
    headless: bool,
    interim: &'static [u8],
    ending: Ending,
    bytewise: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Send(Vec<u8>),
    Wait(Gate),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length,
    Claims(usize),
    Chunked,
    Close,
    Bodiless,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Proper,
    Fin,
    Reset,
    Silence,
    Echo,
}

type Choice = Arc<dyn Fn(&Seen, usize) -> Reply + Send + Sync>;

struct Record {
    calls: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    changes: watch::Sender<u64>,
    choice: Choice,
    /// How many connections are reset as they come.
    slams: usize,
}

/// Starts the script of an upstream.
pub(crate) fn upstream() -> Script {
    Script::default()
}

/// Returns a chat completion whose content is `text`.
pub(crate) fn completion(text: &str) -> Reply {
    finished(text, "stop")
}

/// Returns a chat completion that ended for `reason`.
pub(crate) fn finished(text: &str, reason: &str) -> Reply {
    let message = json!({"role": "assistant", "content": text});
    json(&json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-test",
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": reason}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    })
    .to_string())
}

/// Returns a chat completion stream of `words`, one event each, between a role event and its proper end: `words + 3`
/// events, the last of them `[DONE]`.
pub(crate) fn stream(words: &[&str]) -> Reply {
    let mut events = vec![chunk(&json!({"role": "assistant", "content": ""}), None)];
    events.extend(
        words
            .iter()
            .map(|word| chunk(&json!({"content": word}), None)),
    );
    events.push(chunk(&json!({}), Some("stop")));
    events.push("data: [DONE]\n\n".to_owned());
    sse(events)
}

/// Returns a chunked `text/event-stream` of `events`, each in a chunk of its own.
pub(crate) fn sse(events: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Reply {
    let steps = events.into_iter().map(|event| Step::Send(event.into()));
    Reply {
        steps: steps.collect(),
        framing: Framing::Chunked,
        ..status(200).header("content-type", "text/event-stream")
    }
}

/// Returns a 200 with a JSON body.
pub(crate) fn json(body: &str) -> Reply {
    status(200)
        .header("content-type", "application/json")
        .body(body)
}

/// Returns an answer without a body, to be given more.
pub(crate) fn status(status: u16) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        steps: Vec::new(),
        framing: Framing::Length,
        trailers: Vec::new(),
        head_gate: None,
        mid_head_gate: None,
        headless: false,
        interim: b"",
        ending: Ending::Proper,
        bytewise: false,
    }
}

/// Returns the bytes of one streamed chunk of a completion.
pub(crate) fn chunk(delta: &serde_json::Value, finish: Option<&str>) -> String {
    let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
    let chunk = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-test",
        "choices": [choice],
    });
    format!("data: {chunk}\n\n")
}

impl Script {
    /// Adds the reply to the next call; the last one answers all calls after it.
    pub(crate) fn answers(mut self, reply: Reply) -> Self {
        self.replies.push(reply);
        self
    }

    /// Adds the same reply to the next `count` calls.
    pub(crate) fn answers_times(mut self, count: usize, reply: &Reply) -> Self {
        let replies = std::iter::repeat_n(reply.clone(), count);
        self.replies.extend(replies);
        self
    }

    /// Resets the first `count` connections as soon as they are made.
    pub(crate) fn slamming(mut self, count: usize) -> Self {
        self.slams = count;
        self
    }

    /// Answers every call by a function of the call and of its number, from 0.
    pub(crate) fn by(
        mut self,
        choice: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        self.by = Some(Arc::new(choice));
        self
    }

    /// Starts to listen on a port of its own.
    pub(crate) async fn start(self) -> Upstream {
        let nowhere = "127.0.0.1:0".parse().expect("an address");
        let port = bound(nowhere);
        let addr = port.local_addr().expect("a bound socket has an address");
        let record = Arc::new(Record {
            calls: Mutex::default(),
            connections: AtomicUsize::new(0),
            changes: watch::Sender::new(0),
            slams: self.slams,
            choice: self.choice(),
        });
        Upstream {
            addr,
            server: listen(addr, &record).await,
            record,
            _port: port,
        }
    }

    fn choice(self) -> Choice {
        let replies = self.replies;
        self.by.unwrap_or_else(|| {
            Arc::new(move |_, number| {
                let reply = replies.get(number).or(replies.last());
                reply.cloned().unwrap_or_else(|| completion("hello"))
            })
        })
    }
}

impl Upstream {
    /// Returns the base URL that an SDK would be given.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    /// Returns how many calls arrived so far.
    pub(crate) fn count(&self) -> usize {
        self.record.calls().len()
    }

    /// Returns call number `index`, which must have arrived.
    pub(crate) fn call(&self, index: usize) -> Seen {
        let calls = self.record.calls();
        let call = calls.get(index).cloned();
        call.unwrap_or_else(|| panic!("call {index} of {} calls", calls.len()))
    }

    /// Returns how many connections were made so far.
    pub(crate) fn connections(&self) -> usize {
        self.record.connections.load(Ordering::Relaxed)
    }

    /// Goes away: connections break off, and new ones are refused.
    pub(crate) async fn leave(&mut self) {
        self.server.abort();
        let gone = within("the upstream to be gone", &mut self.server).await;
        assert!(gone.is_err_and(|error| error.is_cancelled()));
    }

    /// Listens again after [`Self::leave`].
    pub(crate) async fn come_back(&mut self) {
        self.server = listen(self.addr, &self.record).await;
    }

    /// Returns the last call.
    pub(crate) fn last(&self) -> Seen {
        self.call(self.count() - 1)
    }

    /// Waits until `count` calls have arrived with their heads.
    pub(crate) async fn arrived(&self, count: usize) {
        let what = format!("upstream call number {count}");
        self.until(&what, |calls| calls.len() >= count).await;
    }

    /// Waits until the other side hung up on call `index` before its reply was over.
    pub(crate) async fn abandoned(&self, index: usize) {
        let what = format!("upstream call {index} to be given up");
        let gone = |calls: &[Seen]| calls.get(index).is_some_and(|call| call.hung_up);
        self.until(&what, gone).await;
    }

    /// Waits until the calls are as `wanted`.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&[Seen]) -> bool) {
        let mut changes = self.record.changes.subscribe();
        let seen = changes.wait_for(|_| wanted(&self.record.calls()));
        within(what, seen)
            .await
            .expect("the record holds its own sender");
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Reply {
    /// Changes the status.
    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Adds a header field, spelled as given.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces the content type.
    pub(crate) fn content_type(mut self, value: &str) -> Self {
        self.headers
            .retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
        self.header("content-type", value)
    }

    /// Sets the body, in one piece.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.steps = vec![Step::Send(body.into())];
        self
    }

    /// Returns the body as a client should get it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.first(usize::MAX)
    }

    /// Returns the first `count` pieces of the body.
    pub(crate) fn first(&self, count: usize) -> Vec<u8> {
        self.pieces().take(count).collect::<Vec<_>>().concat()
    }

    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.steps.iter().filter_map(|step| match step {
            Step::Send(bytes) => Some(bytes.as_slice()),
            Step::Wait(_) => None,
        })
    }

    /// Frames the body by chunks.
    pub(crate) fn chunked(mut self) -> Self {
        self.framing = Framing::Chunked;
        self
    }

    /// Frames the body by the end of the connection.
    pub(crate) fn close_delimited(mut self) -> Self {
        self.framing = Framing::Close;
        self
    }

    /// Claims a Content-Length, whatever the body's; a FIN follows the body.
    pub(crate) fn claiming(mut self, length: usize) -> Self {
        self.framing = Framing::Claims(length);
        self.ending = Ending::Fin;
        self
    }

    /// Claims the length of `whole`, and goes on as it would.
    pub(crate) fn claiming_all_of(mut self, whole: &Self) -> Self {
        self.framing = Framing::Claims(whole.bytes().len());
        self
    }

    /// Sends no body whatever the headers say, as for HEAD.
    pub(crate) fn bodiless(mut self) -> Self {
        self.framing = Framing::Bodiless;
        self
    }

    /// Adds a trailer field to a chunked body.
    pub(crate) fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self.chunked()
    }

    /// Sends these bytes before the head, such as an interim response.
    pub(crate) fn preceded_by(mut self, interim: &'static [u8]) -> Self {
        self.interim = interim;
        self
    }

    /// Waits at `gate` before the head.
    pub(crate) fn after(mut self, gate: &Gate) -> Self {
        self.head_gate = Some(gate.clone());
        self
    }

    /// Waits at `gate` after the first line of the head.
    pub(crate) fn pausing_in_the_head(mut self, gate: &Gate) -> Self {
        self.mid_head_gate = Some(gate.clone());
        self
    }

    /// Waits at `gate` once `count` pieces are sent.
    pub(crate) fn pausing_after(mut self, count: usize, gate: &Gate) -> Self {
        self.steps.insert(count, Step::Wait(gate.clone()));
        self
    }

    /// Resets the connection after `count` steps (a pause is a step, too) instead of ending the body.
    pub(crate) fn cut_after(self, count: usize) -> Self {
        self.ending_after(count, Ending::Reset)
    }

    /// Closes the connection with a FIN after `count` steps instead of ending the body.
    pub(crate) fn closed_after(self, count: usize) -> Self {
        self.ending_after(count, Ending::Fin)
    }

    /// Says nothing more after `count` steps, for as long as the other side stays.
    pub(crate) fn silent_after(self, count: usize) -> Self {
        self.ending_after(count, Ending::Silence)
    }

    /// Resets the connection instead of answering.
    pub(crate) fn cut_before_the_head(mut self) -> Self {
        self.headless = true;
        self.cut_after(0)
    }

    /// Says `bytes` instead of an answer, and closes the connection.
    pub(crate) fn garbled(mut self, bytes: &'static [u8]) -> Self {
        self.headless = true;
        self.preceded_by(bytes).closed_after(0)
    }

    /// Echoes what the client sends after the head, as a protocol that was switched to.
    pub(crate) fn echoing(mut self) -> Self {
        self.framing = Framing::Bodiless;
        self.ending = Ending::Echo;
        self
    }

    /// Writes every byte on its own.
    pub(crate) fn bytewise(mut self) -> Self {
        self.bytewise = true;
        self
    }

    fn ending_after(mut self, count: usize, ending: Ending) -> Self {
        self.steps.truncate(count);
        self.ending = ending;
        self
    }

    fn head(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            head.extend([name.as_str(), ": ", value.as_str(), "\r\n"]);
        }
        match self.framing {
            Framing::Length => {
                let length: usize = self.pieces().map(<[u8]>::len).sum();
                head.extend([format!("content-length: {length}\r\n")]);
            }
            Framing::Claims(length) => head.extend([format!("content-length: {length}\r\n")]),
            Framing::Chunked => head.push_str("transfer-encoding: chunked\r\n"),
            Framing::Close | Framing::Bodiless => {}
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    fn framed(&self, piece: &[u8]) -> Vec<u8> {
        match self.framing {
            Framing::Bodiless => Vec::new(),
            Framing::Chunked if !piece.is_empty() => {
                let size = format!("{:x}\r\n", piece.len());
                [size.as_bytes(), piece, b"\r\n"].concat()
            }
            _ => piece.to_vec(),
        }
    }

    fn last_chunk(&self) -> Vec<u8> {
        if self.framing != Framing::Chunked {
            return Vec::new();
        }
        let mut last = "0\r\n".to_owned();
        for (name, value) in &self.trailers {
            last.extend([name.as_str(), ": ", value.as_str(), "\r\n"]);
        }
        last.push_str("\r\n");
        last.into_bytes()
    }
}

impl Record {
    fn calls(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.calls
            .lock()
            .expect("the record is never held across a panic")
    }

    fn change(&self, index: usize, change: impl FnOnce(&mut Seen)) {
        change(&mut self.calls()[index]);
        self.changes.send_modify(|count| *count += 1);
    }

    fn add(&self, call: Seen) -> usize {
        let mut calls = self.calls();
        calls.push(call);
        let index = calls.len() - 1;
        drop(calls);
        self.changes.send_modify(|count| *count += 1);
        index
    }
}

/// Returns a socket with an address of its own that does not listen yet.
fn bound(addr: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .set_reuseaddr(true)
        .expect("a fresh socket takes options");
    socket.bind(addr).expect("a free port");
    socket
}

async fn listen(addr: SocketAddr, record: &Arc<Record>) -> JoinHandle<()> {
    let listener = TcpListener::bind(addr).await.expect("a port of our own");
    spawn(accept(listener, record.clone()))
}

/// Accepts until it is aborted, and all its connections with it.
async fn accept(listener: TcpListener, record: Arc<Record>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let number = record.connections.fetch_add(1, Ordering::Relaxed);
        if number < record.slams {
            stream.set_zero_linger().expect("an open socket");
            continue;
        }
        let record = record.clone();
        connections.spawn(async move {
            // A connection that breaks is what many tests are about; the record says what came of it.
            let _ = converse(stream, &record).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Answers call after call on one connection.
async fn converse(stream: TcpStream, record: &Record) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let mut reader = Reader::new(reader);
    let mut reused = false;
    while let Some(index) = read_call(&mut reader, record, reused).await? {
        reused = true;
        let seen = record.calls()[index].clone();
        let reply = (record.choice)(&seen, index);
        let performed = tokio::select! {
            performed = perform(&reply, &mut writer) => performed,
            () = reader.end(), if reply.ending != Ending::Echo => Err(io::ErrorKind::BrokenPipe.into()),
        };
        if performed.is_err() {
            record.change(index, |call| call.hung_up = true);
            return performed;
        }
        match reply.ending {
            Ending::Echo => return echo(&mut reader, &mut writer).await,
            Ending::Reset => return writer.as_ref().set_zero_linger(),
            Ending::Proper if reply.framing != Framing::Close => {}
            _ => return writer.shutdown().await,
        }
    }
    Ok(())
}

/// Reads one call into the record, piece by piece as it comes; `None` when there is no further call.
async fn read_call(
    reader: &mut Reader,
    record: &Record,
    reused: bool,
) -> io::Result<Option<usize>> {
    let Some(head) = reader.head().await? else {
        return Ok(None);
    };
    let mut body = Body::under(&head, Body::Done);
    let mut words = head.start.split(' ').map(str::to_owned);
    let index = record.add(Seen {
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        head: head.raw,
        headers: head.headers,
        reused,
        ..Seen::default()
    });
    while let Some(piece) = reader.piece(&mut body).await? {
        record.change(index, |call| call.body.extend(piece));
    }
    record.change(index, |call| {
        call.trailers = std::mem::take(&mut reader.trailers);
        call.whole = true;
    });
    Ok(Some(index))
}

async fn perform(reply: &Reply, writer: &mut OwnedWriteHalf) -> io::Result<()> {
    if let Some(gate) = &reply.head_gate {
        gate.pass().await;
    }
    send(reply, writer, reply.interim).await?;
    if !reply.headless {
        send_head(reply, writer).await?;
    }
    for step in &reply.steps {
        match step {
            Step::Send(piece) => send(reply, writer, &reply.framed(piece)).await?,
            Step::Wait(gate) => gate.pass().await,
        }
    }
    match reply.ending {
        Ending::Proper => send(reply, writer, &reply.last_chunk()).await,
        Ending::Silence => std::future::pending().await,
        Ending::Fin | Ending::Reset | Ending::Echo => Ok(()),
    }
}

async fn send_head(reply: &Reply, writer: &mut OwnedWriteHalf) -> io::Result<()> {
    let head = reply.head();
    let Some(gate) = &reply.mid_head_gate else {
        return send(reply, writer, &head).await;
    };
    let end = head.iter().position(|&byte| byte == b'\n');
    let (line, fields) = head.split_at(end.map_or(0, |end| end + 1));
    send(reply, writer, line).await?;
    gate.pass().await;
    send(reply, writer, fields).await
}

async fn send(reply: &Reply, writer: &mut OwnedWriteHalf, bytes: &[u8]) -> io::Result<()> {
    if !reply.bytewise {
        return writer.write_all(bytes).await;
    }
    for byte in bytes.chunks(1) {
        writer.write_all(byte).await?;
        // Without a turn for the others, the kernel would hand them many bytes at once.
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn echo(reader: &mut Reader, writer: &mut OwnedWriteHalf) -> io::Result<()> {
    loop {
        let bytes = reader.raw().await?;
        if bytes.is_empty() {
            return writer.shutdown().await;
        }
        writer.write_all(&bytes).await?;
    }
}
