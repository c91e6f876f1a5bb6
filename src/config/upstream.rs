//! `[[upstream]]`: where calls go and how they are sent there.

use std::time::Duration;

use serde::Deserialize;

use super::{ApiKey, BaseUrl, Proof};

/// `[[upstream]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Name in headers and log lines; part of the key.
    pub name: String,
    /// What an SDK would be given as its base URL.
    pub base_url: BaseUrl,
    /// The proxy's own key for it, which is sent in place of callers' credentials.
    pub api_key: Option<ApiKey>,
    /// HTTP version spoken to it.
    pub http: HttpVersion,
    /// Its timers.
    pub timeouts: Timeouts,
    /// How long an idle connection is kept.
    pub pool_idle: Duration,
    /// How it is asked whether a credential still holds.
    pub proof: Proof,
    /// What of a bearer token is the scope `credential`.
    pub identity: Identity,
}

/// What of a bearer token is the scope `credential`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "lowercase", expecting = "`off` or `jwt`")]
pub enum Identity {
    /// The whole token.
    Off,
    /// Of a JWT its issuer, audience, tenant and subject.
    Jwt,
}

/// HTTP version spoken to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(expecting = "`\"1.1\"` or `\"2\"`, in quotes")]
pub enum HttpVersion {
    /// HTTP/1.1, one call per connection at a time.
    #[serde(rename = "1.1")]
    Http1,
    /// HTTP/2, by ALPN on https, by prior knowledge on http.
    #[serde(rename = "2")]
    Http2,
}

/// Timers of an upstream; `None` = off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To establish a connection, TLS included.
    pub connect: Option<Duration>,
    /// From the call sent to the head of the answer.
    pub first_byte: Option<Duration>,
    /// Between two pieces of the body.
    pub idle: Option<Duration>,
    /// For the whole call.
    pub total: Option<Duration>,
}
