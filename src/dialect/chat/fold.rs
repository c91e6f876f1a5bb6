//! Folds a recorded stream into the completion that a plain call would have got (API reference, "The chat completion
//! object"). Pure.
//!
//! # What becomes of what
//! Deltas grow into the message (`grown` says how, `calls` for tool calls), logprobs and unknown members of a choice into the
//! choice. At the top every chunk says the whole, so the last word counts, and objects grow. Numbers keep their text. The
//! usage is the stream's, or absent. What a stream has for its own sake goes: `obfuscation`, the `index` of a tool call,
//! Azure's `content_filter_offsets`.
//!
//! # Scope
//! Only a stream that ended as it should is folded, and nothing is guessed: what is ambiguous is [`Unreadable`].
//! Completed is only what the reference requires of every message: `role` and `content`; and `annotations`, which OpenAI
//! writes into each message that has a `refusal` and into no delta before there are any.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    Unreadable,
    calls::Calls,
    grown::{Grown, Level, Object, Text},
    json::{self, Kind, Member},
};
use crate::dialect::sse::{Event, Events};

/// What has been read of a stream so far.
#[derive(Debug, Default)]
struct Completion {
    /// The members at the top, without those below.
    top: Object,
    choices: BTreeMap<u64, Choice>,
    /// As written.
    usage: Option<Box<str>>,
    /// Whether the end mark was seen.
    ended: bool,
}

/// One of the answers in an answer (`n`).
#[derive(Debug, Default)]
struct Choice {
    /// Without its tool calls.
    message: Object,
    calls: Calls,
    /// The members beside the message.
    rest: Object,
    /// Whether a finish reason was given.
    finished: bool,
}

/// Folds a whole stream into one completion.
pub fn fold(recording: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let mut completion = Completion::default();
    let mut read = Ok(());
    let mut events = Events::with_limit(recording.len());
    events.push(recording, &mut |event| {
        if read.is_ok() {
            read = completion.event(event);
        }
    });
    read?;
    if let Some(data) = events.into_unfinished() {
        // An end mark counts even if its blank line is missing.
        completion.event(Event {
            name: b"",
            data: &data,
        })?;
    }
    completion.write(recording.len())
}

impl Completion {
    fn event(&mut self, event: Event<'_>) -> Result<(), Unreadable> {
        if self.ended || event.name == b"error" {
            return Err(Unreadable);
        }
        if event.data.trim_ascii() == END_MARK {
            self.ended = true;
            return Ok(());
        }
        for member in json::object(event.data)? {
            self.member(&member)?;
        }
        Ok(())
    }

    fn member(&mut self, member: &Member<'_>) -> Result<(), Unreadable> {
        let value = member.value.get();
        match &*member.name {
            "choices" => self.choices(value),
            "usage" => {
                if Kind::of(value) != Kind::Null {
                    self.usage = Some(value.into());
                }
                Ok(())
            }
            "object" => self.top.set_default("object", OBJECT),
            // Azure's annotations of what was said before are chunks that name no answer.
            "created" if value == "0" => self.top.set_default("created", value),
            "error" if !json::is_blank(value) => Err(Unreadable),
            "error" | "obfuscation" => Ok(()),
            name => self.top.grow(name, value, Level::Top),
        }
    }

    fn choices(&mut self, choices: &str) -> Result<(), Unreadable> {
        if Kind::of(choices) == Kind::Null {
            return Ok(());
        }
        for choice in json::array(choices)? {
            let members = json::object(choice.get().as_bytes())?;
            let index = members.iter().find(|member| member.name == "index");
            let index = index.map_or(Ok(0), |index| index.value.get().parse());
            let index = index.map_err(|_| Unreadable)?;
            if self.choices.len() == MAX_CHOICES && !self.choices.contains_key(&index) {
                return Err(Unreadable);
            }
            self.choices.entry(index).or_default().hear(&members)?;
        }
        Ok(())
    }

    /// Writes the completion; `room` is about how long it will be, bytes.
    fn write(mut self, room: usize) -> Result<Vec<u8>, Unreadable> {
        let is_whole = self.ended && !self.choices.is_empty();
        if !is_whole || !self.choices.values().all(|choice| choice.finished) {
            return Err(Unreadable);
        }
        self.top.set_default("object", OBJECT)?;
        let mut out = Vec::with_capacity(room / 4);
        out.push(b'{');
        self.top.write_members(&mut out)?;
        out.extend_from_slice(b"\"choices\":");
        let mut before = b'[';
        for (index, choice) in self.choices {
            out.push(before);
            choice.write(index, &mut out)?;
            before = b',';
        }
        out.push(b']');
        if let Some(usage) = self.usage {
            out.extend_from_slice(b",\"usage\":");
            out.extend_from_slice(usage.as_bytes());
        }
        out.push(b'}');
        Ok(out)
    }
}

impl Choice {
    fn hear(&mut self, members: &[Member<'_>]) -> Result<(), Unreadable> {
        for member in members {
            let value = member.value.get();
            match &*member.name {
                // Some servers repeat the message so far beside each delta.
                // Azure says where in the stream its filter has got to.
                "index" | "message" | "content_filter_offsets" => {}
                "delta" => self.delta(value)?,
                name => {
                    self.finished |= name == "finish_reason" && !json::is_blank(value);
                    self.rest.grow(name, value, Level::Choice)?;
                }
            }
        }
        Ok(())
    }

    fn delta(&mut self, delta: &str) -> Result<(), Unreadable> {
        if Kind::of(delta) == Kind::Null {
            return Ok(());
        }
        for member in json::object(delta.as_bytes())? {
            let value = member.value.get();
            if member.name == "tool_calls" && !json::is_blank(value) {
                self.calls.hear(value)?;
            } else {
                self.message.grow(&member.name, value, Level::Delta)?;
            }
        }
        Ok(())
    }

    fn write(mut self, index: u64, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        complete(&mut self.message)?;
        out.extend_from_slice(format!("{{\"index\":{index},\"message\":").as_bytes());
        self.write_message(out)?;
        out.push(b',');
        // There is a finish reason at least, so there is a comma to take back.
        self.rest.write_members(out)?;
        out.pop();
        out.push(b'}');
        Ok(())
    }

    fn write_message(&mut self, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        let calls = std::mem::take(&mut self.calls);
        if calls.is_empty() {
            return self.message.write(out);
        }
        self.message.remove("tool_calls");
        out.push(b'{');
        // There is a role at least, and a comma behind it.
        self.message.write_members(out)?;
        out.extend_from_slice(b"\"tool_calls\":");
        calls.write(out)?;
        out.push(b'}');
        Ok(())
    }
}

/// Makes the message of a completion out of what the deltas said.
fn complete(message: &mut Object) -> Result<(), Unreadable> {
    message.set_default("role", "\"assistant\"")?;
    message.set_default("content", "null")?;
    if message.has("refusal") {
        message.set_default("annotations", "[]")?;
    }
    if let Some(Grown::Object(audio)) = message.get_mut("audio")
        && let Some(Grown::Text(Text { text, .. })) = audio.get_mut("data")
    {
        *text = one_base64(text)?;
    }
    Ok(())
}

/// Makes one base64 text of several in a row, each of which may have padding of its own.
fn one_base64(texts: &str) -> Result<String, Unreadable> {
    let inner = texts.trim_end_matches('=');
    if !inner.contains('=') {
        return Ok(texts.to_owned());
    }
    let mut bytes = Vec::with_capacity(texts.len());
    let mut rest = texts;
    while !rest.is_empty() {
        let padding = rest.find('=').unwrap_or(rest.len());
        let end = rest
            .get(padding..)
            .and_then(|tail| tail.find(|letter| letter != '='))
            .map_or(rest.len(), |length| padding + length);
        let (text, tail) = rest.split_at_checked(end).ok_or(Unreadable)?;
        STANDARD
            .decode_vec(text, &mut bytes)
            .map_err(|_| Unreadable)?;
        rest = tail;
    }
    Ok(STANDARD.encode(bytes))
}

/// What `object` says in a completion.
const OBJECT: &str = "\"chat.completion\"";

/// The data that ends a stream of chunks.
const END_MARK: &[u8] = b"[DONE]";

/// The most choices that a request can ask for (API reference, `n`).
const MAX_CHOICES: usize = 128;

#[cfg(test)]
mod tests;
