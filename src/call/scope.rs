//! Whose entries may be shared with a caller. Pure.
//!
//! # Decisions
//! | `[cache] scope` | a caller known by its credential | a `[[caller]]` | a `[[caller]]` with a `scope` |
//! |---|---|---|---|
//! | `credential` | its credential | itself | its tenant |
//! | `shared` | everybody | everybody | its tenant |
//! | `header:`, `body:`, a value sent | the value | the value, inside itself | the value, inside its tenant |
//! | `header:`, `body:`, none sent | its credential | itself | itself |
//!
//! With `[[upstream]] identity = "jwt"` a credential that is a JWT is whom that speaks for ([`identity`]), with everything
//! that is asked of scopes of several credentials.
//!
//! An empty value and `null` are none. What is missing never widens a scope.
//!
//! # Scope
//! Two scopes of different kinds never meet, whatever a client writes: each kind is fingerprinted under a label of its
//! own, and its parts are counted. Whether a caller may read at all is decided elsewhere.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    caller::Caller,
    canon::{self, Scratch},
    identity,
    key::{Fingerprint, Lasting, Secret},
    pointer,
};
use crate::config::{self, Identity, Pointer};

/// Whose entries may be shared with a caller: equal scopes share, others never do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    fingerprint: Fingerprint,
    breadth: Breadth,
}

/// Whether several credentials may stand behind a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Breadth {
    /// One credential, or none at all.
    Credential,
    /// Possibly several.
    Wider,
}

/// Decides about scopes as the operator says.
#[derive(Clone, Debug)]
pub struct Scoping {
    secret: Secret,
    shared: Lasting,
    identity: Identity,
}

impl Scope {
    /// Returns the scope of one credential.
    pub(super) fn of_credential(credential: Fingerprint) -> Self {
        Self {
            fingerprint: credential,
            breadth: Breadth::Credential,
        }
    }

    /// Returns what stands for the scope of the `[[caller]]` called `name`.
    pub fn of_caller(name: &str, secret: &Secret) -> Lasting {
        Lasting::new(secret, "scope caller", &[name.as_bytes()])
    }

    /// Returns what stands for the scope of the `[[caller]]`s whose `scope` is `name`.
    pub fn of_tenant(name: &str, secret: &Secret) -> Lasting {
        Lasting::new(secret, "scope tenant", &[name.as_bytes()])
    }

    /// Returns the fingerprint alone.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the scope that is named by the operator.
    pub fn of_named(name: &Lasting) -> Self {
        Self {
            fingerprint: name.get(),
            breadth: Breadth::Wider,
        }
    }

    fn wider(secret: &Secret, label: &str, parts: &[&[u8]]) -> Self {
        Self {
            fingerprint: secret.fingerprint(label, parts),
            breadth: Breadth::Wider,
        }
    }

    /// Returns the bytes that stand for the scope in keys and labels; they tell nothing about it.
    pub fn as_bytes(&self) -> &[u8] {
        self.fingerprint.as_bytes()
    }

    /// Returns whether several credentials may stand behind it.
    pub fn breadth(&self) -> Breadth {
        self.breadth
    }
}

impl Scoping {
    /// Prepares the decisions; `identity` is what of a bearer token is the scope of its credential.
    pub fn new(secret: &Secret, identity: Identity) -> Self {
        Self {
            identity,
            shared: Lasting::new(secret, "scope shared", &[]),
            secret: secret.clone(),
        }
    }

    /// Returns the scope of a call of `caller` where the operator wants it to be as `wanted`; `body` is JSON.
    pub fn scope(
        &self,
        wanted: &config::Scope,
        caller: &Caller,
        headers: &HeaderMap,
        body: &[u8],
        scratch: &mut Scratch,
    ) -> Scope {
        let found = match wanted {
            config::Scope::Credential => caller.tenant(),
            config::Scope::Shared => {
                let everybody = || Scope::of_named(&self.shared);
                Some(caller.tenant().unwrap_or_else(everybody))
            }
            config::Scope::Header(name) => self.by_header(name, caller, headers),
            config::Scope::Body(place) => self.by_body(place, caller, body, scratch),
        };
        found.unwrap_or_else(|| self.narrowest(caller, headers))
    }

    /// Returns the narrowest scope there is for a caller: its credential, or whom that speaks for.
    fn narrowest(&self, caller: &Caller, headers: &HeaderMap) -> Scope {
        if self.identity == Identity::Off || caller.is_proxys_own() {
            return caller.itself();
        }
        // Several tokens stand behind it, one after the other, so each has to be proven.
        identity::of(headers, &self.secret).map_or(caller.itself(), |owner| {
            Scope::wider(&self.secret, "scope identity", &[owner.as_bytes()])
        })
    }

    fn by_header(&self, name: &HeaderName, caller: &Caller, headers: &HeaderMap) -> Option<Scope> {
        let values: Vec<_> = headers
            .get_all(name)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        if values.iter().all(|value| value.is_empty()) {
            return None;
        }
        let bound = bound(caller);
        let mut parts = vec![bytes(bound.as_ref()), name.as_str().as_bytes()];
        parts.extend(values);
        Some(Scope::wider(&self.secret, "scope header", &parts))
    }

    fn by_body(
        &self,
        place: &Pointer,
        caller: &Caller,
        body: &[u8],
        scratch: &mut Scratch,
    ) -> Option<Scope> {
        let value = pointer::find(body, place)?;
        let value = canon::value(value.get(), scratch).ok()?;
        if canon::is_nothing(&value) {
            return None;
        }
        let (bound, place) = (bound(caller), place.to_string());
        let parts = [bytes(bound.as_ref()), place.as_bytes(), &value];
        Some(Scope::wider(&self.secret, "scope body", &parts))
    }
}

/// Returns what a value that a caller sends is bounded by: a `[[caller]]` cannot name its way into another's entries.
fn bound(caller: &Caller) -> Option<Scope> {
    caller
        .is_proxys_own()
        .then(|| caller.tenant().unwrap_or(caller.itself()))
}

fn bytes(bound: Option<&Scope>) -> &[u8] {
    bound.map_or(&[], Scope::as_bytes)
}

/// Returns whether a request header counts where several credentials share entries, beside those that always do: an
/// extension that nobody here knows may change the answer, and one caller's must not become another's. `name` is in
/// lower case.
pub fn may_change_the_answer(name: &str) -> bool {
    EXTENSIONS.iter().any(|prefix| name.starts_with(prefix))
        && !config::CREDENTIALS.contains(&name)
        && !TELEMETRY.contains(&name)
        && !TELEMETRY_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// What the names of extensions begin with; in `docs/caching.md`. By theirs gateways are told whom to ask
/// (`Helicone-Target-Url`).
const EXTENSIONS: [&str; 3] = ["x-", "cf-aig-", "helicone-"];

/// Headers of SDKs, tracers and proxies that tell about a call and do not change its answer; in `docs/caching.md`.
pub const TELEMETRY: [&str; 20] = [
    "cf-aig-collect-log",
    "cf-aig-custom-cost",
    "cf-aig-event-id",
    "cf-aig-metadata",
    "helicone-request-id",
    "helicone-user-id",
    "x-amzn-trace-id",
    "x-client-request-id",
    "x-cloud-trace-context",
    "x-correlation-id",
    "x-goog-api-client",
    "x-ms-client-request-id",
    "x-newrelic-id",
    "x-newrelic-transaction",
    "x-ot-span-context",
    "x-real-ip",
    "x-refrain-hops",
    "x-request-id",
    "x-request-start",
    "x-trace-id",
];

/// What the names of more of them begin with; in `docs/caching.md`.
pub const TELEMETRY_PREFIXES: [&str; 8] = [
    "helicone-property-",
    "helicone-session-",
    "x-b3-",
    "x-datadog-",
    "x-envoy-",
    "x-forwarded-",
    "x-sentry-",
    "x-stainless-",
];

#[cfg(test)]
mod tests;
