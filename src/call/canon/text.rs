//! Strings: decoded UTF-8 between a tag and an end mark. Pure.
//!
//! # Scope
//! Undoes escapes (RFC 8259 §7) and nothing else: no normalisation, no folding, no trimming. Refuses control characters
//! and halves of surrogate pairs.

use crate::dialect::special::{is_plain, specials};

use super::Unkeyed;

/// What a canonical string starts with.
pub(super) const TAG: u8 = b'"';
/// What a canonical string ends with; occurs in no UTF-8 text.
pub(super) const END: u8 = 0xFF;

/// Appends the content of the string whose opening quote is behind us; returns what follows its closing quote.
pub(super) fn decode<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], Unkeyed> {
    loop {
        rest = copy_plain(rest, out);
        match rest {
            [b'"', tail @ ..] => return Ok(tail),
            [b'\\', tail @ ..] => rest = escape(tail, out)?,
            [] | [0..0x20, ..] => return Err(Unkeyed::InvalidJson),
            [byte, tail @ ..] => {
                out.push(*byte);
                rest = tail;
            }
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

/// Appends what comes before the next quote, backslash or control character, and returns what follows.
///
/// Goes in blocks and then in words, and appends the last word whole before it cuts it again: copies of a fixed
/// size cost less than the call that one of unknown size is. Leaves the last few bytes of the body to the caller.
fn copy_plain<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    while let Some((block, tail)) = rest.split_first_chunk::<16>()
        && is_plain(block)
    {
        out.extend_from_slice(block);
        rest = tail;
    }
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        out.extend_from_slice(word);
        let special = specials(u64::from_le_bytes(*word));
        if special != 0 {
            let plain = special.trailing_zeros() as usize / 8;
            out.truncate(out.len() - (word.len() - plain));
            return rest.get(plain..).unwrap_or_default();
        }
        rest = tail;
    }
    rest
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

    /// Returns how many bytes before a quote, backslash or control character are copied.
    fn plain_len(text: &[u8]) -> usize {
        let mut out = b"before".to_vec();
        let rest = copy_plain(text, &mut out);
        let len = text.len() - rest.len();
        assert_eq!(out, [b"before", &text[..len]].concat());
        len
    }

    fn is_special(byte: u8) -> bool {
        matches!(byte, b'"' | b'\\' | 0..0x20)
    }

    #[test]
    fn every_special_byte_is_found_at_every_place() {
        for byte in 0..=u8::MAX {
            for at in 0..75 {
                let mut text = [b'x'; 75];
                text[at] = byte;
                let expected = if is_special(byte) { at.min(72) } else { 72 };
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
