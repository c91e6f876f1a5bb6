//! Who asks: one of the proxy's own callers, else the credential of a call, known only by its fingerprint. Pure.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName};

use super::{
    key::{Fingerprint, Hex, Lasting, Secret},
    scope::Scope,
    sieve::Sieve,
};
use crate::config::{self, CREDENTIALS};

/// The caller of a call. Two that are not the proxy's own are equal iff their credentials are; none at all is a
/// credential of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct Caller(Who);

#[derive(Clone, PartialEq, Eq)]
enum Who {
    /// No credential.
    Anonymous(Fingerprint),
    /// The fingerprint of what was sent.
    Presented(Fingerprint),
    /// A `[[caller]]`, whichever of its keys was sent.
    Named(Arc<Named>),
}

/// The last credential of a connection, if it came alone, and whose it is; shown nowhere, `Debug` included.
#[derive(Default)]
pub struct Last(Option<Seen>);

struct Seen {
    name: HeaderName,
    value: Box<[u8]>,
    caller: Caller,
    /// Of the secret that the caller is known under.
    edition: u64,
}

/// How a caller is shown: a `[[caller]]`'s name, `anonymous`, or the first 8 hex digits of the fingerprint.
#[derive(Clone, Copy, Debug)]
pub enum Shown<'a> {
    /// A name.
    Name(&'a str),
    /// Digits.
    Digits(Hex<8>),
}

/// One of the proxy's own callers, a `[[caller]]`.
#[derive(Debug)]
pub struct Named {
    name: String,
    itself: Lasting,
    tenant: Option<Lasting>,
}

impl PartialEq for Named {
    /// No two have the same name.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Named {}

impl Named {
    /// Takes it from the configuration.
    pub(super) fn new(caller: &config::Caller, secret: &Secret) -> Self {
        let tenant = |name: &String| Scope::of_tenant(name, secret);
        Self {
            name: caller.name.clone(),
            itself: Scope::of_caller(&caller.name, secret),
            tenant: caller.scope.as_ref().map(tenant),
        }
    }
}

impl Caller {
    /// Returns the proxy's own caller `named`.
    pub(super) fn named(named: Arc<Named>) -> Self {
        Self(Who::Named(named))
    }

    /// Reads the caller off the headers of a request, as one known by its credential.
    pub fn of(headers: &HeaderMap, secret: &Secret) -> Self {
        let mut credentials: Vec<_> = headers
            .iter()
            .filter(|(name, _)| is_credential(name.as_str()))
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        // In which order a client sends two of them says nothing; of one name, the order stays.
        credentials.sort_by_key(|(name, _)| *name);
        let parts: Vec<_> = credentials
            .iter()
            .flat_map(|(name, value)| [name.as_bytes(), *value])
            .collect();
        let fingerprint = secret.fingerprint("caller", &parts);
        Self(if parts.is_empty() {
            Who::Anonymous(fingerprint)
        } else {
            Who::Presented(fingerprint)
        })
    }

    /// Reads the caller off the headers of a connection's next request. Almost all of them come with the very credential of
    /// the last one, which then is compared and not hashed anew.
    pub fn of_next(headers: &HeaderMap, secret: &Secret, last: &mut Last) -> Self {
        let mut credentials = headers
            .iter()
            .filter(|(name, _)| is_credential(name.as_str()));
        let (Some((name, value)), None) = (credentials.next(), credentials.next()) else {
            return Self::of(headers, secret);
        };
        // Read first: under a secret that is adopted meanwhile it is made anew once more.
        let edition = secret.edition();
        if let Some(last) = &last.0
            && last.edition == edition
            && last.name == *name
            && *last.value == *value.as_bytes()
        {
            return last.caller.clone();
        }
        let caller = Self::of(headers, secret);
        last.0 = Some(Seen {
            name: name.clone(),
            value: value.as_bytes().into(),
            caller: caller.clone(),
            edition,
        });
        caller
    }

    /// Returns whether this is a `[[caller]]`: the proxy itself knows its key, so nobody else has to vouch for it.
    pub fn is_proxys_own(&self) -> bool {
        matches!(self.0, Who::Named(_))
    }

    /// Returns the credential that an upstream may accept or refuse; `None` for a `[[caller]]`.
    pub fn credential(&self) -> Option<&Fingerprint> {
        match &self.0 {
            Who::Anonymous(credential) | Who::Presented(credential) => Some(credential),
            Who::Named(_) => None,
        }
    }

    /// Returns the narrowest scope there is for this caller.
    pub fn itself(&self) -> Scope {
        match &self.0 {
            Who::Anonymous(credential) | Who::Presented(credential) => {
                Scope::of_credential(*credential)
            }
            Who::Named(named) => Scope::of_named(&named.itself),
        }
    }

    /// Returns how the caller is shown to people.
    pub fn shown(&self) -> Shown<'_> {
        match &self.0 {
            Who::Anonymous(_) => Shown::Name("anonymous"),
            Who::Presented(credential) => Shown::Digits(Hex::of(credential.as_bytes())),
            Who::Named(named) => Shown::Name(&named.name),
        }
    }

    /// Returns the scope that the operator has put this caller into, a `[[caller]]`'s `scope`.
    pub fn tenant(&self) -> Option<Scope> {
        match &self.0 {
            Who::Anonymous(_) | Who::Presented(_) => None,
            Who::Named(named) => named.tenant.as_ref().map(Scope::of_named),
        }
    }
}

impl Shown<'_> {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Digits(digits) => digits.as_str(),
        }
    }
}

impl fmt::Display for Caller {
    /// Writes the caller as it is [`Shown`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown().as_str())
    }
}

impl fmt::Debug for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Last(..)")
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({self})")
    }
}

/// Returns whether a header is a credential by its `name`, in lower case.
fn is_credential(name: &str) -> bool {
    SIEVE.keeps(name) && CREDENTIALS.contains(&name)
}

const SIEVE: Sieve = Sieve::of(&CREDENTIALS);

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
    fn the_next_request_of_a_connection_is_its_own_credentials_whatever_the_last_one_was() {
        let secret = Secret::from_bytes([7; 32]);
        let requests: [&[(&'static str, &'static str)]; 9] = [
            &[("authorization", "Bearer a")],
            &[("authorization", "Bearer a")],
            &[("authorization", "Bearer b")],
            &[("api-key", "Bearer b")],
            &[("api-key", "Bearer b"), ("authorization", "Bearer a")],
            &[],
            &[("api-key", "Bearer b")],
            &[("api-key", "Bearer b"), ("api-key", "Bearer b")],
            &[("accept", "*/*"), ("api-key", "Bearer b")],
        ];
        let mut last = Last::default();
        for (number, pairs) in requests.into_iter().enumerate() {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            let next = Caller::of_next(&headers, &secret, &mut last);
            assert!(next == Caller::of(&headers, &secret), "{number}");
        }
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

    #[test]
    fn a_connections_caller_follows_the_secret() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer a"));
        let (secret, mut last) = (Secret::from_bytes([7; 32]), Last::default());
        let before = Caller::of_next(&headers, &secret, &mut last);
        secret.adopt([8; 32]);
        let after = Caller::of_next(&headers, &secret, &mut last);
        assert!(before != after);
        assert!(after == Caller::of(&headers, &Secret::from_bytes([8; 32])));
    }
}
