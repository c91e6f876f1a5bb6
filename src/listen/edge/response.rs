//! Responses: what an answer of Refrain's own and an error look like in HTTP.
//!
//! # Scope
//! The only place that makes HTTP of an [`Error`].

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};

use crate::{
    answer::{Body, replay::Replay},
    dialect::envelope::error_body,
    error::{Error, Kind},
    listen::{breaking::Way, outgoing::Outgoing, socket::OnLine},
};

/// Sends what is no call and leaves no line.
pub(super) fn unrecorded(
    status: StatusCode,
    headers: HeaderMap,
    body: Body,
    line: OnLine,
    version: Version,
) -> Response<Outgoing> {
    let way = Way::of(version, &headers, &body);
    response(status, headers, Outgoing::unrecorded(body, line, way))
}

pub(super) fn response(
    status: StatusCode,
    headers: HeaderMap,
    body: Outgoing,
) -> Response<Outgoing> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Makes the response of an error: OpenAI's envelope.
pub(super) fn of_error(error: &Error, version: Version) -> (StatusCode, HeaderMap, Body) {
    let kind = error.kind();
    let mut headers = content_type("application/json");
    if kind == Kind::SlowRequest && version < Version::HTTP_2 {
        // The rest of its body would be read as the next request (RFC 9110 §15.5.9).
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if kind == Kind::Unauthorized {
        // A 401 says how to do better (RFC 9110 §11.6.1).
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(after) = error.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
    }
    let body = error_body(error.message(), kind.as_str(), None);
    (kind.status(), headers, ours(body))
}

/// Returns `wait` in whole seconds, as `Retry-After` has them (RFC 9110 §10.2.3): never less, and never none.
fn whole_seconds(wait: Duration) -> u64 {
    let more = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(more).max(1)
}

pub(super) fn ours(body: Bytes) -> Body {
    Body::Replay(Replay::new(body, None))
}

pub(super) fn content_type(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_in_whole_seconds_and_never_too_short() {
        for (millis, seconds) in [
            (0, 1),
            (1, 1),
            (1_000, 1),
            (1_001, 2),
            (4_999, 5),
            (5_000, 5),
        ] {
            let wait = Duration::from_millis(millis);
            assert_eq!(whole_seconds(wait), seconds, "{millis}");
        }
        assert_eq!(whole_seconds(Duration::MAX), u64::MAX);
    }
}
