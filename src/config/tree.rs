//! The settings as they were written, file, environment and flags in one tree, each knowing its place.
//!
//! # Scope
//! The tree says nothing about what is allowed; `read` compares it with `File`. It exists because every problem, of
//! whatever kind and source, is reported with its place, which a table of plain values has lost.

use std::{cell::Cell, collections::BTreeMap, ops::Range, sync::Arc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::problem::{Complaint, Place, Problem};

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What was written.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Settings by name.
    Table(BTreeMap<String, Entry>),
    /// Values in order.
    List(Vec<Node>),
    /// A string of the file.
    Text(String),
    /// Text from outside of the file, of whatever type the setting wants.
    Loose(String),
    /// `true` or `false`.
    Boolean(bool),
    /// A number or date as it was written.
    Other(String),
}

/// A named setting.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Where its name stands.
    pub(super) place: Place,
    pub(super) node: Node,
    /// Whether a problem with it was reported already.
    pub(super) spoilt: Cell<bool>,
}

/// A setting from outside of the file.
#[derive(Clone, Debug)]
pub(super) struct Override {
    pub(super) place: Place,
    /// The way to it, such as `["cache", "ttl"]`.
    pub(super) path: Vec<String>,
    /// The value, or several for a list.
    pub(super) values: Vec<String>,
}

impl Node {
    /// Reads a TOML document; what `text` cannot be read as is reported.
    pub(super) fn parse(file: &str, text: &str) -> Result<Self, Vec<Problem>> {
        let lines = Lines::of(file, text);
        let (document, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            return Ok(lines.table(document.get_ref(), &document.span()));
        }
        let problem = |error: &toml::de::Error| Problem {
            place: Some(lines.place(error.span().map_or(0, |span| span.start))),
            key: String::new(),
            complaint: Complaint::new(error.message().replace('\n', ", "), ""),
        };
        Err(errors.iter().map(problem).collect())
    }

    /// Returns a tree without settings.
    pub(super) fn empty(place: Place) -> Self {
        Self {
            place,
            value: Value::Table(BTreeMap::new()),
        }
    }

    /// Puts a setting in place of what stands there. On the way a list means its first item, as in
    /// `REFRAIN_UPSTREAM__BASE_URL`; where a value stands in the way it stays and is the problem.
    pub(super) fn put(&mut self, setting: Override) {
        let Override {
            place,
            path,
            values,
        } = setting;
        let value = Self::loose(&place, values);
        let mut node = self;
        for name in path {
            let Some(entries) = node.entries_mut() else {
                return;
            };
            let entry = entries.entry(name).or_insert_with(|| Entry {
                place: place.clone(),
                node: Self::empty(place.clone()),
                spoilt: Cell::new(false),
            });
            node = &mut entry.node;
        }
        *node = value;
    }

    /// Returns where `key`, such as `cache.vary[2]`, was written; a list on the way means its first item.
    pub(super) fn place_of(&self, key: &str) -> Option<&Place> {
        let mut node = self;
        for step in key.split('.') {
            let (name, index) = match step.strip_suffix(']').and_then(|step| step.split_once('[')) {
                Some((name, index)) => (name, index.parse::<usize>().ok()),
                None => (step, None),
            };
            if let Value::List(items) = &node.value {
                node = items.first()?;
            }
            let Value::Table(entries) = &node.value else {
                return None;
            };
            node = &entries.get(name)?.node;
            if let (Some(index), Value::List(items)) = (index, &node.value) {
                node = items.get(index)?;
            }
        }
        Some(&node.place)
    }

    fn loose(place: &Place, mut values: Vec<String>) -> Self {
        let node = |text| Self {
            place: place.clone(),
            value: Value::Loose(text),
        };
        match values.pop() {
            Some(only) if values.is_empty() => node(only),
            last => Self {
                place: place.clone(),
                value: Value::List(values.into_iter().chain(last).map(node).collect()),
            },
        }
    }

    /// Returns the entries of a table, or of the first item of a list.
    fn entries_mut(&mut self) -> Option<&mut BTreeMap<String, Entry>> {
        match &mut self.value {
            Value::Table(entries) => Some(entries),
            Value::List(items) => {
                if items.is_empty() {
                    items.push(Self::empty(self.place.clone()));
                }
                items.first_mut()?.entries_mut()
            }
            _ => None,
        }
    }
}

/// The lines of a file, to turn offsets into places.
struct Lines<'a> {
    file: Arc<str>,
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(file: &str, text: &'a str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            file: file.into(),
            text,
            starts: std::iter::once(0)
                .chain(breaks.map(|(at, _)| at + 1))
                .collect(),
        }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self
            .starts
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or_default();
        Place::Line {
            file: Arc::clone(&self.file),
            line,
            column: before.chars().count() + 1,
        }
    }

    fn table(&self, table: &DeTable<'_>, span: &Range<usize>) -> Node {
        let entry = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| Entry {
            place: self.place(name.span().start),
            node: self.node(value),
            spoilt: Cell::new(false),
        };
        let entries = table
            .iter()
            .map(|(name, value)| (name.get_ref().to_string(), entry((name, value))));
        Node {
            place: self.place(span.start),
            value: Value::Table(entries.collect()),
        }
    }

    fn node(&self, value: &Spanned<DeValue<'_>>) -> Node {
        let span = value.span();
        let value = match value.get_ref() {
            DeValue::Table(table) => return self.table(table, &span),
            DeValue::Array(items) => {
                Value::List(items.iter().map(|item| self.node(item)).collect())
            }
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Boolean(value) => Value::Boolean(*value),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) => {
                Value::Other(self.text.get(span.clone()).unwrap_or_default().to_owned())
            }
        };
        Node {
            place: self.place(span.start),
            value,
        }
    }
}
