//! The upstream of the measurements: answers as its script says and counts the calls. It lives in the client's process,
//! or in one of its own where it is itself what is measured.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet};

use crate::{report, script};

/// What makes this program an upstream.
pub(crate) const ARGUMENT: &str = "upstream-server";

/// How an upstream answers.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// Before every answer.
    pub(crate) delay: Duration,
    /// Content of a plain completion, bytes.
    pub(crate) answer: usize,
    /// Content of an event of a stream, bytes.
    pub(crate) event: usize,
    /// Events of a stream.
    pub(crate) events: usize,
    /// Before every event.
    pub(crate) pause: Duration,
    /// Size of what a `GET` downloads, in pieces of [`PIECE`] bytes.
    pub(crate) pieces: usize,
}

/// A running upstream; stops when dropped.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// Where it is.
    pub(crate) address: SocketAddr,
    calls: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

/// What one connection answers with.
#[derive(Clone, Debug)]
struct Actor {
    script: Arc<Script>,
    calls: Arc<AtomicU64>,
    completion: Bytes,
    event: Bytes,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Bytes in a piece of a download.
pub(crate) const PIECE: usize = 64 << 10;

impl Default for Script {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            answer: script::ANSWER,
            event: 20,
            events: 0,
            pause: Duration::ZERO,
            pieces: 0,
        }
    }
}

impl Upstream {
    /// Starts an upstream that plays `script`.
    pub(crate) async fn start(script: Script) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let calls = Arc::new(AtomicU64::new(0));
        let actor = Actor {
            completion: script::completion(script.answer).into(),
            event: script::event(script.event).into(),
            script: Arc::new(script),
            calls: calls.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, actor));
        Ok(Self {
            address,
            calls,
            _tasks: tasks,
        })
    }

    /// Returns how many calls it has seen.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

/// Serves the default script until it is killed.
pub(crate) async fn serve() -> Result<()> {
    let upstream = Upstream::start(Script::default()).await?;
    report::text(&format!("proxy http://{}", upstream.address))?;
    std::future::pending().await
}

async fn accept(listener: TcpListener, actor: Actor) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // Costs a little speed where it fails.
        let _ = stream.set_nodelay(true);
        let actor = actor.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let actor = actor.clone();
                async move { actor.answer(request).await }
            });
            // How a connection ends is the client's business.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Actor {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if request.method() == Method::GET {
            return Ok(response("application/octet-stream", self.download()));
        }
        let asked = request.into_body().collect().await?.to_bytes();
        if !self.script.delay.is_zero() {
            tokio::time::sleep(self.script.delay).await;
        }
        if memchr::memmem::find(&asked, br#""stream":true"#).is_some() {
            return Ok(response("text/event-stream", self.stream()));
        }
        let body = Full::new(self.completion.clone()).boxed_unsync();
        Ok(response("application/json", body))
    }

    fn stream(&self) -> Body {
        let Self { script, event, .. } = self.clone();
        let frames = stream::unfold(0, move |at| {
            let piece = if at < script.events {
                Some(event.clone())
            } else {
                (at == script.events).then(|| script::last_events().into())
            };
            let pause = script.pause;
            async move {
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                piece.map(|piece| (Ok(Frame::data(piece)), at + 1))
            }
        });
        StreamBody::new(frames).boxed_unsync()
    }

    fn download(&self) -> Body {
        let piece = Bytes::from(vec![b'x'; PIECE]);
        let pieces = stream::iter(0..self.script.pieces);
        let frames = futures_util::StreamExt::map(pieces, move |_| Ok(Frame::data(piece.clone())));
        StreamBody::new(frames).boxed_unsync()
    }
}

fn response(content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let value = HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}
