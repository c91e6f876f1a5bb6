//! Request ids: the client's, else one made here.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use crate::{
    call::key::Hex,
    error::{Error, Kind},
    upstream::headers::REQUEST_ID,
};

/// Makes request ids: random per process, counted within.
#[derive(Debug)]
pub(super) struct Ids {
    process: u64,
    next: AtomicU64,
}

impl Ids {
    /// Begins to count.
    ///
    /// # Errors
    /// [`Kind::Internal`] where the system has no random bytes to give.
    pub(super) fn new() -> Result<Self, Error> {
        let process = getrandom::u64()
            .map_err(|error| Error::with_source(Kind::Internal, "no random bytes", error))?;
        Ok(Self {
            process,
            next: AtomicU64::new(0),
        })
    }

    /// Returns the client's request id, else a new one.
    pub(super) fn of(&self, headers: &HeaderMap) -> HeaderValue {
        if let Some(id) = headers.get(REQUEST_ID) {
            return id.clone();
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let bytes = (u128::from(self.process) << 64 | u128::from(number)).to_be_bytes();
        let mut id = Vec::with_capacity(PREFIX.len() + DIGITS);
        id.extend_from_slice(PREFIX);
        id.extend_from_slice(Hex::<DIGITS>::of(&bytes).as_bytes());
        HeaderValue::from_maybe_shared(Bytes::from(id)).unwrap_or(HeaderValue::from_static("req_0"))
    }
}

/// What the ids that are made here begin with.
const PREFIX: &[u8] = b"req_";
/// Hexadecimal digits behind it.
const DIGITS: usize = 32;
