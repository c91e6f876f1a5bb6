//! Reads JSON (RFC 8259) and writes its canonical form, in one pass.
//!
//! # The form
//! | value | bytes |
//! |---|---|
//! | `null`, `true`, `false` | `n`, `t`, `f` |
//! | number | sign `+` or `-`, decimal exponent (2 bytes), significant digits, `;` |
//! | string | `"`, UTF-8, `0xFF` |
//! | array | `[`, its values, `]` |
//! | object | `{`, its members in the order of their names, each a string and a value, `}` |
//!
//! Each value starts with a tag and ends where nothing but itself can end (`0xFF` occurs in no UTF-8 text), so that the
//! form can be read back and two different values never share one.
//!
//! # Scope
//! Knows JSON and nothing of any dialect. Callers that need to look at members or items on the way drive
//! [`Scanner::object`] and [`Scanner::array`] themselves; the rest goes through [`Scanner::value`].

use super::{
    Scratch, Unkeyed,
    members::{self, Member},
    number, text,
};

/// Canonical `null`.
pub(super) const NULL: &[u8] = b"n";
/// Canonical `true`.
pub(super) const TRUE: &[u8] = b"t";
/// Canonical `false`.
pub(super) const FALSE: &[u8] = b"f";
/// Canonical `[]`.
pub(super) const EMPTY_ARRAY: &[u8] = b"[]";

/// A body being read and its canonical form being written.
pub(super) struct Scanner<'a> {
    /// What is still to be read; starts at a character boundary of checked UTF-8.
    rest: &'a [u8],
    /// The canonical form so far.
    out: Vec<u8>,
    /// Arrays and objects that are open.
    depth: usize,
    /// Bytes of `out` that may still be moved to put members in order.
    budget: usize,
    scratch: &'a mut Scratch,
}

/// An object whose members are being read.
pub(super) struct Object {
    /// Where its first member starts in `out`.
    start: usize,
    /// Index of its first member in the scratch list.
    first: usize,
    fresh: bool,
}

/// An array whose items are being read.
pub(super) struct Array {
    fresh: bool,
}

/// The name of a member whose value is being read: its place in `out`, tag and end mark included.
#[derive(Clone, Copy)]
pub(super) struct Name {
    start: usize,
    end: usize,
}

impl<'a> Scanner<'a> {
    /// Starts at the beginning of `body`.
    pub(super) fn new(body: &'a str, scratch: &'a mut Scratch) -> Self {
        let len = body.len();
        Self {
            rest: body.as_bytes(),
            out: Vec::with_capacity(len + len / 4 + 256),
            depth: 0,
            budget: len
                .saturating_mul(MOVES_PER_BYTE)
                .saturating_add(FREE_MOVES),
            scratch,
        }
    }

    /// Returns the next byte that is no whitespace, without consuming it.
    pub(super) fn peek(&mut self) -> Option<u8> {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
        self.rest.first().copied()
    }

    /// Reads one value of any kind.
    pub(super) fn value(&mut self) -> Result<(), Unkeyed> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'{') => self.any_object(),
            Some(b'[') => self.any_array(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'n') => self.literal(b"null", NULL),
            Some(b't') => self.literal(b"true", TRUE),
            Some(b'f') => self.literal(b"false", FALSE),
            _ => Err(Unkeyed::InvalidJson),
        }
    }

    /// Opens an object.
    pub(super) fn object(&mut self) -> Result<Object, Unkeyed> {
        self.open(b'{')?;
        Ok(Object {
            start: self.out.len(),
            first: self.scratch.members.len(),
            fresh: true,
        })
    }

    /// Reads the next member's name and its colon; `None` past the last member. [`Scanner::member`] must follow the value.
    pub(super) fn name(&mut self, object: &mut Object) -> Result<Option<Name>, Unkeyed> {
        if !self.more(b'}', &mut object.fresh)? {
            return Ok(None);
        }
        if self.peek() != Some(b'"') {
            return Err(Unkeyed::InvalidJson);
        }
        let start = self.out.len();
        self.string()?;
        let end = self.out.len();
        self.expect(b':')?;
        Ok(Some(Name { start, end }))
    }

    /// Ends the member of this name, whose value has just been read; one that does not `count` leaves the form.
    pub(super) fn member(&mut self, name: Name, counts: bool) {
        self.scratch.members.push(Member {
            start: name.start,
            name_end: name.end,
            end: self.out.len(),
            counts,
        });
    }

    /// Takes members out of an open object again: those that are null and for whose name `dropped` holds.
    pub(super) fn drop_nulls(&mut self, object: &Object, dropped: impl Fn(&str) -> bool) {
        let Self { out, scratch, .. } = self;
        for member in scratch.members.iter_mut().skip(object.first) {
            if member.value(out) == NULL && str::from_utf8(member.name(out)).is_ok_and(&dropped) {
                member.counts = false;
            }
        }
    }

    /// Closes an object: puts its members in order, refuses doubles.
    pub(super) fn close(&mut self, object: &Object) -> Result<(), Unkeyed> {
        let Scratch { members, copy } = &mut *self.scratch;
        let own = members.get_mut(object.first..).unwrap_or_default();
        members::sort(own, &self.out)?;
        if members::moved(own) {
            let cost = self.out.len() - object.start;
            self.budget = self.budget.checked_sub(cost).ok_or(Unkeyed::TooComplex)?;
            members::arrange(own, object.start, &mut self.out, copy);
        }
        members.truncate(object.first);
        self.out.push(b'}');
        self.depth -= 1;
        Ok(())
    }

    /// Opens an array.
    pub(super) fn array(&mut self) -> Result<Array, Unkeyed> {
        self.open(b'[')?;
        Ok(Array { fresh: true })
    }

    /// Returns whether another item follows; closes the array where none does.
    pub(super) fn item(&mut self, array: &mut Array) -> Result<bool, Unkeyed> {
        let more = self.more(b']', &mut array.fresh)?;
        if !more {
            self.out.push(b']');
            self.depth -= 1;
        }
        Ok(more)
    }

    /// Reads a string.
    pub(super) fn string(&mut self) -> Result<(), Unkeyed> {
        self.expect(b'"')?;
        self.out.push(text::TAG);
        self.rest = text::decode(self.rest, &mut self.out)?;
        self.out.push(text::END);
        Ok(())
    }

    /// Writes what is not in the body, such as the long form of a shorthand.
    pub(super) fn write(&mut self, canonical: &[u8]) {
        self.out.extend_from_slice(canonical);
    }

    /// Returns the place in the form that the next value will start at.
    pub(super) fn mark(&self) -> usize {
        self.out.len()
    }

    /// Returns what was written since `mark`.
    pub(super) fn since(&self, mark: usize) -> &[u8] {
        self.out.get(mark..).unwrap_or_default()
    }

    /// Returns a member's name.
    pub(super) fn text(&self, name: Name) -> &str {
        text::content(self.out.get(name.start..name.end).unwrap_or_default()).unwrap_or_default()
    }

    /// Returns whether what was written since `mark` is the value that `json` spells.
    pub(super) fn equals(&mut self, mark: usize, json: &'static str) -> Result<bool, Unkeyed> {
        let end = self.out.len();
        let rest = std::mem::replace(&mut self.rest, json.as_bytes());
        let read = self.value();
        self.rest = rest;
        read?;
        let equal = self.out.get(mark..end) == self.out.get(end..);
        self.out.truncate(end);
        Ok(equal)
    }

    /// Returns the canonical form; refuses what follows the value.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, Unkeyed> {
        match self.peek() {
            None => Ok(self.out),
            Some(_) => Err(Unkeyed::InvalidJson),
        }
    }

    fn any_object(&mut self) -> Result<(), Unkeyed> {
        let mut object = self.object()?;
        while let Some(name) = self.name(&mut object)? {
            self.value()?;
            self.member(name, true);
        }
        self.close(&object)
    }

    fn any_array(&mut self) -> Result<(), Unkeyed> {
        let mut array = self.array()?;
        while self.item(&mut array)? {
            self.value()?;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Unkeyed> {
        self.rest = number::decode(self.rest, &mut self.out)?;
        Ok(())
    }

    fn literal(&mut self, spelling: &[u8], canonical: &[u8]) -> Result<(), Unkeyed> {
        self.rest = self
            .rest
            .strip_prefix(spelling)
            .ok_or(Unkeyed::InvalidJson)?;
        self.write(canonical);
        Ok(())
    }

    fn open(&mut self, bracket: u8) -> Result<(), Unkeyed> {
        self.expect(bracket)?;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Unkeyed::TooDeep);
        }
        self.out.push(bracket);
        Ok(())
    }

    /// Consumes the comma before the next item, or the bracket after the last one.
    fn more(&mut self, bracket: u8, fresh: &mut bool) -> Result<bool, Unkeyed> {
        if self.eat(bracket) {
            return Ok(false);
        }
        if !std::mem::take(fresh) {
            self.expect(b',')?;
        }
        Ok(true)
    }

    fn expect(&mut self, byte: u8) -> Result<(), Unkeyed> {
        if self.eat(byte) {
            Ok(())
        } else {
            Err(Unkeyed::InvalidJson)
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.rest = self.rest.get(1..).unwrap_or_default();
        }
        found
    }
}

/// Deepest nesting that is read; also what bounds the stack.
const MAX_DEPTH: usize = 128;
/// How often a byte may be moved: nesting with members out of order on every level costs depth times length otherwise.
const MOVES_PER_BYTE: usize = 16;
/// What short bodies may cost on top.
const FREE_MOVES: usize = 64 * 1024;
