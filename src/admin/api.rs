//! `/api`: what the operator can do. Every request passes the [`guard`](super::guard) first.

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};

use super::{Views, purge, stats};
use crate::{call::content, dialect::envelope::error_body, store::purge::Refused};

/// Makes the routes below `/api`.
pub(super) fn router(views: Views) -> Router<Views> {
    Router::new()
        .route("/purge", post(run_purge))
        .route("/stats", get(show_stats))
        .layer(DefaultBodyLimit::max(LARGEST))
        .layer(middleware::from_fn_with_state(views, guarded))
}

async fn guarded(State(views): State<Views>, request: Request, next: Next) -> Response {
    match views.guard.admits(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(stopped) => {
            let mut response = refusal(stopped.status(), stopped.message(), "forbidden");
            if stopped.status() == StatusCode::UNAUTHORIZED {
                let scheme = HeaderValue::from_static("Bearer");
                response
                    .headers_mut()
                    .insert(header::WWW_AUTHENTICATE, scheme);
            }
            response
        }
    }
}

async fn run_purge(State(views): State<Views>, headers: HeaderMap, body: Bytes) -> Response {
    if !content::is_json(&headers) {
        let message =
            "the content is not said to be JSON\nhint: send `Content-Type: application/json`";
        return refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, message, "bad_request");
    }
    let order = match purge::order(&body, |age| views.purger.ago(age)) {
        Ok(order) => order,
        Err(bad) => return refusal(StatusCode::BAD_REQUEST, &bad.to_string(), "bad_request"),
    };
    match views.purger.run(&order).await {
        Ok(outcome) => answer(StatusCode::OK, purge::told(&order, &outcome)),
        Err(refused) => refusal(status_of(refused), &refused.to_string(), "busy"),
    }
}

async fn show_stats(
    State(views): State<Views>,
    query: Result<Query<stats::Wish>, QueryRejection>,
) -> Response {
    match stats::days(query.map(|Query(wish)| wish)) {
        Ok(days) => answer(
            StatusCode::OK,
            stats::told(&views.journal.report(days).await),
        ),
        Err(bad) => refusal(StatusCode::BAD_REQUEST, &bad, "bad_request"),
    }
}

fn status_of(refused: Refused) -> StatusCode {
    match refused {
        Refused::Full | Refused::Busy => StatusCode::SERVICE_UNAVAILABLE,
        Refused::Random => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn refusal(status: StatusCode, message: &str, code: &str) -> Response {
    answer(status, error_body(message, code, None))
}

fn answer(status: StatusCode, body: Bytes) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (status, json, body).into_response()
}

/// Largest body, bytes.
const LARGEST: usize = 64 << 10;
