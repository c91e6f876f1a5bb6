//! The key of an entry, and all that it is made of. Pure.
//!
//! # Scope
//! Decides what an answer depends on: [`Material`] names every part, hashes each with its length, and cannot be extended
//! without deciding about the new part. Keys are HMACs: who reads them in a header or a store learns nothing about the
//! call, and cannot test a guess without the [`Secret`]. What goes into the parts (which scope, which headers, which
//! route) is decided elsewhere.

mod hex;
mod secret;

use std::{fmt, str::FromStr};

use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

pub use self::{
    hex::Hex,
    secret::{Fingerprint, Lasting, Secret},
};

/// The key of an entry: 256 bits, shown as hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 32]);

/// What is no key: not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a key is 64 hexadecimal digits")]
pub struct InvalidKey;

/// What stands for a canonical body: its SHA-256 (FIPS 180-4). It is shown nowhere, `Debug` included: it would tell who guesses a
/// body whether that is right.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

/// Everything that an answer depends on.
#[derive(Clone, Copy, Debug)]
pub struct Material<'a> {
    /// The operator's `[key] version`.
    pub version: &'a str,
    /// Whose entries may be shared with this caller.
    pub scope: &'a [u8],
    /// The caller's own key space inside the scope; empty for none.
    pub namespace: &'a str,
    /// Name of the primary upstream.
    pub upstream: &'a str,
    /// Where that upstream is.
    pub base_url: &'a str,
    /// The model it will be asked for.
    pub model: &'a str,
    /// The request's method.
    pub method: &'a str,
    /// Path and query, exactly as sent.
    pub path_and_query: &'a str,
    /// Name and value of the request headers that count: names in lower case and in the operator's order, one pair for
    /// each value, in the order sent; a header that was not sent has none.
    pub vary: &'a [(&'a str, &'a [u8])],
    /// The canonical body, which is told by its digest so that a body that is known need not be hashed anew.
    pub body: &'a Digest,
}

/// A part of the [`Material`] that a key can be made without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// [`Material::version`].
    Version,
    /// [`Material::scope`].
    Scope,
    /// [`Material::namespace`].
    Namespace,
    /// [`Material::upstream`].
    Upstream,
    /// [`Material::base_url`].
    BaseUrl,
    /// [`Material::model`].
    Model,
    /// [`Material::method`].
    Method,
    /// [`Material::path_and_query`].
    PathAndQuery,
    /// [`Material::vary`].
    Vary,
    /// [`Material::body`].
    Body,
}

/// The parts that a key is made without, such as the body for a partition. Keys under different masks are unrelated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask(u16);

impl Key {
    /// Returns the key with these bytes, as kept by a store.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the key as 64 hexadecimal digits.
    pub fn hex(&self) -> Hex<64> {
        Hex::of(&self.0)
    }

    /// Returns the first 12 of its hexadecimal digits, for log lines.
    pub fn short(&self) -> Hex<12> {
        Hex::of(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.hex().as_str())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.short())
    }
}

impl FromStr for Key {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        hex::parse(text).map(Self).ok_or(InvalidKey)
    }
}

impl Digest {
    /// Returns the digest of a canonical body.
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

impl Material<'_> {
    /// Returns the key of the material without the masked parts.
    pub fn key(&self, secret: &Secret, mask: Mask) -> Key {
        let mut hash = Hash {
            state: secret.key_state(),
            mask,
        };
        hash.state.update(&FORMAT_VERSION.to_be_bytes());
        hash.state.update(&mask.0.to_be_bytes());
        self.feed(&mut hash);
        Key(hash.state.finalize().into_bytes().into())
    }

    /// Feeds all parts. Taking the type apart by name makes a new part fail to compile until it is fed.
    fn feed(&self, hash: &mut Hash) {
        let Self {
            version,
            scope,
            namespace,
            upstream,
            base_url,
            model,
            method,
            path_and_query,
            vary,
            body,
        } = self;
        hash.part(Part::Version, version.as_bytes());
        hash.part(Part::Scope, scope);
        hash.part(Part::Namespace, namespace.as_bytes());
        hash.part(Part::Upstream, upstream.as_bytes());
        hash.part(Part::BaseUrl, base_url.as_bytes());
        hash.part(Part::Model, model.as_bytes());
        hash.part(Part::Method, method.as_bytes());
        hash.part(Part::PathAndQuery, path_and_query.as_bytes());
        hash.pairs(Part::Vary, vary);
        hash.part(Part::Body, body.as_bytes());
    }
}

impl Mask {
    /// Leaves nothing out: the key of an entry.
    pub const NONE: Self = Self(0);

    /// Leaves out `part` as well.
    #[must_use]
    pub const fn without(self, part: Part) -> Self {
        Self(self.0 | 1 << part as u16)
    }

    fn hides(self, part: Part) -> bool {
        self.0 & 1 << part as u16 != 0
    }
}

/// A key in the making: what is fed is preceded by its length or count, so that nothing can move between parts.
struct Hash {
    state: Hmac<Sha256>,
    mask: Mask,
}

impl Hash {
    fn part(&mut self, part: Part, bytes: &[u8]) {
        if !self.mask.hides(part) {
            secret::feed(&mut self.state, bytes);
        }
    }

    fn pairs(&mut self, part: Part, pairs: &[(&str, &[u8])]) {
        if self.mask.hides(part) {
            return;
        }
        self.state.update(&(pairs.len() as u64).to_be_bytes());
        for (name, value) in pairs {
            secret::feed(&mut self.state, name.as_bytes());
            secret::feed(&mut self.state, value);
        }
    }
}

/// Version of the material's and the canonical body's format; to be raised with every change of either.
const FORMAT_VERSION: u16 = 2;

#[cfg(test)]
mod tests;
