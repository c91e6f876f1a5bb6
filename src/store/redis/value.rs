//! The form of an entry in Redis: a byte that says whether a soft purge has made it stale, then its envelope
//! (`store::codec`). Pure.
//!
//! # Scope
//! The byte stands outside of the checksum, so that it can be set in place. Whoever can write to Redis can have a purge
//! that was soft forgotten by it, and nothing else.

use crate::{
    call::Slot,
    store::{
        codec::{self, Damage, Record, Unencodable},
        record::{Found, Lying},
    },
};

/// Returns the value of an entry.
pub(super) fn encode(record: &Record, softened: bool) -> Result<Vec<u8>, Unencodable> {
    let mut value = codec::encode(record)?;
    value.insert(0, u8::from(softened));
    Ok(value)
}

/// Reads the entry of `slot` back, whose body has at most `most` bytes.
pub(super) fn decode(value: &[u8], slot: &Slot, most: usize) -> Result<Found, Damage> {
    let (softened, envelope) = parts(value)?;
    let record = codec::decode(envelope, slot, most)?;
    Ok(Found { record, softened })
}

/// Reads what an entry can be found by from the first bytes of its value. It is not verified.
pub(super) fn decode_head(front: &[u8]) -> Result<Lying, Damage> {
    let (softened, envelope) = parts(front)?;
    let (slot, card) = codec::decode_head(envelope)?;
    Ok(Lying {
        slot,
        card,
        softened,
    })
}

/// Returns what tells a value from every other that may stand in its place, softened or not.
pub(super) fn identity(value: &[u8]) -> &[u8] {
    let identity = value.get(1..).unwrap_or_default();
    identity.get(..codec::IDENTITY).unwrap_or(identity)
}

/// Returns the most bytes that a value may have whose body has at most `most`: what does not shrink grows a little, and
/// there is a head.
pub(super) fn limit(most: u64) -> u64 {
    most.saturating_add(most / 128).saturating_add(HEAD)
}

fn parts(value: &[u8]) -> Result<(bool, &[u8]), Damage> {
    match value.split_first() {
        Some((0, envelope)) => Ok((false, envelope)),
        Some((1, envelope)) => Ok((true, envelope)),
        // Another program's value does not begin as ours do.
        _ => Err(Damage::Magic),
    }
}

/// Where the identity begins.
pub(super) const IDENTITY: usize = 1;
/// Where the identity ends.
pub(super) const IDENTITY_END: usize = IDENTITY + codec::IDENTITY - 1;
/// Where it is said when the answer was made, in eight bytes.
pub(super) const MADE: usize = 1 + codec::MADE;
/// For label, tags and headers, bytes.
const HEAD: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::*;
    use crate::{call::key::Key, dialect::chat::form::Form, store::Label};

    fn record() -> Record {
        Record {
            slot: slot(),
            variant: 0,
            alias: false,
            form: Form::Plain,
            made: 1_700_000_000_000,
            lifetime: Duration::from_secs(60),
            status: StatusCode::OK,
            usage: None,
            upstream: HeaderValue::from_static("openai"),
            label: Label::default(),
            tags: vec!["a".to_owned()],
            generations: vec![(1, 2)],
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"hello"),
        }
    }

    fn slot() -> Slot {
        Slot {
            key: Key::from_bytes([7; 32]),
            delivery: 0,
        }
    }

    #[test]
    fn an_entry_comes_back_softened_or_not() {
        for softened in [false, true] {
            let value = encode(&record(), softened).unwrap();
            let found = decode(&value, &slot(), 100).unwrap();
            assert_eq!((found.record, found.softened), (record(), softened));
            let lying = decode_head(&value).unwrap();
            assert_eq!((lying.slot, lying.softened), (slot(), softened));
        }
    }

    #[test]
    fn to_be_softened_does_not_change_who_it_is() {
        let [fresh, stale] = [false, true].map(|softened| encode(&record(), softened).unwrap());
        assert_eq!(identity(&fresh), identity(&stale));
        assert_eq!(identity(&fresh), &fresh[IDENTITY..=IDENTITY_END]);
        let other = Record {
            made: 1,
            ..record()
        };
        let other = encode(&other, false).unwrap();
        assert_ne!(identity(&fresh), identity(&other));
        assert_eq!(fresh[MADE..MADE + 8], record().made.to_le_bytes());
    }

    #[test]
    fn what_is_no_value_has_an_identity_too() {
        for (value, who) in [(&b""[..], &b""[..]), (b"x", b""), (b"xyz", b"yz")] {
            assert_eq!(identity(value), who);
            assert_eq!(decode_head(value).unwrap_err(), Damage::Magic);
        }
    }

    #[test]
    fn the_largest_entry_that_does_not_shrink_is_within_the_limit() {
        let mut state = 1_u32;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        });
        let body: Vec<u8> = noise.take(1 << 20).collect();
        let record = Record {
            body: Bytes::from(body),
            ..record()
        };
        let value = encode(&record, false).unwrap();
        assert!(value.len() as u64 > 1 << 20, "it does not shrink");
        assert!((value.len() as u64) < limit(1 << 20));
    }
}
