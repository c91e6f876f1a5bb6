//! Where entries are kept.
//!
//! # Scope
//! [`tiered`] is the store that the layers know: [`memory`] in front, one of [`disk`] and [`redis`] [`behind`] it, or nothing.
//!
//! [`proofs`] keeps what upstreams have said about credentials.
//! [`generations`] says what was purged, [`purge`] does it on request and clears up behind it.
//!
//! What other replicas replace is dropped from the memory by `heed`, and told from what is being read by `changes`.
//!
//! [`totals`] are the counters that last.
//!
//! A store keeps and finds; whether an entry may be served is `cache::freshness`'s decision, whether an answer becomes
//! an entry `cache::storable`'s.

pub mod behind;
mod changes;
pub mod codec;
pub mod disk;
pub mod generations;
mod heed;
mod lend;
mod looks;
pub mod memory;
pub mod proofs;
pub mod purge;
mod record;
pub mod redis;
pub mod tiered;
pub mod totals;
pub mod trust;
mod working;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::Instant;

use self::generations::Seen;
pub use self::lend::{Lent, Unlent, retell};
use crate::{
    answer::{Asked, Head, retold::Retold, verdict::MOST_HEADERS},
    call::Slot,
    dialect::{chat::form::Form, usage::Usage},
};

/// A complete answer, kept for later calls.
#[derive(Debug)]
pub struct Entry {
    /// Its place; checked on every read.
    pub slot: Slot,
    /// The form that it was recorded in.
    pub form: Form,
    /// Status of the answer.
    pub status: StatusCode,
    /// The headers that outlive the exchange.
    pub headers: HeaderMap,
    /// The body, as recorded.
    pub body: Bytes,
    /// Name of the upstream that made it.
    pub upstream: HeaderValue,
    /// Its tokens, where it tells.
    pub usage: Option<Usage>,
    /// When it was complete.
    pub made: Instant,
    /// How long it is fresh from then on.
    pub lifetime: Duration,
    /// Its tags, sorted.
    pub tags: Vec<String>,
    /// What it can be found by, beside its key.
    pub label: Label,
    /// The body in other forms, as far as they were asked for.
    pub retold: Retold,
    /// The purges that it has seen.
    pub seen: Seen,
}

/// What an entry can be found by beside its key; never anything of the prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// Whose calls it may answer, as fed to the key.
    pub scope: Vec<u8>,
    /// Name of the dialect.
    pub dialect: String,
    /// The model asked for.
    pub model: String,
    /// The caller's own key space; empty for none.
    pub namespace: String,
}

impl Entry {
    /// Returns the head of an answer made of this entry.
    pub fn head(&self) -> Head {
        Head {
            status: self.status,
            headers: with_room(&self.headers),
            framed: true,
            upstream: self.upstream.clone(),
            asked: Asked::default(),
            timing: None,
        }
    }

    /// Returns whether it is another entry than one made at `moment`, and the newer one. What is read back from outside is dated
    /// by the clock on the wall, and so never quite the same twice.
    pub fn is_newer_than(&self, moment: Instant) -> bool {
        self.made > moment + SAME
    }

    /// Returns whether it is to take the place of `other`: it is the newer one, and certainly another.
    pub fn supersedes(&self, other: &Self) -> bool {
        let is_another = || self.made > other.made && self.body != other.body;
        self.is_newer_than(other.made) || is_another()
    }

    /// Returns about how much memory the entry takes, bytes; of what was told of it, what is counted.
    pub fn weight(&self) -> u64 {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + HEADER)
            .sum();
        let tags: usize = self.tags.iter().map(|tag| tag.len() + HEADER).sum();
        (self.body.len() + headers + tags + self.label.len() + OVERHEAD) as u64
            + self.retold.counted()
    }
}

/// Returns a copy of `headers` with room for what is added on the way out: a clone would have to be copied again for that.
fn with_room(headers: &HeaderMap) -> HeaderMap {
    let mut copy = HeaderMap::with_capacity(headers.len() + MOST_HEADERS);
    for (name, value) in headers {
        copy.append(name.clone(), value.clone());
    }
    copy
}

/// Copies the values into one buffer. As they arrive they are slices of the network's, all of which a single one would keep for as
/// long as the entry lives; copied each by itself they would lie apart, and be fetched one by one when the entry is served.
pub fn packed(mut headers: HeaderMap) -> HeaderMap {
    let length = headers.values().map(HeaderValue::len).sum();
    let mut whole = Vec::with_capacity(length);
    for value in headers.values_mut() {
        whole.extend_from_slice(value.as_bytes());
    }
    let mut rest = Bytes::from(whole);
    for value in headers.values_mut() {
        let bytes = rest.split_to(value.len());
        if let Ok(mut copy) = HeaderValue::from_maybe_shared(bytes) {
            copy.set_sensitive(value.is_sensitive());
            *value = copy;
        }
    }
    headers
}

impl Label {
    fn len(&self) -> usize {
        self.scope.len() + self.dialect.len() + self.model.len() + self.namespace.len()
    }
}

/// Within this time, two dates are of one entry.
const SAME: Duration = Duration::from_millis(500);
/// Bytes of bookkeeping for one header or tag.
const HEADER: usize = 64;
/// Bytes of bookkeeping for one entry: itself, its place in the map, the allocator's rounding.
const OVERHEAD: usize = 512;

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    fn addresses(headers: &HeaderMap) -> Vec<usize> {
        let values = headers.values().map(HeaderValue::as_bytes);
        values.map(|value| value.as_ptr().addr()).collect()
    }

    #[test]
    fn an_entrys_headers_do_not_keep_the_buffer_that_they_came_in_and_lie_side_by_side() {
        let buffer = Bytes::from(b"text/plain".repeat(1_000));
        let mut headers = HeaderMap::new();
        let mut add = |name, range| {
            let value = HeaderValue::from_maybe_shared(buffer.slice(range)).unwrap();
            headers.append(name, value);
        };
        add(header::CONTENT_TYPE, 0..10);
        add(header::LINK, 20..24);
        add(header::LINK, 30..30);
        add(header::LINK, 35..47);
        add(header::SERVER, 505..509);
        let secret = headers.get_mut(header::SERVER).unwrap();
        secret.set_sensitive(true);
        let kept = packed(headers.clone());
        assert_eq!(kept, headers);
        assert!(kept[header::SERVER].is_sensitive());
        let range = buffer.as_ptr().addr()..=buffer.as_ptr().addr() + buffer.len();
        let kept = addresses(&kept);
        assert!(kept.iter().all(|address| !range.contains(address)));
        let (first, last) = (kept.iter().min().unwrap(), kept.iter().max().unwrap());
        assert!(last - first < 30, "{kept:?}");
        assert_eq!(packed(HeaderMap::new()), HeaderMap::new());
    }
}
