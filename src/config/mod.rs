//! What the operator decided, checked and ready for use.
//!
//! [`Config`] is the checked form; `file` mirrors `proxy.toml` one to one, `check` turns the one into the other and
//! reports every problem at once. Consumers receive their own section, never the whole.

use std::time::Duration;

use http::{HeaderName, uri::Authority, uri::Scheme};

/// Everything that the operator can decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses that calls are accepted on, `host:port`; at least one.
    pub listen: Vec<String>,
    /// The operator's own listener.
    pub admin: Admin,
    /// Where calls go.
    pub upstream: Upstream,
    /// What is kept, how long and for whom.
    pub cache: Cache,
    /// What the key is made of.
    pub key: Key,
    /// Where entries are kept.
    pub store: Store,
    /// Bounds on what clients may cost.
    pub limits: Limits,
    /// The log.
    pub log: Log,
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Address of the admin listener, `host:port`; `None` when switched off.
    pub listen: Option<String>,
}

/// `[[upstream]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Name in headers, log lines and metrics.
    pub name: String,
    /// What an SDK would be given as its base URL.
    pub base_url: BaseUrl,
    /// HTTP version spoken to it.
    pub http: HttpVersion,
    /// Its timers.
    pub timeouts: Timeouts,
    /// How long an idle connection is kept.
    pub pool_idle: Duration,
}

/// A parsed `base_url`: origin and path, no query, no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Host and port.
    pub authority: Authority,
    /// The path without its trailing slash; `/v1` where the URL has none.
    pub path: String,
}

/// HTTP version spoken to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1, one call per connection at a time.
    Http1,
    /// HTTP/2, by ALPN on https, by prior knowledge on http.
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

/// `[cache]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Whether anything is read or stored at all.
    pub enabled: bool,
    /// Lifetime of an entry; `None` = the dialect's default (chat: 24 h).
    pub ttl: Option<Duration>,
    /// Upper bound on every lifetime, also on `X-Cache-TTL`.
    pub max_ttl: Duration,
    /// How long past its lifetime an entry may stand in for a failed upstream.
    pub stale_if_error: Duration,
    /// Largest body that is stored, bytes.
    pub max_entry: u64,
    /// What becomes of a call whose only client hung up.
    pub on_disconnect: OnDisconnect,
    /// How long a reader may hold up a tape that no longer records everything.
    pub stall: Duration,
    /// Request headers and directives that callers may use.
    pub allow: Vec<Directive>,
    /// Whether other gateways' cache headers are understood.
    pub aliases: bool,
    /// Request headers whose values are part of the key.
    pub vary: Vec<HeaderName>,
    /// Finish reasons with which an answer is stored.
    pub finish_reasons: Vec<String>,
}

/// What becomes of a call whose only client hung up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisconnect {
    /// It goes on for at most 60 s, if its answer can be stored.
    Finish,
    /// It is cancelled.
    Cancel,
}

/// A request header or `Cache-Control` directive that the operator may take from callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Directive {
    /// `Cache-Control: no-cache`, `Pragma: no-cache`, `X-Cache-Refresh`.
    NoCache,
    /// `Cache-Control: no-store`.
    NoStore,
    /// `X-Cache-Bypass`.
    Bypass,
    /// `Cache-Control: max-age`.
    MaxAge,
    /// `Cache-Control: min-fresh`.
    MinFresh,
    /// `Cache-Control: max-stale`.
    MaxStale,
    /// `Cache-Control: only-if-cached`.
    OnlyIfCached,
    /// `Cache-Control: stale-if-error`.
    StaleIfError,
    /// `X-Cache-TTL`.
    Ttl,
    /// `X-Cache-Namespace`.
    Namespace,
    /// `X-Cache-Tags`.
    Tags,
}

/// `[key]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The operator's own version; changing it starts an empty key space.
    pub version: String,
    /// Fields that are keyed although they are on the dialect's ignore list.
    pub keep: Vec<String>,
    /// Whether a field at OpenAI's documented default equals its absence.
    pub fold_openai_defaults: bool,
    /// Largest body that is keyed, bytes.
    pub max_body: u64,
}

/// `[store]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Bound of the memory tier, open tapes included, bytes.
    pub memory: u64,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request bodies held for keying, all calls together, bytes.
    pub buffered: u64,
    /// For the head of a request to arrive.
    pub header: Duration,
    /// For running calls to end after SIGTERM.
    pub drain: Duration,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Form of the lines.
    pub format: LogFormat,
    /// `tracing` filter, such as `info` or `refrain=debug`.
    pub level: String,
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// Text.
    Text,
    /// One JSON object per line.
    Json,
}
