//! The order of members: which objects have to be rewritten, and the rewriting, once, at the end.
//!
//! Objects are written down as they come. Where one is out of order, or has members that do not count, its members'
//! places are kept; [`Order::write`] then copies every byte once, each member to where it belongs. Sorting each object as
//! it closes would copy the innermost members once per level.
//!
//! # Scope
//! Names that differ only in letter case are doubles: Go's `encoding/json` gives both to the same field, whichever comes
//! last. It folds by Unicode's simple folding; as fields have ASCII names, the letters A to Z and the two characters
//! that fold into them (U+017F to `s`, U+212A to `k`) are all that can make such a double.

use std::{cmp::Ordering, ops::Range};

use super::{Unkeyed, text};

/// The members of open objects and the objects to be rewritten.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Members of the open objects, innermost last.
    open: Vec<Member>,
    /// Members of the objects to be rewritten, each object's together and sorted.
    sorted: Vec<Member>,
    /// Objects in the order of their beginnings.
    objects: Vec<Object>,
}

/// An object whose members are being read.
pub(super) struct Open {
    /// Its place in the list of objects.
    object: usize,
    /// Its first member's place in the list of open members.
    first: usize,
}

/// A place in the form: where something has been written, and which objects begin there.
#[derive(Clone, Debug, Default)]
pub(super) struct Span {
    bytes: Range<usize>,
    objects: Range<usize>,
}

/// The beginning of a [`Span`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    byte: usize,
    object: usize,
}

#[derive(Clone, Debug)]
struct Member {
    /// The first bytes of the folded name, big-endian: decides nearly every comparison.
    prefix: u64,
    name: Range<usize>,
    /// Name and value.
    span: Span,
    counts: bool,
}

#[derive(Debug, Default)]
struct Object {
    /// Its members in the form, without the brackets.
    bytes: Range<usize>,
    /// The first object that begins behind it.
    next: usize,
    /// Its members in the sorted list; `None` where it can be copied as it is.
    members: Option<Range<usize>>,
}

impl Mark {
    /// Returns the place in the form's bytes.
    pub(super) fn byte(self) -> usize {
        self.byte
    }
}

impl Order {
    /// Forgets everything, and gives back what an unusually large body needed.
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.open.shrink_to(MAX_KEPT);
        self.sorted.clear();
        self.sorted.shrink_to(MAX_KEPT);
        self.objects.clear();
        self.objects.shrink_to(MAX_KEPT);
    }

    /// Returns the place that is written next, at `byte` of the form.
    pub(super) fn mark(&self, byte: usize) -> Mark {
        Mark {
            byte,
            object: self.objects.len(),
        }
    }

    /// Returns the place from `mark` to `byte` of the form.
    pub(super) fn span(&self, mark: Mark, byte: usize) -> Span {
        Span {
            bytes: mark.byte..byte,
            objects: mark.object..self.objects.len(),
        }
    }

    /// Notes an object whose first member will be written at `byte`.
    pub(super) fn open(&mut self, byte: usize) -> Result<Open, Unkeyed> {
        if self.objects.len() >= MAX_MEMBERS {
            return Err(Unkeyed::TooComplex);
        }
        let object = self.objects.len();
        self.objects.push(Object {
            bytes: byte..byte,
            ..Object::default()
        });
        let first = self.open.len();
        Ok(Open { object, first })
    }

    /// Notes a member of the innermost object: its name, and all of it.
    pub(super) fn member(
        &mut self,
        form: &[u8],
        name: Range<usize>,
        span: Span,
        counts: bool,
    ) -> Result<(), Unkeyed> {
        if self.open.len() + self.sorted.len() >= MAX_MEMBERS {
            return Err(Unkeyed::TooComplex);
        }
        self.open.push(Member {
            prefix: prefix(content(form, &name)),
            name,
            span,
            counts,
        });
        Ok(())
    }

    /// Lets those members not count whose name and value, both canonical, `dropped` holds for.
    pub(super) fn leave_out(
        &mut self,
        object: &Open,
        form: &[u8],
        dropped: impl Fn(&str, &[u8]) -> bool,
    ) {
        for member in self.open.iter_mut().skip(object.first) {
            let name = str::from_utf8(content(form, &member.name)).unwrap_or_default();
            let value = form
                .get(member.name.end..member.span.bytes.end)
                .unwrap_or_default();
            member.counts &= !dropped(name, value);
        }
    }

    /// Notes the end of an object's members, at the end of the form; refuses doubles, also where they do not count.
    pub(super) fn close(&mut self, open: &Open, form: &[u8]) -> Result<(), Unkeyed> {
        let members = self.open.get_mut(open.first..).unwrap_or_default();
        let in_order = sort(members, form)? && members.iter().all(|member| member.counts);
        let next = self.objects.len();
        if in_order {
            self.open.truncate(open.first);
            if next == open.object + 1 {
                self.objects.pop();
            }
        } else if let Some(object) = self.objects.get_mut(open.object) {
            let first = self.sorted.len();
            self.sorted.extend(self.open.drain(open.first..));
            *object = Object {
                bytes: object.bytes.start..form.len(),
                next,
                members: Some(first..self.sorted.len()),
            };
        }
        Ok(())
    }

    /// Appends what stands at `span` of the form to `out`, with the members of every object in order.
    #[expect(
        clippy::indexing_slicing,
        reason = "all places were noted while this very form was written"
    )]
    pub(super) fn write(&self, span: &Span, form: &[u8], out: &mut Vec<u8>) {
        let mut byte = span.bytes.start;
        let mut next = span.objects.start;
        while next < span.objects.end {
            let object = &self.objects[next];
            next += 1;
            let Some(members) = &object.members else {
                continue;
            };
            out.extend_from_slice(&form[byte..object.bytes.start]);
            for member in self.sorted[members.clone()]
                .iter()
                .filter(|member| member.counts)
            {
                self.write(&member.span, form, out);
            }
            byte = object.bytes.end;
            next = object.next;
        }
        out.extend_from_slice(&form[byte..span.bytes.end]);
    }
}

/// Sorts by folded name; returns whether nothing had to move.
fn sort(members: &mut [Member], form: &[u8]) -> Result<bool, Unkeyed> {
    let order = |a: &Member, b: &Member| {
        let names = || compare(content(form, &a.name), content(form, &b.name));
        a.prefix.cmp(&b.prefix).then_with(names)
    };
    let ascending = |members: &[Member]| members.is_sorted_by(|a, b| order(a, b).is_lt());
    if ascending(members) {
        return Ok(true);
    }
    members.sort_unstable_by(order);
    if ascending(members) {
        Ok(false)
    } else {
        Err(Unkeyed::DuplicateKey)
    }
}

/// Returns the content of the canonical string at `place`.
fn content<'a>(form: &'a [u8], place: &Range<usize>) -> &'a [u8] {
    form.get(place.clone())
        .and_then(text::bytes)
        .unwrap_or_default()
}

fn compare(a: &[u8], b: &[u8]) -> Ordering {
    folded(a).cmp(folded(b))
}

/// Returns the first eight bytes of the folded name as a number of the same order, zeros where there are fewer.
fn prefix(name: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(folded(name)) {
        *to = from;
    }
    u64::from_be_bytes(bytes)
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

/// Members, and objects, that a body may have: no honest request comes near, and their places take memory.
const MAX_MEMBERS: usize = 1 << 18;
/// Members and objects that room is kept for.
const MAX_KEPT: usize = 4096;

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
            ("a", "a\0", Ordering::Less, "a NUL is a character"),
            (
                "max_tokens",
                "max_token",
                Ordering::Greater,
                "longer than the prefix",
            ),
        ];
        for (a, b, expected, why) in cases {
            assert_eq!(compare(a.as_bytes(), b.as_bytes()), expected, "{why}");
            assert_eq!(
                compare(b.as_bytes(), a.as_bytes()),
                expected.reverse(),
                "{why}"
            );
            let prefixes = prefix(a.as_bytes()).cmp(&prefix(b.as_bytes()));
            assert!(
                prefixes == expected || prefixes.is_eq(),
                "{why}: the prefix never says otherwise"
            );
        }
    }
}
