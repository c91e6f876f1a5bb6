//! The items of an array that grows at its end, none of which carries an `index`. Pure.
//!
//! # Scope
//! Without an index nobody can tell whether an item goes on with the one before it, is told a second time, or is another. Where
//! that is possible the array is unreadable.

use std::ops::Range;

use serde_json::value::RawValue;

use super::{FRAGMENTS, Kind, Unreadable, json};

/// Items in their order.
#[derive(Debug, Default)]
pub(in crate::dialect::chat) struct Items {
    /// As written, without the brackets.
    json: String,
    /// Where in it those lie that were told last.
    latest: Range<usize>,
    /// What the last one is, if it is an object.
    last: Option<Shape>,
}

/// What tells whether an item may go on with the one before it.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    /// Its `type`, as written.
    kind: Option<Box<str>>,
    /// Whether it has a member that comes in fragments.
    has_fragment: bool,
}

impl Items {
    /// Returns whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.json.is_empty()
    }

    /// Returns the items as written, without the brackets.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.json.as_bytes()
    }

    /// Adds `items`; `goes_on` tells that each is known to be one of its own.
    pub(super) fn append(&mut self, items: &[&RawValue], goes_on: bool) -> Result<(), Unreadable> {
        if !goes_on {
            self.follow(items)?;
        }
        let mut start = self.json.len();
        for item in items {
            if !self.json.is_empty() {
                self.json.push(',');
                start += usize::from(start == self.json.len() - 1);
            }
            self.json.push_str(item.get());
        }
        let latest = start..self.json.len();
        let is_repeated = !self.latest.is_empty()
            && self.json.get(self.latest.clone()) == self.json.get(latest.clone());
        if is_repeated && !goes_on {
            return Err(Unreadable);
        }
        self.latest = latest;
        Ok(())
    }

    /// Refuses items whose first may be the last one's next fragment.
    fn follow(&mut self, items: &[&RawValue]) -> Result<(), Unreadable> {
        let (Some(first), Some(last)) = (items.first(), items.last()) else {
            return Ok(());
        };
        let first = Shape::of(first.get())?;
        if first.as_ref().is_some_and(|shape| shape.has_fragment) && first == self.last {
            return Err(Unreadable);
        }
        self.last = Shape::of(last.get())?;
        Ok(())
    }
}

impl Shape {
    fn of(item: &str) -> Result<Option<Self>, Unreadable> {
        if Kind::of(item) != Kind::Object {
            return Ok(None);
        }
        let members = json::object(item.as_bytes())?;
        let kind = members.iter().find(|member| member.name == "type");
        let mut said = members
            .iter()
            .filter(|member| !json::is_blank(member.value.get()));
        Ok(Some(Self {
            kind: kind.map(|kind| kind.value.get().into()),
            has_fragment: said.any(|member| FRAGMENTS.contains(&&*member.name)),
        }))
    }
}
