//! The members of one object: their order, and which names are the same.
//!
//! # Scope
//! Names that differ only in letter case are doubles: Go's `encoding/json` gives both to the same field, whichever comes
//! last. It folds by Unicode's simple folding; as fields have ASCII names, the letters A to Z and the two characters
//! that fold into them (U+017F to `s`, U+212A to `k`) are all that can make such a double.

use std::cmp::Ordering;

use super::{Unkeyed, text};

/// A member of an object that is still open: places in the canonical form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// Where it starts, with the tag of its name.
    pub(super) start: usize,
    /// Where its name ends and its value starts.
    pub(super) name_end: usize,
    /// Where it ends.
    pub(super) end: usize,
    /// Whether it stays in the form.
    pub(super) counts: bool,
}

impl Member {
    /// Returns the name, decoded.
    pub(super) fn name<'a>(&self, out: &'a [u8]) -> &'a [u8] {
        text::bytes(out.get(self.start..self.name_end).unwrap_or_default()).unwrap_or_default()
    }

    /// Returns the value, canonical.
    pub(super) fn value<'a>(&self, out: &'a [u8]) -> &'a [u8] {
        out.get(self.name_end..self.end).unwrap_or_default()
    }
}

/// Sorts by folded name; refuses doubles, also among members that do not count.
pub(super) fn sort(members: &mut [Member], out: &[u8]) -> Result<(), Unkeyed> {
    let order = |a: &Member, b: &Member| compare(a.name(out), b.name(out));
    if members.is_sorted_by(|a, b| order(a, b).is_lt()) {
        return Ok(());
    }
    members.sort_unstable_by(order);
    if members.is_sorted_by(|a, b| order(a, b).is_lt()) {
        Ok(())
    } else {
        Err(Unkeyed::DuplicateKey)
    }
}

/// Returns whether sorting or leaving out has to move bytes.
pub(super) fn moved(members: &[Member]) -> bool {
    !members.iter().all(|member| member.counts) || !members.is_sorted_by_key(|member| member.start)
}

/// Rewrites the object's part of the form, from `start` on, in the order of its members and without those left out.
#[expect(
    clippy::indexing_slicing,
    reason = "the places were noted while these very bytes were written"
)]
pub(super) fn arrange(members: &[Member], start: usize, out: &mut Vec<u8>, copy: &mut Vec<u8>) {
    copy.clear();
    copy.extend_from_slice(&out[start..]);
    out.truncate(start);
    for member in members.iter().filter(|member| member.counts) {
        out.extend_from_slice(&copy[member.start - start..member.end - start]);
    }
}

fn compare(a: &[u8], b: &[u8]) -> Ordering {
    folded(a).cmp(folded(b))
}

fn folded(mut name: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let (byte, rest) = match name {
            [] => return None,
            [0xC5, 0xBF, rest @ ..] => (b's', rest),
            [0xE2, 0x84, 0xAA, rest @ ..] => (b'k', rest),
            [byte, rest @ ..] => (byte.to_ascii_lowercase(), rest),
        };
        name = rest;
        Some(byte)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_the_most_lenient_parser_does() {
        let cases = [
            ("a", "b", Ordering::Less, "plain order"),
            ("ab", "a", Ordering::Greater, "a prefix comes first"),
            ("", "a", Ordering::Less, "the empty name comes first"),
            ("model", "MODEL", Ordering::Equal, "ASCII case"),
            (
                "stop",
                "\u{17f}top",
                Ordering::Equal,
                "LATIN SMALL LETTER LONG S",
            ),
            ("mask", "mas\u{212a}", Ordering::Equal, "KELVIN SIGN"),
            (
                "\u{e9}",
                "\u{c9}",
                Ordering::Greater,
                "no field has such a name",
            ),
            ("s", "\u{df}", Ordering::Less, "no full folding"),
        ];
        for (a, b, expected, why) in cases {
            assert_eq!(compare(a.as_bytes(), b.as_bytes()), expected, "{why}");
            assert_eq!(
                compare(b.as_bytes(), a.as_bytes()),
                expected.reverse(),
                "{why}"
            );
        }
    }
}
