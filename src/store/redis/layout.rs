//! The names of all keys in Redis. Pure.
//!
//! What belongs to one call carries its key as the hash tag, so that in a cluster it lies on one node.

use sha2::{Digest, Sha256};

use crate::call::{Slot, key::Key};

/// Makes the names, all of which begin with the operator's prefix.
#[derive(Clone, Debug)]
pub struct Layout {
    prefix: String,
    database: u32,
}

impl Layout {
    /// Makes names that begin with `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            database: 0,
        }
    }

    /// Makes names for this database. Those of keys are the same in each; channels are not of any.
    #[must_use]
    pub fn in_database(self, database: u32) -> Self {
        Self { database, ..self }
    }

    /// Returns where the entry of `slot` lies.
    pub fn entry(&self, slot: &Slot) -> String {
        self.of(slot, 'e')
    }

    /// Returns where the lease of the flight for `slot` lies.
    pub fn lease(&self, slot: &Slot) -> String {
        self.of(slot, 'l')
    }

    /// Returns where the entries of `key` are listed that were made for another way of delivery than the usual one.
    pub fn deliveries(&self, key: &Key) -> String {
        let slot = Slot {
            key: *key,
            delivery: 0,
        };
        self.of(&slot, 'd')
    }

    /// Returns the channel that replicas talk over.
    pub fn channel(&self) -> String {
        match self.database {
            0 => self.fact("news"),
            database => self.fact(&format!("news:{database}")),
        }
    }

    /// Returns where the facts of this name lie: `secret`, `generations`, `proofs`, ...
    pub fn fact(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Returns the pattern that the keys of all entries match, and those of nothing else of ours.
    pub fn entries(&self) -> String {
        let escaped = self.prefix.chars().flat_map(|character| {
            let escape = matches!(character, '*' | '?' | '[' | ']' | '^' | '-' | '\\');
            escape.then_some('\\').into_iter().chain([character])
        });
        escaped.chain("e:*".chars()).collect()
    }

    /// Returns where the entries with this tag are listed. A tag may be long, a key should not.
    pub fn tag(&self, tag: &str) -> String {
        let digest: [u8; 32] = Sha256::digest(tag.as_bytes()).into();
        let short = digest.first_chunk().copied().unwrap_or_default();
        format!("{}t:{:032x}", self.prefix, u128::from_be_bytes(short))
    }

    /// Returns what stands for `slot` in lists.
    pub fn member(&self, slot: &Slot) -> Vec<u8> {
        let Slot { key, delivery } = slot;
        [key.as_bytes().as_slice(), &delivery.to_be_bytes()].concat()
    }

    /// Returns the slot that a member of a list stands for.
    pub fn slot(&self, member: &[u8]) -> Option<Slot> {
        let (key, delivery) = member.split_first_chunk()?;
        Some(Slot {
            key: Key::from_bytes(*key),
            delivery: u64::from_be_bytes(delivery.try_into().ok()?),
        })
    }

    fn of(&self, slot: &Slot, what: char) -> String {
        let Slot { key, delivery } = slot;
        let (prefix, hex) = (&self.prefix, key.hex());
        let hex = hex.as_str();
        if *delivery == 0 {
            format!("{prefix}{what}:{{{hex}}}")
        } else {
            format!("{prefix}{what}:{{{hex}}}:{delivery:x}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(delivery: u64) -> Slot {
        Slot {
            key: Key::from_bytes([7; 32]),
            delivery,
        }
    }

    #[test]
    fn what_belongs_to_one_call_has_one_hash_tag() {
        let layout = Layout::new("refrain:");
        let hex = "07".repeat(32);
        assert_eq!(layout.entry(&slot(0)), format!("refrain:e:{{{hex}}}"));
        assert_eq!(layout.lease(&slot(255)), format!("refrain:l:{{{hex}}}:ff"));
        let deliveries = layout.deliveries(&slot(255).key);
        assert_eq!(deliveries, format!("refrain:d:{{{hex}}}"));
        assert_eq!(layout.fact("secret"), "refrain:secret");
    }

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(Layout::new("a*[b]:").entries(), r"a\*\[b\]:e:*");
    }

    #[test]
    fn a_member_stands_for_its_slot() {
        let layout = Layout::new("");
        for delivery in [0, 7, u64::MAX] {
            let member = layout.member(&slot(delivery));
            assert_eq!(layout.slot(&member), Some(slot(delivery)));
        }
        for foreign in [&b""[..], &[7; 39], &[7; 41]] {
            assert_eq!(layout.slot(foreign), None);
        }
    }

    #[test]
    fn the_key_of_a_tag_is_short_however_long_the_tag_is() {
        let layout = Layout::new("refrain:");
        let (long, other) = (layout.tag(&"x".repeat(128)), layout.tag("y"));
        assert_ne!(long, other);
        assert_eq!((long.len(), other.len()), (42, 42));
    }
}
