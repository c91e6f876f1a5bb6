//! JSON taken apart one level at a time, each part as it is written: numbers keep their text, and nothing is read
//! deeper than somebody asks. Pure.
//!
//! # Scope
//! What two parsers might read differently (a member twice) or what is far beyond any honest answer is not read.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::Unreadable;

/// A member of an object.
#[derive(Clone, Debug)]
pub(super) struct Member<'a> {
    /// Its name.
    pub(super) name: Cow<'a, str>,
    /// Its name as written, quotes included.
    pub(super) key: &'a RawValue,
    /// Its value as written.
    pub(super) value: &'a RawValue,
}

/// What kind of value a JSON text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `null`.
    Null,
    /// A number, `true` or `false`.
    Scalar,
    /// A string.
    Text,
    /// An array.
    Array,
    /// An object.
    Object,
}

struct Members<'a>(Vec<Member<'a>>);

/// A string, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Kind {
    /// Returns the kind of a value as [`RawValue`] has it: valid, and without blanks around it.
    pub(super) fn of(json: &str) -> Self {
        match json.as_bytes().first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::Text,
            Some(b'n') => Self::Null,
            _ => Self::Scalar,
        }
    }
}

/// Returns the members of an object in their order.
pub(super) fn object(json: &[u8]) -> Result<Vec<Member<'_>>, Unreadable> {
    let Members(members) = serde_json::from_slice(json).map_err(|_| Unreadable)?;
    Ok(members)
}

/// Returns the items of an array.
pub(super) fn array(json: &str) -> Result<Vec<&RawValue>, Unreadable> {
    serde_json::from_str(json).map_err(|_| Unreadable)
}

/// Returns what a string says.
pub(super) fn text(json: &str) -> Result<Cow<'_, str>, Unreadable> {
    let Text(text) = serde_json::from_str(json).map_err(|_| Unreadable)?;
    Ok(text)
}

/// Returns whether a value says nothing: `null`, or a string, array or object with nothing in it.
pub(super) fn is_blank(json: &str) -> bool {
    match json.as_bytes() {
        b"null" | b"\"\"" => true,
        [b'[', within @ .., b']'] | [b'{', within @ .., b'}'] => within.trim_ascii().is_empty(),
        _ => false,
    }
}

/// Appends `json` without the blanks between its tokens: an event's line must not break.
pub(super) fn write_compact(json: &str, out: &mut Vec<u8>) {
    let (mut in_text, mut escaped) = (false, false);
    out.extend(json.bytes().filter(|byte| {
        let kept = in_text || !byte.is_ascii_whitespace();
        match byte {
            b'"' if !escaped => in_text = !in_text,
            _ => {}
        }
        escaped = in_text && !escaped && *byte == b'\\';
        kept
    }));
}

/// Appends a string.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) -> Result<(), Unreadable> {
    serde_json::to_writer(out, text).map_err(|_| Unreadable)
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object of at most {MAX_MEMBERS} members")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members: Vec<Member<'de>> = Vec::with_capacity(8);
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            let name = text(key.get()).map_err(A::Error::custom)?;
            if members.len() == MAX_MEMBERS || members.iter().any(|member| member.name == name) {
                return Err(A::Error::custom("a member twice, or too many"));
            }
            members.push(Member { name, key, value });
        }
        Ok(Members(members))
    }
}

/// The most members of an object that is taken apart; they are looked for one by one.
const MAX_MEMBERS: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn members_come_in_their_order_and_as_they_are_written() {
        let members = object(br#" { "a" : 1.50 , "\u0062":[ 1 ] , "c":"x" } "#).unwrap();
        let members: Vec<_> = members
            .iter()
            .map(|member| (&*member.name, member.key.get(), member.value.get()))
            .collect();
        let expected = [
            ("a", r#""a""#, "1.50"),
            ("b", r#""\u0062""#, "[ 1 ]"),
            ("c", r#""c""#, r#""x""#),
        ];
        assert_eq!(members, expected);
    }

    #[test]
    fn what_is_ambiguous_or_no_object_is_not_read() {
        let many: Vec<_> = (0..=MAX_MEMBERS)
            .map(|number| format!("\"{number}\":0"))
            .collect();
        let many = format!("{{{}}}", many.join(","));
        for json in [r#"{"a":1,"\u0061":2}"#, "[]", "", "{", r#"{"\ud800":1}"#] {
            assert!(object(json.as_bytes()).is_err(), "{json}");
        }
        assert!(object(many.as_bytes()).is_err());
    }

    #[test]
    fn blank_is_what_has_nothing_in_it() {
        for blank in ["null", "\"\"", "[]", "{}", "[ ]", "{\n}"] {
            assert!(is_blank(blank), "{blank}");
        }
        for said in ["0", "false", "\" \"", "[0]", "{\"a\":null}", "\"[]\""] {
            assert!(!is_blank(said), "{said}");
        }
    }

    proptest! {
        #[test]
        fn compacting_changes_blanks_between_tokens_only(text in any::<String>(), more in any::<String>()) {
            let value = serde_json::json!({text.as_str(): [more, 1, {"\\\"": text}]});
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let mut compact = Vec::new();
            write_compact(&pretty, &mut compact);
            prop_assert_eq!(String::from_utf8(compact).unwrap(), value.to_string());
        }
    }
}
