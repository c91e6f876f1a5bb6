//! From a request to its key: what may be keyed at all, where it may go, and the material of what may. Pure.
//!
//! # Scope
//! What bodies said that came before is remembered ([`Memo`]): that changes nothing but the time that it takes.

mod memo;
mod place;

use std::{borrow::Cow, cell::RefCell, iter, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header, uri::PathAndQuery};

pub use self::memo::Memo;
use self::{
    memo::{Found, Gist, Sought},
    place::Place,
};
use super::{
    Keyed, Slot, Unkeyed, address,
    caller::Caller,
    canon::{self, Scratch},
    content,
    key::{Fingerprint, Mask, Material, Secret},
    plan::{Plan, Policy},
    route::{self, Asked, Route, Routes},
    rules::{self, Rules},
    scope::{Breadth, Scope, Scoping},
    sieve::Sieve,
    splice,
};
use crate::{
    config::{self, Config, Rule},
    dialect::{Dialect, chat::request::Request},
    error::Error,
};

/// What the operator's configuration adds to every key.
#[derive(Debug)]
pub struct Keying {
    secret: Secret,
    enabled: bool,
    max_body: u64,
    options: canon::Options,
    version: String,
    routes: Routes,
    /// The upstreams, in the configuration's order.
    places: Vec<Place>,
    vary: Vec<HeaderName>,
    vary_sieve: Sieve,
    scope: config::Scope,
    /// Where no upstream's claims count.
    scoping: Scoping,
    policy: Arc<Policy>,
    rules: Rules,
    memo: Memo,
    /// Headers that scopes go by: they are part of who sends a body.
    tenants: Vec<HeaderName>,
}

/// What a call is known by, the rule it is under, and where it may go.
#[derive(Debug)]
pub struct Identity {
    /// What the cache may know it by, or why it may not.
    pub keyed: Result<Arc<Keyed>, Unkeyed>,
    /// What it asks for, where it has no key and its body could be read.
    pub read: Option<Arc<Request>>,
    /// The operator's rule for it, if there is one.
    pub rule: Option<Arc<Rule>>,
    /// Where it may go.
    pub route: Arc<Route>,
}

/// A request whose body is to be read.
#[derive(Clone, Copy, Debug)]
pub struct Admitted {
    /// The dialect to read it in.
    pub dialect: Dialect,
    /// Why it has no key whatever it says: what it asks for is of use all the same, when the upstream fails.
    pub unkeyed: Option<Unkeyed>,
}

/// The head of a request, as far as keying goes.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// Path and query, as they travel.
    pub target: &'a PathAndQuery,
    /// The upstream that the path addressed.
    pub addressed: Option<usize>,
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
        let upstreams = &config.upstreams;
        let place = |upstream| Place::of(upstream, &secret);
        let ways: Vec<_> = upstreams.iter().map(place::way).collect();
        let vary: Vec<_> = config.cache.vary.iter().map(HeaderName::as_str).collect();
        Self {
            scope: config.cache.scope.clone(),
            scoping: Scoping::new(&secret, place::common_identity(upstreams)),
            routes: Routes::new(&ways),
            places: upstreams.iter().map(place).collect(),
            policy,
            secret,
            enabled: config.cache.enabled,
            max_body: config.key.max_body,
            options: canon::Options {
                keep: config.key.keep.clone(),
                fold_openai_defaults: config.key.fold_openai_defaults,
            },
            version: config.key.version.clone(),
            vary_sieve: Sieve::of(&vary),
            vary: config.cache.vary.clone(),
            rules: Rules::new(&config.rules),
            memo: Memo::new(share(config.store.memory)),
            tenants: tenants(config),
        }
    }

    /// Returns the secret behind keys and fingerprints.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Returns the upstreams that calls may go to.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Returns the largest body that is keyed, bytes.
    pub fn max_body(&self) -> u64 {
        self.max_body
    }

    /// Decides whether a request's body is to be read, or why not: then the call has no key.
    pub fn admits(&self, head: &Head<'_>, plan: &Plan) -> Result<Admitted, Unkeyed> {
        if head.upgrade {
            return Err(Unkeyed::Upgrade);
        }
        let dialect = head.dialect.ok_or(Unkeyed::Endpoint)?;
        let unkeyed = if !self.enabled {
            Some(Unkeyed::Disabled)
        } else if plan.bypass {
            Some(Unkeyed::Bypass)
        } else {
            None
        };
        match self.legible(head) {
            Ok(()) => Ok(Admitted { dialect, unkeyed }),
            Err(why) => Err(unkeyed.unwrap_or(why)),
        }
    }

    /// Decides whether a body can be read whole and as it is.
    fn legible(&self, head: &Head<'_>) -> Result<(), Unkeyed> {
        if content::is_encoded(head.headers) {
            return Err(Unkeyed::Encoded);
        }
        if head.headers.keys().any(|name| CONDITIONAL.contains(name)) {
            return Err(Unkeyed::Conditional);
        }
        if self.is_too_long(head.headers) {
            return Err(Unkeyed::TooLarge);
        }
        Ok(())
    }

    /// Returns whether the body of a call without a key is to be read all the same, because where the call goes depends on
    /// the model that it may name.
    pub fn goes_by_model(&self, head: &Head<'_>) -> bool {
        self.routes.need_the_model()
            && !head.upgrade
            && head.method == Method::POST
            && (head.dialect.is_some() || content::is_json(head.headers))
            && !content::is_encoded(head.headers)
            && !self.is_too_long(head.headers)
    }

    /// Returns whether a body is longer, by its own account, than what is read.
    fn is_too_long(&self, headers: &HeaderMap) -> bool {
        content::length(headers).is_some_and(|length| length > self.max_body)
    }

    /// Returns what identifies a call with this `body`.
    ///
    /// # Errors
    /// Those of [`Routes::route`]: there is no upstream for it.
    pub fn key(
        &self,
        head: &Head<'_>,
        admitted: Admitted,
        body: &[u8],
        caller: &Caller,
        plan: &Plan,
    ) -> Result<Identity, Error> {
        let Admitted { dialect, unkeyed } = admitted;
        let sought = Sought {
            sender: self.sender(caller, head.headers),
            dialect,
            body,
        };
        let found = self.memo.find(&sought);
        let read;
        let gist = match &found {
            Found::Known(known) => known.gist(),
            Found::Seen(_) | Found::New => match self.read(dialect, body) {
                Ok(gist) => {
                    read = gist;
                    &read
                }
                Err(why) => {
                    let why = unkeyed.unwrap_or(Unkeyed::Body(why));
                    return self.unkeyed(head, Some(body), caller, plan, why);
                }
            },
        };
        let route = self.route(head, Some(body), Some(gist))?;
        let rule = self.rule(head, caller, plan, Some(&gist.request));
        if let Some(why) = unkeyed.or_else(|| refusal(&gist.request, rule.as_deref())) {
            return Ok(Identity {
                keyed: Err(why),
                read: Some(gist.request.clone()),
                rule,
                route,
            });
        }
        // Who wants nothing stored does not want that (RFC 9111 §5.2.1.5).
        if let Found::Seen(hash) = found
            && plan.store
        {
            self.memo.remember(hash, &sought, gist);
        }
        let wanted = rule.as_ref().and_then(|rule| rule.scope.as_ref());
        let place = self.places.get(route.primary().upstream);
        let scoping = place.map_or(&self.scoping, |place| &place.scoping);
        let scope = self.scope_by(scoping, wanted, caller, head.headers, body);
        let keyed = Ok(self.keyed(head, gist, &route, scope, plan));
        Ok(Identity {
            keyed,
            read: None,
            rule,
            route,
        })
    }

    /// Returns what there is of a call that has no key, for this reason; `body` is its body, where that has been read.
    ///
    /// # Errors
    /// Those of [`Routes::route`]: there is no upstream for it.
    pub fn unkeyed(
        &self,
        head: &Head<'_>,
        body: Option<&[u8]>,
        caller: &Caller,
        plan: &Plan,
        why: Unkeyed,
    ) -> Result<Identity, Error> {
        Ok(Identity {
            keyed: Err(why),
            read: None,
            rule: self.rule(head, caller, plan, None),
            route: self.route(head, body, None)?,
        })
    }

    /// Returns what `body` says, or why it cannot be keyed.
    fn read(&self, dialect: Dialect, body: &[u8]) -> Result<Gist, canon::Unkeyed> {
        let canonical = SCRATCH
            .with_borrow_mut(|scratch| canon::canonicalise(body, dialect, &self.options, scratch));
        canonical.map(Gist::of)
    }

    /// Returns who sends a body, as far as others may not learn of it.
    fn sender(&self, caller: &Caller, headers: &HeaderMap) -> Fingerprint {
        let itself = caller.itself().fingerprint();
        if self.tenants.is_empty() {
            return itself;
        }
        let own = |name: &HeaderName| {
            let values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
            let parts: Vec<_> = values.collect();
            self.secret.fingerprint("tenant", &parts)
        };
        // Each by itself, so that no value can pass for another header's.
        let tenants: Vec<_> = self.tenants.iter().map(own).collect();
        let parts = iter::once(&itself).chain(&tenants);
        let parts: Vec<_> = parts.map(|part| part.as_bytes().as_slice()).collect();
        self.secret.fingerprint("sender", &parts)
    }

    /// Returns the bodies that are remembered.
    pub fn memo(&self) -> &Memo {
        &self.memo
    }

    /// Returns where a call may go; `gist` is what its body says, where that is known already.
    fn route(
        &self,
        head: &Head<'_>,
        body: Option<&[u8]>,
        gist: Option<&Gist>,
    ) -> Result<Arc<Route>, Error> {
        let body = body.unwrap_or_default();
        let (made, named);
        let (model, stable) = match (gist, head.dialect) {
            _ if !self.routes.need_the_model() => (None, body),
            (Some(known), _) => (Some(known.request.model.as_str()), stable(known)),
            (None, dialect) => {
                // A call has the same primary whether it is keyed or, say, bypasses the cache.
                made = dialect.and_then(|dialect| self.read(dialect, body).ok());
                named = splice::text(body, route::MODEL);
                (named.as_deref(), made.as_ref().map_or(body, stable))
            }
        };
        self.routes.route(&Asked {
            addressed: head.addressed,
            dialect: head.dialect,
            model,
            body,
            stable,
        })
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
        gist: &Gist,
        route: &Route,
        scope: Scope,
        plan: &Plan,
    ) -> Arc<Keyed> {
        let vary = self.varying(head.headers, scope.breadth());
        let primary = route.primary();
        let place = self.places.get(primary.upstream);
        let (upstream, base_url) = place.map_or(("", ""), |place| (&*place.name, &*place.base_url));
        let key = Material {
            version: &self.version,
            scope: scope.as_bytes(),
            namespace: &plan.namespace,
            upstream,
            base_url,
            model: primary.model.as_deref().unwrap_or(&gist.request.model),
            method: head.method.as_str(),
            path_and_query: &path_and_query(head, upstream),
            vary: &vary,
            body: &gist.digest,
        }
        .key(&self.secret, Mask::NONE);
        let slot = Slot {
            key,
            delivery: self.delivery(&gist.delivery),
        };
        Arc::new(Keyed {
            slot,
            scope,
            request: gist.request.clone(),
        })
    }

    /// Returns whose entries may be shared with `caller`, for a request of these `headers` to Refrain itself: as `wanted`,
    /// else as the operator says for all calls.
    ///
    /// What a token claims counts only where every upstream verifies it: a request that goes to none is believed least.
    pub fn scope(
        &self,
        wanted: Option<&config::Scope>,
        caller: &Caller,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Scope {
        self.scope_by(&self.scoping, wanted, caller, headers, body)
    }

    fn scope_by(
        &self,
        scoping: &Scoping,
        wanted: Option<&config::Scope>,
        caller: &Caller,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Scope {
        let wanted = wanted.unwrap_or(&self.scope);
        SCRATCH.with_borrow_mut(|scratch| scoping.scope(wanted, caller, headers, body, scratch))
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

/// Returns what all spellings of a body have in common.
fn stable(gist: &Gist) -> &[u8] {
    gist.digest.as_bytes()
}

/// Returns the headers that any scope goes by.
fn tenants(config: &Config) -> Vec<HeaderName> {
    let rules = config.rules.iter().filter_map(|rule| rule.scope.as_ref());
    let scopes = iter::once(&config.cache.scope).chain(rules);
    let named = scopes.filter_map(|scope| match scope {
        config::Scope::Header(name) => Some(name.clone()),
        config::Scope::Credential | config::Scope::Shared | config::Scope::Body(_) => None,
    });
    let mut tenants = Vec::new();
    for name in named {
        if !tenants.contains(&name) {
            tenants.push(name);
        }
    }
    tenants
}

/// Returns the part of `memory` that is for the bodies of requests which came before, bytes.
pub fn share(memory: u64) -> u64 {
    memory / MEMO
}

/// Returns path and query as keyed. An addressed call has entries of its own: what another upstream made in the place of this
/// one answers whoever left the choice to Refrain, and nobody else.
fn path_and_query<'a>(head: &Head<'a>, upstream: &str) -> Cow<'a, str> {
    match head.addressed {
        None => Cow::Borrowed(head.target.as_str()),
        Some(_) => Cow::Owned(address::with_name(upstream, head.target)),
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

/// The part of the memory for bodies, as a divisor.
const MEMO: u64 = 8;
/// Headers that make an answer depend on what the client has already (RFC 9110 §13.1, §14.2).
const CONDITIONAL: [HeaderName; 6] = [
    header::RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
];

#[cfg(test)]
mod tests;
