//! One call as its caller sees it: the answer, its cache headers, and how long it took.

use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, CACHE_CONTROL};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::json;

use super::script::Ask;
use crate::command::failure::Failure;

/// A call that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taking {
    /// `X-Cache`; empty if there is none.
    pub(super) verdict: String,
    /// `X-Cache-Reason`; empty if there is none.
    pub(super) reason: String,
    /// From the call sent to the first byte of the body.
    pub(super) first_byte: Duration,
    /// From the call sent to the end of the body.
    pub(super) total: Duration,
    /// The body.
    pub(super) body: Vec<u8>,
}

impl Taking {
    /// Makes the call and reads its answer to the end; an answer other than 200 is a failure.
    pub(super) async fn of(client: &Client, base_url: &str, ask: &Ask) -> Result<Self, Failure> {
        let failed =
            |error: reqwest::Error| Failure::new(format!("failed to call `{base_url}`: {error}"));
        let request = request(client, base_url, ask);
        let sent = Instant::now();
        let mut response = request
            .send()
            .await
            .map_err(failed)?
            .error_for_status()
            .map_err(failed)?;
        let (verdict, reason) = (
            header(&response, "x-cache"),
            header(&response, "x-cache-reason"),
        );
        let mut body = Vec::new();
        let mut first_byte = None;
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            first_byte.get_or_insert_with(|| sent.elapsed());
            body.extend_from_slice(&chunk);
        }
        let total = sent.elapsed();
        Ok(Self {
            verdict,
            reason,
            first_byte: first_byte.unwrap_or(total),
            total,
            body,
        })
    }
}

fn request(client: &Client, base_url: &str, ask: &Ask) -> RequestBuilder {
    let mut body =
        json!({"model": "mock", "messages": [{"role": "user", "content": ask.question}]});
    if let Some(members) = body.as_object_mut() {
        members.extend(ask.stream.then(|| ("stream".to_owned(), json!(true))));
        members.extend(
            ask.temperature
                .map(|value| ("temperature".to_owned(), json!(value))),
        );
    }
    let request = client
        .post(format!("{base_url}/chat/completions"))
        .header(AUTHORIZATION, format!("Bearer {}", ask.key))
        .json(&body);
    match ask.cache_control {
        Some(value) => request.header(CACHE_CONTROL, value),
        None => request,
    }
}

fn header(response: &Response, name: &str) -> String {
    let value = response.headers().get(name);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}
