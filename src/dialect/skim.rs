//! Walks over JSON (RFC 8259) where it lies and builds nothing: whoever asks takes what is of interest, and the rest is
//! passed over. Pure.
//!
//! An answer is read once, a long time after the last one, so each instruction has to be fetched from afar before it runs.
//! Hence few and small functions, which every kind of object shares, in place of a reader made for each type.
//!
//! # Scope
//! Knows the grammar to the letter and no shape. However deep a value nests, it is passed over in a loop, not by recursion.
//! What is only passed over is held to the grammar alone: its strings may hold halves of surrogate pairs and bytes that are
//! no UTF-8. What is taken is text, see [`Skim::value`].

mod members;
mod nesting;
mod span;

use super::special::{is_plain, specials, splat};

use self::nesting::Nesting;

pub(crate) use self::{
    members::Members,
    span::{Quoted, Span},
};

/// A place in JSON that is being read.
#[derive(Clone, Debug)]
pub(crate) struct Skim<'a> {
    json: &'a [u8],
    /// What is to be read next.
    at: usize,
    /// Whether an array or object has just been opened, so that no comma is due.
    fresh: bool,
    /// What strings were seen to hold since a value was begun: [`ESCAPES`], [`HALVES`], [`WIDE`].
    notes: u8,
}

/// That something is no JSON, or not of the shape that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl<'a> Skim<'a> {
    /// Begins to read.
    pub(crate) fn new(json: &'a [u8]) -> Self {
        Self {
            json,
            at: 0,
            fresh: false,
            notes: 0,
        }
    }

    /// Passes over blanks and returns the byte that comes next, which tells the kind of a value; 0 at the end.
    pub(crate) fn peek(&mut self) -> u8 {
        match self.json.get(self.at) {
            Some(&byte) if byte > b' ' => byte,
            _ => self.behind_blanks(),
        }
    }

    /// Opens an object; [`Skim::member`] or [`Members::next`] goes on.
    pub(crate) fn object(&mut self) -> Result<(), Malformed> {
        self.fresh = true;
        self.expect(b'{')
    }

    /// Reads the next member's name and colon; `None` past the last one. Its value must be read next.
    pub(crate) fn member(&mut self) -> Result<Option<Quoted<'a>>, Malformed> {
        if !self.more(b'}')? {
            return Ok(None);
        }
        let (start, first) = self.begin();
        if first != b'"' {
            return Err(Malformed);
        }
        self.string()?;
        let name = Quoted::new(self.passed(start), self.notes)?;
        self.expect(b':')?;
        Ok(Some(name))
    }

    /// Opens an array.
    pub(crate) fn array(&mut self) -> Result<(), Malformed> {
        self.fresh = true;
        self.expect(b'[')
    }

    /// Returns whether the innermost array has another item, which must be read next; closes it where it has none.
    pub(crate) fn item(&mut self) -> Result<bool, Malformed> {
        self.more(b']')
    }

    /// Passes over `null`; returns whether it was there.
    pub(crate) fn null(&mut self) -> Result<bool, Malformed> {
        let there = self.peek() == b'n';
        if there {
            self.literal(b"null")?;
        }
        Ok(there)
    }

    /// Takes a value of any kind; an error where it is not UTF-8.
    pub(crate) fn value(&mut self) -> Result<Span<'a>, Malformed> {
        let (start, first) = self.begin();
        self.pass(first)?;
        self.since(start)
    }

    /// Returns whether what has been read since `before`, an earlier place, is UTF-8.
    pub(crate) fn is_text_since(&self, before: &Self) -> bool {
        str::from_utf8(self.passed(before.at)).is_ok()
    }

    /// Passes over a value of any kind.
    pub(crate) fn skip(&mut self) -> Result<(), Malformed> {
        let first = self.peek();
        self.pass(first)
    }

    /// Refuses what follows the value.
    pub(crate) fn end(&mut self) -> Result<(), Malformed> {
        self.peek();
        if self.at < self.json.len() {
            return Err(Malformed);
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn behind_blanks(&mut self) -> u8 {
        while let Some(&byte) = self.json.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return byte;
            }
            self.at += 1;
        }
        0
    }

    /// Begins to take a value; returns its place and its first byte.
    fn begin(&mut self) -> (usize, u8) {
        self.notes = 0;
        let first = self.peek();
        (self.at, first)
    }

    /// Returns what has been read since `start`.
    fn since(&self, start: usize) -> Result<Span<'a>, Malformed> {
        let (json, notes) = (self.passed(start), self.notes);
        if notes & WIDE != 0 && str::from_utf8(json).is_err() {
            return Err(Malformed);
        }
        Ok(Span::new(json, notes & !WIDE))
    }

    /// Passes over a value, whose `first` byte has just been peeked at.
    fn pass(&mut self, first: u8) -> Result<(), Malformed> {
        match first {
            b'"' => self.string(),
            b'{' | b'[' => self.nested(),
            _ => self.scalar(first),
        }
    }

    fn scalar(&mut self, first: u8) -> Result<(), Malformed> {
        match first {
            b'n' => self.literal(b"null"),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            _ => self.number(),
        }
    }

    /// Passes over an array or object.
    fn nested(&mut self) -> Result<(), Malformed> {
        let mut nesting = Nesting::new();
        loop {
            match self.peek() {
                b'"' => self.string()?,
                bracket @ (b'{' | b'[') => {
                    self.at += 1;
                    nesting.push(bracket == b'{');
                    // The closing brackets are two behind the opening ones.
                    if self.peek() != bracket + 2 {
                        self.name(&nesting)?;
                        continue;
                    }
                }
                first => self.scalar(first)?,
            }
            if self.close(&mut nesting) {
                return Ok(());
            }
            self.expect(b',')?;
            self.name(&nesting)?;
        }
    }

    /// Passes over a name and its colon, if an object is the innermost that is open.
    fn name(&mut self, nesting: &Nesting) -> Result<(), Malformed> {
        if !nesting.is_in_object() {
            return Ok(());
        }
        if self.peek() != b'"' {
            return Err(Malformed);
        }
        self.string()?;
        self.expect(b':')
    }

    /// Closes what ends here, behind a value; returns whether nothing is open any more.
    fn close(&mut self, nesting: &mut Nesting) -> bool {
        while !nesting.is_empty() {
            let bracket = if nesting.is_in_object() { b'}' } else { b']' };
            if self.peek() != bracket {
                return false;
            }
            self.at += 1;
            nesting.pop();
        }
        true
    }

    /// Consumes the comma before the next member or item, or the bracket after the last one.
    fn more(&mut self, bracket: u8) -> Result<bool, Malformed> {
        let fresh = std::mem::take(&mut self.fresh);
        let next = self.peek();
        if next == bracket || !fresh {
            self.at += 1;
        }
        if next == bracket || fresh || next == b',' {
            return Ok(next != bracket);
        }
        Err(Malformed)
    }

    fn literal(&mut self, spelling: &[u8]) -> Result<(), Malformed> {
        let there = self.rest().starts_with(spelling);
        self.at += spelling.len();
        if there { Ok(()) } else { Err(Malformed) }
    }

    fn number(&mut self) -> Result<(), Malformed> {
        if self.next_is(b'-') {
            self.at += 1;
        }
        if self.next_is(b'0') {
            // A digit behind it would be the next value, where none can be.
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.next_is(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if self.next_is(b'e') || self.next_is(b'E') {
            self.at += 1;
            if self.next_is(b'+') || self.next_is(b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Passes over digits; there must be one.
    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while self.json.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start {
            return Err(Malformed);
        }
        Ok(())
    }

    /// Passes over a string, whose opening quote has just been peeked at.
    fn string(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        // Most are names or words, which end within a few bytes.
        for _ in 0..2 {
            let Some(word) = self.rest().first_chunk::<8>() else {
                break;
            };
            let word = u64::from_le_bytes(*word);
            let special = specials(word);
            self.at += special.trailing_zeros() as usize / 8;
            self.note(WIDE, word & splat(0x80) != 0);
            if special != 0 {
                if self.next_is(b'"') {
                    self.at += 1;
                    return Ok(());
                }
                break;
            }
        }
        self.rest_of_string()
    }

    #[inline(never)]
    fn rest_of_string(&mut self) -> Result<(), Malformed> {
        let mut rest = self.rest();
        let mut seen = 0;
        loop {
            rest = pass_plain(rest, &mut seen);
            match rest {
                [b'"', tail @ ..] => {
                    self.at = self.json.len() - tail.len();
                    self.note(WIDE, seen & NOT_ASCII != 0);
                    return Ok(());
                }
                [b'\\', tail @ ..] => rest = self.escape(tail)?,
                [] | [0..0x20, ..] => return Err(Malformed),
                [byte, tail @ ..] => {
                    seen |= u128::from(*byte);
                    rest = tail;
                }
            }
        }
    }

    /// Returns what follows the escape whose backslash is behind us.
    fn escape(&mut self, text: &'a [u8]) -> Result<&'a [u8], Malformed> {
        self.notes |= ESCAPES;
        match text {
            [
                b'n' | b'"' | b'\\' | b'/' | b'b' | b'f' | b'r' | b't',
                rest @ ..,
            ] => Ok(rest),
            _ => self.unicode(text),
        }
    }

    #[inline(never)]
    fn unicode(&mut self, text: &'a [u8]) -> Result<&'a [u8], Malformed> {
        let Some(([b'u', digits @ ..], rest)) = text.split_first_chunk::<5>() else {
            return Err(Malformed);
        };
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(Malformed);
        }
        // All halves begin with this digit (RFC 8259 §7).
        self.note(HALVES, matches!(digits, [b'd' | b'D', ..]));
        Ok(rest)
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.peek() != byte {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(())
    }

    fn note(&mut self, bit: u8, is_there: bool) {
        self.notes |= bit * u8::from(is_there);
    }

    fn passed(&self, start: usize) -> &'a [u8] {
        self.json.get(start..self.at).unwrap_or_default()
    }

    fn next_is(&self, byte: u8) -> bool {
        self.json.get(self.at) == Some(&byte)
    }

    fn rest(&self) -> &'a [u8] {
        self.json.get(self.at..).unwrap_or_default()
    }
}

/// Returns whether `json` is one value to its last byte.
pub(crate) fn is_json(json: &[u8]) -> bool {
    let mut skim = Skim::new(json);
    skim.skip().and_then(|()| skim.end()).is_ok()
}

/// Returns what follows the characters that are not special, and adds the bits of all that it looks at to `seen`.
///
/// Leaves the last few bytes to the caller.
fn pass_plain<'a>(mut rest: &'a [u8], seen: &mut u128) -> &'a [u8] {
    while let Some((block, tail)) = rest.split_first_chunk::<16>()
        && is_plain(block)
    {
        *seen |= u128::from_le_bytes(*block);
        rest = tail;
    }
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        *seen |= u128::from(word);
        let special = specials(word);
        if special != 0 {
            let plain = special.trailing_zeros() as usize / 8;
            return rest.get(plain..).unwrap_or_default();
        }
        rest = tail;
    }
    rest
}

/// That there were escapes.
const ESCAPES: u8 = 1;
/// That there were escapes which may be halves of surrogate pairs.
const HALVES: u8 = 2;
/// That there were bytes which are not ASCII, in the strings or right behind them.
const WIDE: u8 = 4;

/// The high bit of each byte.
const NOT_ASCII: u128 = u128::from_ne_bytes([0x80; 16]);

#[cfg(test)]
mod tests;
