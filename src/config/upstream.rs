//! `[[upstream]]`: where calls go and how they are sent there.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use serde::Deserialize;

use super::{ApiKey, BaseUrl, Glob, Headers, Proof, Tls};

/// `[[upstream]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Name in headers and log lines; part of the key. No two upstreams have the same.
    pub name: String,
    /// What an SDK would be given as its base URL.
    pub base_url: BaseUrl,
    /// The proxy's own key for it, which is sent in place of callers' credentials.
    pub api_key: Option<ApiKey>,
    /// The models that it serves, as they are asked for; at least one pattern.
    pub models: Vec<Glob>,
    /// What a model that is asked for is called there, where it has another name.
    pub rename: BTreeMap<String, String>,
    /// Which upstreams are tried first: those with the lowest number.
    pub priority: u32,
    /// Its share of the calls among upstreams of one priority.
    pub weight: NonZeroU32,
    /// What every call takes to it, in place of the client's headers of the same name.
    pub headers: Headers,
    /// HTTP version spoken to it.
    pub http: HttpVersion,
    /// Whom it has to be known by, and what it knows the proxy by.
    pub tls: Tls,
    /// Its timers.
    pub timeouts: Timeouts,
    /// How long an idle connection is kept.
    pub pool_idle: Duration,
    /// How many idle connections are kept.
    pub pool_max_idle: u32,
    /// How long a connection may be silent before it is asked for a sign of life; `None` = never.
    pub keepalive: Option<Duration>,
    /// How many calls it is sent at a time; `None` = any number.
    pub max_concurrent: Option<NonZeroU32>,
    /// How long a call waits for its turn where that many are under way.
    pub max_wait: Duration,
    /// Whether a call that it is slow to answer is made once more beside.
    pub hedge: bool,
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

impl Upstream {
    /// Returns whether it is called with something of the operator's that nobody else may spend.
    pub fn holds_key(&self) -> bool {
        self.api_key.is_some() || self.headers.hold_secret()
    }

    /// Returns whether it serves `model`, as a call asks for it.
    pub fn serves(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| pattern.matches(model))
    }
}
