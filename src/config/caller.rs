//! The proxy's own callers, `[[caller]]`: who may call at all, each known by the hashes of its keys.
//!
//! # Scope
//! A configuration holds hashes and no keys, so that who reads it cannot call. They are plain SHA-256: a key is random and
//! long, so there is nothing to guess that salt or a slow hash would protect.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

use super::problem::Complaint;

/// `[[caller]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its name in log lines; no two callers have the same.
    pub name: String,
    /// The hashes of its keys: at least one, several while a key is replaced. No other caller has one of them.
    pub keys: Vec<KeyHash>,
    /// The tenant that it belongs to and shares its entries with; `None` for itself alone.
    pub scope: Option<String>,
}

/// SHA-256 of a caller's key, written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Hashes a `key`.
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for KeyHash {
    type Err = Complaint;

    /// Reads a hash. What is none is not repeated in the complaint: it may be the key itself.
    fn from_str(text: &str) -> Result<Self, Complaint> {
        text.strip_prefix(PREFIX).and_then(bytes).map(Self).ok_or_else(|| {
            Complaint::new(
                "is no hash of a key",
                "expected `sha256:` and 64 hexadecimal digits; `refrain hash-key` makes one of a key",
            )
        })
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn bytes(digits: &str) -> Option<[u8; 32]> {
    let digits = digits.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair.iter().try_fold(0, |value, digit| {
            let digit = char::from(*digit).to_digit(16)?;
            Some(value << 4 | u8::try_from(digit).ok()?)
        })?;
    }
    Some(bytes)
}

const PREFIX: &str = "sha256:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_that_of_every_other_tool() {
        // `printf %s abc | sha256sum`, and the first example of FIPS 180-2.
        let hash = KeyHash::of(b"abc");
        assert_eq!(
            hash.to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(hash.to_string().parse::<KeyHash>(), Ok(hash));
        assert_eq!(
            hash.to_string()
                .to_uppercase()
                .replace("SHA", "sha")
                .parse::<KeyHash>(),
            Ok(hash)
        );
    }

    #[test]
    fn a_key_in_place_of_its_hash_is_refused_and_not_repeated() {
        let digits = "0".repeat(64);
        for text in [
            String::new(),
            "sk-canary".to_owned(),
            digits.clone(),
            format!("sha256:{digits}0"),
            format!("sha256:{}canary", &digits[6..]),
            format!("sha512:{digits}"),
            format!("sha256:+{}", &digits[1..]),
        ] {
            let complaint = text.parse::<KeyHash>().unwrap_err();
            assert!(
                !format!("{complaint:?}").contains("canary"),
                "{complaint:?}"
            );
        }
    }
}
