//! The canonical body: one form for all spellings of the same request. Pure.
//!
//! # Scope
//! Decides whether a body can be keyed at all, and then which bytes stand for it. Object key order, whitespace, string
//! escapes and number spelling do not matter; everything else does, known field or not, except the dialect's short list
//! of fields that cannot change the answer. A body that two parsers might read differently is refused by name
//! ([`Unkeyed`]) and never guessed at: a refused call is forwarded as it came. Nothing here changes a byte that travels.

mod chat;
mod json;
mod number;
mod order;
mod text;

use thiserror::Error;

use crate::{
    config::MAX_BODY,
    dialect::{Dialect, chat::request::Request},
};

use self::{json::Scanner, order::Order};

/// What the operator decides about the canonical body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Fields that count although they are on the dialect's ignore list.
    pub keep: Vec<String>,
    /// Whether a field at OpenAI's documented default equals its absence.
    pub fold_openai_defaults: bool,
}

/// A body in canonical form, with what was learnt on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical {
    /// Everything that can change the answer; equal for equal requests, different for different ones.
    pub body: Vec<u8>,
    /// What else `stream` and `stream_options` ask for than a plain answer or a stream, with or without its usage, in the
    /// same form; empty for nothing else.
    pub delivery: Vec<u8>,
    /// What the request asks for.
    pub request: Request,
}

/// Why a body has no canonical form. The names are a closed list and are told to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[error("{}", self.as_str())]
pub enum Unkeyed {
    /// The body starts with a byte order mark, which some parsers skip and others refuse.
    Bom,
    /// The body is not UTF-8.
    InvalidUtf8,
    /// The body is not JSON (RFC 8259); `NaN`, `Infinity` and trailing bytes included.
    InvalidJson,
    /// A string escapes half of a surrogate pair, which is no character.
    LoneSurrogate,
    /// An object has two keys that some parser takes for the same one.
    DuplicateKey,
    /// A number is outside the range that every parser reads without overflow or underflow.
    NumberRange,
    /// Arrays and objects are nested deeper than 128.
    TooDeep,
    /// There are more object members than any honest request has (2^16), or more bytes (256 MiB).
    TooComplex,
    /// The body is JSON, but no object.
    NotAnObject,
    /// There is no `model`, or it is no string.
    NoModel,
    /// There is no `messages` array.
    NoMessages,
}

impl Unkeyed {
    /// Every reason, for tables and tests.
    pub const ALL: [Self; 11] = [
        Self::Bom,
        Self::InvalidUtf8,
        Self::InvalidJson,
        Self::LoneSurrogate,
        Self::DuplicateKey,
        Self::NumberRange,
        Self::TooDeep,
        Self::TooComplex,
        Self::NotAnObject,
        Self::NoModel,
        Self::NoMessages,
    ];

    /// Returns the name in `X-Cache-Reason`, log lines and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bom => "bom",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::InvalidJson => "invalid_json",
            Self::LoneSurrogate => "lone_surrogate",
            Self::DuplicateKey => "duplicate_key",
            Self::NumberRange => "number_range",
            Self::TooDeep => "too_deep",
            Self::TooComplex => "too_complex",
            Self::NotAnObject => "not_an_object",
            Self::NoModel => "no_model",
            Self::NoMessages => "no_messages",
        }
    }
}

/// Buffers that one call leaves for the next; any will do, one per thread is a good choice.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The form with members in the order read.
    form: Vec<u8>,
    /// The order they belong in.
    order: Order,
}

impl Scratch {
    /// Gives back what an unusually large body made the buffers grow to.
    fn shrink(&mut self) {
        self.form.clear();
        self.form.shrink_to(MAX_KEPT_BYTES);
        self.order.clear();
    }
}

/// Returns the canonical form of `body`, or the reason why it has none.
///
/// Reads the body once. Whatever it contains, the time grows with its length, and with the logarithm of the number of
/// members where they have to be sorted.
pub fn canonicalise(
    body: &[u8],
    dialect: Dialect,
    options: &Options,
    scratch: &mut Scratch,
) -> Result<Canonical, Unkeyed> {
    if body.starts_with("\u{feff}".as_bytes()) {
        return Err(Unkeyed::Bom);
    }
    if body.len() as u64 > MAX_BODY {
        return Err(Unkeyed::TooComplex);
    }
    let body = str::from_utf8(body).map_err(|_| Unkeyed::InvalidUtf8)?;
    let scanner = Scanner::new(body, scratch);
    let canonical = match dialect {
        Dialect::Chat => chat::canonicalise(scanner, options),
    };
    scratch.shrink();
    canonical
}

/// Returns the canonical form of one JSON value, without any dialect's exceptions; its `null` is [`is_nothing`].
pub fn value(json: &str, scratch: &mut Scratch) -> Result<Vec<u8>, Unkeyed> {
    let mut scanner = Scanner::new(json, scratch);
    let start = scanner.mark();
    scanner.value()?;
    scanner.end()?;
    let mut form = Vec::new();
    scanner.copy(scanner.span(start), &mut form);
    Ok(form)
}

/// Returns whether a canonical value is `null` or an empty string.
pub fn is_nothing(form: &[u8]) -> bool {
    form == json::NULL || text::bytes(form).is_some_and(<[u8]>::is_empty)
}

/// Bytes that room is kept for.
const MAX_KEPT_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests;
