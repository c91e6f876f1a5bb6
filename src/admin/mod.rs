//! The operator's own listener: is it alive, is it ready, what does it count.
//!
//! # Scope
//! Works on the plain views that `app` hands it, and touches no store or layer itself. Health and numbers are open to
//! whoever reaches the listener; what stands under `/api` passes [`guard`] first.

pub mod api;
pub mod guard;
pub mod purge;
mod stats;

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderName, StatusCode, header},
    routing::get,
};
use tower_http::catch_panic::CatchPanicLayer;

use self::guard::Guard;
use crate::{ledger::journal::Journal, store::purge::Purger};

/// Whether calls should be sent here; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicU8>);

/// What the admin listener shows.
#[derive(Clone)]
pub struct Views {
    /// Whether calls should be sent here.
    pub readiness: Readiness,
    /// Renders the metrics.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Tells what does not work, a line each.
    pub troubles: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Purges entries.
    pub purger: Purger,
    /// Tells what was counted.
    pub journal: Journal,
    /// Who may use `/api`.
    pub guard: Arc<Guard>,
}

/// A short text answer: status and body.
pub type Text = (StatusCode, &'static str);

/// Troubles that are told one by one.
const MAX_TROUBLES: usize = 20;

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

impl Readiness {
    /// From now on calls are accepted.
    pub fn ready(&self) {
        self.0.store(READY, Ordering::Release);
    }

    /// From now on calls should go elsewhere.
    pub fn draining(&self) {
        self.0.store(DRAINING, Ordering::Release);
    }

    /// Returns whether calls should go elsewhere.
    pub fn is_draining(&self) -> bool {
        self.0.load(Ordering::Relaxed) == DRAINING
    }

    /// Returns the answer of `/readyz`.
    pub fn readyz(&self) -> Text {
        match self.0.load(Ordering::Acquire) {
            STARTING => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
            READY => (StatusCode::OK, "ready\n"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        }
    }
}

/// Returns the answer of `/healthz`: whoever can answer lives.
pub fn healthz() -> Text {
    (StatusCode::OK, "alive\n")
}

/// Makes the routes of the admin listener.
pub fn router(views: Views) -> Router {
    Router::new()
        .route("/healthz", get(|| async { healthz() }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .nest("/api", api::router(views.clone()))
        .layer(CatchPanicLayer::new())
        .with_state(views)
}

/// Calls are taken also where something does not work: what can be answered without it is.
async fn readyz(State(views): State<Views>) -> (StatusCode, String) {
    let (status, text) = views.readiness.readyz();
    let troubles = (views.troubles)();
    if status != StatusCode::OK || troubles.is_empty() {
        return (status, text.to_owned());
    }
    let left = troubles.len().saturating_sub(MAX_TROUBLES);
    let more = (left > 0).then(|| format!("and {left} more"));
    let shown = troubles.into_iter().take(MAX_TROUBLES).chain(more);
    let lines = shown.map(|line| line + "\n");
    (status, "degraded\n".to_owned() + &lines.collect::<String>())
}

async fn metrics(State(views): State<Views>) -> ([(HeaderName, &'static str); 1], String) {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], (views.metrics)())
}
