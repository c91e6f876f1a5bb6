//! The tree of settings read into the types of `file`, with every problem that comes up on the way.
//!
//! Serde stops at the first mistake. So a setting with a mistake is reported, marked as spoilt, and the whole is read
//! again without it, until it reads. The same reader makes sense of values from environment and flags, which have no
//! type of their own, and lets one value stand where a list is wanted (`listen = "127.0.0.1:8080"`, `[upstream]`).

use std::{cell::RefCell, collections::btree_map, fmt, slice};

use serde::{
    de::{
        DeserializeOwned, DeserializeSeed, Deserializer, Error, Expected, IntoDeserializer,
        MapAccess, SeqAccess, Unexpected, Visitor,
        value::{MapDeserializer, SeqDeserializer, StrDeserializer},
    },
    forward_to_deserialize_any,
};

use super::{
    env,
    problem::{Complaint, Place, Problem},
    tree::{Entry, Node, Value},
};

/// Reads `tree`, and returns what could be read beside the problems with the rest.
pub(super) fn read<T: DeserializeOwned + Default>(tree: &Node) -> (T, Vec<Problem>) {
    let problems = RefCell::new(Vec::new());
    loop {
        let reader = Reader {
            node: tree,
            key: String::new(),
            problems: &problems,
        };
        let result = T::deserialize(reader);
        let enough = problems.borrow().len() >= MOST_PROBLEMS;
        match result {
            Ok(value) => return (value, problems.into_inner()),
            // One more entry is spoilt now, so the next attempt comes further.
            Err(Mistake::Reported) if !enough => {}
            Err(_) => return (T::default(), problems.into_inner()),
        }
    }
}

/// Deserializes one node.
struct Reader<'t> {
    node: &'t Node,
    /// Key of the node, such as `cache.ttl`; empty at the root.
    key: String,
    problems: &'t RefCell<Vec<Problem>>,
}

/// Why reading stopped.
#[derive(Debug)]
enum Mistake {
    /// Not reported yet.
    Fresh(Box<Fresh>),
    /// Reported, and its entry is spoilt.
    Reported,
}

#[derive(Debug)]
struct Fresh {
    complaint: Complaint,
    /// Names one of which was probably meant, for a key that is unknown.
    known: Option<(String, &'static [&'static str])>,
    /// Place and key of the value; `None` while it is on its way there.
    spot: Option<(Place, String)>,
}

impl<'t> Reader<'t> {
    fn item(&self, node: &'t Node, index: usize, of: usize) -> Self {
        Self {
            node,
            key: item_key(&self.key, index, of),
            ..*self
        }
    }

    fn entry(&self, name: &str, entry: &'t Entry) -> Self {
        Self {
            node: &entry.node,
            key: join(&self.key, name),
            ..*self
        }
    }

    /// Complains that what the node holds is not `expected`.
    fn misfit(&self, expected: &dyn Expected) -> Mistake {
        let found = match &self.node.value {
            Value::Text(text) | Value::Loose(text) => Unexpected::Str(text),
            Value::Boolean(value) => Unexpected::Bool(*value),
            Value::Other(text) => Unexpected::Other(text),
            Value::List(_) => Unexpected::Seq,
            Value::Table(_) => Unexpected::Map,
        };
        Mistake::invalid_type(found, expected).at(self)
    }

    /// Visits what the node holds.
    fn visit<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Mistake> {
        let result = match &self.node.value {
            Value::Text(text) | Value::Loose(text) => visitor.visit_str(text),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Other(_) => Err(self.misfit(&visitor)),
            Value::List(items) => visitor.visit_seq(Items::of(self, items)),
            Value::Table(entries) => visitor.visit_map(Entries {
                table: self,
                rest: entries.iter(),
                current: None,
            }),
        };
        result.map_err(|mistake| mistake.at(self))
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.visit(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.node.value {
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Loose(text) if text == "true" => visitor.visit_bool(true),
            Value::Loose(text) if text == "false" => visitor.visit_bool(false),
            Value::Text(text) if text == "true" || text == "false" => {
                Err(self.misfit(&"`true` or `false`, without quotes"))
            }
            _ => Err(self.misfit(&"`true` or `false`")),
        }
    }

    /// Reads a number: no type of TOML's own, so that `1` will do for `1.0`.
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let number = match &self.node.value {
            Value::Other(text) | Value::Loose(text) => text.parse::<f64>().ok(),
            _ => None,
        };
        match number {
            Some(number) => visitor.visit_f64(number),
            None => Err(self.misfit(&visitor)),
        }
        .map_err(|mistake: Mistake| mistake.at(&self))
    }

    /// Reads a number, or the word that stands in its place, as it was written.
    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.node.value {
            Value::Other(text) => visitor
                .visit_str(text)
                .map_err(|mistake: Mistake| mistake.at(&self)),
            _ => self.visit(visitor),
        }
    }

    /// Reads a table, also one from outside of the file: `name=value`, separated by commas. It is not repeated in the
    /// complaint: it may hold secrets.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let Value::Loose(text) = &self.node.value else {
            return self.visit(visitor);
        };
        let items = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        let pairs: Option<Vec<_>> = items.map(|item| item.split_once('=')).collect();
        let pairs = pairs.ok_or_else(|| {
            Mistake::complain("is no table", "expected `name=value`, separated by commas")
        });
        pairs
            .and_then(|pairs| {
                let pairs = pairs
                    .into_iter()
                    .map(|(name, value)| (name.trim(), value.trim()));
                visitor.visit_map(MapDeserializer::new(pairs))
            })
            .map_err(|mistake: Mistake| mistake.at(&self))
    }

    /// What is written is there.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.node.value {
            Value::List(_) => self.visit(visitor),
            Value::Loose(text) => {
                let items = text
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty());
                visitor
                    .visit_seq(SeqDeserializer::new(items))
                    .map_err(|mistake: Mistake| mistake.at(&self))
            }
            _ => visitor.visit_seq(Items::of(&self, slice::from_ref(self.node))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match &self.node.value {
            Value::Text(text) | Value::Loose(text) => {
                let variant: StrDeserializer<'_, Mistake> = text.as_str().into_deserializer();
                visitor
                    .visit_enum(variant)
                    .map_err(|mistake| mistake.at(&self))
            }
            _ => Err(self.misfit(&visitor)),
        }
    }

    /// Takes tables only: serde would fill the fields in order from a list, too.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match &self.node.value {
            Value::Table(_) => self.visit(visitor),
            _ => Err(self.misfit(&visitor)),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 char str string bytes byte_buf unit unit_struct
        newtype_struct tuple tuple_struct identifier ignored_any
    }
}

/// The items of a list.
struct Items<'r, 't> {
    list: &'r Reader<'t>,
    nodes: &'t [Node],
    next: usize,
}

impl<'r, 't> Items<'r, 't> {
    fn of(list: &'r Reader<'t>, nodes: &'t [Node]) -> Self {
        Self {
            list,
            nodes,
            next: 0,
        }
    }
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Mistake;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Mistake> {
        let Some(node) = self.nodes.get(self.next) else {
            return Ok(None);
        };
        let item = self.list.item(node, self.next, self.nodes.len());
        self.next += 1;
        seed.deserialize(item).map(Some)
    }
}

/// The entries of a table that are not spoilt.
struct Entries<'r, 't> {
    table: &'r Reader<'t>,
    rest: btree_map::Iter<'t, String, Entry>,
    current: Option<(&'t String, &'t Entry)>,
}

impl Entries<'_, '_> {
    /// Reports a mistake and spoils the entry that it was made in.
    fn report(&self, name: &str, entry: &Entry, mistake: Mistake) -> Mistake {
        if let Mistake::Fresh(fresh) = mistake {
            let mut problems = self.table.problems.borrow_mut();
            problems.push(fresh.into_problem(entry, join(&self.table.key, name)));
            entry.spoilt.set(true);
        }
        Mistake::Reported
    }
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Mistake;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Mistake> {
        self.current = self.rest.find(|(_, entry)| !entry.spoilt.get());
        let Some((name, entry)) = self.current else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, Mistake> = name.as_str().into_deserializer();
        seed.deserialize(key)
            .map(Some)
            .map_err(|mistake| self.report(name, entry, mistake))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Mistake> {
        let (name, entry) = self
            .current
            .ok_or_else(|| Mistake::custom("a value was asked for before its key"))?;
        seed.deserialize(self.table.entry(name, entry))
            .map_err(|mistake| self.report(name, entry, mistake))
    }
}

impl Mistake {
    fn complain(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Fresh(Box::new(Fresh {
            complaint: Complaint::new(what, hint),
            known: None,
            spot: None,
        }))
    }

    /// Notes where the mistake was made, unless that is known more exactly.
    fn at(mut self, reader: &Reader<'_>) -> Self {
        if let Self::Fresh(fresh) = &mut self {
            fresh
                .spot
                .get_or_insert_with(|| (reader.node.place.clone(), reader.key.clone()));
        }
        self
    }
}

impl Fresh {
    /// Makes a problem of it; `entry` and `key` are those of the nearest named setting.
    fn into_problem(self, entry: &Entry, key: String) -> Problem {
        let mut complaint = self.complaint;
        if let Some((field, known)) = self.known {
            complaint.hint = hint_for(&field, known, |name| match entry.place {
                Place::Environment(_) => {
                    let parent = key.strip_suffix(&field).unwrap_or_default();
                    env::name_of(&format!("{parent}{name}"))
                }
                _ => name.to_owned(),
            });
        }
        let (place, key) = self.spot.unwrap_or_else(|| (entry.place.clone(), key));
        Problem {
            place: Some(place),
            key,
            complaint,
        }
    }
}

impl Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::complain(message.to_string(), "")
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_value(found, expected)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Str(text) | Unexpected::Other(text) => format!("`{text}` does not fit"),
            Unexpected::Bool(value) => format!("`{value}` does not fit"),
            Unexpected::Map => "a section does not fit".to_owned(),
            Unexpected::Seq => "a list does not fit".to_owned(),
            other => format!("{other} does not fit"),
        };
        Self::complain(found, format!("expected {expected}"))
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        Self::complain(
            format!("`{found}` does not fit"),
            hint_for(found, expected, str::to_owned),
        )
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::Fresh(Box::new(Fresh {
            complaint: Complaint::new(UNKNOWN, ""),
            known: Some((field.to_owned(), expected)),
            spot: None,
        }))
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh(fresh) => f.write_str(&fresh.complaint.what),
            Self::Reported => f.write_str("reported"),
        }
    }
}

impl std::error::Error for Mistake {}

/// Returns what was probably meant by `found`, else all that is known; `show` spells a name as its reader would.
pub(super) fn hint_for(found: &str, known: &[&str], show: impl Fn(&str) -> String) -> String {
    let likeness = |name: &&&str| strsim::damerau_levenshtein(found, name);
    let nearest = known
        .iter()
        .min_by_key(likeness)
        .filter(|name| likeness(name) <= name.len().div_ceil(3));
    if let Some(name) = nearest {
        return format!("did you mean `{}`?", show(name));
    }
    let names: Vec<_> = known
        .iter()
        .map(|name| format!("`{}`", show(name)))
        .collect();
    format!("expected one of {}", names.join(", "))
}

/// Returns the key of an item; its index is worth telling only where there are several.
pub(super) fn item_key(key: &str, index: usize, of: usize) -> String {
    if of > 1 {
        format!("{key}[{index}]")
    } else {
        key.to_owned()
    }
}

fn join(key: &str, name: &str) -> String {
    if key.is_empty() {
        name.to_owned()
    } else {
        format!("{key}.{name}")
    }
}

/// What is said of a name that no setting has.
pub(super) const UNKNOWN: &str = "unknown key";

/// Who has made a hundred mistakes has given the wrong file.
const MOST_PROBLEMS: usize = 100;
