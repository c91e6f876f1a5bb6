//! Says what an answer to a chat completion was, from the bytes that pass to the client anyway. Pure.
//!
//! [`Watch`] stands beside a stream and is pushed every chunk; [`Outcome::of_whole`] reads a plain answer where the
//! recorder already holds it. Both look for the same facts, so that the same completion has the same [`Outcome`] in
//! both modes and under any chunking (API reference, "The chat completion object" and "… chunk object").
//!
//! # Scope
//! It observes: no byte is altered, nothing fails, and whether an answer is *stored* is decided elsewhere. What cannot be
//! read for certain makes the outcome unreadable, and what says nothing certain (`usage`, `model`) is absent.

mod body;

use std::collections::BTreeSet;

use crate::dialect::{
    glimpse::Glimpse,
    skim::{Quoted, Span, is_json},
    sse::{Event, Events},
    usage::Usage,
};

use self::body::{Body, MAX_CHOICES, Said, Words};

/// What an answer was, once it is over.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent observations; which of them forbids what is the business of whoever stores"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the end mark was seen: `data: [DONE]` in a stream, the end of a JSON object in a plain answer.
    pub ended: bool,
    /// The finish reasons that were given, over all choices.
    pub finish: BTreeSet<String>,
    /// Whether there was a choice, and each that began was given a finish reason.
    pub all_finished: bool,
    /// Whether no choice said anything: no content, refusal, call, audio, reasoning or member unknown here.
    pub empty: bool,
    /// Whether an error was reported inside the answer, at its top, in a choice, or as an `error` event.
    pub error: bool,
    /// Whether JSON was asked for and a choice that ended with `stop` has content that is none. Only readable answers are
    /// judged, and no calls.
    pub invalid_output: bool,
    /// The tokens, if the answer tells them; of several reports, as some servers send along with every chunk, the last.
    pub usage: Option<Usage>,
    /// The model that the answer names first.
    pub model: Option<String>,
    /// Whether everything was understood: JSON throughout, nothing too large, nothing behind the end mark.
    pub readable: bool,
}

/// Reads a stream beside the bytes; see the module.
#[derive(Debug)]
pub struct Watch {
    events: Events,
    reading: Reading,
    ended: bool,
}

/// What has been read of an answer so far.
#[derive(Debug)]
struct Reading {
    wants_json: bool,
    /// Bytes of content that may still be kept.
    room: usize,
    choices: Vec<Choice>,
    error: bool,
    usage: Option<Usage>,
    model: Option<String>,
    readable: bool,
}

/// One of the answers in an answer (`n`).
#[derive(Debug)]
struct Choice {
    index: usize,
    /// The finish reasons that it was given: one, from most servers.
    finish: BTreeSet<String>,
    /// Whether it said anything.
    spoke: bool,
    /// Whether it called a tool.
    called: bool,
    /// The content, kept only where JSON was asked for.
    content: String,
}

impl Outcome {
    /// Reads a plain answer, whole.
    pub fn of_whole(body: &[u8], wants_json: bool) -> Self {
        let mut reading = Reading::new(wants_json, body.len());
        let Some(choices) = reading.body(body) else {
            // An object to its last byte has ended, whatever its shape.
            return reading.into_outcome(begins_object(body) && is_json(body));
        };
        for (position, said) in choices.iter().enumerate() {
            reading.said(position, said, &said.message);
        }
        reading.into_outcome(true)
    }
}

impl Watch {
    /// Begins to watch a stream.
    ///
    /// `wants_json`: the request's `response_format` asks for JSON, so the content is judged. `limit`: the largest answer
    /// that is of interest, bytes; an event beyond it, or content to be judged, is not kept and makes the outcome
    /// unreadable.
    pub fn new(wants_json: bool, limit: usize) -> Self {
        Self {
            events: Events::with_limit(limit),
            reading: Reading::new(wants_json, limit),
            ended: false,
        }
    }

    /// Reads the next bytes of the body.
    pub fn push(&mut self, chunk: &[u8]) {
        let Self {
            events,
            reading,
            ended,
        } = self;
        events.push(chunk, &mut |event| {
            // Behind the end mark nothing may come, not even a second one.
            reading.readable &= !*ended;
            if is_end_mark(event.data) {
                *ended = true;
            } else {
                reading.event(event);
            }
        });
    }

    /// Ends the watch at the end of the body, be it clean or not.
    ///
    /// An end mark counts even if its blank line is missing: some servers close right behind it.
    pub fn finish(self) -> Outcome {
        let Self {
            events,
            mut reading,
            ended,
        } = self;
        reading.readable &= !events.overflowed();
        if !events.pending() {
            return reading.into_outcome(ended);
        }
        let ends_here = !ended
            && events
                .into_unfinished()
                .is_some_and(|data| is_end_mark(&data));
        reading.readable &= ends_here;
        reading.into_outcome(ended || ends_here)
    }
}

impl Reading {
    fn new(wants_json: bool, room: usize) -> Self {
        Self {
            wants_json,
            room,
            choices: Vec::new(),
            error: false,
            usage: None,
            model: None,
            readable: true,
        }
    }

    fn event(&mut self, event: Event<'_>) {
        if event.name == b"error" {
            self.error = true;
            return;
        }
        for said in self.body(event.data).iter().flatten() {
            self.said(said.index, said, &said.delta);
        }
    }

    /// Reads what `json` says at its top and returns its choices; `None` if it cannot be read.
    fn body<'a>(&mut self, json: &'a [u8]) -> Option<Vec<Said<'a>>> {
        let Ok(body) = Body::read(json) else {
            self.readable = false;
            return None;
        };
        self.error |= body.error.is_there();
        if let Some(usage) = body.usage {
            self.usage = usage.ok();
        }
        if self.model.is_none() {
            self.model = body.model.and_then(name_of);
        }
        Some(body.choices)
    }

    /// Reads a choice, which has this `index` and these `words`.
    fn said(&mut self, index: usize, said: &Said<'_>, words: &Words<'_>) {
        self.error |= said.error.is_there();
        let Some(choice) = Choice::of(&mut self.choices, index) else {
            self.readable = false;
            return;
        };
        if let Some(reason) = said.finish_reason {
            self.readable &= choice.finish(reason);
        }
        choice.spoke |= words.spoke;
        choice.called |= words.called;
        if self.wants_json {
            self.readable &= choice.keep(&words.content, &mut self.room);
        }
    }

    fn into_outcome(self, ended: bool) -> Outcome {
        let choices = &self.choices;
        Outcome {
            ended,
            all_finished: !choices.is_empty()
                && choices.iter().all(|choice| !choice.finish.is_empty()),
            empty: !choices.iter().any(|choice| choice.spoke),
            error: self.error,
            // What was not read whole would be judged wrongly.
            invalid_output: self.readable && choices.iter().any(Choice::is_invalid_output),
            usage: self.usage,
            model: self.model,
            readable: self.readable,
            finish: self
                .choices
                .into_iter()
                .flat_map(|choice| choice.finish)
                .collect(),
        }
    }
}

impl Choice {
    /// Returns the choice `index` of `choices`, which may be a new one; `None` if there are too many.
    fn of(choices: &mut Vec<Self>, index: usize) -> Option<&mut Self> {
        let known = choices.iter().position(|choice| choice.index == index);
        if known.is_none() && choices.len() < MAX_CHOICES {
            choices.push(Self::new(index));
            return choices.last_mut();
        }
        choices.get_mut(known?)
    }

    fn new(index: usize) -> Self {
        Self {
            index,
            finish: BTreeSet::new(),
            spoke: false,
            called: false,
            content: String::new(),
        }
    }

    /// Notes a finish reason (an empty one is none); returns whether there was room for it.
    fn finish(&mut self, reason: Quoted<'_>) -> bool {
        let Ok(reason) = reason.text() else {
            return false;
        };
        if reason.is_empty() || self.finish.contains(&*reason) {
            return true;
        }
        self.finish.len() < MAX_REASONS && self.finish.insert(reason.into_owned())
    }

    /// Keeps content that is to be judged; returns whether it can be, and was.
    fn keep(&mut self, content: &Glimpse<'_>, room: &mut usize) -> bool {
        let Glimpse::Text(text) = content else {
            // Content in parts is some server's own; whether it is JSON depends on how its clients join them.
            return !content.is_there();
        };
        let Ok(text) = text.text() else {
            return false;
        };
        let Some(left) = room.checked_sub(text.len()) else {
            return false;
        };
        *room = left;
        self.content.push_str(&text);
        true
    }

    fn is_invalid_output(&self) -> bool {
        let is_judged = self.finish.contains("stop") && !self.called && !self.content.is_empty();
        is_judged && !is_json(self.content.as_bytes())
    }
}

/// Returns whether `data` is the mark that ends a stream of chunks.
fn is_end_mark(data: &[u8]) -> bool {
    data.trim_ascii() == b"[DONE]"
}

fn begins_object(json: &[u8]) -> bool {
    json.trim_ascii_start().starts_with(b"{")
}

/// Reads a name; `None` if it is no string, or empty, as in the first chunk of Azure's streams.
fn name_of(json: Span<'_>) -> Option<String> {
    let name = json.quoted().ok()?.text().ok()?;
    (!name.is_empty()).then(|| name.into_owned())
}

/// The most different finish reasons of one choice that are kept; one is what the API reference knows.
const MAX_REASONS: usize = 4;

#[cfg(test)]
mod tests;
