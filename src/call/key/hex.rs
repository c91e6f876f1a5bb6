//! Hexadecimal digits of fixed number, written without an allocation. Pure.

use std::fmt;

/// `N` lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hex<const N: usize>([u8; N]);

impl<const N: usize> Hex<N> {
    /// Returns the first `N` digits of `bytes`, which has at least that many.
    pub fn of(bytes: &[u8]) -> Self {
        let mut digits = [b'0'; N];
        for (to, byte) in digits.as_chunks_mut().0.iter_mut().zip(bytes) {
            *to = PAIRS.get(usize::from(*byte)).copied().unwrap_or_default();
        }
        Self(digits)
    }

    /// Returns the digits.
    pub fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }

    /// Returns the digits as text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Returns the 32 bytes that 64 digits spell, in either letter case; `None` for anything else.
pub(super) fn parse(text: &str) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        for &digit in pair {
            *byte = *byte << 4 | u8::try_from(char::from(digit).to_digit(16)?).ok()?;
        }
    }
    Some(bytes)
}

/// The digits of every byte.
const PAIRS: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut rest = pairs.as_mut_slice();
    let mut byte = 0_u8;
    while let [pair, others @ ..] = rest {
        *pair = [digit(byte >> 4), digit(byte & 0x0F)];
        byte = byte.wrapping_add(1);
        rest = others;
    }
    pairs
};

const fn digit(nibble: u8) -> u8 {
    if nibble < 10 {
        b'0' + nibble
    } else {
        b'a' + nibble - 10
    }
}
