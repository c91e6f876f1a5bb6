//! A look at a JSON value that stops at its surface: is anything there, and if it is a text, which. Pure.
//!
//! Answers carry members that nobody here knows (`reasoning_content` was one once). Whether one of them says something
//! can be told without knowing it, and without building a tree or descending: however deep a value nests, it is skipped
//! in a loop, not by recursion.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Error, value::RawValue};

/// What a JSON value looks like from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Glimpse<'a> {
    /// `null`, `false`, `0`, `""`, `[]` or `{}`: what the official SDKs, too, take for "not there".
    #[default]
    Nothing,
    /// `true` or a number: a remark, not a content.
    Mark,
    /// A text with at least one character.
    Text(Quoted<'a>),
    /// An array or object with at least one member.
    Nested,
}

/// A text as it is written, quotes and escapes included: to undo them takes longer than all the rest, and few ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quoted<'a>(&'a str);

impl Glimpse<'_> {
    /// Returns whether the value is there at all.
    pub(crate) fn is_there(&self) -> bool {
        *self != Self::Nothing
    }

    /// Returns whether the value can be the substance of an answer: a text, or something made of parts.
    pub(crate) fn is_substance(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Nested)
    }
}

impl<'a> Glimpse<'a> {
    /// Looks at a value; an error where it holds half a surrogate pair, which no text can.
    fn of(json: &'a str) -> Result<Self, Error> {
        let glimpse = match json.as_bytes() {
            b"null" | b"false" | br#""""# => Self::Nothing,
            b"true" => Self::Mark,
            [b'"', ..] => {
                let quoted = Quoted(json);
                if quoted.may_have_surrogates() {
                    quoted.text()?;
                }
                Self::Text(quoted)
            }
            [b'[' | b'{', inner @ .., _] if inner.trim_ascii().is_empty() => Self::Nothing,
            [b'[' | b'{', ..] => Self::Nested,
            _ if json.parse().is_ok_and(|number: f64| number == 0.0) => Self::Nothing,
            _ => Self::Mark,
        };
        Ok(glimpse)
    }
}

impl<'a> Quoted<'a> {
    /// Returns the text itself, copied only where it has escapes.
    pub(crate) fn text(self) -> Result<Cow<'a, str>, Error> {
        let inner = self.0.get(1..self.0.len() - 1).unwrap_or_default();
        if inner.contains('\\') {
            serde_json::from_str(self.0).map(Cow::Owned)
        } else {
            Ok(Cow::Borrowed(inner))
        }
    }

    /// Returns whether this text is `other`, which has no escapes.
    pub(crate) fn is(self, other: &str) -> bool {
        self.text().is_ok_and(|text| text == other)
    }

    fn may_have_surrogates(self) -> bool {
        // All of them begin with this digit (RFC 8259 §7).
        self.0.contains("\\ud") || self.0.contains("\\uD")
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Glimpse<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Glimpse::of(raw.get()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glimpse_tells_nothing_marks_texts_and_what_is_made_of_parts_apart() {
        let text = |text| Glimpse::Text(Quoted(text));
        let table = [
            ("null", Glimpse::Nothing),
            ("false", Glimpse::Nothing),
            ("0", Glimpse::Nothing),
            ("-0.0", Glimpse::Nothing),
            ("0E0", Glimpse::Nothing),
            (r#""""#, Glimpse::Nothing),
            (" [ ] ", Glimpse::Nothing),
            ("{}", Glimpse::Nothing),
            ("{ \n}", Glimpse::Nothing),
            ("true", Glimpse::Mark),
            ("-1", Glimpse::Mark),
            ("18446744073709551615", Glimpse::Mark),
            ("0.25", Glimpse::Mark),
            ("1e400", Glimpse::Mark),
            (r#"" ""#, text(r#"" ""#)),
            (r#""a\nb""#, text(r#""a\nb""#)),
            (r#""\ud83d\ude00""#, text(r#""\ud83d\ude00""#)),
            (r#""\\ud83d""#, text(r#""\\ud83d""#)),
            ("[null]", Glimpse::Nested),
            (r#"{"":null}"#, Glimpse::Nested),
        ];
        for (json, expected) in table {
            let glimpse: Glimpse<'_> = serde_json::from_str(json).expect(json);
            assert_eq!(glimpse, expected, "{json}");
        }
    }

    #[test]
    fn a_text_is_copied_only_where_it_has_escapes() {
        let table = [
            (r#""plain""#, "plain", true),
            (r#""a\nb""#, "a\nb", false),
            (r#""\ud83d\ude00""#, "\u{1f600}", false),
            (r#""\uD83D\uDE00""#, "\u{1f600}", false),
            (r#""\\ud83d\\""#, "\\ud83d\\", false),
        ];
        for (json, expected, is_borrowed) in table {
            let text = Quoted(json).text().expect(json);
            assert_eq!(text, expected);
            assert_eq!(matches!(text, Cow::Borrowed(_)), is_borrowed, "{json}");
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_no_text() {
        for json in [r#""\ud83d""#, r#""\uDE00 x""#, r#""\ude00\ud83d""#] {
            assert!(serde_json::from_str::<Glimpse<'_>>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn depth_is_skipped_without_recursion() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        let glimpse: Glimpse<'_> = serde_json::from_str(&deep).expect("an array");
        assert_eq!(glimpse, Glimpse::Nested);
    }
}
