//! Who asks: the credential of a call, known only by its fingerprint. Pure.

use std::fmt;

use http::HeaderMap;

use super::key::{Fingerprint, Hex, Secret};
use crate::config::CREDENTIALS;

/// The caller of a call. Two callers are equal iff their credentials are; none at all is a credential of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caller {
    fingerprint: Fingerprint,
    anonymous: bool,
}

impl Caller {
    /// Reads the caller off the headers of a request.
    pub fn of(headers: &HeaderMap, secret: &Secret) -> Self {
        let mut credentials: Vec<_> = headers
            .iter()
            .filter(|(name, _)| CREDENTIALS.contains(&name.as_str()))
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        // In which order a client sends two of them says nothing; of one name, the order stays.
        credentials.sort_by_key(|(name, _)| *name);
        let parts: Vec<_> = credentials
            .iter()
            .flat_map(|(name, value)| [name.as_bytes(), *value])
            .collect();
        Self {
            fingerprint: secret.fingerprint("caller", &parts),
            anonymous: parts.is_empty(),
        }
    }

    /// Returns whether the proxy knows it by a key of its own.
    pub fn is_proxys_own(&self) -> bool {
        false
    }

    /// Returns what stands for the credential.
    pub fn credential(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the bytes that keep this caller's entries apart from everybody else's.
    pub fn scope(&self) -> &[u8] {
        self.fingerprint.as_bytes()
    }
}

impl fmt::Display for Caller {
    /// Writes `anonymous` or the first 8 hex digits of the fingerprint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.anonymous {
            return f.write_str("anonymous");
        }
        f.write_str(Hex::<8>::of(self.fingerprint.as_bytes()).as_str())
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({self})")
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn caller(pairs: &[(&'static str, &'static str)]) -> Caller {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Caller::of(&headers, &Secret::from_bytes([7; 32]))
    }

    #[test]
    fn each_credential_header_tells_callers_apart() {
        let all = [
            caller(&[]),
            caller(&[("authorization", "Bearer a")]),
            caller(&[("authorization", "Bearer b")]),
            caller(&[("api-key", "Bearer a")]),
            caller(&[("x-api-key", "Bearer a")]),
            caller(&[("cookie", "Bearer a")]),
            caller(&[("ocp-apim-subscription-key", "Bearer a")]),
            caller(&[("x-goog-api-key", "Bearer a")]),
            caller(&[("x-portkey-api-key", "Bearer a")]),
            caller(&[("x-portkey-virtual-key", "Bearer a")]),
            caller(&[("cf-aig-authorization", "Bearer a")]),
            caller(&[("helicone-auth", "Bearer a")]),
            caller(&[("authorization", "Bearer a"), ("cookie", "s=1")]),
            caller(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]),
        ];
        for (i, one) in all.iter().enumerate() {
            for (j, other) in all.iter().enumerate() {
                assert_eq!(one == other, i == j, "{i} and {j}");
            }
        }
    }

    #[test]
    fn the_order_of_two_credentials_says_nothing() {
        let one = caller(&[("cookie", "s=1"), ("authorization", "Bearer a")]);
        let other = caller(&[("authorization", "Bearer a"), ("cookie", "s=1")]);
        assert_eq!(one, other);
    }

    #[test]
    fn other_headers_do_not_make_another_caller() {
        assert_eq!(caller(&[("user-agent", "x")]), caller(&[]));
        assert_eq!(caller(&[]).to_string(), "anonymous");
    }

    #[test]
    fn the_credential_itself_is_never_written() {
        let written = format!(
            "{0} {0:?}",
            caller(&[("authorization", "Bearer sk-canary")])
        );
        assert!(!written.contains("canary"), "{written}");
    }
}
