//! The tool calls of a message, as the deltas of a stream tell them (API reference, "The chat completion chunk object"). Pure.
//!
//! # Scope
//! Fragments belong to the call at their `index`. Some servers leave it out, or give every call the same. Nothing is
//! guessed then: an item without index is a call only if it is whole and has an id of its own, and what may be a second
//! call at a place that is taken is unreadable.

use std::collections::{BTreeMap, HashSet};

use serde::de::IgnoredAny;

use super::{
    Unreadable,
    grown::{Level, Object, are_distinct, end_with, index_of},
    json::{self, Kind, Member},
};

/// The calls told so far.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Calls that grow, by their index.
    placed: BTreeMap<u64, Call>,
    /// Whole calls without one, in their order.
    whole: Vec<Object>,
    /// The ids of the whole ones.
    ids: HashSet<Box<str>>,
}

/// A call that grows.
#[derive(Debug, Default)]
struct Call {
    call: Object,
    /// Whether its arguments have begun.
    has_begun: bool,
}

/// What an item says of its call.
#[derive(Debug, Default)]
struct Part<'a> {
    /// Its id as written, if it says one.
    id: Option<&'a str>,
    /// Whether it names a function, or a tool of another type.
    is_named: bool,
    /// The arguments of a function as written, if it says any.
    arguments: Option<&'a str>,
    /// Whether it has any arguments or input.
    speaks: bool,
    /// Whether it is a function's.
    is_function: bool,
}

impl Calls {
    /// Returns whether no call was told.
    pub(super) fn is_empty(&self) -> bool {
        self.placed.is_empty() && self.whole.is_empty()
    }

    /// Hears the `tool_calls` of a delta.
    pub(super) fn hear(&mut self, calls: &str) -> Result<(), Unreadable> {
        let calls = json::array(calls)?;
        let indexes = calls.iter().map(|call| index_of(call.get()));
        let indexes: Option<Vec<_>> = indexes.collect();
        match indexes {
            Some(indexes) if self.whole.is_empty() => {
                are_distinct(&indexes)?;
                for (index, call) in indexes.into_iter().zip(calls) {
                    let call = json::object(call.get().as_bytes())?;
                    self.placed.entry(index).or_default().hear(&call)?;
                }
                Ok(())
            }
            None if self.placed.is_empty() => {
                let mut calls = calls.into_iter();
                calls.try_for_each(|call| self.take_whole(call.get()))
            }
            _ => Err(Unreadable),
        }
    }

    /// Takes an item without a usable index for a call, if it can be nothing else.
    fn take_whole(&mut self, call: &str) -> Result<(), Unreadable> {
        let members = json::object(call.as_bytes())?;
        let part = Part::read(&members)?;
        let id = part.id.ok_or(Unreadable)?;
        let is_whole = part.is_function && part.is_named && part.has_whole_arguments()?;
        if !is_whole || !self.ids.insert(id.into()) {
            return Err(Unreadable);
        }
        let mut call = Object::default();
        call.grow_all(&members, Level::Delta, 0)?;
        self.whole.push(call);
        Ok(())
    }

    /// Appends the calls as the array that a message has. Their index is a stream's alone.
    pub(super) fn write(self, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        out.push(b'[');
        let placed = self.placed.into_values().map(|call| call.call);
        for mut call in placed.chain(self.whole) {
            call.remove("index");
            call.write(out)?;
            out.push(b',');
        }
        end_with(b']', out);
        Ok(())
    }
}

impl Call {
    fn hear(&mut self, members: &[Member<'_>]) -> Result<(), Unreadable> {
        let part = Part::read(members)?;
        // The next fragment of a call does not say its name again, unless it says all, the id as well.
        if self.has_begun && part.is_named && part.id.is_none() {
            return Err(Unreadable);
        }
        self.has_begun |= part.speaks;
        self.call.grow_all(members, Level::Delta, 0)
    }
}

impl<'a> Part<'a> {
    fn read(members: &[Member<'a>]) -> Result<Self, Unreadable> {
        let mut part = Self::default();
        for member in members {
            let value = member.value.get();
            match &*member.name {
                "id" => part.id = Some(value).filter(|id| !json::is_blank(id)),
                "function" | "custom" if Kind::of(value) == Kind::Object => {
                    part.is_function = member.name == "function";
                    part.tool(value)?;
                }
                _ => {}
            }
        }
        Ok(part)
    }

    fn tool(&mut self, tool: &'a str) -> Result<(), Unreadable> {
        for member in json::object(tool.as_bytes())? {
            let value = member.value.get();
            let is_said = !json::is_blank(value);
            match &*member.name {
                "name" => self.is_named |= is_said,
                "arguments" if is_said => {
                    self.arguments = Some(value);
                    self.speaks = true;
                }
                "input" => self.speaks |= is_said,
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns whether there are no arguments, or JSON to its end.
    fn has_whole_arguments(&self) -> Result<bool, Unreadable> {
        let Some(arguments) = self.arguments else {
            return Ok(true);
        };
        if Kind::of(arguments) != Kind::Text {
            return Ok(true);
        }
        Ok(serde_json::from_str::<IgnoredAny>(&json::text(arguments)?).is_ok())
    }
}
