//! The secret that keys and fingerprints are made with.
//!
//! # Scope
//! Makes and holds it; where it is kept (and shared by replicas) is the store's business. Keys and fingerprints are
//! HMAC-SHA-256 (RFC 2104) over inputs that start with a different domain, so that neither can pass for the other.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::error::{Error, Kind};

use super::hex::Hex;

/// A 256-bit secret. It is shown nowhere, `Debug` included.
#[derive(Clone)]
pub struct Secret {
    bytes: [u8; 32],
    /// Keyed and past the domain of keys, so that a call only has to copy it.
    key_state: Hmac<Sha256>,
    /// Keyed and past the domain of fingerprints.
    fingerprint_state: Hmac<Sha256>,
}

/// What stands for something secret, such as a credential: equal for equal inputs, and silent about them. 128 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 16]);

impl Secret {
    /// Makes a new secret of the operating system's random bytes.
    ///
    /// # Errors
    /// [`Kind::Internal`] where the system has none to give.
    pub fn random() -> Result<Self, Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|cause| {
            Error::with_source(Kind::Internal, "no random bytes for the secret", cause)
        })?;
        Ok(Self::from_bytes(bytes))
    }

    /// Returns the secret with these bytes, as kept by a store.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self {
            bytes,
            key_state: keyed(bytes, KEY_DOMAIN),
            fingerprint_state: keyed(bytes, FINGERPRINT_DOMAIN),
        }
    }

    /// Returns the bytes, for the store that keeps them and for nothing else.
    pub fn expose(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Returns the fingerprint of `parts`, in this order; `label` names their kind, so that equal bytes of two kinds differ.
    pub fn fingerprint(&self, label: &str, parts: &[&[u8]]) -> Fingerprint {
        let mut state = self.fingerprint_state.clone();
        feed(&mut state, label.as_bytes());
        state.update(&(parts.len() as u64).to_be_bytes());
        for part in parts {
            feed(&mut state, part);
        }
        Fingerprint(head(state.finalize().into_bytes().into()))
    }

    /// Returns the state that a key's material is fed to.
    pub(super) fn key_state(&self) -> Hmac<Sha256> {
        self.key_state.clone()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Fingerprint {
    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Hex::<32>::of(&self.0).as_str())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Feeds `bytes` preceded by their length, so that nothing can move from one piece to the next.
pub(super) fn feed(state: &mut Hmac<Sha256>, bytes: &[u8]) {
    state.update(&(bytes.len() as u64).to_be_bytes());
    state.update(bytes);
}

/// Returns a state keyed with `bytes` that has been fed its domain.
fn keyed(bytes: [u8; 32], domain: &[u8]) -> Hmac<Sha256> {
    // HMAC pads a key to the hash's block of 64 bytes with zeros; a whole block is a key of the size that cannot fail.
    let mut state = Hmac::new(&head::<64>(bytes).into());
    feed(&mut state, domain);
    state
}

/// Returns the first `N` bytes, zeros where there are fewer.
fn head<const N: usize>(bytes: [u8; 32]) -> [u8; N] {
    let mut head = [0; N];
    for (to, from) in head.iter_mut().zip(bytes) {
        *to = from;
    }
    head
}

const KEY_DOMAIN: &[u8] = b"refrain key";
const FINGERPRINT_DOMAIN: &[u8] = b"refrain fingerprint";
