//! Which call gets which answer, and how many came.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Options,
    chat::Chat,
    embedding,
    fault::Fault,
    refusal::Refusal,
    reply::{Body, Ids, Reply},
};

/// Answers calls.
pub(super) struct Router {
    options: Options,
    ids: Ids,
    calls: Arc<Calls>,
}

/// How many calls arrived since the start, by kind.
#[derive(Debug, Default)]
pub(super) struct Calls {
    chat: AtomicU64,
    embeddings: AtomicU64,
    models: AtomicU64,
    other: AtomicU64,
}

/// What is called.
#[derive(Clone, Copy)]
enum Route {
    Chat,
    Embeddings,
    Models,
    Stats,
    Other,
}

impl Router {
    /// Makes a router that answers as `options` say.
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            ids: Ids::default(),
            calls: Arc::default(),
        }
    }

    /// Returns the counters.
    pub(super) fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.calls)
    }

    /// Answers one call; a refusal is an answer too.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let arrived = Instant::now();
        let route = Route::of(request.method(), request.uri().path());
        self.calls.count(route);
        let reply = match self.reply(route, request).await {
            Ok(reply) => reply,
            Err(refusal) => refusal.into_reply(),
        };
        reply.send(arrived, &self.ids).await
    }

    async fn reply(&self, route: Route, request: Request<Incoming>) -> Result<Reply, Refusal> {
        if let Route::Stats = route {
            return Ok(Reply::json(&self.calls.to_json()));
        }
        self.admit(request.headers())?;
        match route {
            Route::Chat => Chat::new(&self.options, &self.ids).reply(&body(request).await?),
            Route::Embeddings => {
                let answer = embedding::answer(&body(request).await?)?;
                Ok(Reply::json(&answer).after(self.options.latency))
            }
            Route::Models => Ok(Reply::json(&models())),
            Route::Stats | Route::Other => {
                Err(Refusal::unknown_url(request.method(), request.uri().path()))
            }
        }
    }

    /// Refuses keys other than the chosen ones, if any were chosen.
    fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let known = |key: &str| self.options.keys.iter().any(|known| known == key);
        match credential(headers) {
            _ if self.options.keys.is_empty() => Ok(()),
            Some(key) if known(key) => Ok(()),
            Some(_) => Err(Refusal::wrong_key()),
            None => Err(Refusal::no_key()),
        }
    }
}

impl Calls {
    /// Returns the sum.
    pub(super) fn total(&self) -> u64 {
        self.by_name().iter().map(|(_, count)| count).sum()
    }

    fn count(&self, route: Route) {
        let counter = match route {
            Route::Chat => &self.chat,
            Route::Embeddings => &self.embeddings,
            Route::Models => &self.models,
            Route::Other => &self.other,
            Route::Stats => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn to_json(&self) -> Value {
        let calls = self.by_name();
        let calls: serde_json::Map<_, _> = calls
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| (name.to_owned(), count.into()))
            .collect();
        json!({"calls": calls, "total": self.total()})
    }

    fn by_name(&self) -> [(&'static str, u64); 4] {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("chat", count(&self.chat)),
            ("embeddings", count(&self.embeddings)),
            ("models", count(&self.models)),
            ("other", count(&self.other)),
        ]
    }
}

impl Route {
    fn of(method: &Method, path: &str) -> Self {
        match (method.as_str(), path) {
            ("POST", "/v1/chat/completions") => Self::Chat,
            ("POST", "/v1/embeddings") => Self::Embeddings,
            ("GET", "/v1/models") => Self::Models,
            ("GET", "/mock/stats") => Self::Stats,
            _ => Self::Other,
        }
    }
}

/// Returns the API key of a call: a bearer token, or Azure's `api-key`.
fn credential(headers: &HeaderMap) -> Option<&str> {
    let text = |name| headers.get(name)?.to_str().ok();
    match text(AUTHORIZATION.as_str()) {
        Some(value) => value.strip_prefix("Bearer "),
        None => text("api-key"),
    }
}

async fn body(request: Request<Incoming>) -> Result<Bytes, Refusal> {
    match Limited::new(request.into_body(), BODY_LIMIT)
        .collect()
        .await
    {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Refusal::too_large(BODY_LIMIT))
        }
        Err(error) => Err(Refusal::bad_request(&format!(
            "The body broke off: {error}"
        ))),
    }
}

fn models() -> Value {
    let names = ["mock"].into_iter().chain(Fault::ALL.map(Fault::model));
    let data: Vec<_> = names
        .map(|name| json!({"id": name, "object": "model", "created": 0, "owned_by": "refrain"}))
        .collect();
    json!({"object": "list", "data": data})
}

/// Largest request body that is read, bytes.
const BODY_LIMIT: usize = 32 << 20;
