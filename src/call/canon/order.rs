//! The order of members: which objects have to be rewritten, and the rewriting, once, at the end. Pure.
//!
//! Objects are written down as they come. Where one is out of order, or has members that do not count, its members'
//! places are kept; [`Order::write`] then copies every byte once, each member to where it belongs. Sorting each object as
//! it closes would copy the innermost members once per level.
//!
//! # Scope
//! Names that differ only in letter case are doubles: Go's `encoding/json` gives both to the same field, whichever comes
//! last. It folds by Unicode's simple folding; as fields have ASCII names, the letters A to Z and the two characters
//! that fold into them (U+017F to `s`, U+212A to `k`) are all that can make such a double.

use std::cmp::Ordering;

use crate::dialect::special::splat;

use super::{Unkeyed, text};

/// The members of open objects and the objects to be rewritten.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The objects that are open, innermost last.
    open: Vec<Open>,
    /// Their members, innermost last.
    members: Vec<Member>,
    /// Members of the objects to be rewritten, each object's together and sorted.
    sorted: Vec<Member>,
    /// Objects in the order of their beginnings.
    objects: Vec<Object>,
}

/// A place in the form, and the number of objects that begin before it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    byte: u32,
    objects: u32,
}

/// What has been written between two marks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    start: Mark,
    end: Mark,
}

/// An object whose members are being read.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// Its place in the list of objects.
    object: usize,
    /// Its first member's place in the list of members.
    first: usize,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    /// The first bytes of the folded name, big-endian: decides nearly every comparison.
    prefix: u64,
    /// Name and value; ends with the name until the value has been read.
    span: Span,
    /// Where the name ends.
    name_end: u32,
    counts: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Object {
    /// Its members in the form, without the brackets.
    start: u32,
    end: u32,
    /// The first object that begins behind it.
    next: u32,
    /// Its members in the sorted list; none where it can be copied as it is.
    first_member: u32,
    end_member: u32,
}

impl Mark {
    /// Returns the place in the form's bytes.
    pub(super) fn byte(self) -> usize {
        self.byte as usize
    }
}

impl Order {
    /// Forgets everything, and gives back what an unusually large body needed.
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.members.clear();
        self.members.shrink_to(MAX_KEPT);
        self.sorted.clear();
        self.sorted.shrink_to(MAX_KEPT);
        self.objects.clear();
        self.objects.shrink_to(MAX_KEPT);
    }

    /// Returns the place behind the form written so far.
    pub(super) fn mark(&self, form: &[u8]) -> Mark {
        Mark {
            byte: narrow(form.len()),
            objects: narrow(self.objects.len()),
        }
    }

    /// Returns what has been written since `start`.
    pub(super) fn span(&self, start: Mark, form: &[u8]) -> Span {
        let end = self.mark(form);
        Span { start, end }
    }

    /// Notes an object whose opening bracket has just been written.
    pub(super) fn open(&mut self, form: &[u8]) -> Result<(), Unkeyed> {
        let (object, first) = (self.objects.len(), self.members.len());
        if object >= MAX_MEMBERS {
            return Err(Unkeyed::TooComplex);
        }
        self.open.push(Open { object, first });
        self.objects.push(Object {
            start: narrow(form.len()),
            ..Object::default()
        });
        Ok(())
    }

    /// Notes a member of the innermost object, whose name has just been written from `start` on.
    pub(super) fn name(&mut self, start: Mark, form: &[u8]) -> Result<(), Unkeyed> {
        if self.members.len() + self.sorted.len() >= MAX_MEMBERS {
            return Err(Unkeyed::TooComplex);
        }
        let span = self.span(start, form);
        let name_end = span.end.byte;
        self.members.push(Member {
            prefix: prefix(content(form, start.byte, name_end)),
            span,
            name_end,
            counts: true,
        });
        Ok(())
    }

    /// Returns the name of the member whose value is being read.
    pub(super) fn current<'a>(&self, form: &'a [u8]) -> &'a [u8] {
        self.members
            .last()
            .map(|member| member.name(form))
            .unwrap_or_default()
    }

    /// Notes the end of that member's value.
    pub(super) fn member(&mut self, form: &[u8], counts: bool) {
        let end = self.mark(form);
        if let Some(member) = self.members.last_mut() {
            member.span.end = end;
            member.counts = counts;
        }
    }

    /// Lets those members of the innermost object not count whose name and value, both canonical, `dropped` holds for.
    pub(super) fn leave_out(&mut self, form: &[u8], dropped: impl Fn(&str, &[u8]) -> bool) {
        let first = self.open.last().map_or(0, |open| open.first);
        for member in self.members.iter_mut().skip(first) {
            let name = str::from_utf8(member.name(form)).unwrap_or_default();
            member.counts &= !dropped(name, member.value(form));
        }
    }

    /// Notes the end of the innermost object's members; refuses doubles, also among members that do not count.
    pub(super) fn close(&mut self, form: &[u8]) -> Result<(), Unkeyed> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let members = self.members.get_mut(open.first..).unwrap_or_default();
        let in_order = sort(members, form)? && members.iter().all(|member| member.counts);
        if !in_order {
            self.rewrite(open, form);
            return Ok(());
        }
        self.members.truncate(open.first);
        if self.objects.len() == open.object + 1 {
            self.objects.pop();
        }
        Ok(())
    }

    /// Keeps the places of an object's members for [`Order::write`].
    fn rewrite(&mut self, open: Open, form: &[u8]) {
        let first_member = narrow(self.sorted.len());
        self.sorted.extend(self.members.drain(open.first..));
        let next = narrow(self.objects.len());
        if let Some(object) = self.objects.get_mut(open.object) {
            *object = Object {
                start: object.start,
                end: narrow(form.len()),
                next,
                first_member,
                end_member: narrow(self.sorted.len()),
            };
        }
    }

    /// Appends what stands at `span` of the form to `out`, with the members of every object in order.
    #[expect(
        clippy::indexing_slicing,
        reason = "all places were noted while this very form was written"
    )]
    pub(super) fn write(&self, span: Span, form: &[u8], out: &mut Vec<u8>) {
        let mut byte = span.start.byte;
        let mut next = span.start.objects;
        while next < span.end.objects {
            let object = self.objects[next as usize];
            next += 1;
            let members = &self.sorted[object.first_member as usize..object.end_member as usize];
            if members.is_empty() {
                continue;
            }
            out.extend_from_slice(&form[byte as usize..object.start as usize]);
            for member in members.iter().filter(|member| member.counts) {
                self.write(member.span, form, out);
            }
            byte = object.end;
            next = object.next;
        }
        out.extend_from_slice(&form[byte as usize..span.end.byte as usize]);
    }
}

impl Member {
    fn name<'a>(&self, form: &'a [u8]) -> &'a [u8] {
        content(form, self.span.start.byte, self.name_end)
    }

    fn value<'a>(&self, form: &'a [u8]) -> &'a [u8] {
        form.get(self.name_end as usize..self.span.end.byte())
            .unwrap_or_default()
    }
}

/// Sorts by folded name; returns whether nothing had to move.
fn sort(members: &mut [Member], form: &[u8]) -> Result<bool, Unkeyed> {
    let order = |a: &Member, b: &Member| {
        let names = || compare(a.name(form), b.name(form));
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

/// Returns the content of the canonical string from `start` to `end`: what its tag and its end mark enclose.
fn content(form: &[u8], start: u32, end: u32) -> &[u8] {
    form.get(start as usize..end as usize)
        .and_then(text::bytes)
        .unwrap_or_default()
}

/// Returns a place in 32 bits, which is enough for every form: no body is longer than [`MAX_BODY`](crate::config::MAX_BODY).
fn narrow(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let common = common(a, b);
    let (a, b) = (a.get(common..), b.get(common..));
    folded(a.unwrap_or_default()).cmp(folded(b.unwrap_or_default()))
}

/// Returns the length of a beginning that both names share, found block by block: a hostile body has many long names
/// that differ only at their ends. It never ends within a character.
fn common(a: &[u8], b: &[u8]) -> usize {
    const BLOCK: usize = 64;
    let blocks = a.chunks_exact(BLOCK).zip(b.chunks_exact(BLOCK));
    let mut length = blocks.take_while(|(a, b)| a == b).count() * BLOCK;
    while length > 0 && a.get(length - 1).is_some_and(|byte| !byte.is_ascii()) {
        length -= 1;
    }
    length
}

/// Returns the first eight bytes of the folded name as a number of the same order, zeros where there are fewer.
fn prefix(name: &[u8]) -> u64 {
    let word = match name.first_chunk() {
        Some(head) => u64::from_be_bytes(*head),
        None => pack(name.iter().copied()),
    };
    if word & splat(0x80) == 0 {
        lower(word)
    } else {
        pack(folded(name).take(8))
    }
}

/// Packs up to eight bytes, the first one highest.
fn pack(bytes: impl Iterator<Item = u8>) -> u64 {
    let (word, unused) = bytes.fold((0, 64), |(word, unused), byte| {
        (word << 8 | u64::from(byte), unused - 8)
    });
    word.checked_shl(unused).unwrap_or_default()
}

/// Turns eight ASCII characters to lower case.
fn lower(word: u64) -> u64 {
    let from_a = word + splat(0x80 - b'A');
    let past_z = word + splat(0x7F - b'Z');
    word | (from_a & !past_z & splat(0x80)) >> 2
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
const MAX_MEMBERS: usize = 1 << 16;
/// Members and objects that room is kept for.
const MAX_KEPT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_nothing_else_are_turned_to_lower_case() {
        for byte in 0..0x80_u8 {
            let word = u64::from_be_bytes([b'Z', byte, b'a', byte, 0x7F, b'@', b'[', byte]);
            let expected = word.to_be_bytes().map(|byte| byte.to_ascii_lowercase());
            assert_eq!(lower(word).to_be_bytes(), expected, "{byte:#x}");
        }
    }

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
