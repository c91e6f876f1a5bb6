//! A JSON value that grows piece by piece, as the chunks of a stream tell it. Pure.
//!
//! # How things grow
//! Objects grow member by member; `null` says nothing. For the rest it matters where a value stands ([`Level`]): in a delta
//! strings are fragments that join, arrays go on, or grow by the `index` of their items where these carry one; beside a
//! delta things are said once; at the top every chunk says the whole. What was told only once stays as it was written.
//!
//! # Scope
//! Nothing is guessed. Unreadable is a value that changes its kind; another name for a thing that has one ([`NAMES`]); a number
//! that changes; a string that says the same twice in a row and may be a repetition or two fragments, unless it is known to
//! come in fragments ([`FRAGMENTS`]); an item of an array that may go on with the one before it, or repeat it; two items at
//! one place.

mod items;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::value::RawValue;

use self::items::Items;
use super::{
    Unreadable,
    json::{self, Kind, Member},
};

/// An object that grows.
#[derive(Debug, Default)]
pub(super) struct Object(Vec<(Box<str>, Grown)>);

/// A value that has grown so far.
#[derive(Debug)]
pub(super) enum Grown {
    /// Told once, as written.
    Once(Box<str>),
    /// A string of several fragments.
    Text(Text),
    /// An object of several parts.
    Object(Object),
    /// The items of an array.
    Items(Items),
    /// Items that carry an `index`, by it.
    Indexed(BTreeMap<u64, Object>),
}

/// A string that has grown.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) text: String,
    /// How much of it the last fragment is, bytes.
    last: usize,
}

/// Where a value stands, which decides what a second telling means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// In a delta: it goes on.
    Delta,
    /// Beside a delta: it is said once. Arrays that stand for one token each go on ([`LISTS`]).
    Choice,
    /// At the top: it takes the place of the first.
    Top,
}

/// Members of a delta that name a thing and are no fragments. Some servers repeat them in every chunk; another value
/// would be another thing.
const NAMES: [&str; 6] = ["role", "id", "type", "name", "format", "status"];

/// Strings that are known to come in fragments, so that two alike in a row are just that.
const FRAGMENTS: [&str; 18] = [
    "content",
    "refusal",
    "reasoning",
    "reasoning_content",
    "reasoning_text",
    "thinking",
    "thinking_content",
    "thought",
    "thoughts",
    "text",
    "summary",
    "arguments",
    "input",
    "data",
    "transcript",
    "partial_json",
    "code",
    "output",
];

/// Arrays beside a delta that go on with every token: those of the logprobs, today's and the older ones, and vLLM's.
const LISTS: [&str; 7] = [
    "content",
    "refusal",
    "tokens",
    "token_logprobs",
    "top_logprobs",
    "text_offset",
    "token_ids",
];

/// The place of an item in its array, where it carries one.
#[derive(Deserialize)]
struct Place<'a> {
    #[serde(borrow)]
    index: Option<&'a RawValue>,
}

impl Object {
    /// Returns the member `name`.
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Grown> {
        let mut members = self.0.iter_mut();
        members.find_map(|(known, value)| (**known == *name).then_some(value))
    }

    /// Returns whether there is a member `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| **known == *name)
    }

    /// Adds what a part says of the member `name`.
    pub(super) fn grow(&mut self, name: &str, more: &str, level: Level) -> Result<(), Unreadable> {
        self.grow_at(name, more, level, 0)
    }

    /// Adds what a part says of all its members, which are those of an item at `depth`.
    pub(super) fn grow_all(
        &mut self,
        members: &[Member<'_>],
        level: Level,
        depth: usize,
    ) -> Result<(), Unreadable> {
        if depth == MAX_DEPTH {
            return Err(Unreadable);
        }
        for member in members {
            self.grow_at(&member.name, member.value.get(), level, depth)?;
        }
        Ok(())
    }

    /// Gives a member that is not there a value.
    pub(super) fn set_default(&mut self, name: &str, value: &str) -> Result<(), Unreadable> {
        if self.has(name) {
            return Ok(());
        }
        self.add(name, value)
    }

    /// Removes the member `name`.
    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| **known != *name);
    }

    /// Appends the members without the braces, each with a comma behind it.
    pub(super) fn write_members(&self, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        for (name, value) in &self.0 {
            json::write_text(name, out)?;
            out.push(b':');
            value.write(out)?;
            out.push(b',');
        }
        Ok(())
    }

    /// Appends the object.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        out.push(b'{');
        self.write_members(out)?;
        end_with(b'}', out);
        Ok(())
    }

    fn add(&mut self, name: &str, value: &str) -> Result<(), Unreadable> {
        if self.0.len() == MAX_MEMBERS {
            return Err(Unreadable);
        }
        self.0.push((name.into(), Grown::Once(value.into())));
        Ok(())
    }

    fn grow_at(
        &mut self,
        name: &str,
        more: &str,
        level: Level,
        depth: usize,
    ) -> Result<(), Unreadable> {
        match self.get_mut(name) {
            Some(value) => value.grow(name, more, level, depth),
            None => self.add(name, more),
        }
    }
}

impl Grown {
    /// Appends the value.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        match self {
            Self::Once(json) => out.extend_from_slice(json.as_bytes()),
            Self::Text(text) => json::write_text(&text.text, out)?,
            Self::Object(object) => object.write(out)?,
            Self::Items(items) => {
                out.push(b'[');
                out.extend_from_slice(items.as_bytes());
                out.push(b']');
            }
            Self::Indexed(items) => {
                out.push(b'[');
                for item in items.values() {
                    item.write(out)?;
                    out.push(b',');
                }
                end_with(b']', out);
            }
        }
        Ok(())
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Once(json) => Kind::of(json),
            Self::Text(_) => Kind::Text,
            Self::Object(_) => Kind::Object,
            Self::Items(_) | Self::Indexed(_) => Kind::Array,
        }
    }

    fn grow(
        &mut self,
        name: &str,
        more: &str,
        level: Level,
        depth: usize,
    ) -> Result<(), Unreadable> {
        match (self.kind(), Kind::of(more)) {
            (_, Kind::Null) => Ok(()),
            (Kind::Null, _) => {
                *self = Self::Once(more.into());
                Ok(())
            }
            (Kind::Object, Kind::Object) => self.grow_object(more, level, depth),
            (known, kind) if known != kind => Err(Unreadable),
            _ if level == Level::Top => {
                self.replace(more);
                Ok(())
            }
            (Kind::Text, _) if level == Level::Delta && !NAMES.contains(&name) => {
                self.join(&json::text(more)?, FRAGMENTS.contains(&name))
            }
            (Kind::Text, _) if level == Level::Choice && FRAGMENTS.contains(&name) => {
                self.stay(more)
            }
            (Kind::Array, _) if level == Level::Delta || LISTS.contains(&name) => {
                self.open(level, depth)?;
                self.append(more, level, depth)
            }
            (Kind::Array, _) => self.stay(more),
            _ => self.confirm(more),
        }
    }

    fn grow_object(&mut self, more: &str, level: Level, depth: usize) -> Result<(), Unreadable> {
        // Beside a delta two alike may be the logprobs of two tokens.
        if level == Level::Top && matches!(self, Self::Once(known) if **known == *more) {
            return Ok(());
        }
        self.open(level, depth)?;
        match self {
            Self::Object(object) => {
                object.grow_all(&json::object(more.as_bytes())?, level, depth + 1)
            }
            _ => Err(Unreadable),
        }
    }

    /// Says `more` from now on, unless that says nothing.
    fn replace(&mut self, more: &str) {
        // Most chunks repeat the one before them.
        if !json::is_blank(more) && !matches!(self, Self::Once(known) if **known == *more) {
            *self = Self::Once(more.into());
        }
    }

    /// Takes `more` for what it already is.
    fn confirm(&mut self, more: &str) -> Result<(), Unreadable> {
        match self {
            Self::Once(known) if **known == *more => Ok(()),
            _ => self.stay(more),
        }
    }

    /// Takes nothing more, if it has said something.
    fn stay(&mut self, more: &str) -> Result<(), Unreadable> {
        match self {
            _ if json::is_blank(more) => Ok(()),
            Self::Once(known) if json::is_blank(known) => {
                *known = more.into();
                Ok(())
            }
            _ => Err(Unreadable),
        }
    }

    /// Goes on with a string.
    fn join(&mut self, more: &str, in_fragments: bool) -> Result<(), Unreadable> {
        if more.is_empty() {
            return Ok(());
        }
        if let Self::Once(json) = self {
            let text = json::text(json)?.into_owned();
            let last = text.len();
            *self = Self::Text(Text { text, last });
        }
        let Self::Text(Text { text, last }) = self else {
            return Err(Unreadable);
        };
        if !in_fragments && *last == more.len() && text.ends_with(more) {
            return Err(Unreadable);
        }
        text.push_str(more);
        *last = more.len();
        Ok(())
    }

    /// Makes an object or array that was told once ready to grow.
    fn open(&mut self, level: Level, depth: usize) -> Result<(), Unreadable> {
        let Self::Once(json) = self else {
            return Ok(());
        };
        let json = std::mem::take(json);
        if Kind::of(&json) == Kind::Object {
            let mut object = Object::default();
            object.grow_all(&json::object(json.as_bytes())?, level, depth + 1)?;
            *self = Self::Object(object);
            return Ok(());
        }
        *self = Self::Items(Items::default());
        self.append(&json, level, depth)
    }

    /// Adds the items of `more`, all of which carry an index or none.
    fn append(&mut self, more: &str, level: Level, depth: usize) -> Result<(), Unreadable> {
        let items = json::array(more)?;
        if items.is_empty() {
            return Ok(());
        }
        let indexes: Vec<_> = items
            .iter()
            .filter_map(|item| index_of(item.get()))
            .collect();
        if let Self::Items(known) = self
            && known.is_empty()
            && !indexes.is_empty()
        {
            *self = Self::Indexed(BTreeMap::new());
        }
        match self {
            Self::Items(known) if indexes.is_empty() => known.append(&items, level != Level::Delta),
            Self::Indexed(known) if indexes.len() == items.len() => {
                are_distinct(&indexes)?;
                for (index, item) in indexes.into_iter().zip(items) {
                    let members = json::object(item.get().as_bytes())?;
                    let known = known.entry(index).or_default();
                    known.grow_all(&members, level, depth + 1)?;
                }
                Ok(())
            }
            _ => Err(Unreadable),
        }
    }
}

/// Refuses two items of one array that claim the same place.
pub(super) fn are_distinct(indexes: &[u64]) -> Result<(), Unreadable> {
    let distinct: BTreeSet<_> = indexes.iter().collect();
    if distinct.len() == indexes.len() {
        Ok(())
    } else {
        Err(Unreadable)
    }
}

/// Ends a list with `end` in place of the comma behind its last item.
pub(super) fn end_with(end: u8, out: &mut Vec<u8>) {
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.push(end);
}

/// Returns the `index` of an item.
pub(super) fn index_of(item: &str) -> Option<u64> {
    if Kind::of(item) != Kind::Object {
        return None;
    }
    let place: Place<'_> = serde_json::from_str(item).ok()?;
    place.index?.get().parse().ok()
}

/// The most members that an object can grow to; they are looked for one by one.
const MAX_MEMBERS: usize = 128;
/// The deepest place that grows; what is told once may be deeper.
const MAX_DEPTH: usize = 32;

#[cfg(test)]
mod tests;
