//! `[cache]`: what is kept, how long and for whom, and what callers may say about it.

use std::time::Duration;

use http::HeaderName;
use serde::Deserialize;

use super::Scope;

/// `[cache]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Whether anything is read or stored at all.
    pub enabled: bool,
    /// Whose entries may be shared with a caller.
    pub scope: Scope,
    /// Lifetime of an entry; `None` = the dialect's default (chat: 24 h).
    pub ttl: Option<Duration>,
    /// Upper bound on every lifetime, also on `X-Cache-TTL`.
    pub max_ttl: Duration,
    /// How long past its lifetime an entry is served at once, and refreshed in the background.
    pub stale_while_revalidate: Duration,
    /// How long past its lifetime an entry may stand in for a failed upstream.
    pub stale_if_error: Duration,
    /// For how long a credential that its upstream has accepted needs not be asked about again.
    pub proof_ttl: Duration,
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
    /// Whether LiteLLM's `cache` object in the body of a call is understood, and cut out of it.
    pub litellm: bool,
    /// Request headers whose values are part of the key.
    pub vary: Vec<HeaderName>,
    /// Finish reasons with which an answer is stored.
    pub finish_reasons: Vec<String>,
}

/// What becomes of a call whose only client hung up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "lowercase", expecting = "`finish` or `cancel`")]
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
    /// `DELETE /_refrain/cache/KEY`, `POST /_refrain/purge`.
    Purge,
}

impl Directive {
    /// Every directive.
    pub const ALL: [Self; 12] = [
        Self::NoCache,
        Self::NoStore,
        Self::Bypass,
        Self::MaxAge,
        Self::MinFresh,
        Self::MaxStale,
        Self::OnlyIfCached,
        Self::StaleIfError,
        Self::Ttl,
        Self::Namespace,
        Self::Tags,
        Self::Purge,
    ];

    /// Returns the name in `[cache] allow`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCache => "no-cache",
            Self::NoStore => "no-store",
            Self::Bypass => "bypass",
            Self::MaxAge => "max-age",
            Self::MinFresh => "min-fresh",
            Self::MaxStale => "max-stale",
            Self::OnlyIfCached => "only-if-cached",
            Self::StaleIfError => "stale-if-error",
            Self::Ttl => "ttl",
            Self::Namespace => "namespace",
            Self::Tags => "tags",
            Self::Purge => "purge",
        }
    }

    /// Returns the directive of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|directive| directive.as_str() == name)
    }
}
