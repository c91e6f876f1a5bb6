//! From a request to its key: what may be keyed at all, and the material of what may. Pure.

use std::{cell::RefCell, sync::Arc};

use http::{HeaderMap, HeaderName, Method, header, uri::PathAndQuery};

use super::{
    Keyed, Slot, Unkeyed,
    caller::Caller,
    canon::{self, Scratch},
    key::{Mask, Material, Secret},
    plan::{Plan, Policy},
    rules::{self, Rules},
    scope::{Breadth, Scope, Scoping},
    sieve::Sieve,
};
use crate::{
    config::{self, Config, Rule},
    dialect::{Dialect, chat::request::Request},
};

/// What the operator's configuration adds to every key.
#[derive(Debug)]
pub struct Keying {
    secret: Secret,
    enabled: bool,
    max_body: u64,
    options: canon::Options,
    version: String,
    upstream: String,
    base_url: String,
    vary: Vec<HeaderName>,
    vary_sieve: Sieve,
    scope: config::Scope,
    scoping: Scoping,
    policy: Arc<Policy>,
    rules: Rules,
}

/// What a call is known by, and the rule it is under.
#[derive(Debug)]
pub struct Identity {
    /// What the cache may know it by, or why it may not.
    pub keyed: Result<Arc<Keyed>, Unkeyed>,
    /// The operator's rule for it, if there is one.
    pub rule: Option<Arc<Rule>>,
}

/// The head of a request, as far as keying goes.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// Path and query, as sent.
    pub target: &'a PathAndQuery,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The dialect, if any.
    pub dialect: Option<Dialect>,
    /// Whether a protocol switch is asked for.
    pub upgrade: bool,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Keying {
    /// Takes what keys need from the configuration.
    pub fn new(config: &Config, secret: Secret, policy: Arc<Policy>) -> Self {
        let config::BaseUrl {
            scheme,
            authority,
            path,
        } = &config.first_upstream().base_url;
        let vary: Vec<_> = config.cache.vary.iter().map(HeaderName::as_str).collect();
        Self {
            scope: config.cache.scope.clone(),
            scoping: Scoping::new(&secret, config.first_upstream().identity),
            policy,
            secret,
            enabled: config.cache.enabled,
            max_body: config.key.max_body,
            options: canon::Options {
                keep: config.key.keep.clone(),
                fold_openai_defaults: config.key.fold_openai_defaults,
            },
            version: config.key.version.clone(),
            upstream: config.first_upstream().name.clone(),
            base_url: format!("{scheme}://{authority}{path}"),
            vary_sieve: Sieve::of(&vary),
            vary: config.cache.vary.clone(),
            rules: Rules::new(&config.rules),
        }
    }

    /// Returns the secret behind keys and fingerprints.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Returns the largest body that is keyed, bytes.
    pub fn max_body(&self) -> u64 {
        self.max_body
    }

    /// Returns the dialect that a request's body is to be read in, or why the call has no key whatever its body.
    pub fn admits(&self, head: &Head<'_>, plan: &Plan) -> Result<Dialect, Unkeyed> {
        if head.upgrade {
            return Err(Unkeyed::Upgrade);
        }
        let dialect = head.dialect.ok_or(Unkeyed::Endpoint)?;
        if !self.enabled {
            return Err(Unkeyed::Disabled);
        }
        if plan.bypass {
            return Err(Unkeyed::Bypass);
        }
        let mut encodings = head.headers.get_all(header::CONTENT_ENCODING).iter();
        if encodings.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(Unkeyed::Encoded);
        }
        if head.headers.keys().any(|name| CONDITIONAL.contains(name)) {
            return Err(Unkeyed::Conditional);
        }
        let length = head.headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > self.max_body) {
            return Err(Unkeyed::TooLarge);
        }
        Ok(dialect)
    }

    /// Returns what identifies a call with this `body`.
    pub fn key(
        &self,
        head: &Head<'_>,
        dialect: Dialect,
        body: &[u8],
        caller: &Caller,
        plan: &Plan,
    ) -> Identity {
        let canonical = SCRATCH
            .with_borrow_mut(|scratch| canon::canonicalise(body, dialect, &self.options, scratch));
        let canonical = match canonical {
            Ok(canonical) => canonical,
            Err(why) => return self.unkeyed(head, caller, plan, Unkeyed::Body(why)),
        };
        let rule = self.rule(head, caller, plan, Some(&canonical.request));
        if let Some(why) = refusal(&canonical.request, rule.as_deref()) {
            let keyed = Err(why);
            return Identity { keyed, rule };
        }
        let wanted = rule.as_ref().and_then(|rule| rule.scope.as_ref());
        let scope = self.scope(wanted, caller, head.headers, body);
        let keyed = Ok(self.keyed(head, canonical, scope, plan));
        Identity { keyed, rule }
    }

    /// Returns what there is of a call that has no key, for this reason.
    pub fn unkeyed(&self, head: &Head<'_>, caller: &Caller, plan: &Plan, why: Unkeyed) -> Identity {
        Identity {
            keyed: Err(why),
            rule: self.rule(head, caller, plan, None),
        }
    }

    fn rule(
        &self,
        head: &Head<'_>,
        caller: &Caller,
        plan: &Plan,
        request: Option<&Request>,
    ) -> Option<Arc<Rule>> {
        let facts = rules::Facts {
            path: head.target.path(),
            dialect: head.dialect,
            headers: head.headers,
            caller,
            namespace: &plan.namespace,
            request,
        };
        self.rules.first(&facts).cloned()
    }

    fn keyed(
        &self,
        head: &Head<'_>,
        canonical: canon::Canonical,
        scope: Scope,
        plan: &Plan,
    ) -> Arc<Keyed> {
        let vary = self.varying(head.headers, scope.breadth());
        let key = Material {
            version: &self.version,
            scope: scope.as_bytes(),
            namespace: &plan.namespace,
            upstream: &self.upstream,
            base_url: &self.base_url,
            model: &canonical.request.model,
            method: head.method.as_str(),
            path_and_query: head.target.as_str(),
            vary: &vary,
            body: &canonical.body,
        }
        .key(&self.secret, Mask::NONE);
        let slot = Slot {
            key,
            delivery: self.delivery(&canonical.delivery),
        };
        Arc::new(Keyed {
            slot,
            scope,
            request: canonical.request,
        })
    }

    /// Returns whose entries may be shared with `caller`, for a call of these `headers` and this JSON `body`: as `wanted`,
    /// else as the operator says for all calls.
    pub fn scope(
        &self,
        wanted: Option<&config::Scope>,
        caller: &Caller,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Scope {
        let wanted = wanted.unwrap_or(&self.scope);
        SCRATCH
            .with_borrow_mut(|scratch| self.scoping.scope(wanted, caller, headers, body, scratch))
    }

    /// Returns the headers that count, in the operator's order, each name's values as sent. One pass over the few headers
    /// of a request is cheaper than a look-up for every name.
    ///
    /// Where several credentials may share an entry, whatever else might change the answer counts, too, by name.
    fn varying<'a>(&'a self, headers: &'a HeaderMap, breadth: Breadth) -> Vec<(&'a str, &'a [u8])> {
        let last = self.vary.len();
        let rank = |name: &HeaderName| {
            let listed = if self.vary_sieve.keeps(name.as_str()) {
                self.vary.iter().position(|known| known == name)
            } else {
                None
            };
            let counts = breadth == Breadth::Wider && self.policy.counts_where_shared(name);
            listed.or(counts.then_some(last))
        };
        let mut found: Vec<_> = headers
            .iter()
            .filter_map(|(name, value)| Some((rank(name)?, name.as_str(), value.as_bytes())))
            .collect();
        found.sort_by_key(|(rank, name, _)| (*rank, if *rank == last { *name } else { "" }));
        found
            .into_iter()
            .map(|(_, name, value)| (name, value))
            .collect()
    }

    fn delivery(&self, canonical: &[u8]) -> u64 {
        if canonical.is_empty() {
            return 0;
        }
        let fingerprint = self.secret.fingerprint("delivery", &[canonical]);
        let mut head = [0; 8];
        head.iter_mut()
            .zip(fingerprint.as_bytes())
            .for_each(|(to, from)| *to = *from);
        u64::from_be_bytes(head)
    }
}

/// Decides whether a call that could be keyed is not to be: a rule has the last word.
fn refusal(request: &Request, rule: Option<&Rule>) -> Option<Unkeyed> {
    match rule.and_then(|rule| rule.cache) {
        Some(false) => Some(Unkeyed::Rule),
        None if request.stateful => Some(Unkeyed::Stateful),
        None if request.live_tools => Some(Unkeyed::LiveTools),
        Some(true) | None => None,
    }
}

/// Headers that make an answer depend on what the client has already (RFC 9110 §13.1, §14.2).
const CONDITIONAL: [HeaderName; 6] = [
    header::RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
];
