//! `headers` of `[[upstream]]`: what every call takes to it. Pure.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Headers that every call takes to an upstream, one value each. Their values are shown nowhere; those that are secret
/// are marked as sensitive.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(HeaderMap);

impl Headers {
    /// Iterates over them.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter()
    }

    /// Returns whether one of them holds a secret.
    pub fn hold_secret(&self) -> bool {
        self.0.values().any(HeaderValue::is_sensitive)
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Headers {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(headers: I) -> Self {
        Self(headers.into_iter().collect())
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
