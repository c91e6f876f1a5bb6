//! An entry in the form that a call asks for: as recorded where that is the same, else told anew.
//!
//! # Scope
//! What is told anew is kept with the entry and counts as a part of it.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{Entry, tiered::Tiered};
use crate::{
    answer::{Head, replay::Replay, retold::Telling, verdict::Reason},
    dialect::chat::form::Form,
};

/// An answer made of an entry.
pub type Lent = (Head, Replay);

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

    /// Returns the answer in the form `asked` for, or `None` if it has to be told first and that takes its time. The
    /// recorded bytes are shared, not copied, where it was recorded so.
    fn lend(&self, asked: Form) -> Result<Option<Lent>, Unlent> {
        if self.form == asked {
            return Ok(Some((
                self.head(),
                Replay::new(self.body.clone(), self.usage),
            )));
        }
        if !self.lends_to(asked) {
            return Err(Unlent::UsageMissing);
        }
        let telling = self.retold.at_once(&self.body, self.form, asked);
        telling
            .map(|telling| self.retold(telling, asked))
            .transpose()
    }

    fn retold(&self, telling: Telling, asked: Form) -> Result<Lent, Unlent> {
        let body = telling.map_err(|_| Unlent::Unconvertible)?;
        let mut head = self.head();
        retell(&mut head.headers, self.form, asked);
        Ok((head, Replay::new(body, self.usage)))
    }
}

impl Tiered {
    /// Returns the answer of `entry` in the form `asked` for, or `None` if that takes its time: then [`Tiered::tell`] has it.
    pub fn lend(&self, entry: &Entry, asked: Form) -> Result<Option<Lent>, Unlent> {
        let lent = entry.lend(asked);
        if entry.form != asked {
            self.recount(&entry.slot, &entry.retold);
        }
        lent
    }

    /// Returns the answer of `entry` in the form `asked` for, however long that takes.
    pub async fn tell(&self, entry: &Entry, asked: Form) -> Result<Lent, Unlent> {
        if let Some(lent) = self.lend(entry, asked)? {
            return Ok(lent);
        }
        let recording = || entry.body.clone();
        let telling = self
            .teller()
            .tell(&entry.retold, recording, entry.form, asked)
            .await;
        self.recount(&entry.slot, &entry.retold);
        entry.retold(telling, asked)
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
