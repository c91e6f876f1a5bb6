//! How an answer came to be, and the words for it: `X-Cache`, `X-Cache-Reason`, `Cache-Status` and the reasons for not
//! storing. Pure. Every word here has an entry in `docs/caching.md`; `tests/docs.rs` holds the two together.

use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Serialize;

use crate::{
    call::{self, key::Key},
    error::Kind,
};

/// How an answer came to be; the value of `X-Cache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// From the cache, within its lifetime.
    Hit,
    /// From the upstream.
    Miss,
    /// From the cache, past its lifetime.
    Stale,
    /// From another call that was under way.
    Collapsed,
    /// From the upstream, the cache being out of the question.
    Bypass,
    /// From nobody: an apology.
    Fallback,
}

/// Why a call that has a key was not answered from the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No entry is there.
    NotFound,
    /// The entry is past its lifetime.
    Expired,
    /// The entry may have been purged by another replica, of which this one could not hear.
    Untrusted,
    /// The caller asked for a new answer (`no-cache`, `X-Cache-Refresh`).
    Refresh,
    /// The entry is older than the caller's `max-age`.
    MaxAge,
    /// The entry does not stay fresh for the caller's `min-fresh`.
    MinFresh,
    /// The entry was recorded without the usage that the call is entitled to.
    UsageMissing,
    /// The entry was recorded in another form, and cannot be told in the one asked for.
    Unconvertible,
    /// The entry is past its lifetime, and the caller's `max-stale` allows that.
    MaxStale,
    /// The entry is past its lifetime, and the operator's `stale_while_revalidate` allows that.
    StaleWhileRevalidate,
    /// The upstream failed, and an entry past its lifetime stood in.
    UpstreamFailed,
    /// The upstream has not accepted the credential, or not lately enough to be served.
    Unproven,
    /// The call has no key.
    Unkeyed(call::Unkeyed),
    /// No upstream answered, and no entry could stand in.
    Failed(Failure),
}

/// What an apology stands in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The upstream answered with a 5xx.
    Status,
    /// The call failed before an answer came.
    Error(Kind),
}

/// Why an answer was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotStored {
    /// Every caller of the flight said `no-store`.
    NoStore,
    /// The status is not 2xx.
    Status,
    /// Another upstream stood in, with another model than the key covers.
    OtherModel,
    /// Another upstream stood in, without something that the key covers: the query, a header.
    Withheld,
    /// The upstream forbids it: `Cache-Control: no-store`, `private` or `Vary: *`.
    Forbidden,
    /// The answer carries a `Content-Encoding` that was not asked for.
    Encoded,
    /// Another kind of body came than was asked for: JSON for a stream, a stream for JSON.
    OtherMode,
    /// The end mark of the dialect is missing, or a choice has no finish reason.
    Incomplete,
    /// The upstream broke off, or the flight was cancelled.
    Broken,
    /// The body cannot be read as what it says it is.
    Unreadable,
    /// The body carries an error.
    Error,
    /// There is no choice, or nothing in any.
    Empty,
    /// A finish reason is not among `[cache] finish_reasons`.
    FinishReason,
    /// JSON was asked for, and the content is none.
    InvalidOutput,
    /// The body is larger than `[cache] max_entry`, or the tapes' share of the memory was used up.
    TooLarge,
    /// The lifetime is zero.
    NoLifetime,
    /// A refresh was asked for, or an answer that serves more calls was stored, while this one was on its way.
    Superseded,
    /// It was purged on its way.
    Purged,
}

/// Where a hit was found; the value of `X-Cache-Tier`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// In this process.
    Memory,
    /// In this machine's file, and from then on in memory.
    Disk,
    /// In Redis, and from then on in memory.
    Redis,
}

/// All that an answer's cache headers say.
#[derive(Clone, Debug)]
pub struct Served {
    /// How it came to be.
    pub verdict: Verdict,
    /// Why it was not served from the cache; absent on a hit.
    pub reason: Option<Reason>,
    /// Where it was found.
    pub tier: Option<Tier>,
    /// Seconds since it was made, where it came from the cache.
    pub age: Option<u64>,
    /// Seconds of freshness left, negative once stale, where it came from the cache.
    pub ttl: Option<i64>,
    /// The key, where there is one.
    pub key: Option<Key>,
    /// Name of the upstream that made it.
    pub upstream: Option<HeaderValue>,
}

impl Verdict {
    /// Every verdict, in the order of the docs.
    pub const ALL: [Self; 6] = [
        Self::Hit,
        Self::Miss,
        Self::Stale,
        Self::Collapsed,
        Self::Bypass,
        Self::Fallback,
    ];

    /// Returns the value of `X-Cache`.
    pub fn header(self) -> &'static str {
        match self {
            Self::Hit => "HIT",
            Self::Miss => "MISS",
            Self::Stale => "STALE",
            Self::Collapsed => "COLLAPSED",
            Self::Bypass => "BYPASS",
            Self::Fallback => "FALLBACK",
        }
    }

    /// Returns the name in log lines and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Collapsed => "collapsed",
            Self::Bypass => "bypass",
            Self::Fallback => "fallback",
        }
    }
}

impl Reason {
    /// Every reason of a call that has a key, in the order of the docs.
    pub const ALL: [Self; 12] = [
        Self::NotFound,
        Self::Expired,
        Self::Untrusted,
        Self::Refresh,
        Self::MaxAge,
        Self::MinFresh,
        Self::UsageMissing,
        Self::Unconvertible,
        Self::MaxStale,
        Self::StaleWhileRevalidate,
        Self::UpstreamFailed,
        Self::Unproven,
    ];

    /// Returns the value of `X-Cache-Reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Expired => "expired",
            Self::Untrusted => "untrusted",
            Self::Refresh => "refresh",
            Self::MaxAge => "max_age",
            Self::MinFresh => "min_fresh",
            Self::UsageMissing => "usage_missing",
            Self::Unconvertible => "unconvertible",
            Self::MaxStale => "max_stale",
            Self::StaleWhileRevalidate => "stale_while_revalidate",
            Self::UpstreamFailed => "upstream_failed",
            Self::Unproven => "unproven",
            Self::Unkeyed(why) => why.as_str(),
            Self::Failed(failure) => failure.as_str(),
        }
    }

    /// Returns the `fwd` parameter of `Cache-Status` (RFC 9211 §2.2), of what was forwarded.
    fn forwarded(self) -> Option<&'static str> {
        match self {
            Self::NotFound | Self::Unconvertible => Some("miss"),
            Self::Expired
            | Self::Untrusted
            | Self::MaxStale
            | Self::StaleWhileRevalidate
            | Self::UpstreamFailed => Some("stale"),
            Self::Refresh | Self::MaxAge | Self::MinFresh | Self::UsageMissing | Self::Unproven => {
                Some("request")
            }
            Self::Unkeyed(_) => Some("bypass"),
            Self::Failed(_) => None,
        }
    }
}

impl Failure {
    /// Every failure, in the order of the docs.
    pub const ALL: [Self; 5] = [
        Self::Status,
        Self::Error(Kind::Unreachable),
        Self::Error(Kind::Timeout),
        Self::Error(Kind::Broken),
        Self::Error(Kind::Unavailable),
    ];

    /// Returns what an error is to a call: a failure of the upstream; `None` where it is the client's, or Refrain's own. A
    /// call that is shed is told so, and when to come again: who is apologised to does not come again.
    pub fn of(kind: Kind) -> Option<Self> {
        kind.is_upstream().then_some(Self::Error(kind))
    }

    /// Returns the value of `X-Cache-Reason`: an error's is its code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "upstream_error",
            Self::Error(kind) => kind.as_str(),
        }
    }
}

impl NotStored {
    /// Every reason, in the order of the docs.
    pub const ALL: [Self; 18] = [
        Self::NoStore,
        Self::Status,
        Self::OtherModel,
        Self::Withheld,
        Self::Forbidden,
        Self::Encoded,
        Self::OtherMode,
        Self::Incomplete,
        Self::Broken,
        Self::Unreadable,
        Self::Error,
        Self::Empty,
        Self::FinishReason,
        Self::InvalidOutput,
        Self::TooLarge,
        Self::NoLifetime,
        Self::Superseded,
        Self::Purged,
    ];

    /// Returns the word in log and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoStore => "no_store",
            Self::Status => "status",
            Self::OtherModel => "other_model",
            Self::Withheld => "withheld",
            Self::Forbidden => "forbidden",
            Self::Encoded => "encoded",
            Self::OtherMode => "other_mode",
            Self::Incomplete => "incomplete",
            Self::Broken => "broken",
            Self::Unreadable => "unreadable",
            Self::Error => "error_object",
            Self::Empty => "empty",
            Self::FinishReason => "finish_reason",
            Self::InvalidOutput => "invalid_output",
            Self::TooLarge => "too_large",
            Self::NoLifetime => "no_lifetime",
            Self::Superseded => "superseded",
            Self::Purged => "purged",
        }
    }
}

impl Tier {
    /// Every tier, in the order of the docs.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Disk, Self::Redis];

    /// Returns the value of `X-Cache-Tier`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Redis => "redis",
        }
    }
}

/// `X-Cache`.
pub const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
/// `X-Cache-Reason`.
pub const X_CACHE_REASON: HeaderName = HeaderName::from_static("x-cache-reason");
/// `X-Cache-Key`.
pub const X_CACHE_KEY: HeaderName = HeaderName::from_static("x-cache-key");
/// `X-Cache-Tier`.
pub const X_CACHE_TIER: HeaderName = HeaderName::from_static("x-cache-tier");
/// `X-Cache-TTL`.
pub const X_CACHE_TTL: HeaderName = HeaderName::from_static("x-cache-ttl");
/// `X-Upstream`.
pub const X_UPSTREAM: HeaderName = HeaderName::from_static("x-upstream");
/// Most headers that an answer is given on its way out, so that the map grows once at most: what [`Served::write`] adds,
/// and the request id.
pub const MOST_HEADERS: usize = 9;
/// Bytes that the values of an everyday answer take, all together.
const EVERYDAY: usize = 144;

/// `Cache-Status` (RFC 9211).
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

impl Served {
    /// Says that an answer came from the upstream without the cache having been asked.
    pub fn bypass(why: call::Unkeyed) -> Self {
        Self::from_upstream(Verdict::Bypass, Reason::Unkeyed(why), None)
    }

    /// Says that an answer came from the upstream, or from another call's.
    pub fn from_upstream(verdict: Verdict, reason: Reason, key: Option<Key>) -> Self {
        Self {
            verdict,
            reason: Some(reason),
            tier: None,
            age: None,
            ttl: None,
            key,
            upstream: None,
        }
    }

    /// Writes the response headers of DESIGN §5; values of an upstream's own under the same names give way, only
    /// `Cache-Status` is appended to.
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.reserve(MOST_HEADERS);
        let Texts {
            all,
            key,
            age,
            ttl,
            status,
        } = self.texts();
        let text = |place: Range<usize>| HeaderValue::from_maybe_shared(all.slice(place)).ok();
        headers.insert(X_CACHE, HeaderValue::from_static(self.verdict.header()));
        if let Some(reason) = self.reason {
            headers.insert(X_CACHE_REASON, HeaderValue::from_static(reason.as_str()));
        }
        if let Some(key) = key.and_then(text) {
            headers.insert(X_CACHE_KEY, key);
        }
        if let Some(tier) = self.tier {
            headers.insert(X_CACHE_TIER, HeaderValue::from_static(tier.as_str()));
        }
        if let Some(age) = age.and_then(text) {
            headers.insert(header::AGE, age);
        }
        if let Some(ttl) = ttl.and_then(text) {
            headers.insert(X_CACHE_TTL, ttl);
        }
        if let Some(upstream) = &self.upstream {
            headers.insert(X_UPSTREAM, upstream.clone());
        }
        // What a proxy makes up itself is neither a hit nor forwarded, so nothing is said of it (RFC 9211 §2).
        if self.verdict != Verdict::Fallback
            && let Some(status) = text(status)
        {
            headers.append(CACHE_STATUS, status);
        }
    }

    /// Returns the values that have to be spelled out, all in one piece of memory.
    fn texts(&self) -> Texts {
        let mut all = Vec::with_capacity(EVERYDAY);
        let key = self.key.map(|key| {
            let digits = key.hex();
            appended(&mut all, |all| all.extend_from_slice(digits.as_bytes()))
        });
        let age = self
            .age
            .map(|age| appended(&mut all, |all| digits(all, age)));
        let ttl = self
            .ttl
            .map(|ttl| appended(&mut all, |all| digits(all, ttl)));
        let status = appended(&mut all, |all| self.cache_status(ttl.clone(), all));
        Texts {
            all: all.into(),
            key,
            age,
            ttl,
            status,
        }
    }

    /// Appends our member of `Cache-Status` (RFC 9211 §2); `ttl` is where `text` has the freshness left, in digits.
    fn cache_status(&self, ttl: Option<Range<usize>>, text: &mut Vec<u8>) {
        text.extend_from_slice(b"refrain");
        // `hit` and `fwd` exclude each other, also where a stale entry stands in for a failed upstream.
        if self.tier.is_some() {
            text.extend_from_slice(b"; hit");
        } else if let Some(forwarded) = self.reason.and_then(Reason::forwarded) {
            text.extend_from_slice(b"; fwd=");
            text.extend_from_slice(forwarded.as_bytes());
        }
        if self.verdict == Verdict::Collapsed {
            text.extend_from_slice(b"; collapsed");
        }
        if let Some(ttl) = ttl {
            text.extend_from_slice(b"; ttl=");
            text.extend_from_within(ttl);
        }
        // A plain miss needs no more words.
        let reason = self.reason.filter(|reason| *reason != Reason::NotFound);
        let detail = reason.map(Reason::as_str).or(self.tier.map(Tier::as_str));
        if let Some(detail) = detail {
            text.extend_from_slice(b"; detail=");
            text.extend_from_slice(detail.as_bytes());
        }
    }
}

/// The values that are spelled out for an answer, by their places.
struct Texts {
    all: Bytes,
    key: Option<Range<usize>>,
    age: Option<Range<usize>>,
    ttl: Option<Range<usize>>,
    status: Range<usize>,
}

/// Appends a whole number.
fn digits(all: &mut Vec<u8>, number: impl Serialize) {
    // Writing to a Vec does not fail.
    let _ = serde_json::to_writer(all, &number);
}

/// Returns where `append` puts what it appends.
fn appended(all: &mut Vec<u8>, append: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
    let start = all.len();
    append(all);
    start..all.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(served: &Served) -> Vec<String> {
        let mut headers = HeaderMap::new();
        served.write(&mut headers);
        headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect()
    }

    #[test]
    fn a_hit_tells_its_tier_age_and_lifetime() {
        let served = Served {
            verdict: Verdict::Hit,
            reason: None,
            tier: Some(Tier::Memory),
            age: Some(280),
            ttl: Some(86_120),
            key: None,
            upstream: Some(HeaderValue::from_static("openai")),
        };
        assert_eq!(
            written(&served),
            [
                "x-cache: HIT",
                "x-cache-tier: memory",
                "age: 280",
                "x-cache-ttl: 86120",
                "x-upstream: openai",
                "cache-status: refrain; hit; ttl=86120; detail=memory",
            ]
        );
    }

    #[test]
    fn cache_status_follows_rfc_9211() {
        let status = |verdict, reason| {
            let served = Served::from_upstream(verdict, reason, None);
            let mut text = Vec::new();
            served.cache_status(None, &mut text);
            String::from_utf8(text).unwrap()
        };
        assert_eq!(status(Verdict::Miss, Reason::NotFound), "refrain; fwd=miss");
        assert_eq!(
            status(Verdict::Collapsed, Reason::NotFound),
            "refrain; fwd=miss; collapsed"
        );
        assert_eq!(
            status(Verdict::Miss, Reason::Expired),
            "refrain; fwd=stale; detail=expired"
        );
        assert_eq!(
            status(Verdict::Bypass, Reason::Unkeyed(call::Unkeyed::Endpoint)),
            "refrain; fwd=bypass; detail=endpoint"
        );
    }

    #[test]
    fn an_apology_says_why_and_nothing_of_the_cache() {
        let failure = Failure::Error(Kind::Unreachable);
        let served = Served::from_upstream(Verdict::Fallback, Reason::Failed(failure), None);
        assert_eq!(
            written(&served),
            ["x-cache: FALLBACK", "x-cache-reason: upstream_unreachable",]
        );
    }

    #[test]
    fn every_kind_that_an_apology_stands_in_for_is_listed() {
        for kind in Kind::ALL {
            let listed = Failure::ALL.contains(&Failure::Error(kind));
            assert_eq!(Failure::of(kind).is_some(), listed, "{kind:?}");
        }
    }

    #[test]
    fn an_upstreams_cache_status_stays_in_front_of_ours() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_STATUS, HeaderValue::from_static("origin; hit"));
        Served::from_upstream(Verdict::Miss, Reason::NotFound, None).write(&mut headers);
        let all: Vec<_> = headers.get_all(CACHE_STATUS).iter().collect();
        assert_eq!(all, ["origin; hit", "refrain; fwd=miss"]);
    }
}
