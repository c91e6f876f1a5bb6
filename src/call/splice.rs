//! Edits of a body that travels: byte ranges of the original, so that all other bytes stay as they came. Pure.
//!
//! # Scope
//! Finds a member and cuts it, or puts another value in its place; which one, and whether, is decided elsewhere. The members of the body's own object are
//! read strictly, their values are skipped by strings and brackets alone. On JSON the place found is exact. On anything
//! else there may be a place, too, but a cut never makes JSON of it, unless the member itself was the fault: who cuts
//! one has read its value first.

use std::ops::Range;

use memchr::memchr2;

/// A member of an object, as places in the bytes of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What goes when it is cut: name, value, and the comma behind it, or the one before where it is the last.
    pub whole: Range<usize>,
    /// Its value.
    pub value: Range<usize>,
}

/// Returns the member called `name` of a body that is an object, if there is exactly one.
///
/// A name that differs in letter case is a double: some parsers take both for the same. ASCII's case is all that is
/// folded, which is enough for a `name` without `k` and `s`.
pub fn only_member(body: &[u8], name: &str) -> Option<Member> {
    let mut scan = Scan { body, at: 0 };
    let mut found = None;
    let mut comma = None;
    scan.eat(b'{')?;
    loop {
        scan.peek()?;
        let start = scan.at;
        let is_named = scan.name()?.is(name)?;
        scan.eat(b':')?;
        let value = scan.value()?;
        let last = scan.peek()? == b'}';
        scan.eat(if last { b'}' } else { b',' })?;
        if is_named {
            let whole = match comma {
                _ if !last => start..scan.at,
                Some(comma) => comma..value.end,
                None => start..value.end,
            };
            if found.replace(Member { whole, value }).is_some() {
                return None;
            }
        }
        if last {
            return found.filter(|_| scan.peek().is_none());
        }
        comma = Some(scan.at - 1);
    }
}

/// Returns `body` without the bytes at `place`; all of it where there is no such place.
pub fn cut(body: &[u8], place: &Range<usize>) -> Vec<u8> {
    replace(body, place, b"")
}

/// Returns `body` with `value` in place of the bytes at `place`; all of it where there is no such place.
pub fn replace(body: &[u8], place: &Range<usize>, value: &[u8]) -> Vec<u8> {
    match (body.get(..place.start), body.get(place.end..)) {
        (Some(before), Some(behind)) => [before, value, behind].concat(),
        _ => body.to_owned(),
    }
}

/// Returns the text that is the value of the only member called `name` of a body that is an object.
pub fn text(body: &[u8], name: &str) -> Option<String> {
    let member = only_member(body, name)?;
    serde_json::from_slice(body.get(member.value)?).ok()
}

/// A name as spelled, with its quotes.
struct Name<'a>(&'a [u8]);

impl Name<'_> {
    /// Returns whether it reads `name`; `None` where that cannot be told, or not by every parser.
    fn is(&self, name: &str) -> Option<bool> {
        let unescaped: String;
        let content = if self.0.contains(&b'\\') {
            unescaped = serde_json::from_slice(self.0).ok()?;
            unescaped.as_bytes()
        } else {
            self.0.strip_prefix(b"\"")?.strip_suffix(b"\"")?
        };
        let equal = content == name.as_bytes();
        (equal || !content.eq_ignore_ascii_case(name.as_bytes())).then_some(equal)
    }
}

/// A body being read.
struct Scan<'a> {
    body: &'a [u8],
    /// How far it has been read.
    at: usize,
}

impl<'a> Scan<'a> {
    /// Returns the next byte that is no whitespace, without consuming it.
    fn peek(&mut self) -> Option<u8> {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at += self.rest().iter().take_while(|byte| is_blank(byte)).count();
        self.rest().first().copied()
    }

    /// Consumes `byte`, which has to be next.
    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn name(&mut self) -> Option<Name<'a>> {
        self.eat(b'"')?;
        let start = self.at - 1;
        self.string()?;
        self.body.get(start..self.at).map(Name)
    }

    /// Skips a value; returns its place.
    fn value(&mut self) -> Option<Range<usize>> {
        let first = self.peek()?;
        let start = self.at;
        match first {
            b'"' => {
                self.at += 1;
                self.string()?;
            }
            b'{' | b'[' => self.nested()?,
            _ => self.scalar(),
        }
        (start < self.at).then_some(start..self.at)
    }

    /// Skips a string whose opening quote is behind us.
    fn string(&mut self) -> Option<()> {
        loop {
            let special = self.at + memchr2(b'"', b'\\', self.rest())?;
            if self.body.get(special) == Some(&b'"') {
                self.at = special + 1;
                return Some(());
            }
            // The escaped byte may be a quote.
            self.at = special + 2;
        }
    }

    /// Skips an array or object, however deep, in a loop.
    fn nested(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            let byte = *self.rest().first()?;
            self.at += 1;
            match byte {
                b'"' => self.string()?,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// Skips a number or literal.
    fn scalar(&mut self) {
        let ends = |byte: &u8| byte.is_ascii_whitespace() || b",:{}[]\"".contains(byte);
        self.at += self.rest().iter().take_while(|byte| !ends(byte)).count();
    }

    fn rest(&self) -> &'a [u8] {
        self.body.get(self.at..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
