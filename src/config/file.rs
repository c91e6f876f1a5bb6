//! `proxy.toml`, one to one: what may be written, and what holds where nothing is.
//!
//! What each setting means stands in `proxy.toml` and at its checked counterpart in [`Config`](super::Config). Words out
//! of a small set that are written one by one are checked here; whatever comes in lists, in `check`, which reports every
//! item.

mod failure;
mod rule;
mod upstream;

use std::time::Duration;

use serde::Deserialize;

pub(super) use self::{
    failure::{Breaker, Fallback, Retry},
    rule::{Match, Rule, RuleFallback, Timers},
    upstream::{Headers, Switch, Timeouts, Tls, Upstream},
};
use super::{
    ApiKey, Directive, LogFormat, OnDisconnect, Ratio,
    units::{Auto, Count, Off, Size, Span},
};

/// The whole file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default, expecting = "sections and settings")]
pub(super) struct File {
    pub(super) listen: Vec<String>,
    pub(super) admin: Admin,
    pub(super) upstream: Vec<Upstream>,
    pub(super) retry: Retry,
    pub(super) breaker: Breaker,
    pub(super) fallback: Fallback,
    pub(super) cache: Cache,
    pub(super) coalesce: Coalesce,
    /// None by default, and so no part of the defaults as they are written.
    #[cfg_attr(test, serde(skip_serializing_if = "Vec::is_empty"))]
    pub(super) rule: Vec<Rule>,
    pub(super) key: Key,
    pub(super) store: Store,
    pub(super) limits: Limits,
    pub(super) cors: Cors,
    pub(super) caller: Vec<Caller>,
    pub(super) log: Log,
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default, expecting = "a section, `[admin]`")]
pub(super) struct Admin {
    pub(super) listen: String,
    pub(super) token: ApiKey,
}

/// `[cache]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default, expecting = "a section, `[cache]`")]
pub(super) struct Cache {
    pub(super) enabled: bool,
    pub(super) scope: String,
    pub(super) ttl: Auto<Span>,
    pub(super) max_ttl: Span,
    pub(super) stale_while_revalidate: Off<Span>,
    pub(super) stale_if_error: Off<Span>,
    pub(super) proof_ttl: Span,
    pub(super) max_entry: Size,
    pub(super) on_disconnect: OnDisconnect,
    pub(super) stall: Span,
    pub(super) allow: Vec<String>,
    pub(super) aliases: bool,
    pub(super) litellm: bool,
    pub(super) vary: Vec<String>,
    pub(super) finish_reasons: Vec<String>,
}

/// `[coalesce]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default, expecting = "a section, `[coalesce]`")]
pub(super) struct Coalesce {
    pub(super) wait: Off<Span>,
}

/// `[key]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default, expecting = "a section, `[key]`")]
pub(super) struct Key {
    pub(super) version: String,
    pub(super) secret: ApiKey,
    pub(super) keep: Vec<String>,
    pub(super) fold_openai_defaults: bool,
    pub(super) max_body: Size,
}

/// `[store]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default, expecting = "a section, `[store]`")]
pub(super) struct Store {
    pub(super) memory: Auto<Size>,
    pub(super) path: String,
    pub(super) max_size: Size,
    pub(super) budget: Span,
    #[serde(deserialize_with = "super::redis::written")]
    pub(super) redis: ApiKey,
    pub(super) prefix: String,
    pub(super) redis_ca: String,
    pub(super) trust: Off<Span>,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default, expecting = "a section, `[limits]`")]
pub(super) struct Limits {
    pub(super) buffered: Size,
    pub(super) header: Span,
    pub(super) body: Span,
    pub(super) idle: Span,
    pub(super) write: Span,
    pub(super) connections: Off<Count>,
    pub(super) drain: Span,
    pub(super) min_drain: Span,
    pub(super) hosts: Vec<String>,
}

/// `[cors]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default, expecting = "a section, `[cors]`")]
pub(super) struct Cors {
    pub(super) origins: Vec<String>,
}

/// `[[caller]]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default, expecting = "a section, `[[caller]]`")]
pub(super) struct Caller {
    pub(super) name: String,
    pub(super) keys: Vec<String>,
    pub(super) scope: String,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default, expecting = "a section, `[log]`")]
pub(super) struct Log {
    pub(super) format: LogFormat,
    pub(super) level: String,
}

impl Default for File {
    fn default() -> Self {
        Self {
            listen: words(&["127.0.0.1:8080"]),
            admin: Admin::default(),
            upstream: vec![Upstream::default()],
            retry: Retry::default(),
            breaker: Breaker::default(),
            fallback: Fallback::default(),
            cache: Cache::default(),
            coalesce: Coalesce::default(),
            rule: Vec::new(),
            key: Key::default(),
            store: Store::default(),
            limits: Limits::default(),
            cors: Cors::default(),
            caller: Vec::new(),
            log: Log::default(),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8081".to_owned(),
            token: ApiKey::none(),
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            enabled: true,
            scope: "credential".to_owned(),
            ttl: Auto::Auto,
            max_ttl: seconds(60 * DAY),
            stale_while_revalidate: Off::Off,
            stale_if_error: Off::At(seconds(DAY)),
            proof_ttl: seconds(60 * MINUTE),
            max_entry: mebibytes(8),
            on_disconnect: OnDisconnect::Finish,
            stall: seconds(10),
            allow: words(&Directive::ALL.map(Directive::as_str)),
            aliases: true,
            litellm: false,
            vary: words(&[
                "openai-organization",
                "openai-project",
                "openai-beta",
                "anthropic-version",
                "anthropic-beta",
                "helicone-target-url",
                "x-portkey-provider",
                "x-portkey-config",
                "x-portkey-custom-host",
            ]),
            finish_reasons: words(&["stop", "tool_calls", "function_call"]),
        }
    }
}

impl Default for Coalesce {
    fn default() -> Self {
        Self {
            wait: Off::At(seconds(30)),
        }
    }
}

impl Default for Key {
    fn default() -> Self {
        Self {
            version: String::new(),
            secret: ApiKey::none(),
            keep: Vec::new(),
            fold_openai_defaults: false,
            max_body: mebibytes(16),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            memory: Auto::Auto,
            path: "auto".to_owned(),
            max_size: Size(4 << 30),
            budget: milliseconds(50),
            redis: ApiKey::none(),
            prefix: "refrain:".to_owned(),
            redis_ca: String::new(),
            trust: Off::At(seconds(30)),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            buffered: mebibytes(256),
            header: seconds(10),
            body: seconds(MINUTE),
            idle: seconds(75),
            write: seconds(MINUTE),
            connections: Off::At(Count(10_000)),
            drain: seconds(30),
            min_drain: seconds(0),
            hosts: Vec::new(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Auto,
            level: "info".to_owned(),
        }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn seconds(seconds: u64) -> Span {
    Span(Duration::from_secs(seconds))
}

fn milliseconds(milliseconds: u64) -> Span {
    Span(Duration::from_millis(milliseconds))
}

#[expect(clippy::expect_used, reason = "for defaults, which a test reads")]
fn ratio(number: f64) -> Ratio {
    Ratio::new(number).expect("a share of a whole")
}

fn mebibytes(mebibytes: u64) -> Size {
    Size(mebibytes << 20)
}

const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;
