//! The bare server that Refrain's hits are measured against: hyper, the key, the look-up, nothing else.
//!
//! It reads a body, makes Refrain's canonical form and key of it, looks that up in Refrain's memory and writes what it
//! finds with its type and length. What it does not do is what a proxy adds: plans, scopes, headers both ways, freshness,
//! a request id, metrics, a log line, deadlines, drain.

use std::{cell::RefCell, convert::Infallible, sync::Arc, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use refrain::{
    answer::retold::Retold,
    call::{
        Slot,
        canon::{self, Options, Scratch},
        key::{Digest, Key, Mask, Material, Secret},
    },
    dialect::{Dialect, chat::form::Form},
    store::{Entry, Label, generations::Seen, memory::Memory},
};
use tokio::{net::TcpListener, task::JoinSet, time::Instant};

use crate::{report, script};

/// What makes this program the bare server.
pub(crate) const ARGUMENT: &str = "bare-server";

/// What all connections share.
#[derive(Debug)]
struct Shared {
    secret: Secret,
    memory: Memory,
    answer: Bytes,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Serves until it is killed.
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    report::text(&format!("proxy http://{}", listener.local_addr()?))?;
    let shared = Arc::new(Shared {
        secret: Secret::random()?,
        memory: Memory::new(MEMORY, MAX_ENTRY),
        answer: script::completion(script::ANSWER).into(),
    });
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let shared = shared.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let shared = shared.clone();
                async move { Ok::<_, Infallible>(shared.answer(request).await) }
            });
            // How a connection ends is the client's business.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let Ok(body) = body.collect().await else {
            return refusal(StatusCode::BAD_REQUEST);
        };
        let Some(key) = self.key(head.method.as_str(), path, &body.to_bytes()) else {
            return refusal(StatusCode::UNPROCESSABLE_ENTITY);
        };
        let slot = Slot { key, delivery: 0 };
        let entry = self.memory.get(&slot).unwrap_or_else(|| self.fill(slot));
        let mut response = Response::new(Full::new(entry.body.clone()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, JSON);
        headers.insert(header::CONTENT_LENGTH, entry.body.len().into());
        response
    }

    fn key(&self, method: &str, path_and_query: &str, body: &[u8]) -> Option<Key> {
        let options = Options::default();
        let canonical = SCRATCH
            .with_borrow_mut(|scratch| canon::canonicalise(body, Dialect::Chat, &options, scratch))
            .ok()?;
        let material = Material {
            version: "",
            scope: &[1; 16],
            namespace: "",
            upstream: "openai",
            base_url: "https://api.openai.com/v1",
            model: &canonical.request.model,
            method,
            path_and_query,
            vary: &[],
            body: &Digest::of(&canonical.body),
        };
        Some(material.key(&self.secret, Mask::NONE))
    }

    /// Answers a first call at once; there is no upstream to ask.
    fn fill(&self, slot: Slot) -> Arc<Entry> {
        // Its own copy: many keys are to take as much memory and cache here as there.
        let body = Bytes::copy_from_slice(&self.answer);
        let entry = Arc::new(entry(slot, body));
        self.memory.put(entry.clone());
        entry
    }
}

/// Returns an entry that is fresh for a long time.
pub(crate) fn entry(slot: Slot, body: Bytes) -> Entry {
    Entry {
        slot,
        form: Form::Plain,
        status: StatusCode::OK,
        headers: HeaderMap::from_iter([(header::CONTENT_TYPE, JSON)]),
        body,
        upstream: HeaderValue::from_static("bare"),
        usage: None,
        made: Instant::now(),
        lifetime: LIFETIME,
        tags: Vec::new(),
        label: Label::default(),
        retold: Retold::default(),
        seen: Seen::default(),
    }
}

fn refusal(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// What Refrain's default leaves for entries.
const MEMORY: u64 = 160 << 20;
const MAX_ENTRY: u64 = 8 << 20;
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);
