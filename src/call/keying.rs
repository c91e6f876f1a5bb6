//! From a request to its key: what may be keyed at all, and the material of what may. Pure.

use std::{cell::RefCell, sync::Arc};

use http::{HeaderMap, HeaderName, Method, header, uri::PathAndQuery};

use super::{
    Keyed, Slot, Unkeyed,
    caller::Caller,
    canon::{self, Scratch},
    key::{Mask, Material, Secret},
    plan::{Plan, Policy},
    scope::{Breadth, Scope, Scoping},
};
use crate::{
    config::{self, Config},
    dialect::Dialect,
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
    scope: config::Scope,
    scoping: Scoping,
    policy: Arc<Policy>,
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
        } = &config.upstream.base_url;
        Self {
            scope: config.cache.scope.clone(),
            scoping: Scoping::new(&secret),
            policy,
            secret,
            enabled: config.cache.enabled,
            max_body: config.key.max_body,
            options: canon::Options {
                keep: config.key.keep.clone(),
                fold_openai_defaults: config.key.fold_openai_defaults,
            },
            version: config.key.version.clone(),
            upstream: config.upstream.name.clone(),
            base_url: format!("{scheme}://{authority}{path}"),
            vary: config.cache.vary.clone(),
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

    /// Returns what identifies a call with this `body`, or why nothing does.
    pub fn key(
        &self,
        head: &Head<'_>,
        dialect: Dialect,
        body: &[u8],
        caller: &Caller,
        plan: &Plan,
    ) -> Result<Arc<Keyed>, Unkeyed> {
        let canonical = SCRATCH
            .with_borrow_mut(|scratch| canon::canonicalise(body, dialect, &self.options, scratch))
            .map_err(Unkeyed::Body)?;
        if canonical.request.stateful {
            return Err(Unkeyed::Stateful);
        }
        if canonical.request.live_tools {
            return Err(Unkeyed::LiveTools);
        }
        let scope = self.scope(caller, head.headers, body);
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
        Ok(Arc::new(Keyed {
            slot,
            scope,
            request: canonical.request,
        }))
    }

    /// Returns whose entries may be shared with `caller`, for a call of these `headers` and this JSON `body`.
    pub fn scope(&self, caller: &Caller, headers: &HeaderMap, body: &[u8]) -> Scope {
        SCRATCH.with_borrow_mut(|scratch| {
            self.scoping
                .scope(&self.scope, caller, headers, body, scratch)
        })
    }

    /// Returns the headers that count, in the operator's order, each name's values as sent. One pass over the few headers
    /// of a request is cheaper than a look-up for every name.
    ///
    /// Where several credentials may share an entry, whatever else might change the answer counts, too, by name.
    fn varying<'a>(&'a self, headers: &'a HeaderMap, breadth: Breadth) -> Vec<(&'a str, &'a [u8])> {
        let last = self.vary.len();
        let rank = |name: &HeaderName| {
            let listed = self.vary.iter().position(|known| known == name);
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

/// Headers that make an answer depend on what the client has already (RFC 9110 §13.1, §14.2).
const CONDITIONAL: [HeaderName; 6] = [
    header::RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
];
