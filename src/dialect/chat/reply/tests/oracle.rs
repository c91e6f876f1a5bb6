//! The same answers read by serde, shape by shape: what is read here byte by byte has to come to the same.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

use super::super::{MAX_CHOICES, MAX_REASONS, Outcome, begins_object, is_end_mark};
use crate::dialect::{sse::Events, usage::Usage};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<Glimpse<'a>>,
    #[serde(borrow)]
    choices: Option<Choices<'a>>,
}

struct Choices<'a>(Vec<Said<'a>>);

/// A choice that is an object; serde would take an array for one, too, by position.
struct Object<'a>(Said<'a>);

#[derive(Deserialize)]
struct Said<'a> {
    index: Option<usize>,
    #[serde(borrow)]
    finish_reason: Option<Text<'a>>,
    #[serde(borrow)]
    error: Option<Glimpse<'a>>,
    #[serde(borrow)]
    delta: Option<Words<'a>>,
    #[serde(borrow)]
    message: Option<Words<'a>>,
}

#[derive(Default)]
struct Words<'a> {
    content: Glimpse<'a>,
    spoke: bool,
    called: bool,
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Counts {
    prompt_tokens: u64,
    completion_tokens: u64,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Glimpse<'a> {
    #[default]
    Nothing,
    Mark,
    Text(&'a str),
    Nested,
}

/// What has been read of an answer so far.
#[derive(Default)]
struct Read {
    choices: Vec<Choice>,
    kept: usize,
    error: bool,
    usage: Option<Usage>,
    model: Option<String>,
    unreadable: bool,
}

#[derive(Default)]
struct Choice {
    index: usize,
    finish: Vec<String>,
    spoke: bool,
    called: bool,
    content: String,
}

/// Reads a plain answer.
pub(super) fn of_whole(body: &[u8], wants_json: bool) -> Outcome {
    let mut read = Read::default();
    let choices = read.body(body);
    let ended = choices.is_some()
        || begins_object(body) && serde_json::from_slice::<IgnoredAny>(body).is_ok();
    for (position, mut said) in choices.into_iter().flatten().enumerate() {
        let words = said.message.take();
        read.said(position, said, words, wants_json.then_some(body.len()));
    }
    read.into_outcome(ended)
}

/// Reads a stream.
pub(super) fn of_stream(chunks: &[&[u8]], wants_json: bool, limit: usize) -> Outcome {
    let mut read = Read::default();
    let mut events = Events::with_limit(limit);
    let mut ended = false;
    for chunk in chunks {
        events.push(chunk, &mut |event| {
            read.unreadable |= ended;
            if is_end_mark(event.data) {
                ended = true;
            } else if event.name == b"error" {
                read.error = true;
            } else {
                for mut said in read.body(event.data).into_iter().flatten() {
                    let words = said.delta.take();
                    read.said(
                        said.index.unwrap_or(0),
                        said,
                        words,
                        wants_json.then_some(limit),
                    );
                }
            }
        });
    }
    read.unreadable |= events.overflowed();
    if !events.pending() {
        return read.into_outcome(ended);
    }
    let ends_here = !ended
        && events
            .into_unfinished()
            .is_some_and(|data| is_end_mark(&data));
    read.unreadable |= !ends_here;
    read.into_outcome(ended || ends_here)
}

impl Read {
    fn body<'a>(&mut self, json: &'a [u8]) -> Option<Vec<Said<'a>>> {
        let body = begins_object(json).then(|| match str::from_utf8(json) {
            Ok(text) => serde_json::from_str::<Body<'_>>(text).ok(),
            Err(_) => serde_json::from_slice(json).ok(),
        });
        let Some(body) = body.flatten() else {
            self.unreadable = true;
            return None;
        };
        self.error |= body.error.is_some_and(Glimpse::is_there);
        if let Some(usage) = body.usage {
            // Serde would take an array for them, too, by position.
            let usage = Some(usage.get()).filter(|usage| usage.starts_with('{'));
            let counts = usage.and_then(|usage| serde_json::from_str::<Counts>(usage).ok());
            self.usage = counts.map(|counts| Usage {
                input_tokens: counts.prompt_tokens,
                output_tokens: counts.completion_tokens,
            });
        }
        let name = |json: &RawValue| serde_json::from_str::<String>(json.get()).ok();
        let name = body.model.and_then(name).filter(|name| !name.is_empty());
        self.model = self.model.take().or(name);
        Some(body.choices.map_or_else(Vec::new, |choices| choices.0))
    }

    /// `limit`: the most content that may be kept to be judged; `None` where it is not.
    fn said(
        &mut self,
        index: usize,
        said: Said<'_>,
        words: Option<Words<'_>>,
        limit: Option<usize>,
    ) {
        self.error |= said.error.is_some_and(Glimpse::is_there);
        if self.choices.iter().all(|choice| choice.index != index) {
            if self.choices.len() == MAX_CHOICES {
                self.unreadable = true;
                return;
            }
            self.choices.push(Choice {
                index,
                ..Choice::default()
            });
        }
        let choice = self
            .choices
            .iter_mut()
            .find(|choice| choice.index == index)
            .unwrap();
        let reason = said.finish_reason.map(|Text(reason)| reason.into_owned());
        if let Some(reason) = reason.filter(|reason| !reason.is_empty())
            && !choice.finish.contains(&reason)
        {
            self.unreadable |= choice.finish.len() == MAX_REASONS;
            choice.finish.push(reason);
            choice.finish.truncate(MAX_REASONS);
        }
        let words = words.unwrap_or_default();
        choice.spoke |= words.spoke;
        choice.called |= words.called;
        let Some(limit) = limit else { return };
        match words.content {
            Glimpse::Nothing => {}
            Glimpse::Text(text) => {
                let text: String = serde_json::from_str(text).unwrap();
                if self.kept + text.len() > limit {
                    self.unreadable = true;
                } else {
                    self.kept += text.len();
                    choice.content.push_str(&text);
                }
            }
            Glimpse::Mark | Glimpse::Nested => self.unreadable = true,
        }
    }

    fn into_outcome(self, ended: bool) -> Outcome {
        let choices = &self.choices;
        let is_invalid = |choice: &Choice| {
            choice.finish.iter().any(|reason| reason == "stop")
                && !choice.called
                && !choice.content.is_empty()
                && serde_json::from_str::<IgnoredAny>(&choice.content).is_err()
        };
        Outcome {
            ended,
            finish: choices
                .iter()
                .flat_map(|choice| choice.finish.clone())
                .collect(),
            all_finished: !choices.is_empty()
                && choices.iter().all(|choice| !choice.finish.is_empty()),
            empty: choices.iter().all(|choice| !choice.spoke),
            error: self.error,
            invalid_output: !self.unreadable && choices.iter().any(is_invalid),
            usage: self.usage,
            model: self.model,
            readable: !self.unreadable,
        }
    }
}

impl Glimpse<'_> {
    fn is_there(self) -> bool {
        self != Self::Nothing
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Glimpse<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = <&'a RawValue>::deserialize(deserializer)?.get();
        Ok(match json.as_bytes() {
            b"null" | b"false" | br#""""# => Self::Nothing,
            b"true" => Self::Mark,
            [b'"', ..] => {
                serde_json::from_str::<Text<'_>>(json).map_err(D::Error::custom)?;
                Self::Text(json)
            }
            [b'[' | b'{', inner @ .., _] if inner.trim_ascii().is_empty() => Self::Nothing,
            [b'[' | b'{', ..] => Self::Nested,
            _ if json.parse().is_ok_and(|number: f64| number == 0.0) => Self::Nothing,
            _ => Self::Mark,
        })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Choices<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ChoicesVisitor)
    }
}

struct ChoicesVisitor;

impl<'de> Visitor<'de> for ChoicesVisitor {
    type Value = Choices<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("choices")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut choices = Vec::new();
        while let Some(Object(choice)) = items.next_element()? {
            if choices.len() == MAX_CHOICES {
                return Err(A::Error::custom("too many"));
            }
            choices.push(choice);
        }
        Ok(Choices(choices))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a choice")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
        Said::deserialize(MapAccessDeserializer::new(members)).map(Object)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Words<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WordsVisitor)
    }
}

struct WordsVisitor;

impl<'de> Visitor<'de> for WordsVisitor {
    type Value = Words<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message or delta")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut words = Words::default();
        while let Some(Text(member)) = members.next_key()? {
            let value: Glimpse<'_> = members.next_value()?;
            let is_substance = matches!(value, Glimpse::Text(_) | Glimpse::Nested);
            match &*member {
                "role" | "name" => continue,
                "content" if words.content.is_there() => {
                    return Err(A::Error::duplicate_field("content"));
                }
                "tool_calls" | "function_call" => words.called |= is_substance,
                _ => {}
            }
            words.spoke |= is_substance;
            if member == "content" {
                words.content = value;
            }
        }
        Ok(words)
    }
}
