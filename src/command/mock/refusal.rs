//! Errors in the form of the OpenAI API: `{"error": {"message", "type", "param", "code"}}`.

use http::{Method, StatusCode};
use serde_json::json;

use super::reply::Reply;

/// An error that the mock answers with.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    message: String,
    headers: &'static [(&'static str, &'static str)],
}

impl Refusal {
    /// 400: the call cannot be read or breaks a bound.
    pub(super) fn bad_request(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, message)
    }

    /// 400: the body is not the JSON that was expected.
    pub(super) fn bad_json(error: &serde_json::Error) -> Self {
        Self::bad_request(&format!(
            "We could not parse the JSON body of your request: {error}"
        ))
    }

    /// 401: a key that is not accepted.
    pub(super) fn wrong_key() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            INVALID_REQUEST,
            "Incorrect API key provided.",
        )
        .code("invalid_api_key")
    }

    /// 401: no key where one is needed.
    pub(super) fn no_key() -> Self {
        let message = "You didn't provide an API key. Send it as `Authorization: Bearer YOUR_KEY`.";
        Self::new(StatusCode::UNAUTHORIZED, INVALID_REQUEST, message)
    }

    /// 404: nothing lives here.
    pub(super) fn unknown_url(method: &Method, path: &str) -> Self {
        let message = format!("Invalid URL ({method} {path})");
        Self::new(StatusCode::NOT_FOUND, INVALID_REQUEST, &message).code("unknown_url")
    }

    /// 413: the body is above `limit` bytes.
    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("The body is larger than {limit} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID_REQUEST, &message)
    }

    /// 429: too many calls; the caller may try again in a second.
    pub(super) fn busy() -> Self {
        let message = "Rate limit reached for requests. Please try again in 1s.";
        Self {
            headers: &[
                ("retry-after", "1"),
                ("x-ratelimit-limit-requests", "60"),
                ("x-ratelimit-remaining-requests", "0"),
                ("x-ratelimit-reset-requests", "1s"),
            ],
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "requests", message)
                .code("rate_limit_exceeded")
        }
    }

    /// 500: the mock plays a broken server.
    pub(super) fn failing() -> Self {
        let message = "The server had an error while processing your request. Sorry about that!";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// Returns it as an answer.
    pub(super) fn into_reply(self) -> Reply {
        let body = json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": null,
            "code": self.code,
        }});
        Reply::json(&body).status(self.status).headers(self.headers)
    }

    fn new(status: StatusCode, kind: &'static str, message: &str) -> Self {
        Self {
            status,
            kind,
            code: None,
            message: message.to_owned(),
            headers: &[],
        }
    }

    fn code(self, code: &'static str) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }
}

const INVALID_REQUEST: &str = "invalid_request_error";
