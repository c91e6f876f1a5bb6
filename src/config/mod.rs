//! What the operator decided, checked and ready for use.
//!
//! [`Config`] is the checked form; `file` mirrors `proxy.toml` one to one, `check` turns the one into the other and
//! reports every problem at once. Consumers receive their own section, never the whole.
//!
//! ```text
//! proxy.toml ─┐
//! environment ├─ tree ── read ──> File ── check ──> Config
//! flags ──────┘            └─────────┴── Problems, each with its place and a hint
//! ```
//!
//! # Scope
//! Flags count more than the environment, the environment more than the file. Without a path no file is read; there is
//! no place where one would be looked for.

mod address;
mod base_url;
mod cache;
mod caller;
mod check;
mod coalesce;
mod contact;
mod container;
mod env;
mod failure;
mod file;
mod glob;
mod headers;
mod key;
mod limits;
mod load;
mod log;
mod problem;
mod proof;
mod ratio;
mod read;
mod redis;
mod rule;
mod scope;
mod secret;
mod state;
mod store;
mod tls;
mod token;
mod tree;
mod units;
mod upstream;

#[cfg(test)]
mod tests;

pub use self::{
    base_url::BaseUrl,
    cache::{Cache, Directive, OnDisconnect},
    caller::{Caller, KeyHash},
    coalesce::Coalesce,
    contact::Contact,
    env::CONFIG as CONFIG_VARIABLE,
    failure::{Breaker, Fallback, FallbackMode, Retry, RuleFallback},
    glob::Glob,
    headers::Headers,
    key::{KEEPABLE, Key, MAX_BODY},
    limits::{Cors, Limits},
    load::{Flag, Sources},
    log::{Log, LogFormat},
    problem::{Complaint, Place, Problem, Problems, Warning},
    proof::Proof,
    ratio::Ratio,
    redis::{Host, Password, Redis, RedisAddress, Servers},
    rule::{DIALECTS, MAX_NAME, MAX_TAGS, Match, Rule, Temperature, Timer, Timers},
    scope::{Pointer, Scope},
    secret::ApiKey,
    store::{Disk, Store},
    tls::{ClientCertificate, Tls},
    token::Token,
    upstream::{HttpVersion, Identity, Timeouts, Upstream},
};

/// Everything that the operator can decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses that calls are accepted on, `host:port`; at least one.
    pub listen: Vec<String>,
    /// The operator's own listener.
    pub admin: Admin,
    /// Where calls go, in the order written; at least one.
    pub upstreams: Vec<Upstream>,
    /// How a call that failed is tried again.
    pub retry: Retry,
    /// When an upstream that fails is left alone.
    pub breaker: Breaker,
    /// What a call gets that could not be answered.
    pub fallback: Fallback,
    /// What is kept, how long and for whom.
    pub cache: Cache,
    /// How long calls wait for each other.
    pub coalesce: Coalesce,
    /// What holds for some calls instead; the first that fits counts.
    pub rules: Vec<Rule>,
    /// What the key is made of.
    pub key: Key,
    /// Where entries are kept.
    pub store: Store,
    /// Bounds on what clients may cost.
    pub limits: Limits,
    /// The web pages that may call.
    pub cors: Cors,
    /// The proxy's own callers; none for whomever the upstream accepts.
    pub callers: Vec<Caller>,
    /// The log.
    pub log: Log,
    /// What can hardly be meant, although it can be done.
    pub warnings: Vec<Warning>,
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Address of the admin listener, `host:port`; `None` when switched off.
    pub listen: Option<String>,
    /// What the operator proves to be the operator by; `None` where loopback alone is trusted.
    pub token: Option<Token>,
}

impl Config {
    /// Returns the upstream that is written first.
    #[expect(
        clippy::indexing_slicing,
        reason = "no configuration without an upstream passes its check"
    )]
    pub fn first_upstream(&self) -> &Upstream {
        &self.upstreams[0]
    }
}

/// The documented file, equal to the defaults.
pub const PROXY_TOML: &str = include_str!("../../proxy.toml");

/// Request headers that carry a credential: together they are the caller's.
///
/// The first four are those of OpenAI, Azure and Anthropic; the others are of gateways in front of them, where a
/// caller may be known by nothing else.
pub const CREDENTIALS: [&str; 10] = [
    "authorization",
    "api-key",
    "x-api-key",
    "cookie",
    "cf-aig-authorization",
    "helicone-auth",
    "ocp-apim-subscription-key",
    "x-goog-api-key",
    "x-portkey-api-key",
    "x-portkey-virtual-key",
];
