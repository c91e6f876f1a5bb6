//! Strings: decoded UTF-8 between a tag and an end mark.
//!
//! # Scope
//! Undoes escapes (RFC 8259 §7) and nothing else: no normalisation, no folding, no trimming. Refuses control characters
//! and halves of surrogate pairs.

use super::Unkeyed;

/// What a canonical string starts with.
pub(super) const TAG: u8 = b'"';
/// What a canonical string ends with; occurs in no UTF-8 text.
pub(super) const END: u8 = 0xFF;

/// Appends the content of the string whose opening quote is behind us; returns what follows its closing quote.
pub(super) fn decode<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], Unkeyed> {
    loop {
        let (plain, tail) = rest.split_at(plain_len(rest));
        out.extend_from_slice(plain);
        match tail {
            [b'"', tail @ ..] => return Ok(tail),
            [b'\\', tail @ ..] => rest = escape(tail, out)?,
            _ => return Err(Unkeyed::InvalidJson),
        }
    }
}

/// Returns the content of a canonical string; `None` for any other value.
pub(super) fn bytes(canonical: &[u8]) -> Option<&[u8]> {
    match canonical {
        [TAG, content @ .., END] => Some(content),
        _ => None,
    }
}

/// Returns the content of a canonical string as text; `None` for any other value.
pub(super) fn content(canonical: &[u8]) -> Option<&str> {
    bytes(canonical).and_then(|content| str::from_utf8(content).ok())
}

/// Undoes the escape whose backslash is behind us.
fn escape<'a>(text: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], Unkeyed> {
    let (&kind, rest) = text.split_first().ok_or(Unkeyed::InvalidJson)?;
    out.push(match kind {
        b'"' | b'\\' | b'/' => kind,
        b'b' => 0x08,
        b'f' => 0x0C,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => return unicode(rest, out),
        _ => return Err(Unkeyed::InvalidJson),
    });
    Ok(rest)
}

/// Undoes `\uXXXX`, or a pair of them.
fn unicode<'a>(text: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], Unkeyed> {
    let (unit, mut rest) = hex4(text)?;
    let code = match unit {
        0xD800..=0xDBFF => {
            let low = rest.strip_prefix(b"\\u").ok_or(Unkeyed::LoneSurrogate)?;
            let (low, after) = hex4(low)?;
            rest = after;
            join(unit, low).ok_or(Unkeyed::LoneSurrogate)?
        }
        _ => unit,
    };
    let character = char::from_u32(code).ok_or(Unkeyed::LoneSurrogate)?;
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(rest)
}

fn join(high: u32, low: u32) -> Option<u32> {
    matches!(low, 0xDC00..=0xDFFF).then(|| 0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00))
}

fn hex4(text: &[u8]) -> Result<(u32, &[u8]), Unkeyed> {
    let (digits, rest) = text.split_first_chunk::<4>().ok_or(Unkeyed::InvalidJson)?;
    let unit = digits.iter().try_fold(0, |unit, &digit| {
        Some(unit << 4 | char::from(digit).to_digit(16)?)
    });
    Ok((unit.ok_or(Unkeyed::InvalidJson)?, rest))
}

/// Returns the number of bytes before the next quote, backslash or control character, eight at a time.
fn plain_len(text: &[u8]) -> usize {
    let (words, tail) = text.as_chunks::<8>();
    let mut len = 0;
    for &word in words {
        let special = specials(u64::from_le_bytes(word));
        if special != 0 {
            return len + special.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    len + tail
        .iter()
        .position(|&byte| is_special(byte))
        .unwrap_or(tail.len())
}

/// Sets the high bit of each special byte. The lowest one set is exact, bytes above it may be marked by a borrow.
fn specials(word: u64) -> u64 {
    let below = |word: u64, byte: u8| word.wrapping_sub(splat(byte)) & !word & splat(0x80);
    below(word, 0x20) | below(word ^ splat(b'"'), 1) | below(word ^ splat(b'\\'), 1)
}

const fn splat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..0x20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(json: &str) -> Result<String, Unkeyed> {
        let mut out = Vec::new();
        let rest = decode(json.as_bytes(), &mut out)?;
        assert_eq!(rest, b"", "{json}");
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn escapes_are_undone_and_nothing_else() {
        let cases = [
            (r#"""#, ""),
            (r#"plain""#, "plain"),
            (r#"\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
            (r#"\u0041\u00e9\u20AC\u20ac""#, "A\u{e9}\u{20ac}\u{20ac}"),
            (r#"\ud83d\ude00 \uD83D\uDE00""#, "\u{1f600} \u{1f600}"),
            (r#"\u0000""#, "\0"),
            (
                "\u{e9} e\u{301} \u{7f} \u{fffe}\"",
                "\u{e9} e\u{301} \u{7f} \u{fffe}",
            ),
            (
                r#"0123456789abcdef\n0123456789abcdef""#,
                "0123456789abcdef\n0123456789abcdef",
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(decoded(json).as_deref(), Ok(expected), "{json}");
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let cases = [
            ("", Unkeyed::InvalidJson, "unterminated"),
            (
                "abcdefgh",
                Unkeyed::InvalidJson,
                "unterminated after a whole word",
            ),
            ("\\", Unkeyed::InvalidJson, "ends in an escape"),
            ("\\\"", Unkeyed::InvalidJson, "the quote is escaped"),
            ("\\x41\"", Unkeyed::InvalidJson, "unknown escape"),
            (
                "\\U0041\"",
                Unkeyed::InvalidJson,
                "letter case of escapes counts",
            ),
            ("\\u00\"", Unkeyed::InvalidJson, "two digits"),
            ("\\u00g0\"", Unkeyed::InvalidJson, "no hex digit"),
            ("\\u+041\"", Unkeyed::InvalidJson, "a sign is no digit"),
            ("a\nb\"", Unkeyed::InvalidJson, "raw line feed"),
            ("a\0b\"", Unkeyed::InvalidJson, "raw NUL"),
            (
                "0123456789\u{1f}\"",
                Unkeyed::InvalidJson,
                "raw control in the second word",
            ),
            ("\\ud800\"", Unkeyed::LoneSurrogate, "high alone"),
            ("\\ud800x\"", Unkeyed::LoneSurrogate, "high before text"),
            (
                "\\ud800\\n\"",
                Unkeyed::LoneSurrogate,
                "high before another escape",
            ),
            ("\\udc00\"", Unkeyed::LoneSurrogate, "low alone"),
            (
                "\\udc00\\ud800\"",
                Unkeyed::LoneSurrogate,
                "the wrong way round",
            ),
            ("\\ud800\\ud800\"", Unkeyed::LoneSurrogate, "two highs"),
            (
                "\\ud800\\u0041\"",
                Unkeyed::LoneSurrogate,
                "high before a letter",
            ),
        ];
        for (json, expected, why) in cases {
            assert_eq!(decoded(json), Err(expected), "{why}");
        }
    }

    #[test]
    fn every_special_byte_is_found_at_every_place() {
        for byte in 0..=u8::MAX {
            for at in 0..20 {
                let mut text = [b'x'; 20];
                text[at] = byte;
                let expected = if is_special(byte) { at } else { 20 };
                assert_eq!(plain_len(&text), expected, "{byte:#x} at {at}");
            }
        }
    }

    #[test]
    fn the_first_of_two_special_bytes_is_found() {
        for first in 0..=u8::MAX {
            for second in [
                b'"', b'\\', 0, 0x1f, 0x20, 0x21, 0x23, 0x5b, 0x5d, 0x80, 0xff,
            ] {
                let text = [b'x', first, second, b'x', b'x', b'x', b'x', b'x'];
                let expected = text.iter().position(|&byte| is_special(byte)).unwrap_or(8);
                assert_eq!(plain_len(&text), expected, "{first:#x} {second:#x}");
            }
        }
    }
}
