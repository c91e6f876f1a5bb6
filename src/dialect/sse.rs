//! Reads server-sent events beside the bytes that carry them (WHATWG HTML, "Server-sent events", §9.2.5 and §9.2.6).
//! Pure.
//!
//! [`Events`] is fed the chunks of a body as they pass, cut wherever the network cut them, and calls back once per
//! event. What it reports depends on the bytes alone, never on where they were cut.
//!
//! # Scope
//! A reader of facts, not a browser: `id` and `retry` serve reconnection and are skipped like unknown fields, and the
//! bytes are not required to be UTF-8. An event larger than the limit is skipped and remembered as an overflow, so that
//! memory stays bounded and the events after it are still seen.

use std::mem;

use memchr::{memchr, memchr2};

/// An incremental reader of one event stream.
#[derive(Debug)]
pub struct Events {
    lines: Lines,
    draft: Draft,
    /// Whether a field was read since the last event.
    has_field: bool,
    /// Whether the current event is too large and passes unread.
    skipping: bool,
    /// Whether any event was.
    overflowed: bool,
    /// Bytes of data that an event may have, and bytes that a line may have.
    limit: usize,
}

/// One event, as long as the call back lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Value of the `event` field; empty when there was none.
    pub name: &'a [u8],
    /// The `data` lines, joined by line feeds.
    pub data: &'a [u8],
}

/// Where the reader stands within a line.
#[derive(Debug)]
struct Lines {
    /// The line whose end has not come yet. While an event is skipped it grows no more.
    begun: Vec<u8>,
    /// Whether no line has been read yet; a byte order mark may stand before the first.
    at_start: bool,
    /// Whether the last line ended with a carriage return: a line feed that follows belongs to it.
    after_cr: bool,
}

/// What earlier chunks brought of the unfinished event.
#[derive(Debug, Default)]
struct Draft {
    /// The value of the last `event` line.
    name: Vec<u8>,
    /// The `data` lines, joined by line feeds.
    data: Vec<u8>,
    /// Whether `data` holds a line: an empty line is one, too.
    has_data: bool,
}

impl Default for Events {
    fn default() -> Self {
        Self::with_limit(DEFAULT_LIMIT)
    }
}

impl Events {
    /// Makes a reader that skips an event whose data, or one of whose lines, takes more than `limit` bytes.
    ///
    /// It holds at most about twice as many.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            lines: Lines {
                begun: Vec::new(),
                at_start: true,
                after_cr: false,
            },
            draft: Draft::default(),
            has_field: false,
            skipping: false,
            overflowed: false,
            // A mark alone is a blank line, and must not be taken for a line that is too long.
            limit: limit.max(BYTE_ORDER_MARK.len()),
        }
    }

    /// Reads the next bytes of the stream and hands over every event that they complete.
    ///
    /// An event that lies whole in `chunk` with one line of data is handed over where it lies.
    pub fn push(&mut self, chunk: &[u8], on_event: &mut impl FnMut(Event<'_>)) {
        let mut rest = chunk;
        // The event's only line of data so far, where it lies in this very chunk.
        let mut fresh = None;
        while let Some(line) = self.lines.next(&mut rest) {
            if self.lines.begun.is_empty() {
                self.read_line(line, &mut fresh, on_event);
            } else {
                self.end_begun_line(line, on_event);
            }
        }
        self.draft.keep(&mut fresh);
        self.begin_line(rest);
    }

    /// Returns whether anything but blank lines and comments was read since the last event: an event whose blank line
    /// is still to come, or lines that make none.
    pub fn pending(&self) -> bool {
        self.has_field || self.lines.begun.first().is_some_and(|&first| first != b':')
    }

    /// Returns whether an event was skipped because it was too large.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// Ends the stream and returns the data of the event that its end left without a blank line.
    ///
    /// Such an event is none (§9.2.6: it is discarded), so it is never handed over; but some servers end that way.
    pub fn into_unfinished(mut self) -> Option<Vec<u8>> {
        if !self.lines.begun.is_empty() {
            self.end_begun_line(b"", &mut |_| {});
        }
        self.draft.has_data.then_some(self.draft.data)
    }

    /// Keeps the beginning of a line for the next chunk.
    fn begin_line(&mut self, part: &[u8]) {
        let held = self.draft.data.len() + self.lines.begun.len();
        if !self.skipping && held + part.len() > self.limit {
            self.skip();
        }
        let room = if self.skipping {
            TELLING.saturating_sub(self.lines.begun.len())
        } else {
            part.len()
        };
        let kept = part.get(..room).unwrap_or(part);
        self.lines.begun.extend_from_slice(kept);
    }

    /// Reads a line that began in an earlier chunk and ends with `end`.
    fn end_begun_line(&mut self, end: &[u8], on_event: &mut impl FnMut(Event<'_>)) {
        let mut line = mem::take(&mut self.lines.begun);
        line.extend_from_slice(end);
        let mut fresh = None;
        self.read_line(&line, &mut fresh, on_event);
        self.draft.keep(&mut fresh);
        line.clear();
        self.lines.begun = line;
    }

    fn read_line<'c>(
        &mut self,
        line: &'c [u8],
        fresh: &mut Option<&'c [u8]>,
        on_event: &mut impl FnMut(Event<'_>),
    ) {
        let held = fresh.map_or(self.draft.data.len(), <[u8]>::len);
        if !self.skipping && held + line.len() > self.limit {
            *fresh = None;
            self.skip();
        }
        let line = self.lines.without_mark(line);
        match line.first() {
            None => self.dispatch(fresh.take(), on_event),
            Some(b':') => {}
            Some(_) => self.read_field(line, fresh),
        }
    }

    fn read_field<'c>(&mut self, line: &'c [u8], fresh: &mut Option<&'c [u8]>) {
        self.has_field = true;
        if self.skipping {
            return;
        }
        match split_field(line) {
            (b"data", value) if !self.draft.has_data && fresh.is_none() => *fresh = Some(value),
            (b"data", value) => {
                self.draft.keep(fresh);
                self.draft.append(value);
            }
            (b"event", value) => {
                self.draft.name.clear();
                self.draft.name.extend_from_slice(value);
            }
            _ => {}
        }
    }

    /// Ends the event at its blank line and hands it over, if it has data.
    fn dispatch(&mut self, fresh: Option<&[u8]>, on_event: &mut impl FnMut(Event<'_>)) {
        let Draft {
            name,
            data,
            has_data,
        } = &self.draft;
        if let Some(data) = fresh.or_else(|| has_data.then_some(data)) {
            // Only an event clears the mark: lines that make none must stay visible in `pending`.
            self.has_field = false;
            on_event(Event { name, data });
        }
        self.draft.clear();
        self.skipping = false;
    }

    /// Begins to skip the current event, up to its blank line.
    fn skip(&mut self) {
        self.skipping = true;
        self.overflowed = true;
        self.draft.clear();
    }
}

impl Lines {
    /// Takes the next line, without its end, off `rest`; `None` when its end is not there yet.
    fn next<'c>(&mut self, rest: &mut &'c [u8]) -> Option<&'c [u8]> {
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            *rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        let (line, tail) = rest.split_at_checked(memchr2(b'\n', b'\r', rest)?)?;
        let (end, tail) = tail.split_first()?;
        self.after_cr = *end == b'\r';
        *rest = tail;
        Some(line)
    }

    /// Takes the byte order mark off the stream's first line.
    fn without_mark<'c>(&mut self, line: &'c [u8]) -> &'c [u8] {
        if mem::take(&mut self.at_start) {
            line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line)
        } else {
            line
        }
    }
}

impl Draft {
    /// Keeps data that lies in a chunk beyond the chunk.
    fn keep(&mut self, fresh: &mut Option<&[u8]>) {
        if let Some(value) = fresh.take() {
            self.append(value);
        }
    }

    fn append(&mut self, value: &[u8]) {
        if mem::replace(&mut self.has_data, true) {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
    }

    fn clear(&mut self) {
        self.name.clear();
        self.data.clear();
        self.has_data = false;
    }
}

/// Splits a line that is neither blank nor a comment into field name and value (§9.2.6).
fn split_field(line: &[u8]) -> (&[u8], &[u8]) {
    let colon = memchr(b':', line).unwrap_or(line.len());
    let (name, value) = line.split_at(colon);
    let value = value.strip_prefix(b":").unwrap_or(value);
    (name, value.strip_prefix(b" ").unwrap_or(value))
}

/// Bytes of data that an event may have unless the caller says otherwise: 1 MiB.
pub const DEFAULT_LIMIT: usize = 1 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Bytes of a line that tell whether it is blank, a comment or a field: one, behind a byte order mark.
const TELLING: usize = BYTE_ORDER_MARK.len() + 1;

#[cfg(test)]
mod tests;
