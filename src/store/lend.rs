//! An entry in the form that a call asks for: as recorded where that is the same, else told anew.
//!
//! # Scope
//! What is told anew is made for one call and kept nowhere.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::Entry;
use crate::{
    answer::{Head, replay::Replay, verdict::Reason},
    dialect::chat::{convert, form::Form},
};

/// Why an entry does not answer a call in the form that it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlent {
    /// The call is entitled to a usage that the recording does not have.
    UsageMissing,
    /// The recording cannot be told in another form.
    Unconvertible,
}

impl Unlent {
    /// Returns the reason that the client is told.
    pub fn reason(self) -> Reason {
        match self {
            Self::UsageMissing => Reason::UsageMissing,
            Self::Unconvertible => Reason::Unconvertible,
        }
    }
}

impl Entry {
    /// Returns whether the entry has what a call for `asked` is entitled to.
    pub fn lends_to(&self, asked: Form) -> bool {
        self.form.lends(self.usage.is_some(), asked)
    }

    /// Returns the answer in the form `asked` for. The recorded bytes are shared, not copied, where it was recorded so.
    pub fn lend(&self, asked: Form) -> Result<(Head, Replay), Unlent> {
        if self.form == asked {
            return Ok((self.head(), Replay::new(self.body.clone(), self.usage)));
        }
        if !self.lends_to(asked) {
            return Err(Unlent::UsageMissing);
        }
        let body = convert(&self.body, self.form, asked).map_err(|_| Unlent::Unconvertible)?;
        let mut head = self.head();
        retell(&mut head.headers, self.form, asked);
        Ok((head, Replay::new(Bytes::from(body), self.usage)))
    }
}

/// Makes the headers of an answer recorded in `recorded` those of one told anew in `asked`.
pub fn retell(headers: &mut HeaderMap, recorded: Form, asked: Form) {
    for name in OF_THE_BYTES {
        headers.remove(name);
    }
    if recorded.is_stream() != asked.is_stream() {
        let content_type = HeaderValue::from_static(asked.content_type());
        headers.insert(header::CONTENT_TYPE, content_type);
    }
}

/// Headers that speak of the very bytes they came with (RFC 9110 §8.6, §8.8.3; RFC 9530; RFC 1864).
const OF_THE_BYTES: [HeaderName; 6] = [
    header::CONTENT_LENGTH,
    header::ETAG,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];
