//! A look at a JSON value that stops at its surface: is anything there, and if it is a text, which. Pure.
//!
//! Answers carry members that nobody here knows (`reasoning_content` was one once). Whether one of them says something
//! can be told without knowing it, and without building a tree or descending: however deep a value nests, it is skipped
//! in a loop, not by recursion.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// What a JSON value looks like from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Glimpse<'a> {
    /// `null`, `false`, `0`, `""`, `[]` or `{}`: what the official SDKs, too, take for "not there".
    #[default]
    Nothing,
    /// `true` or a number: a remark, not a content.
    Mark,
    /// A text with at least one character.
    Text(Cow<'a, str>),
    /// An array or object with at least one member.
    Nested,
}

impl Glimpse<'_> {
    /// Returns whether the value is there at all.
    pub(crate) fn is_there(&self) -> bool {
        *self != Self::Nothing
    }

    /// Returns whether the value can be the substance of an answer: a text, or something made of parts.
    pub(crate) fn is_substance(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Nested)
    }

    fn mark(is_there: bool) -> Self {
        if is_there { Self::Mark } else { Self::Nothing }
    }

    fn nested(is_there: bool) -> Self {
        if is_there {
            Self::Nested
        } else {
            Self::Nothing
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Glimpse<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Surface)
    }
}

struct Surface;

impl<'de> Visitor<'de> for Surface {
    type Value = Glimpse<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Glimpse::Nothing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Glimpse::mark(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Glimpse::mark(value != 0))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Glimpse::mark(value != 0))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Glimpse::mark(value != 0.0))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(if value.is_empty() {
            Glimpse::Nothing
        } else {
            Glimpse::Text(Cow::Borrowed(value))
        })
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(if value.is_empty() {
            Glimpse::Nothing
        } else {
            Glimpse::Text(Cow::Owned(value.to_owned()))
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut is_there = false;
        while items.next_element::<IgnoredAny>()?.is_some() {
            is_there = true;
        }
        Ok(Glimpse::nested(is_there))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut is_there = false;
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            is_there = true;
        }
        Ok(Glimpse::nested(is_there))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glimpse_tells_nothing_marks_texts_and_what_is_made_of_parts_apart() {
        let text = |text| Glimpse::Text(Cow::Borrowed(text));
        let table = [
            ("null", Glimpse::Nothing),
            ("false", Glimpse::Nothing),
            ("0", Glimpse::Nothing),
            ("-0.0", Glimpse::Nothing),
            (r#""""#, Glimpse::Nothing),
            (" [ ] ", Glimpse::Nothing),
            ("{}", Glimpse::Nothing),
            ("true", Glimpse::Mark),
            ("-1", Glimpse::Mark),
            ("18446744073709551615", Glimpse::Mark),
            ("0.25", Glimpse::Mark),
            (r#"" ""#, text(" ")),
            (r#""a\nb""#, text("a\nb")),
            ("[null]", Glimpse::Nested),
            (r#"{"":null}"#, Glimpse::Nested),
        ];
        for (json, expected) in table {
            let glimpse: Glimpse<'_> = serde_json::from_str(json).expect(json);
            assert_eq!(glimpse, expected, "{json}");
        }
    }

    #[test]
    fn a_text_without_escapes_is_not_copied() {
        let glimpse: Glimpse<'_> = serde_json::from_str(r#""plain""#).expect("a string");
        assert!(matches!(glimpse, Glimpse::Text(Cow::Borrowed("plain"))));
    }

    #[test]
    fn depth_is_skipped_without_recursion() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        let glimpse: Glimpse<'_> = serde_json::from_str(&deep).expect("an array");
        assert_eq!(glimpse, Glimpse::Nested);
    }
}
