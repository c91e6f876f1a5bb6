//! A client that sees exact bytes: what it sends is what was written in the test, and it tells how an answer ended.

use std::{io, net::SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream, tcp::OwnedWriteHalf},
};

use super::{
    spawn,
    wire::{Body, Fields, Head, Reader},
    within,
};

/// A request, to be sent as it stands; only `host` and `content-length` are added where missing.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// An exchange under way; dropping it hangs up.
#[derive(Debug)]
pub(crate) struct Exchange {
    reader: Reader,
    writer: OwnedWriteHalf,
    bodiless: bool,
    head: Option<Head>,
    framing: Body,
    body: Vec<u8>,
}

/// An answer, once it is over.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The header fields as sent.
    pub(crate) headers: Fields,
    /// The body without its framing.
    pub(crate) body: Vec<u8>,
    /// The trailer fields.
    pub(crate) trailers: Fields,
    /// How the body ended.
    pub(crate) end: End,
}

/// How an answer's body ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By its framing: the announced length, or the last chunk.
    Clean,
    /// By a FIN, with nothing announced: nobody can tell whether it was whole.
    Unframed,
    /// In the middle.
    Aborted,
}

/// Starts a request.
pub(crate) fn request(method: &str, target: &str) -> Request {
    Request {
        method: method.to_owned(),
        target: target.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    }
}

/// Returns the call that asks `prompt`, with the credential that the tests use unless they say otherwise.
pub(crate) fn chat(prompt: &str) -> Request {
    asking(&json!({
        "model": "gpt-test",
        "messages": [{"role": "user", "content": prompt}],
    }))
}

/// Returns the call that asks `prompt` and wants a stream.
pub(crate) fn chat_stream(prompt: &str) -> Request {
    asking(&json!({
        "model": "gpt-test",
        "messages": [{"role": "user", "content": prompt}],
        "stream": true,
    }))
}

/// Returns a chat call with this body.
pub(crate) fn asking(body: &Value) -> Request {
    asking_bytes(body.to_string())
}

/// Returns a chat call with exactly these bytes as its body.
pub(crate) fn asking_bytes(body: impl Into<Vec<u8>>) -> Request {
    request("POST", "/v1/chat/completions")
        .header("Authorization", "Bearer sk-test-alice")
        .header("Content-Type", "application/json")
        .body(body)
}

/// Sends `request` over h2c with prior knowledge.
pub(crate) async fn send_h2(addr: SocketAddr, request: &Request) -> Answer {
    within("an answer over h2c", exchange_h2(addr, request)).await
}

/// Sends the same request `count` times at once and returns all answers.
pub(crate) async fn at_once(addr: SocketAddr, request: &Request, count: usize) -> Vec<Answer> {
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let request = request.clone();
            spawn(async move { request.send(addr).await })
        })
        .collect();
    let mut answers = Vec::with_capacity(count);
    for task in tasks {
        answers.push(task.await.expect("a client does not panic"));
    }
    answers
}

impl Request {
    /// Adds a header field, spelled as given.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Removes every field called `name`.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers
            .retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self
    }

    /// Replaces the credential.
    pub(crate) fn with_bearer(self, token: &str) -> Self {
        let credential = format!("Bearer {token}");
        self.without("authorization")
            .header("Authorization", &credential)
    }

    /// Replaces the request target.
    pub(crate) fn at(mut self, target: &str) -> Self {
        target.clone_into(&mut self.target);
        self
    }

    /// Sets the body.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Returns the body as it will be sent.
    pub(crate) fn body_bytes(&self) -> &[u8] {
        &self.body
    }

    /// Sends the request on a connection of its own and reads the whole answer.
    pub(crate) async fn send(&self, addr: SocketAddr) -> Answer {
        self.open(addr).await.finish().await
    }

    /// Sends the request on a connection of its own and passes over its answer, for a server that may be gone any time.
    pub(crate) async fn try_send(mut self, addr: SocketAddr) -> io::Result<()> {
        self = self.header("Connection", "close");
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(&self.wire(addr)).await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
        Ok(())
    }

    /// Sends the request on a connection of its own.
    pub(crate) async fn open(&self, addr: SocketAddr) -> Exchange {
        let mut exchange = Exchange::raw(addr, &self.wire(addr)).await;
        exchange.bodiless = self.method == "HEAD";
        exchange
    }

    /// Sends the request over a connection that takes in hardly anything which the test does not read.
    pub(crate) async fn open_narrow(&self, addr: SocketAddr) -> Exchange {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .set_recv_buffer_size(4096)
            .expect("a fresh socket takes options");
        Exchange::over(socket, addr, &self.wire(addr)).await
    }

    /// Sends the head only; the test goes on with [`Exchange::write`].
    pub(crate) async fn open_head(&self, addr: SocketAddr) -> Exchange {
        Exchange::raw(addr, &self.wire_head(addr)).await
    }

    /// Returns the head and the body for a library that speaks HTTP/2.
    pub(crate) fn over_http2(&self, addr: SocketAddr) -> (http::Request<()>, Bytes) {
        let uri = format!("http://{addr}{}", self.target);
        let mut builder = http::Request::builder()
            .method(self.method.as_str())
            .uri(uri);
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        let head = builder.body(()).expect("a request that http can carry");
        (head, Bytes::from(self.body.clone()))
    }

    /// Sends the request as HTTP/1.0.
    pub(crate) async fn open_http10(&self, addr: SocketAddr) -> Exchange {
        let wire = String::from_utf8(self.wire(addr)).expect("a request of text");
        let wire = wire.replacen("HTTP/1.1", "HTTP/1.0", 1);
        Exchange::raw(addr, wire.as_bytes()).await
    }

    fn wire(&self, addr: SocketAddr) -> Vec<u8> {
        [self.wire_head(addr), self.body.clone()].concat()
    }

    fn wire_head(&self, addr: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.has("host") {
            head.extend([format!("Host: {addr}\r\n")]);
        }
        for (name, value) in &self.headers {
            head.extend([name.as_str(), ": ", value.as_str(), "\r\n"]);
        }
        if !self.body.is_empty() && !self.has("content-length") && !self.has("transfer-encoding") {
            head.extend([format!("Content-Length: {}\r\n", self.body.len())]);
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    fn has(&self, name: &str) -> bool {
        self.headers
            .iter()
            .any(|(key, _)| key.eq_ignore_ascii_case(name))
    }
}

impl Exchange {
    /// Connects and sends `bytes`, whatever they are.
    pub(crate) async fn raw(addr: SocketAddr, bytes: &[u8]) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        Self::over(socket, addr, bytes).await
    }

    async fn over(socket: TcpSocket, addr: SocketAddr, bytes: &[u8]) -> Self {
        let stream = within("a connection", socket.connect(addr)).await;
        let stream = stream.expect("the address accepts connections");
        stream
            .set_nodelay(true)
            .expect("a connected socket takes options");
        let (reader, writer) = stream.into_split();
        let mut exchange = Self {
            reader: Reader::new(reader),
            writer,
            bodiless: false,
            head: None,
            framing: Body::Done,
            body: Vec::new(),
        };
        exchange.write(bytes).await;
        exchange
    }

    /// Sends more bytes; it does not mind that the other side has hung up already, the answer will tell.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let written = within("room to write", self.writer.write_all(bytes)).await;
        drop(written);
    }

    /// Ends the sending side.
    pub(crate) async fn end_writing(&mut self) {
        drop(self.writer.shutdown().await);
    }

    /// Waits for the next head, interim ones included, and returns its status.
    pub(crate) async fn interim(&mut self) -> u16 {
        status(&self.next_head().await)
    }

    /// Waits for the head of the answer and returns it.
    pub(crate) async fn head(&mut self) -> Head {
        if let Some(head) = &self.head {
            return head.clone();
        }
        let mut head = self.next_head().await;
        while status(&head) == 100 {
            head = self.next_head().await;
        }
        let bodiless = self.bodiless || matches!(status(&head), 101 | 204 | 304);
        if !bodiless {
            self.framing = Body::under(&head, Body::ToEnd);
        }
        self.head = Some(head.clone());
        head
    }

    /// Waits until at least `length` bytes of the body are there and returns all that are.
    pub(crate) async fn body(&mut self, length: usize) -> Vec<u8> {
        self.head().await;
        while self.body.len() < length {
            let piece = self.piece().await.expect("the body goes on");
            self.body.extend(piece.expect("the body goes on"));
        }
        self.body.clone()
    }

    /// Reads to the end of the answer and lets the connection go.
    pub(crate) async fn finish(mut self) -> Answer {
        self.next().await
    }

    /// Reads to the end of the answer; the connection is then ready for the next one.
    pub(crate) async fn next(&mut self) -> Answer {
        let head = self.head().await;
        let end = self.read_on().await;
        self.head = None;
        Answer {
            status: status(&head),
            headers: head.headers,
            body: std::mem::take(&mut self.body),
            trailers: std::mem::take(&mut self.reader.trailers),
            end,
        }
    }

    /// Reads what comes next outside HTTP's framing, as after a switch of protocols.
    pub(crate) async fn tunnelled(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let more = within("bytes through the tunnel", self.reader.raw()).await;
            let more = more.expect("the tunnel stands");
            assert!(!more.is_empty(), "the tunnel ended after {bytes:?}");
            bytes.extend(more);
        }
        bytes
    }

    /// Waits until the other side ends the connection.
    pub(crate) async fn closed(&mut self) {
        within("the connection to end", self.reader.end()).await;
    }

    async fn next_head(&mut self) -> Head {
        let head = within("the head of an answer", self.reader.head()).await;
        let head = head.expect("a connection that stands until its answer");
        head.expect("an answer before the connection ends")
    }

    async fn read_on(&mut self) -> End {
        let unframed = self.framing == Body::ToEnd;
        loop {
            match self.piece().await {
                Ok(Some(piece)) => self.body.extend(piece),
                Ok(None) if unframed => return End::Unframed,
                Ok(None) => return End::Clean,
                Err(_) => return End::Aborted,
            }
        }
    }

    async fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        within("more of the body", self.reader.piece(&mut self.framing)).await
    }
}

impl Answer {
    /// Returns the first value of a header field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// Returns the first value of a header field that must be there.
    #[track_caller]
    pub(crate) fn expect(&self, name: &str) -> &str {
        let value = self.header(name);
        value.unwrap_or_else(|| panic!("no `{name}` in {:?}", self.headers))
    }

    /// Returns the body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|why| panic!("{why}: {}", self.text()))
    }
}

/// Asserts the word in `X-Cache`, and that every verdict but a hit carries its reason.
#[track_caller]
pub(crate) fn assert_verdict(answer: &Answer, verdict: &str) {
    let reason = answer.header("x-cache-reason");
    let seen = answer.header("x-cache");
    assert_eq!(
        seen,
        Some(verdict),
        "status {}, reason {reason:?}",
        answer.status
    );
    assert_eq!(
        reason.is_none(),
        verdict == "HIT",
        "the reason is {reason:?}"
    );
}

/// Asserts that the call passed the cache by, and why.
#[track_caller]
pub(crate) fn assert_bypass(answer: &Answer, reason: &str) {
    assert_verdict(answer, "BYPASS");
    assert_eq!(answer.expect("x-cache-reason"), reason);
}

/// Asserts an error of Refrain's own: its status, OpenAI's form, and its code.
#[track_caller]
pub(crate) fn assert_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let error = &answer.json()["error"];
    assert_eq!(error["type"], "refrain_error", "{error}");
    assert_eq!(error["code"], code, "{error}");
    assert!(error["message"].is_string(), "{error}");
}

async fn exchange_h2(addr: SocketAddr, request: &Request) -> Answer {
    let stream = TcpStream::connect(addr)
        .await
        .expect("the address accepts connections");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("h2c by prior knowledge");
    let driver = spawn(connection);
    let (head, body) = request.over_http2(addr);
    let request = head.map(|()| Full::new(body));
    let answer = sender.send_request(request).await.expect("an answer");
    let answer = collect_h2(answer).await;
    driver.abort();
    answer
}

async fn collect_h2(answer: http::Response<hyper::body::Incoming>) -> Answer {
    let (head, mut incoming) = answer.into_parts();
    let fields = head.headers.iter().map(|(name, value)| {
        (
            name.to_string(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        )
    });
    let headers = Fields(fields.collect());
    let mut body = Vec::new();
    let end = loop {
        match incoming.frame().await {
            None => break End::Clean,
            Some(Err(_)) => break End::Aborted,
            Some(Ok(frame)) => body.extend(frame.into_data().unwrap_or_default()),
        }
    };
    Answer {
        status: head.status.as_u16(),
        headers,
        body,
        trailers: Fields::default(),
        end,
    }
}

fn status(head: &Head) -> u16 {
    let code = head
        .start
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok());
    code.unwrap_or_else(|| panic!("no status in `{}`", head.start))
}
