//! Takes the usage out of a stream that was asked for with `include_usage` and goes to somebody who did not ask. Pure.
//!
//! # What goes
//! The chunk that is there for the usage, with its whole event: its `choices` are empty, and all else it says was said
//! before. And the member `usage` of every other event, with one comma. Every other byte stays as it is and where it is.
//!
//! # Scope
//! An event is held until its blank line is there. What is no chunk (a comment, the end mark, what cannot be read)
//! passes. So does an event larger than [`DEFAULT_LIMIT`], which is none of a chat's.

use std::{borrow::Cow, ops::Range};

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
    said: Said,
}

/// What the stream last said of each member that not every chunk has, as written.
#[derive(Debug, Default)]
struct Said(Vec<(Box<str>, Box<str>)>);

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
        let data = event_data(&self.held, &self.data);
        let cuts = match verdict(&data, &mut self.said) {
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

/// Returns the data of an event whose `lines` lie in `held`.
fn event_data<'a>(held: &'a [u8], lines: &[Range<usize>]) -> Cow<'a, [u8]> {
    let text = |line: &Range<usize>| held.get(line.clone()).unwrap_or_default();
    match lines {
        [] => Cow::Borrowed(&[]),
        [line] => Cow::Borrowed(text(line)),
        lines => Cow::Owned(lines.iter().map(text).collect::<Vec<_>>().join(&b'\n')),
    }
}

/// Decides by the event's data, and by what was `said` before.
fn verdict(data: &[u8], said: &mut Said) -> Verdict {
    let Ok(members) = json::object(data) else {
        return Verdict::Passes;
    };
    let says_more = said.hear(&members);
    let Some(at) = members.iter().position(|member| member.name == "usage") else {
        return Verdict::Passes;
    };
    let value = |name| {
        let mut members = members.iter();
        members.find_map(|member| (member.name == name).then_some(member.value.get()))
    };
    let is_told = value("usage").is_some_and(|usage| Kind::of(usage) != Kind::Null);
    let is_empty = value("choices").is_some_and(json::is_blank);
    if is_told && is_empty && !says_more {
        return Verdict::Goes;
    }
    cut(data, &members, at).map_or(Verdict::Passes, Verdict::Loses)
}

impl Said {
    /// Hears the members of a chunk; returns whether one of them says what was not said before.
    fn hear(&mut self, members: &[Member<'_>]) -> bool {
        let mut is_news = false;
        for member in members {
            let (name, value) = (&*member.name, member.value.get());
            if !IN_EVERY_CHUNK.contains(&name) && !json::is_blank(value) {
                is_news |= self.says_more(name, value);
            }
        }
        is_news
    }

    fn says_more(&mut self, name: &str, value: &str) -> bool {
        let others = self.0.iter().filter(|(known, _)| **known != *name);
        let taken: usize = others.map(|(name, value)| name.len() + value.len()).sum();
        let fits = taken + name.len() + value.len() <= REMEMBERED;
        let known = self.0.iter_mut().find(|(known, _)| **known == *name);
        match known {
            Some((_, known)) if **known == *value => return false,
            Some((_, known)) if fits => *known = value.into(),
            None if fits => self.0.push((name.into(), value.into())),
            _ => {}
        }
        true
    }
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

/// Members that a chunk has for itself. That they differ from those before is nothing that a client would miss.
const IN_EVERY_CHUNK: [&str; 9] = [
    "id",
    "object",
    "created",
    "model",
    "system_fingerprint",
    "service_tier",
    "obfuscation",
    "choices",
    "usage",
];
/// What is remembered of a stream at most, bytes; what does not fit counts as said for the first time.
const REMEMBERED: usize = 64 << 10;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

#[cfg(test)]
mod tests;
