//! The secret that keys and fingerprints are made with.
//!
//! # Scope
//! Makes and holds it; where it is kept (and shared by replicas) is the store's business. Keys and fingerprints are
//! HMAC-SHA-256 (RFC 2104) over inputs that start with a different domain, so that neither can pass for the other.
//!
//! Replicas agree on one while calls are under way ([`Secret::adopt`]). What was made with the one before is not found
//! any more, and so is what a call has made with both; what is made once and used for long is a [`Lasting`].

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Kind};

use super::hex::{self, Hex};

/// A 256-bit secret; clones share it, and follow it when another takes its place. It is shown nowhere, `Debug` included.
#[derive(Clone)]
pub struct Secret(Arc<Inner>);

struct Inner {
    /// That of the present one, to be read without it.
    edition: AtomicU64,
    keyed: ArcSwap<Keyed>,
}

struct Keyed {
    bytes: [u8; 32],
    /// Counts those that took the place of another.
    edition: u64,
    /// Keyed and past the domain of keys, so that a call only has to copy it.
    key_state: Hmac<Sha256>,
    /// Keyed and past the domain of fingerprints.
    fingerprint_state: Hmac<Sha256>,
}

/// The fingerprint of something that is fixed, made once for each secret; clones share it.
#[derive(Clone)]
pub struct Lasting(Arc<Recipe>);

struct Recipe {
    secret: Secret,
    label: &'static str,
    parts: Vec<Vec<u8>>,
    /// The fingerprint, and the edition of the secret that it was made with.
    made: ArcSwap<(u64, Fingerprint)>,
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
        Self(Arc::new(Inner {
            edition: AtomicU64::new(0),
            keyed: ArcSwap::from_pointee(Keyed::new(bytes, 0)),
        }))
    }

    /// Returns the secret that this text of the operator's stands for.
    pub fn of_text(text: &str) -> Self {
        Self::from_bytes(Sha256::digest(text).into())
    }

    /// Reads the 32 bytes of a secret off 64 hexadecimal digits, as [`spelled`](Self::spelled).
    pub fn read(digits: &[u8]) -> Option<[u8; 32]> {
        hex::parse(str::from_utf8(digits).ok()?)
    }

    /// Returns the bytes, for the store that keeps them and for nothing else.
    pub fn expose(&self) -> [u8; 32] {
        self.0.keyed.load().bytes
    }

    /// Returns the bytes as hexadecimal digits, for the store that shares them and for nothing else.
    pub fn spelled(&self) -> Hex<64> {
        Hex::of(&self.expose())
    }

    /// Puts another secret in its place, from now on, in all clones; returns whether it is another.
    pub fn adopt(&self, bytes: [u8; 32]) -> bool {
        let keyed = self.0.keyed.load();
        if keyed.bytes == bytes {
            return false;
        }
        let edition = keyed.edition + 1;
        self.0.keyed.store(Arc::new(Keyed::new(bytes, edition)));
        self.0.edition.store(edition, Ordering::Release);
        true
    }

    /// Returns how often another has taken its place.
    pub fn edition(&self) -> u64 {
        self.0.edition.load(Ordering::Acquire)
    }

    /// Returns the fingerprint of `parts`, in this order; `label` names their kind, so that equal bytes of two kinds differ.
    pub fn fingerprint(&self, label: &str, parts: &[&[u8]]) -> Fingerprint {
        self.0.keyed.load().fingerprint(label, parts)
    }

    /// Returns the state that a key's material is fed to.
    pub(super) fn key_state(&self) -> Hmac<Sha256> {
        self.0.keyed.load().key_state.clone()
    }
}

impl Keyed {
    fn new(bytes: [u8; 32], edition: u64) -> Self {
        Self {
            bytes,
            edition,
            key_state: keyed(bytes, KEY_DOMAIN),
            fingerprint_state: keyed(bytes, FINGERPRINT_DOMAIN),
        }
    }

    fn fingerprint<P: AsRef<[u8]>>(&self, label: &str, parts: &[P]) -> Fingerprint {
        let mut state = self.fingerprint_state.clone();
        feed(&mut state, label.as_bytes());
        state.update(&(parts.len() as u64).to_be_bytes());
        for part in parts {
            feed(&mut state, part.as_ref());
        }
        Fingerprint(head(state.finalize().into_bytes().into()))
    }
}

impl Lasting {
    /// Prepares the fingerprint of `parts`, as [`Secret::fingerprint`].
    pub fn new(secret: &Secret, label: &'static str, parts: &[&[u8]]) -> Self {
        let keyed = secret.0.keyed.load();
        Self(Arc::new(Recipe {
            secret: secret.clone(),
            label,
            parts: parts.iter().map(|part| part.to_vec()).collect(),
            made: ArcSwap::from_pointee((keyed.edition, keyed.fingerprint(label, parts))),
        }))
    }

    /// Returns it, made with the present secret.
    pub fn get(&self) -> Fingerprint {
        let made = self.0.made.load();
        let (edition, fingerprint) = **made;
        if edition == self.0.secret.edition() {
            return fingerprint;
        }
        self.make_anew()
    }

    #[cold]
    fn make_anew(&self) -> Fingerprint {
        let Recipe {
            secret,
            label,
            parts,
            made,
        } = &*self.0;
        let keyed = secret.0.keyed.load();
        let fingerprint = keyed.fingerprint(label, parts);
        made.store(Arc::new((keyed.edition, fingerprint)));
        fingerprint
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl fmt::Debug for Lasting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lasting({})", self.0.label)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_follow_a_secret_that_is_adopted_and_so_does_what_lasts() {
        let (secret, other) = (Secret::from_bytes([1; 32]), Secret::from_bytes([2; 32]));
        let (clone, lasting) = (secret.clone(), Lasting::new(&secret, "kind", &[b"a", b"b"]));
        assert_eq!(lasting.get(), secret.fingerprint("kind", &[b"a", b"b"]));
        assert!(clone.adopt(other.expose()));
        assert_eq!(secret.expose(), other.expose());
        assert_eq!(lasting.get(), other.fingerprint("kind", &[b"a", b"b"]));
        assert_eq!(lasting.get(), other.fingerprint("kind", &[b"a", b"b"]));
        assert_eq!(secret.edition(), 1);
    }

    #[test]
    fn the_same_secret_again_is_no_other() {
        let secret = Secret::from_bytes([1; 32]);
        assert!(!secret.adopt([1; 32]));
        assert_eq!(secret.edition(), 0);
    }

    #[test]
    fn a_secret_is_read_as_it_is_spelled_and_nothing_else_is_one() {
        let secret = Secret::of_text("correct horse");
        let spelled = secret.spelled();
        assert_eq!(Secret::read(spelled.as_bytes()), Some(secret.expose()));
        for wrong in [&b""[..], b"correct horse", &[0xFF; 64], &[b'g'; 64]] {
            assert_eq!(Secret::read(wrong), None);
        }
    }
}
