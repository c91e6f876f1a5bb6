//! Finds the characters that mean something within a JSON string, many bytes at a time. Pure.
//!
//! # Scope
//! Special are the quote, the backslash and what may not stand in a string at all (RFC 8259 §7: below 0x20). What they
//! mean is up to whoever looks.

/// Returns whether no byte is special; without an early return, so that it compiles to vector instructions.
#[inline]
pub(crate) fn is_plain(block: &[u8; 16]) -> bool {
    let special =
        |byte: u8| u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
    block.iter().fold(0, |seen, &byte| seen | special(byte)) == 0
}

/// Sets the high bit of each special byte. The lowest one set is exact, bytes above it may be marked by a borrow.
#[inline]
pub(crate) fn specials(word: u64) -> u64 {
    let below = |word: u64, byte: u8| word.wrapping_sub(splat(byte)) & !word & splat(0x80);
    below(word, 0x20) | below(word ^ splat(b'"'), 1) | below(word ^ splat(b'\\'), 1)
}

/// Returns a word of eight equal bytes.
#[inline]
pub(crate) const fn splat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_special(byte: u8) -> bool {
        matches!(byte, b'"' | b'\\' | 0..0x20)
    }

    #[test]
    fn a_block_is_plain_if_none_of_its_bytes_is_special() {
        for byte in 0..=u8::MAX {
            for at in 0..16 {
                let mut block = [b'x'; 16];
                block[at] = byte;
                assert_eq!(is_plain(&block), !is_special(byte), "{byte:#x} at {at}");
            }
        }
    }

    #[test]
    fn the_lowest_special_byte_of_a_word_is_told_exactly() {
        for byte in 0..=u8::MAX {
            for (at, above) in (0..8).flat_map(|at| [(at, b'x'), (at, b'"'), (at, 0x80)]) {
                let mut word = [above; 8];
                word[..at].fill(b'x');
                word[at] = byte;
                let expected = word.iter().position(|&byte| is_special(byte)).unwrap_or(8);
                let found = specials(u64::from_le_bytes(word)).trailing_zeros() as usize / 8;
                assert_eq!(found, expected, "{word:x?}");
            }
        }
    }
}
