//! A client: it asks, reads, judges what it got, or hangs up.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::answer;

/// A client with at most one connection, which it keeps as long as it can.
pub(crate) struct Client {
    server: SocketAddr,
    connection: Option<Connection>,
}

/// A call to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// Its `X-Request-Id`, which no other has.
    pub(crate) id: u64,
    /// What is asked; who asks the same may get the same answer.
    pub(crate) question: u64,
    /// Which of the callers asks.
    pub(crate) caller: u64,
    /// Whether a stream is wanted.
    pub(crate) streams: bool,
    /// How long the client stays.
    pub(crate) patience: Patience,
}

/// How long a client stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// To the end.
    Whole,
    /// Until the head is there.
    Head,
    /// For so long, whatever has come.
    For(Duration),
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The word in `X-Cache`, in lower case; `none` where there is none.
    pub(crate) verdict: String,
    /// How it ended.
    pub(crate) end: End,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With the whole answer to its question.
    Whole,
    /// With an apology, or an error that says so: this status.
    Told(u16),
    /// With a 200 that is no whole answer, framed as a whole one, as the upstream has made it.
    Odd,
    /// In the middle.
    Broken,
    /// With the answer to another question.
    Wrong,
    /// The client hung up when the head was there.
    HungUp,
    /// The client hung up before, so that nobody knows whether the call arrived.
    HungUpEarly,
    /// There was no connection, or it ended before the head.
    Unsent,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

impl Client {
    /// Makes a client of the proxy at `server`.
    pub(crate) fn new(server: SocketAddr) -> Self {
        Self {
            server,
            connection: None,
        }
    }

    /// Makes a call and judges what comes of it.
    pub(crate) async fn call(&mut self, call: Call) -> Outcome {
        let Patience::For(time) = call.patience else {
            return self.ask(call).await;
        };
        let outcome = timeout(time, self.ask(call)).await;
        outcome.unwrap_or_else(|_| {
            self.connection = None;
            Outcome::without_head(End::HungUpEarly)
        })
    }

    async fn ask(&mut self, call: Call) -> Outcome {
        let Ok(response) = self.send(call).await else {
            self.connection = None;
            return Outcome::without_head(End::Unsent);
        };
        let verdict = response.headers().get("x-cache");
        let verdict = verdict.and_then(|value| value.to_str().ok());
        let verdict = verdict.unwrap_or("none").to_ascii_lowercase();
        if call.patience == Patience::Head {
            self.connection = None;
            let end = End::HungUp;
            return Outcome { verdict, end };
        }
        let status = response.status().as_u16();
        let end = match response.into_body().collect().await {
            Err(_) => {
                self.connection = None;
                End::Broken
            }
            Ok(_) if status != 200 || verdict == "fallback" => End::Told(status),
            Ok(body) => judge(call, &body.to_bytes()),
        };
        Outcome { verdict, end }
    }

    async fn send(&mut self, call: Call) -> Result<Response<Incoming>> {
        let kept = match self.connection.take() {
            Some(mut kept) => kept.sender.ready().await.is_ok().then_some(kept),
            None => None,
        };
        let mut connection = match kept {
            Some(kept) => kept,
            None => Connection::open(self.server).await?,
        };
        let body = Full::from(answer::question(call.question, call.streams));
        let request = Request::post("/v1/chat/completions")
            .header(header::HOST, self.server.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .header(
                header::AUTHORIZATION,
                format!("Bearer sk-soak-{}", call.caller),
            )
            .header("x-request-id", format!("soak-{}", call.id))
            .body(body)?;
        let response = connection.sender.send_request(request).await?;
        self.connection = Some(connection);
        Ok(response)
    }
}

impl Connection {
    async fn open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Its calls tell how it ended.
            let _ = connection.await;
        });
        Ok(Self {
            sender,
            _driver: driver,
        })
    }
}

impl Outcome {
    fn without_head(end: End) -> Self {
        Self {
            verdict: "none".to_owned(),
            end,
        }
    }
}

fn judge(call: Call, body: &[u8]) -> End {
    match answer::said(body, call.streams) {
        Some(said) if said == answer::text(call.question) => End::Whole,
        Some(said) if said.starts_with(&format!("{}:", call.question)) => End::Odd,
        Some(said) if !said.is_empty() => End::Wrong,
        _ => End::Odd,
    }
}

/// Waits before the next call of a client that asks about `rate` times a second.
pub(crate) async fn pause(millis: u64) {
    sleep(Duration::from_millis(millis)).await;
}
