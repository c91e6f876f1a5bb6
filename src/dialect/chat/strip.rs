//! Takes the usage out of a stream that was asked for with `include_usage` and goes to somebody who did not ask. Pure.
//!
//! # What goes
//! The chunk that has the usage and no choices, with its whole event; and the member `usage` of every other chunk, with
//! one comma. Every other byte stays as it is and where it is.
//!
//! # Scope
//! An event is held until its blank line is there. What is no chunk (a comment, the end mark, what cannot be read)
//! passes. So does an event larger than [`DEFAULT_LIMIT`], which is none of a chat's.

use std::ops::Range;

use memchr::memchr2;

use super::json::{self, Kind, Member};
use crate::dialect::sse::DEFAULT_LIMIT;

/// A stream on its way, whose usage is withheld.
#[derive(Debug, Default)]
pub struct Strip {
    /// Bytes that have not passed, and some that have.
    held: Vec<u8>,
    /// Where in `held` the event begins whose end has not come yet.
    start: usize,
    /// Where in `held` the line begins whose end has not come yet.
    read: usize,
    /// Where in `held` the event's lines of data lie, without their field name.
    data: Vec<Range<usize>>,
    /// Whether a line of the stream has ended.
    begun: bool,
}

/// Takes the usage out of a whole recording.
pub fn strip(recording: &[u8]) -> Vec<u8> {
    let mut strip = Strip::default();
    let mut out = strip.push(recording);
    out.extend(strip.finish());
    out
}

impl Strip {
    /// Takes the next bytes of the stream and returns those that may pass.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let mut out = Vec::with_capacity(piece.len());
        while let Some((line, next)) = self.next_line() {
            self.read = next;
            if line.is_empty() {
                self.end_event(&mut out);
            } else {
                self.line(line);
            }
        }
        if self.held.len() - self.start > DEFAULT_LIMIT {
            out.extend(self.finish());
        }
        self.forget();
        out
    }

    /// Returns what is still held: at its end a stream may leave an event without a blank line.
    pub fn finish(&mut self) -> Vec<u8> {
        let rest = self.held.split_off(self.start);
        self.held.clear();
        (self.start, self.read) = (0, 0);
        self.data.clear();
        rest
    }

    /// Returns whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.len() == self.start
    }

    /// Lets go of what has passed.
    fn forget(&mut self) {
        self.held.drain(..self.start);
        self.read -= self.start;
        for line in &mut self.data {
            *line = line.start - self.start..line.end - self.start;
        }
        self.start = 0;
    }

    /// Returns where the next line lies, and where the one behind it begins; `None` when its end is not there yet.
    fn next_line(&self) -> Option<(Range<usize>, usize)> {
        let rest = self.held.get(self.read..)?;
        let end = memchr2(b'\n', b'\r', rest)?;
        let ending = match (rest.get(end)?, rest.get(end + 1)) {
            (b'\r', Some(b'\n')) => 2,
            // The line feed that may follow has not come yet.
            (b'\r', None) => return None,
            _ => 1,
        };
        Some((self.read..self.read + end, self.read + end + ending))
    }

    /// Notes where a line has data (WHATWG HTML §9.2.6).
    fn line(&mut self, mut line: Range<usize>) {
        let text = self.held.get(line.clone()).unwrap_or_default();
        let mark = BYTE_ORDER_MARK.len();
        let skipped = if !self.begun && text.starts_with(BYTE_ORDER_MARK) {
            mark
        } else {
            0
        };
        let text = text.get(skipped..).unwrap_or_default();
        let value = text.strip_prefix(b"data:");
        self.begun = true;
        if let Some(value) = value {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            line.start = line.end - value.len();
            self.data.push(line);
        }
    }

    /// Lets the event that has just ended pass, as far as it may.
    fn end_event(&mut self, out: &mut Vec<u8>) {
        let cuts = match self.verdict() {
            Verdict::Passes => Vec::new(),
            Verdict::Loses(cut) => self.in_held(&cut),
            Verdict::Goes => {
                self.start = self.read;
                Vec::new()
            }
        };
        for cut in cuts {
            out.extend_from_slice(self.held.get(self.start..cut.start).unwrap_or_default());
            self.start = cut.end;
        }
        out.extend_from_slice(self.held.get(self.start..self.read).unwrap_or_default());
        self.start = self.read;
        self.data.clear();
    }

    fn verdict(&self) -> Verdict {
        match self.data.as_slice() {
            [] => Verdict::Passes,
            [line] => verdict(self.held.get(line.clone()).unwrap_or_default()),
            lines => {
                let lines = lines.iter();
                let lines = lines.map(|line| self.held.get(line.clone()).unwrap_or_default());
                verdict(&lines.collect::<Vec<_>>().join(&b'\n'))
            }
        }
    }

    /// Returns where a part of the event's data lies in `held`: a piece of each line that it touches.
    fn in_held(&self, part: &Range<usize>) -> Vec<Range<usize>> {
        let mut start = 0;
        let mut pieces = Vec::with_capacity(1);
        for line in &self.data {
            let end = start + line.len();
            let (from, to) = (part.start.max(start), part.end.min(end));
            if from < to {
                pieces.push(line.start + from - start..line.start + to - start);
            }
            start = end + 1;
        }
        pieces
    }
}

/// What becomes of an event.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It passes whole.
    Passes,
    /// This part of its data goes.
    Loses(Range<usize>),
    /// It goes whole.
    Goes,
}

/// Decides by the event's data.
fn verdict(data: &[u8]) -> Verdict {
    let Ok(members) = json::object(data) else {
        return Verdict::Passes;
    };
    let Some(at) = members.iter().position(|member| member.name == "usage") else {
        return Verdict::Passes;
    };
    let is_told = members
        .get(at)
        .is_some_and(|usage| Kind::of(usage.value.get()) != Kind::Null);
    let choices = members.iter().find(|member| member.name == "choices");
    if is_told && choices.is_none_or(|choices| json::is_blank(choices.value.get())) {
        return Verdict::Goes;
    }
    cut(data, &members, at).map_or(Verdict::Passes, Verdict::Loses)
}

/// Returns the part of an object that member `at` takes with one comma: the one in front, or that behind the first.
fn cut(data: &[u8], members: &[Member<'_>], at: usize) -> Option<Range<usize>> {
    // The members are slices of the data, so their addresses tell their places.
    let place = |part: &str| (part.as_ptr() as usize).checked_sub(data.as_ptr() as usize);
    let start = |at: usize| place(members.get(at)?.key.get());
    let end =
        |at: usize| Some(place(members.get(at)?.value.get())? + members.get(at)?.value.get().len());
    match (at.checked_sub(1), members.len() - 1) {
        (Some(before), _) => Some(end(before)?..end(at)?),
        (None, 0) => Some(start(at)?..end(at)?),
        (None, _) => Some(start(at)?..start(at + 1)?),
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

#[cfg(test)]
mod tests;
