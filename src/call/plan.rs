//! What caller and operator allow for a call: the request headers of DESIGN §5, other gateways' aliases included. Pure.
//! The one alias that stands in the body, LiteLLM's, is [`litellm`]'s.
//!
//! # Scope
//! A malformed value of a header of ours is refused with the header's name; `Cache-Control` is read leniently
//! (RFC 9111 §5.2), in case of doubt towards forwarding; malformed aliases are ignored. Where headers disagree, the
//! one that asks less of the cache wins; a TTL or namespace of ours wins over an alias.

pub mod litellm;

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    scope::{self, Breadth},
    sieve::Sieve,
};
use crate::config::{self, Directive, MAX_NAME, MAX_TAGS, Rule};

/// What caller and operator allow for a call.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent wishes of one caller"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Neither read, nor store, nor join.
    pub bypass: bool,
    /// Fetch anew: do not read, do not join; the new answer replaces the old one.
    pub refresh: bool,
    /// The answer may be stored for this caller.
    pub store: bool,
    /// Refuse rather than ask the upstream.
    pub only_if_cached: bool,
    /// An apology may stand in for a failure.
    pub apology: bool,
    /// Greatest age of an answer.
    pub max_age: Option<Duration>,
    /// Least freshness left of an answer.
    pub min_fresh: Option<Duration>,
    /// How long past its lifetime an answer may be.
    pub max_stale: Option<Duration>,
    /// How long past its lifetime an entry answers at once, and is refreshed.
    pub stale_while_revalidate: Duration,
    /// How long past its lifetime an entry may stand in for a failed upstream.
    pub stale_if_error: Duration,
    /// Whether that is the caller's own wish, which counts more than a rule.
    pub asked_stale_if_error: bool,
    /// Lifetime of what this call stores.
    pub lifetime: Duration,
    /// Whether that is the caller's own wish, which counts more than a rule.
    pub asked_lifetime: bool,
    /// Key space inside the scope; empty where none is named.
    pub namespace: String,
    /// Tags of what this call stores.
    pub tags: Vec<String>,
}

/// What the operator says about plans; made once per configuration.
#[derive(Clone, Debug)]
pub struct Policy {
    allow: Vec<Directive>,
    vendors: Vec<Vendor>,
    litellm: bool,
    max_ttl: Duration,
    /// The request headers that are part of every key.
    keyed: Vec<HeaderName>,
    base: Plan,
}

/// A header of ours with a value that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value of `{header}` must be {expected}")]
pub struct BadHeader {
    /// The header.
    pub header: &'static str,
    /// What would be fine.
    pub expected: &'static str,
}

/// A gateway whose cache headers are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vendor {
    Helicone,
    Cloudflare,
    Portkey,
    OpenRouter,
    Bifrost,
}

impl Policy {
    /// Reads the policy from the configuration; `default_ttl` is the dialect's. A vendor that is one of the `upstreams` is left its
    /// headers: which of them a call goes to is not known yet when its plan is read.
    pub fn new(
        cache: &config::Cache,
        upstreams: &[config::Upstream],
        default_ttl: Duration,
    ) -> Self {
        let hosts: Vec<_> = upstreams
            .iter()
            .map(|upstream| upstream.base_url.authority.host().to_ascii_lowercase())
            .collect();
        let is_called = |vendor: &Vendor| hosts.iter().any(|host| vendor.is_at(host));
        let vendors = Vendor::ALL
            .into_iter()
            .filter(|vendor| cache.aliases && !is_called(vendor))
            .collect();
        Self {
            allow: cache.allow.clone(),
            vendors,
            litellm: cache.litellm,
            max_ttl: cache.max_ttl,
            keyed: keyed(cache),
            base: Plan {
                bypass: false,
                refresh: false,
                store: true,
                only_if_cached: false,
                apology: true,
                max_age: None,
                min_fresh: None,
                max_stale: None,
                stale_while_revalidate: cache.stale_while_revalidate.min(cache.max_ttl),
                stale_if_error: cache.stale_if_error.min(cache.max_ttl),
                asked_stale_if_error: false,
                lifetime: cache.ttl.unwrap_or(default_ttl).min(cache.max_ttl),
                asked_lifetime: false,
                namespace: String::new(),
                tags: Vec::new(),
            },
        }
    }

    /// Reads the plan of a request.
    pub fn plan(&self, headers: &HeaderMap) -> Result<Plan, BadHeader> {
        let mut draft = self.draft(self.base.clone());
        for (name, value) in headers {
            let name = name.as_str();
            if !STEERING.keeps(name) && !name.starts_with("x-cache-") {
                continue;
            }
            match name {
                "cache-control" => draft.cache_control(value),
                "pragma" => draft.pragma(value, headers),
                "x-fallback" => draft.fallback(value)?,
                _ if name.starts_with("x-cache-") => draft.ours(name, value)?,
                _ if self.vendor_of(name).is_some() => draft.alias(name, value),
                _ => {}
            }
        }
        Ok(draft.plan)
    }

    /// Amends the plan of a call by the operator's rule for it. What the caller asked for itself stays.
    pub fn obey(&self, rule: &Rule, plan: &mut Plan) {
        if let Some(ttl) = rule.ttl
            && !plan.asked_lifetime
        {
            plan.lifetime = ttl.min(self.max_ttl);
        }
        if let Some(time) = rule.stale_if_error
            && !plan.asked_stale_if_error
        {
            plan.stale_if_error = time.min(self.max_ttl);
        }
        if let Some(time) = rule.stale_while_revalidate {
            plan.stale_while_revalidate = time.min(self.max_ttl);
        }
        if !rule.tags.is_empty() {
            plan.tags.extend_from_slice(&rule.tags);
            plan.tags.sort_unstable();
            plan.tags.dedup();
        }
    }

    /// Returns whether `name` steers Refrain and so does not travel on.
    pub fn is_ours(&self, name: &str) -> bool {
        name.starts_with("x-cache-") || name == "x-fallback" || self.vendor_of(name).is_some()
    }

    /// Returns whether `name` counts where several credentials may share entries, beside the headers that always do.
    pub fn counts_where_shared(&self, name: &HeaderName) -> bool {
        scope::may_change_the_answer(name.as_str()) && !self.is_ours(name.as_str())
    }

    /// Returns whether `name` is part of what a call in a scope of this `breadth` is known by: who asks, what for, in
    /// which variant.
    pub fn is_known_by(&self, name: &HeaderName, breadth: Breadth) -> bool {
        let content = [
            header::CONTENT_TYPE,
            header::CONTENT_LENGTH,
            header::CONTENT_ENCODING,
        ];
        config::CREDENTIALS.contains(&name.as_str())
            || content.contains(name)
            || self.is_keyed(name, breadth)
    }

    /// Returns whether `name` selects an answer in a scope of this `breadth`, so that the key covers it: not who asks, nor
    /// how the body travels.
    pub fn is_keyed(&self, name: &HeaderName, breadth: Breadth) -> bool {
        self.keyed.contains(name) || breadth == Breadth::Wider && self.counts_where_shared(name)
    }

    fn draft(&self, plan: Plan) -> Draft<'_> {
        Draft {
            policy: self,
            plan,
            named_ttl: false,
            named_namespace: false,
        }
    }

    fn vendor_of(&self, name: &str) -> Option<Vendor> {
        Vendor::of(name).filter(|vendor| self.vendors.contains(vendor))
    }

    fn allows(&self, directive: Directive) -> bool {
        self.allow.contains(&directive)
    }
}

/// The names that [`Policy::plan`] reads, beside ours that begin with `x-cache-`.
const STEERING: Sieve = Sieve::of(&[
    "cache-control",
    "pragma",
    "x-fallback",
    "helicone-cache-enabled",
    "helicone-cache-seed",
    "cf-aig-skip-cache",
    "cf-aig-cache-ttl",
    "x-portkey-cache-force-refresh",
    "x-portkey-cache-namespace",
    "x-openrouter-cache",
    "x-openrouter-cache-ttl",
    "x-openrouter-cache-clear",
    "x-bf-cache-ttl",
    "x-bf-cache-no-store",
]);

/// Returns the request headers that are part of every key: the operator's, and the one that names a tenant.
fn keyed(cache: &config::Cache) -> Vec<HeaderName> {
    let tenant = match &cache.scope {
        config::Scope::Header(name) => Some(name.clone()),
        config::Scope::Credential | config::Scope::Shared | config::Scope::Body(_) => None,
    };
    cache.vary.iter().cloned().chain(tenant).collect()
}

impl Vendor {
    const ALL: [Self; 5] = [
        Self::Helicone,
        Self::Cloudflare,
        Self::Portkey,
        Self::OpenRouter,
        Self::Bifrost,
    ];

    /// Returns whose cache header `name` is.
    fn of(name: &str) -> Option<Self> {
        match name {
            "helicone-cache-enabled" | "helicone-cache-seed" => Some(Self::Helicone),
            "cf-aig-skip-cache" | "cf-aig-cache-ttl" => Some(Self::Cloudflare),
            "x-portkey-cache-force-refresh" | "x-portkey-cache-namespace" => Some(Self::Portkey),
            "x-openrouter-cache" | "x-openrouter-cache-ttl" | "x-openrouter-cache-clear" => {
                Some(Self::OpenRouter)
            }
            "x-bf-cache-ttl" | "x-bf-cache-no-store" => Some(Self::Bifrost),
            _ => None,
        }
    }

    /// Returns whether `host` is the vendor's own, which then reads its headers itself.
    fn is_at(self, host: &str) -> bool {
        let domain = match self {
            Self::Helicone => "helicone.ai",
            Self::Cloudflare => "cloudflare.com",
            Self::Portkey => "portkey.ai",
            Self::OpenRouter => "openrouter.ai",
            Self::Bifrost => "getbifrost.ai",
        };
        host.strip_suffix(domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

/// The argument of a `Cache-Control` directive.
#[derive(Clone, Copy)]
enum Argument {
    None,
    Malformed,
    Time(Duration),
}

impl Argument {
    fn time(self) -> Option<Duration> {
        match self {
            Self::Time(time) => Some(time),
            Self::None | Self::Malformed => None,
        }
    }

    /// Returns the time given, `absent` where there is no argument, and none at all where it is malformed.
    fn time_or(self, absent: Duration) -> Duration {
        match self {
            Self::Time(time) => time,
            Self::None => absent,
            Self::Malformed => Duration::ZERO,
        }
    }
}

/// A plan while its headers are read.
struct Draft<'a> {
    policy: &'a Policy,
    plan: Plan,
    named_ttl: bool,
    named_namespace: bool,
}

impl Draft<'_> {
    /// Reads a header whose name starts with `x-cache-`.
    fn ours(&mut self, name: &str, value: &HeaderValue) -> Result<(), BadHeader> {
        match name {
            "x-cache-refresh" => {
                let wish = boolean(value).ok_or(bad("X-Cache-Refresh", "`true` or `false`"))?;
                self.plan.refresh |= wish && self.policy.allows(Directive::NoCache);
            }
            "x-cache-bypass" => {
                let wish = boolean(value).ok_or(bad("X-Cache-Bypass", "`true` or `false`"))?;
                self.plan.bypass |= wish && self.policy.allows(Directive::Bypass);
            }
            "x-cache-ttl" => {
                let ttl = lifetime(value).ok_or(bad(
                    "X-Cache-TTL",
                    "seconds such as `90`, or a duration such as `10m`",
                ))?;
                let least = if self.named_ttl {
                    ttl.min(self.plan.lifetime)
                } else {
                    ttl
                };
                self.named_ttl |= self.ttl(least);
            }
            "x-cache-namespace" => {
                let expected =
                    "1 to 128 visible ASCII characters, the same wherever it is repeated";
                let name = label(value).ok_or(bad("X-Cache-Namespace", expected))?;
                if self.named_namespace && self.plan.namespace != name {
                    return Err(bad("X-Cache-Namespace", expected));
                }
                self.named_namespace |= self.namespace(name);
            }
            "x-cache-tags" => {
                let tags = tags(value, self.plan.tags.len()).ok_or(bad(
                    "X-Cache-Tags",
                    "at most 16 tags of 1 to 128 visible ASCII characters, separated by commas",
                ))?;
                if self.policy.allows(Directive::Tags) {
                    self.plan.tags.extend(tags);
                    self.plan.tags.sort_unstable();
                    self.plan.tags.dedup();
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads `X-Fallback`. It asks less of Refrain than its absence, so the operator has nothing to forbid.
    fn fallback(&mut self, value: &HeaderValue) -> Result<(), BadHeader> {
        if !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"error") {
            return Err(bad("X-Fallback", "`error`"));
        }
        self.plan.apology = false;
        Ok(())
    }

    /// Reads another gateway's header; what is malformed is ignored.
    fn alias(&mut self, name: &str, value: &HeaderValue) {
        match name {
            "helicone-cache-enabled" | "x-openrouter-cache" => {
                self.plan.bypass |=
                    boolean(value) == Some(false) && self.policy.allows(Directive::Bypass);
            }
            "cf-aig-skip-cache" => {
                self.plan.bypass |=
                    boolean(value) == Some(true) && self.policy.allows(Directive::Bypass);
            }
            "x-portkey-cache-force-refresh" | "x-openrouter-cache-clear" => {
                self.plan.refresh |=
                    boolean(value) == Some(true) && self.policy.allows(Directive::NoCache);
            }
            "x-bf-cache-no-store" => {
                self.plan.store &=
                    boolean(value) != Some(true) || !self.policy.allows(Directive::NoStore);
            }
            "cf-aig-cache-ttl" | "x-openrouter-cache-ttl" | "x-bf-cache-ttl" => {
                if let Some(ttl) = lifetime(value).filter(|_| !self.named_ttl) {
                    self.ttl(ttl);
                }
            }
            "helicone-cache-seed" | "x-portkey-cache-namespace" => {
                if let Some(name) = label(value).filter(|_| !self.named_namespace) {
                    self.namespace(name);
                }
            }
            _ => {}
        }
    }

    /// Reads a `Cache-Control` line (RFC 9111 §5.2.1, RFC 5861 §4).
    fn cache_control(&mut self, value: &HeaderValue) {
        for part in value.as_bytes().split(|byte| *byte == b',') {
            let part = part.trim_ascii();
            let (name, argument) = match part.iter().position(|byte| *byte == b'=') {
                Some(at) => (part.get(..at), part.get(at + 1..)),
                None => (Some(part), None),
            };
            let argument = match argument {
                None => Argument::None,
                Some(text) => {
                    delta_seconds(unquoted(text)).map_or(Argument::Malformed, Argument::Time)
                }
            };
            self.directive(name.unwrap_or_default().trim_ascii(), argument);
        }
    }

    /// Obeys one directive.
    fn directive(&mut self, name: &[u8], argument: Argument) {
        let named = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let allows = |directive| self.policy.allows(directive);
        if named("no-cache") {
            self.plan.refresh |= allows(Directive::NoCache);
        } else if named("no-store") {
            self.plan.store &= !allows(Directive::NoStore);
        } else if named("only-if-cached") {
            self.plan.only_if_cached |= allows(Directive::OnlyIfCached);
        } else if named("max-age") {
            self.max_age(argument.time().unwrap_or(Duration::ZERO));
        } else if named("min-fresh") && allows(Directive::MinFresh) {
            let left = argument.time().unwrap_or(Duration::MAX);
            self.plan.min_fresh = Some(self.plan.min_fresh.map_or(left, |known| known.max(left)));
        } else if named("max-stale") && allows(Directive::MaxStale) {
            // Without an argument any staleness will do; a malformed one allows none.
            let stale = argument.time_or(Duration::MAX);
            self.plan.max_stale = Some(self.plan.max_stale.map_or(stale, |known| known.min(stale)));
        } else if named("stale-if-error") && allows(Directive::StaleIfError) {
            let wish = argument.time().unwrap_or_default();
            let wish = wish.min(self.policy.max_ttl);
            let known = self.plan.asked_stale_if_error;
            let known = known.then_some(self.plan.stale_if_error);
            self.plan.stale_if_error = known.map_or(wish, |known| known.min(wish));
            self.plan.asked_stale_if_error = true;
        }
    }

    /// Reads `Pragma`, which counts only where there is no `Cache-Control` (RFC 9111 §5.4).
    fn pragma(&mut self, value: &HeaderValue, headers: &HeaderMap) {
        let asks = value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|part| part.trim_ascii().eq_ignore_ascii_case(b"no-cache"));
        let alone = !headers.contains_key(http::header::CACHE_CONTROL);
        self.plan.refresh |= asks && alone && self.policy.allows(Directive::NoCache);
    }

    fn max_age(&mut self, age: Duration) {
        if self.policy.allows(Directive::MaxAge) {
            self.plan.max_age = Some(self.plan.max_age.map_or(age, |known| known.min(age)));
        }
    }

    fn ttl(&mut self, ttl: Duration) -> bool {
        let allowed = self.policy.allows(Directive::Ttl);
        if allowed {
            self.plan.lifetime = ttl.min(self.policy.max_ttl);
            self.plan.asked_lifetime = true;
        }
        allowed
    }

    fn namespace(&mut self, name: String) -> bool {
        let allowed = self.policy.allows(Directive::Namespace);
        if allowed {
            self.plan.namespace = name;
        }
        allowed
    }
}

const fn bad(header: &'static str, expected: &'static str) -> BadHeader {
    BadHeader { header, expected }
}

fn boolean(value: &HeaderValue) -> Option<bool> {
    let value = value.as_bytes().trim_ascii();
    if value.eq_ignore_ascii_case(b"true") || value == b"1" {
        Some(true)
    } else if value.eq_ignore_ascii_case(b"false") || value == b"0" {
        Some(false)
    } else {
        None
    }
}

/// Reads seconds, or a duration with units.
fn lifetime(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    delta_seconds(text.as_bytes()).or_else(|| humantime::parse_duration(text).ok())
}

/// Reads delta-seconds (RFC 9111 §1.2.2): what overflows is a very long time.
fn delta_seconds(text: &[u8]) -> Option<Duration> {
    let text = text.trim_ascii();
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = text.iter().fold(0_u64, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    Some(Duration::from_secs(seconds.min(1 << 31)))
}

fn unquoted(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii();
    text.strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .unwrap_or(text)
}

/// Reads a namespace or tag: 1 to [`MAX_NAME`] visible ASCII characters.
fn label(value: &HeaderValue) -> Option<String> {
    name(value.to_str().ok()?)
}

fn name(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = (1..=MAX_NAME).contains(&text.len());
    (fits && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))).then(|| text.to_owned())
}

fn tags(value: &HeaderValue, already: usize) -> Option<Vec<String>> {
    let tags: Vec<String> = value
        .to_str()
        .ok()?
        .split(',')
        .map(name)
        .collect::<Option<_>>()?;
    (already + tags.len() <= MAX_TAGS).then_some(tags)
}

#[cfg(test)]
mod tests;
