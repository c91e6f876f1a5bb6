//! The proxy's own callers: who is let in where the operator has named them. Pure.
//!
//! # Scope
//! A credential is looked up by its SHA-256, and compared with every hash there is in constant time, so that time tells
//! neither whether nor where one matched. Without a `[[caller]]` everybody is let in: then it is the upstream that decides.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::{
    caller::{Caller, Last, Named},
    key::Secret,
};
use crate::config::{self, KeyHash};

/// The proxy's own callers; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Callers(Arc<[Known]>);

#[derive(Debug)]
struct Known {
    hash: KeyHash,
    caller: Arc<Named>,
}

impl Callers {
    /// Takes the callers from the configuration.
    pub fn new(callers: &[config::Caller], secret: &Secret) -> Self {
        let known = callers.iter().flat_map(|caller| {
            let named = Arc::new(Named::new(caller, secret));
            let known = move |hash: &KeyHash| Known {
                hash: *hash,
                caller: named.clone(),
            };
            caller.keys.iter().map(known)
        });
        Self(known.collect())
    }

    /// Says who sends a request with these `headers`; `last` is of the connection that it came on.
    pub fn identify(&self, headers: &HeaderMap, secret: &Secret, last: &mut Last) -> Caller {
        // Most proxies have none, and then no credential is hashed for nothing.
        let found = || presented(headers).find_map(|key| self.find(key));
        let named = if self.0.is_empty() { None } else { found() };
        named.map_or_else(|| Caller::of_next(headers, secret, last), Caller::named)
    }

    /// Returns whether `caller` is let in.
    pub fn admit(&self, caller: &Caller) -> bool {
        self.0.is_empty() || caller.is_proxys_own()
    }

    fn find(&self, key: &[u8]) -> Option<Arc<Named>> {
        let hash = KeyHash::of(key);
        let mut found = u32::MAX;
        for (place, known) in (0_u32..).zip(self.0.iter()) {
            let equal = known.hash.as_bytes().ct_eq(hash.as_bytes());
            found.conditional_assign(&place, equal);
        }
        let known = self.0.get(usize::try_from(found).ok()?)?;
        Some(known.caller.clone())
    }
}

/// Returns the keys that a request presents: `Authorization: Bearer` (RFC 6750 §2.1), Azure's and Anthropic's headers, and
/// what OpenAI's SDK offers as a protocol, since a browser's WebSocket sends no headers of a page.
fn presented(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let bearers = headers.get_all(header::AUTHORIZATION).iter();
    let bearers = bearers.filter_map(|value| bearer(value.as_bytes()));
    let plain = ["api-key", "x-api-key"].into_iter();
    let plain = plain.flat_map(|name| headers.get_all(name).iter());
    let plain = plain.map(|value| value.as_bytes().trim_ascii());
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let offered = offered.flat_map(protocols).filter_map(key_in);
    bearers.chain(plain).chain(offered)
}

/// Returns the protocols that a value of `Sec-WebSocket-Protocol` offers (RFC 6455 §11.3.4).
pub fn protocols(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let items = value.as_bytes().split(|byte| *byte == b',');
    items
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
}

/// Returns the key that is offered as a `protocol`, where it is one.
pub fn key_in(protocol: &[u8]) -> Option<&[u8]> {
    protocol.strip_prefix(b"openai-insecure-api-key.")
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(b"bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| key.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callers() -> Callers {
        let caller = |name: &str, keys: &[&str]| config::Caller {
            name: name.to_owned(),
            keys: keys.iter().map(|key| KeyHash::of(key.as_bytes())).collect(),
            scope: None,
        };
        let callers = [
            caller("web", &["sk-web-1", "sk-web-2"]),
            caller("batch", &["sk-batch"]),
        ];
        Callers::new(&callers, &secret())
    }

    fn secret() -> Secret {
        Secret::from_bytes([7; 32])
    }

    fn identified(callers: &Callers, pairs: &[(&'static str, &'static str)]) -> Caller {
        let headers = pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        callers.identify(&headers.collect(), &secret(), &mut Last::default())
    }

    #[test]
    fn a_caller_is_known_by_any_of_its_keys_wherever_an_sdk_puts_it() {
        let callers = callers();
        for (pairs, name) in [
            (&[("authorization", "Bearer sk-web-1")][..], "web"),
            (&[("authorization", "bearer  sk-web-2 ")], "web"),
            (&[("api-key", "sk-batch")], "batch"),
            (&[("x-api-key", "sk-web-1")], "web"),
            (
                &[(
                    "sec-websocket-protocol",
                    "realtime, openai-insecure-api-key.sk-batch",
                )],
                "batch",
            ),
            (
                &[("authorization", "Bearer other"), ("x-api-key", "sk-batch")],
                "batch",
            ),
            (
                &[
                    ("authorization", "Bearer sk-web-1"),
                    ("api-key", "sk-batch"),
                ],
                "web",
            ),
        ] {
            let caller = identified(&callers, pairs);
            assert_eq!(caller.to_string(), name, "{pairs:?}");
            assert!(callers.admit(&caller) && caller.is_proxys_own());
        }
    }

    #[test]
    fn who_shows_no_key_or_another_is_not_let_in() {
        let callers = callers();
        for pairs in [
            &[][..],
            &[("authorization", "sk-web-1")],
            &[("authorization", "Basic sk-web-1")],
            &[("authorization", "Bearer sk-web-")],
            &[("authorization", "Bearer sk-web-11")],
            &[("authorization", "Bearer SK-WEB-1")],
            &[("authorization", "Bearer ")],
            &[("api-key", "Bearer sk-web-1")],
            &[("cookie", "sk-web-1")],
            &[("x-goog-api-key", "sk-web-1")],
        ] {
            let caller = identified(&callers, pairs);
            assert!(!callers.admit(&caller), "{pairs:?}");
        }
    }

    #[test]
    fn where_nobody_is_named_everybody_is_let_in_and_nobody_is_the_proxys_own() {
        let nobody = Callers::default();
        let caller = identified(&nobody, &[("authorization", "Bearer sk-web-1")]);
        assert!(nobody.admit(&caller) && !caller.is_proxys_own());
    }
}
