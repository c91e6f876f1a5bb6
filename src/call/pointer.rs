//! The value at a place of a body (RFC 6901). Pure.
//!
//! # Scope
//! Finds and does not judge: the body is one that the canonical form was made of, so no object has two members of one
//! name. What is beside the way is skipped without building anything of it.

use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use crate::config::Pointer;

/// Returns the value at `place`, as spelled; `None` where there is none, or `body` is no JSON.
pub fn find<'a>(body: &'a [u8], place: &Pointer) -> Option<&'a RawValue> {
    let mut json = serde_json::Deserializer::from_slice(body);
    Seek(place.steps()).deserialize(&mut json).ok().flatten()
}

/// Goes the rest of the way.
struct Seek<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            Deserialize::deserialize(json).map(Some)
        } else {
            json.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let Some((name, rest)) = self.0.split_first() else {
            return Ok(None);
        };
        let mut found = None;
        while let Some(is_it) = members.next_key_seed(Name(name))? {
            if is_it {
                found = members.next_value_seed(Seek(rest))?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let (wanted, rest) = match self.0.split_first() {
            Some((step, rest)) => (index(step), rest),
            None => (None, &[][..]),
        };
        let mut found = None;
        let mut at = 0;
        loop {
            if Some(at) == wanted {
                match items.next_element_seed(Seek(rest))? {
                    Some(value) => found = value,
                    None => return Ok(None),
                }
            } else if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            at += 1;
        }
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Compares a member's name.
struct Name<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

/// Reads an index (RFC 6901 §4): digits, no zero in front.
fn index(step: &str) -> Option<usize> {
    let plain = step == "0" || step.starts_with(|c: char| ('1'..='9').contains(&c));
    step.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn found(body: &str, place: &str) -> Option<String> {
        let value = find(body.as_bytes(), &place.parse().unwrap())?;
        Some(value.get().to_owned())
    }

    #[test]
    fn a_value_is_found_as_it_is_spelled() {
        let body = r#" {"a":{"user":1},"us\u0065r": "A\u0042" , "n":[0,[10,{"x":1.50}],null],"/~":true,"":{"":2}} "#;
        for (place, value) in [
            ("/user", Some(r#""A\u0042""#)),
            ("/a", Some(r#"{"user":1}"#)),
            ("/a/user", Some("1")),
            ("/n/1/1/x", Some("1.50")),
            ("/n/2", Some("null")),
            ("/~1~0", Some("true")),
            ("//", Some("2")),
            ("/n/3", None),
            ("/n/01", None),
            ("/n/-", None),
            ("/n/x", None),
            ("/a/user/x", None),
            ("/user/0", None),
            ("/User", None),
        ] {
            assert_eq!(found(body, place).as_deref(), value, "{place}");
        }
        assert_eq!(found("{\"user\":", "/user"), None);
        assert_eq!(found("", "/user"), None);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[ab/~01]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ab/~01]{0,2}", inner, 0..4)
                    .prop_map(|members| json!(members)),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_finds_what_serde_json_finds(
            body in any_json(),
            steps in prop::collection::vec("[ab01]|~0|~1|", 1..5),
        ) {
            let place = format!("/{}", steps.join("/"));
            let expected = body.pointer(&place).map(Value::to_string);
            prop_assert_eq!(found(&body.to_string(), &place), expected);
        }
    }
}
