//! The names of all keys in Redis. Pure.
//!
//! What belongs to one call carries its key as the hash tag, so that in a cluster it lies on one node.

use crate::call::Slot;

/// Makes the names, all of which begin with the operator's prefix.
#[derive(Clone, Debug)]
pub struct Layout {
    prefix: String,
}

impl Layout {
    /// Makes names that begin with `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// Returns where the entry of `slot` lies.
    pub fn entry(&self, slot: &Slot) -> String {
        self.of(slot, 'e')
    }

    /// Returns where the lease of the flight for `slot` lies.
    pub fn lease(&self, slot: &Slot) -> String {
        self.of(slot, 'l')
    }

    /// Returns where the facts of this name lie: `secret`, `generations`, `proofs`, ...
    pub fn fact(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
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
