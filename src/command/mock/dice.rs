//! Numbers that look random and are the same for the same text.

use sha2::{Digest, Sha256};

/// A generator (`SplitMix64`) that starts from a text.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// Makes the generator of `text` and `index`; either alone makes another one.
    pub(super) fn of(text: &str, index: usize) -> Self {
        let digest = Sha256::new()
            .chain_update(index.to_string())
            .chain_update([0])
            .chain_update(text)
            .finalize();
        Self(
            digest
                .iter()
                .take(8)
                .fold(0, |seed, byte| (seed << 8) | u64::from(*byte)),
        )
    }

    /// Returns the next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns the next number as a fraction, `0.0..=1.0`, in steps of 1/65535.
    pub(super) fn fraction(&mut self) -> f32 {
        let [low, high, ..] = self.next().to_le_bytes();
        f32::from(u16::from_le_bytes([low, high])) / f32::from(u16::MAX)
    }

    /// Returns the next of `choices`, or nothing if there are none.
    pub(super) fn choose<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let roll = usize::from(self.next().to_le_bytes()[0]);
        choices.get(roll.checked_rem(choices.len())?)
    }
}
