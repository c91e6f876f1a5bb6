//! Reads JSON (RFC 8259) and writes its canonical form, in one pass. Pure.
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
    Scratch, Unkeyed, number,
    order::{Mark, Order, Span},
    text,
};

/// Canonical `null`.
pub(super) const NULL: &[u8] = b"n";
/// Canonical `true`.
pub(super) const TRUE: &[u8] = b"t";
/// Canonical `false`.
pub(super) const FALSE: &[u8] = b"f";
/// Canonical `[]`.
pub(super) const EMPTY_ARRAY: &[u8] = b"[]";
/// `{}`.
pub(super) const EMPTY_OBJECT: &[u8] = b"{}";

/// A body being read and its canonical form being written.
pub(super) struct Scanner<'a> {
    /// What is still to be read; starts at a character boundary of checked UTF-8.
    rest: &'a [u8],
    /// The form so far, with members in the order read.
    form: &'a mut Vec<u8>,
    /// The order that members belong in.
    order: &'a mut Order,
    /// Arrays and objects that are open.
    depth: usize,
    /// Whether the innermost of them has just been opened, so that no comma is due.
    fresh: bool,
}

impl<'a> Scanner<'a> {
    /// Starts at the beginning of `body`.
    pub(super) fn new(body: &'a str, scratch: &'a mut Scratch) -> Self {
        let Scratch { form, order } = scratch;
        form.clear();
        form.reserve(body.len() + body.len() / 4);
        order.clear();
        Self {
            rest: body.as_bytes(),
            form,
            order,
            depth: 0,
            fresh: false,
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

    /// Reads one value of any kind, and returns it as it was spelt.
    pub(super) fn spelt(&mut self) -> Result<&'a str, Unkeyed> {
        self.peek();
        let before = self.rest;
        self.value()?;
        let spelling = before.get(..before.len() - self.rest.len());
        Ok(spelling
            .and_then(|bytes| str::from_utf8(bytes).ok())
            .unwrap_or_default())
    }

    /// Opens an object.
    pub(super) fn object(&mut self) -> Result<(), Unkeyed> {
        self.open(b'{')?;
        self.order.open(self.form)
    }

    /// Reads the next member's name and colon; `false` past the last one. Its value and [`Scanner::member`] must follow.
    pub(super) fn name(&mut self) -> Result<bool, Unkeyed> {
        if !self.more(b'}')? {
            return Ok(false);
        }
        let start = self.mark();
        self.string()?;
        self.order.name(start, self.form)?;
        self.expect(b':')?;
        Ok(true)
    }

    /// Returns the name of the member whose value is being read.
    pub(super) fn current(&self) -> &[u8] {
        self.order.current(self.form)
    }

    /// Ends the member whose value has just been read; one that does not `count` is left out.
    pub(super) fn member(&mut self, counts: bool) {
        self.order.member(self.form, counts);
    }

    /// Leaves out those members of the innermost object that are null and for whose name `dropped` holds.
    pub(super) fn drop_nulls(&mut self, dropped: impl Fn(&str) -> bool) {
        let both = |name: &str, value: &[u8]| value == NULL && dropped(name);
        self.order.leave_out(self.form, both);
    }

    /// Closes the innermost object; refuses doubles.
    pub(super) fn close(&mut self) -> Result<(), Unkeyed> {
        self.order.close(self.form)?;
        self.form.push(b'}');
        self.depth -= 1;
        Ok(())
    }

    /// Opens an array.
    pub(super) fn array(&mut self) -> Result<(), Unkeyed> {
        self.open(b'[')
    }

    /// Returns whether the innermost array has another item; closes it where it has none.
    pub(super) fn item(&mut self) -> Result<bool, Unkeyed> {
        let more = self.more(b']')?;
        if !more {
            self.form.push(b']');
            self.depth -= 1;
        }
        Ok(more)
    }

    /// Reads a string.
    pub(super) fn string(&mut self) -> Result<(), Unkeyed> {
        self.expect(b'"')?;
        self.form.push(text::TAG);
        self.rest = text::decode(self.rest, self.form)?;
        self.form.push(text::END);
        Ok(())
    }

    /// Writes what is not in the body, such as the long form of a shorthand.
    pub(super) fn write(&mut self, canonical: &[u8]) {
        self.form.extend_from_slice(canonical);
    }

    /// Returns the place that the next value will be written at.
    pub(super) fn mark(&self) -> Mark {
        self.order.mark(self.form)
    }

    /// Returns the place of what was written since `mark`, to be copied by [`Scanner::copy`].
    pub(super) fn span(&self, mark: Mark) -> Span {
        self.order.span(mark, self.form)
    }

    /// Returns what was written since `mark`, with members in the order read: canonical for any value with at most one.
    pub(super) fn since(&self, mark: Mark) -> &[u8] {
        self.form.get(mark.byte()..).unwrap_or_default()
    }

    /// Returns whether what was written since `mark` is what `json` spells, a value with at most one member.
    pub(super) fn equals(&mut self, mark: Mark, json: &'static str) -> Result<bool, Unkeyed> {
        let end = self.form.len();
        let rest = std::mem::replace(&mut self.rest, json.as_bytes());
        let read = self.value();
        self.rest = rest;
        read?;
        let equal = self.form.get(mark.byte()..end) == self.form.get(end..);
        self.form.truncate(end);
        Ok(equal)
    }

    /// Refuses what follows the value.
    pub(super) fn end(&mut self) -> Result<(), Unkeyed> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(Unkeyed::InvalidJson),
        }
    }

    /// Appends the canonical form of what was written at `span` to `out`. All objects around it must be closed.
    pub(super) fn copy(&self, span: Span, out: &mut Vec<u8>) {
        self.order.write(span, self.form, out);
    }

    fn any_object(&mut self) -> Result<(), Unkeyed> {
        self.object()?;
        while self.name()? {
            self.value()?;
            self.member(true);
        }
        self.close()
    }

    fn any_array(&mut self) -> Result<(), Unkeyed> {
        self.array()?;
        while self.item()? {
            self.value()?;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Unkeyed> {
        self.rest = number::decode(self.rest, self.form)?;
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
        self.form.push(bracket);
        self.fresh = true;
        Ok(())
    }

    /// Consumes the comma before the next item, or the bracket after the last one.
    fn more(&mut self, bracket: u8) -> Result<bool, Unkeyed> {
        let fresh = std::mem::take(&mut self.fresh);
        match self.peek() {
            Some(byte) if byte == bracket => {
                self.advance();
                Ok(false)
            }
            Some(_) if fresh => Ok(true),
            Some(b',') => {
                self.advance();
                Ok(true)
            }
            _ => Err(Unkeyed::InvalidJson),
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Unkeyed> {
        if self.peek() != Some(byte) {
            return Err(Unkeyed::InvalidJson);
        }
        self.advance();
        Ok(())
    }

    /// Consumes the byte that has just been peeked at.
    fn advance(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }
}

/// Deepest nesting that is read; also what bounds the stack.
const MAX_DEPTH: usize = 128;
