//! A look at a JSON value that stops at its surface: is anything there, and if it is a text, which. Pure.
//!
//! Answers carry members that nobody here knows (`reasoning_content` was one once). Whether one of them says something
//! can be told without knowing it, and without building a tree or descending: however deep a value nests, it is skipped
//! in a loop, not by recursion.

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::value::RawValue;

use super::skim::{Malformed, Quoted, Skim, Span};

/// What a JSON value looks like from outside.
#[derive(Clone, Copy, Debug, Default)]
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

impl Glimpse<'_> {
    /// Returns whether the value is there at all.
    pub(crate) fn is_there(&self) -> bool {
        !matches!(self, Self::Nothing)
    }

    /// Returns whether the value can be the substance of an answer: a text, or something made of parts.
    pub(crate) fn is_substance(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Nested)
    }
}

impl<'a> Glimpse<'a> {
    /// Looks at a value; an error where it is a text that holds half a surrogate pair, which no text can.
    pub(crate) fn of(value: Span<'a>) -> Result<Self, Malformed> {
        let glimpse = match value.json() {
            b"null" | b"false" | br#""""# => Self::Nothing,
            b"true" => Self::Mark,
            [b'"', ..] => Self::Text(value.quoted()?),
            [b'[' | b'{', inner @ .., _] if inner.trim_ascii().is_empty() => Self::Nothing,
            [b'[' | b'{', ..] => Self::Nested,
            number if is_zero(number) => Self::Nothing,
            _ => Self::Mark,
        };
        Ok(glimpse)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Glimpse<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        let value = Skim::new(raw.get().as_bytes()).value();
        value
            .and_then(Glimpse::of)
            .map_err(|Malformed| D::Error::custom("half a surrogate pair"))
    }
}

/// Returns whether a number is zero, as far as a float can tell.
fn is_zero(number: &[u8]) -> bool {
    let number = str::from_utf8(number).ok();
    number.and_then(|number| number.parse().ok()) == Some(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glimpse(json: &str) -> Glimpse<'_> {
        serde_json::from_str(json).expect(json)
    }

    #[test]
    fn a_glimpse_tells_nothing_marks_texts_and_what_is_made_of_parts_apart() {
        let nothing = [
            "null", "false", "0", "-0.0", "0E0", "1e-400", r#""""#, " [ ] ", "{}", "{ \n}",
        ];
        for json in nothing {
            let glimpse = glimpse(json);
            assert!(matches!(glimpse, Glimpse::Nothing), "{json}");
            assert!(!glimpse.is_there() && !glimpse.is_substance(), "{json}");
        }
        for json in ["true", "-1", "18446744073709551615", "0.25", "1e400"] {
            let glimpse = glimpse(json);
            assert!(matches!(glimpse, Glimpse::Mark), "{json}");
            assert!(glimpse.is_there() && !glimpse.is_substance(), "{json}");
        }
        for json in ["[null]", r#"{"":null}"#, r#"["\ud83d"]"#] {
            let glimpse = glimpse(json);
            assert!(matches!(glimpse, Glimpse::Nested), "{json}");
            assert!(glimpse.is_there() && glimpse.is_substance(), "{json}");
        }
        let texts = [
            (r#"" ""#, " "),
            (r#""a\nb""#, "a\nb"),
            (r#""\ud83d\ude00""#, "\u{1f600}"),
            (r#""\\ud83d""#, "\\ud83d"),
        ];
        for (json, expected) in texts {
            let glimpse = glimpse(json);
            assert!(glimpse.is_there() && glimpse.is_substance(), "{json}");
            assert!(
                matches!(glimpse, Glimpse::Text(text) if text.is(expected)),
                "{json}"
            );
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
        assert!(matches!(glimpse(&deep), Glimpse::Nested));
    }
}
