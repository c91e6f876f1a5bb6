//! A JSON value that grows piece by piece, as the deltas of a stream tell it. Pure.
//!
//! # How things grow
//! Strings join where they are fragments, and give way where they are whole; objects grow member by member; arrays by
//! the `index` of their items where these carry one, else at their end; of numbers and truth values the last counts.
//! `null` says nothing. What was told only once stays as it was written.
//!
//! # Scope
//! Nothing is guessed: a value that changes its kind, or one that names another thing than before ([`NAMES`]), makes
//! the whole unreadable.

use std::collections::{BTreeMap, btree_map};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Unreadable,
    json::{self, Kind},
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
    Text(String),
    /// An object of several parts.
    Object(Object),
    /// The items of an array without its brackets.
    Items(String),
    /// Items that carry an `index`, by it.
    Indexed(BTreeMap<u64, Object>),
}

/// What a second string does to a first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strings {
    /// It goes on with it: inside a delta.
    Join,
    /// It takes its place: outside of deltas, where every chunk says the whole.
    Replace,
}

/// Members of a delta that name a thing and are no fragments. Some servers repeat them in every chunk; another value
/// would be another thing.
pub(super) const NAMES: [&str; 6] = ["role", "id", "type", "name", "format", "status"];

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
    pub(super) fn grow(
        &mut self,
        name: &str,
        more: &str,
        strings: Strings,
    ) -> Result<(), Unreadable> {
        self.grow_at(name, more, strings, 0)
    }

    /// Has the member `name` say `value` from now on, unless that says nothing.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), Unreadable> {
        match self.get_mut(name) {
            Some(_) if json::is_blank(value) => Ok(()),
            // Most chunks repeat the one before them.
            Some(Grown::Once(known)) if **known == *value => Ok(()),
            Some(known) => {
                *known = Grown::Once(value.into());
                Ok(())
            }
            None => self.add(name, value),
        }
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
        strings: Strings,
        depth: usize,
    ) -> Result<(), Unreadable> {
        let Some(value) = self.get_mut(name) else {
            return self.add(name, more);
        };
        if strings == Strings::Join && NAMES.contains(&name) {
            return value.confirm(more);
        }
        value.grow(more, strings, depth)
    }

    fn grow_all(&mut self, object: &str, strings: Strings, depth: usize) -> Result<(), Unreadable> {
        if depth == MAX_DEPTH {
            return Err(Unreadable);
        }
        for member in json::object(object.as_bytes())? {
            self.grow_at(&member.name, member.value.get(), strings, depth)?;
        }
        Ok(())
    }
}

impl Grown {
    /// Appends the value.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        match self {
            Self::Once(json) => out.extend_from_slice(json.as_bytes()),
            Self::Text(text) => json::write_text(text, out)?,
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

    /// Takes apart an array that was told once, and returns the items if they carry an `index`.
    pub(super) fn indexed(&mut self) -> Result<Option<&mut BTreeMap<u64, Object>>, Unreadable> {
        if self.kind() == Kind::Array {
            self.open(Strings::Join, 0)?;
        }
        Ok(match self {
            Self::Indexed(items) => Some(items),
            _ => None,
        })
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Once(json) => Kind::of(json),
            Self::Text(_) => Kind::Text,
            Self::Object(_) => Kind::Object,
            Self::Items(_) | Self::Indexed(_) => Kind::Array,
        }
    }

    /// Takes `more` for the name that it already is.
    fn confirm(&mut self, more: &str) -> Result<(), Unreadable> {
        let Self::Once(known) = self else {
            return Err(Unreadable);
        };
        if json::is_blank(more) || **known == *more {
            return Ok(());
        }
        if json::is_blank(known) {
            *known = more.into();
            return Ok(());
        }
        Err(Unreadable)
    }

    fn grow(&mut self, more: &str, strings: Strings, depth: usize) -> Result<(), Unreadable> {
        match (self.kind(), Kind::of(more)) {
            (_, Kind::Null) => return Ok(()),
            (Kind::Null, _) | (Kind::Scalar, Kind::Scalar) => *self = Self::Once(more.into()),
            (Kind::Text, Kind::Text) if strings == Strings::Replace => {
                if !json::is_blank(more) {
                    *self = Self::Once(more.into());
                }
            }
            (Kind::Text, Kind::Text) => self.join(&json::text(more)?)?,
            (Kind::Object, Kind::Object) => {
                self.open(strings, depth)?;
                if let Self::Object(object) = self {
                    object.grow_all(more, strings, depth + 1)?;
                }
            }
            (Kind::Array, Kind::Array) => {
                self.open(strings, depth)?;
                self.append(more, strings, depth)?;
            }
            _ => return Err(Unreadable),
        }
        Ok(())
    }

    /// Goes on with a string.
    fn join(&mut self, more: &str) -> Result<(), Unreadable> {
        if let Self::Once(json) = self {
            *self = Self::Text(json::text(json)?.into_owned());
        }
        match self {
            Self::Text(text) => {
                text.push_str(more);
                Ok(())
            }
            _ => Err(Unreadable),
        }
    }

    /// Makes an object or array that was told once ready to grow.
    fn open(&mut self, strings: Strings, depth: usize) -> Result<(), Unreadable> {
        let Self::Once(json) = self else {
            return Ok(());
        };
        let json = std::mem::take(json);
        if Kind::of(&json) == Kind::Object {
            let mut object = Object::default();
            object.grow_all(&json, strings, depth + 1)?;
            *self = Self::Object(object);
            return Ok(());
        }
        *self = Self::Items(String::new());
        self.append(&json, strings, depth)
    }

    /// Adds the items of `more`, all of which carry an index or none.
    fn append(&mut self, more: &str, strings: Strings, depth: usize) -> Result<(), Unreadable> {
        let items = json::array(more)?;
        if items.is_empty() {
            return Ok(());
        }
        let indexes = items.iter().filter_map(|item| index_of(item.get()));
        let indexes: Vec<u64> = indexes.collect();
        if let Self::Items(known) = self
            && known.is_empty()
            && !indexes.is_empty()
        {
            *self = Self::Indexed(BTreeMap::new());
        }
        match self {
            Self::Items(known) if indexes.is_empty() => {
                for item in items {
                    if !known.is_empty() {
                        known.push(',');
                    }
                    known.push_str(item.get());
                }
                Ok(())
            }
            Self::Indexed(known) if indexes.len() == items.len() => {
                for (index, item) in indexes.into_iter().zip(items) {
                    let known = match known.entry(index) {
                        btree_map::Entry::Occupied(known) => known.into_mut(),
                        btree_map::Entry::Vacant(place) => place.insert(Object::default()),
                    };
                    known.grow_all(item.get(), strings, depth + 1)?;
                }
                Ok(())
            }
            _ => Err(Unreadable),
        }
    }
}

/// Ends a list with `end` in place of the comma behind its last item.
fn end_with(end: u8, out: &mut Vec<u8>) {
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.push(end);
}

/// Returns the `index` of an item.
fn index_of(item: &str) -> Option<u64> {
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
mod tests {
    use super::*;

    /// Returns what `a` has grown to.
    fn grown(parts: &[&str], strings: Strings) -> Option<String> {
        let mut object = Object::default();
        for part in parts {
            object.grow("a", part, strings).ok()?;
        }
        let mut out = Vec::new();
        object.get_mut("a")?.write(&mut out).ok()?;
        String::from_utf8(out).ok()
    }

    #[test]
    fn every_kind_grows_in_its_own_way() {
        let table: &[(&[&str], &str, &str)] = &[
            (
                &[r#""x""#, r#""y""#, r#""\n""#],
                r#""xy\n""#,
                "fragments join",
            ),
            (&["null", r#""x""#, "null"], r#""x""#, "null says nothing"),
            (&["1", "1.50", "2e0"], "2e0", "the last number, as written"),
            (&["false", "true"], "true", "the last truth"),
            (&["[ 1.0 ]"], "[ 1.0 ]", "once, as written"),
            (&["[]", "[1.0]", "[ 2 , 3]"], "[1.0,2,3]", "arrays append"),
            (
                &[r#"{"b":"x","c":1}"#, r#"{"b":"y","d":[]}"#],
                r#"{"b":"xy","c":1,"d":[]}"#,
                "objects grow",
            ),
            (
                &[
                    r#"[{"index":1,"t":"x"}]"#,
                    r#"[{"index":0,"t":"a"},{"index":1,"t":"y"}]"#,
                ],
                r#"[{"index":0,"t":"a"},{"index":1,"t":"xy"}]"#,
                "items grow by their index",
            ),
            (
                &[r#"{"id":"i","v":1}"#, r#"{"id":"i","v":2}"#, r#"{"id":""}"#],
                r#"{"id":"i","v":2}"#,
                "a name may be repeated",
            ),
        ];
        for (parts, expected, why) in table {
            assert_eq!(
                grown(parts, Strings::Join).as_deref(),
                Some(*expected),
                "{why}"
            );
        }
        assert_eq!(
            grown(&[r#""x""#, r#""y""#, r#""""#], Strings::Replace).as_deref(),
            Some(r#""y""#)
        );
    }

    #[test]
    fn nothing_is_guessed() {
        let deep = |depth: usize| format!("{}1{}", r#"{"d":"#.repeat(depth), "}".repeat(depth));
        let (shallow, deep) = (deep(MAX_DEPTH - 1), deep(MAX_DEPTH + 1));
        assert!(grown(&[&shallow, &shallow], Strings::Join).is_some());
        let table: &[(&[&str], &str)] = &[
            (&[r#""x""#, "1"], "another kind"),
            (&["[1]", r#"{"a":1}"#], "another kind"),
            (&[r#"[{"index":0}]"#, "[1]"], "an item without index"),
            (&[r#"[{"index":0},{}]"#, "[]"], "an item without index"),
            (
                &[r#"[{"index":0,"id":"a"}]"#, r#"[{"index":0,"id":"b"}]"#],
                "another thing at the same place",
            ),
            (&[&deep, &deep], "too deep"),
        ];
        for (parts, why) in table {
            assert_eq!(grown(parts, Strings::Join), None, "{why}");
        }
    }
}
