use proptest::{collection, prelude::*};
use serde_json::{Map, Value};

use super::*;

/// Returns what is left when the only `cache` is cut.
fn without_cache(body: &[u8]) -> Option<Vec<u8>> {
    only_member(body, "cache").map(|member| cut(body, &member.whole))
}

#[test]
fn the_member_goes_with_one_comma_and_nothing_else() {
    let cases = [
        (r#"{"cache":{}}"#, "{}", "the only one"),
        (r#"{"cache":{},"a":1}"#, r#"{"a":1}"#, "the first"),
        (
            r#"{"a":1,"cache":{},"b":2}"#,
            r#"{"a":1,"b":2}"#,
            "in the middle",
        ),
        (r#"{"a":1,"cache":{}}"#, r#"{"a":1}"#, "the last"),
        (
            " {\t\"a\" : 1 , \"cache\"\r\n:\t{ } ,\n\"b\":2 } ",
            " {\t\"a\" : 1 , \n\"b\":2 } ",
            "blanks around it stay",
        ),
        (
            "{ \"a\":1 , \"cache\" : { } }\n",
            "{ \"a\":1  }\n",
            "blanks around the last stay",
        ),
        (
            r#"{"a":"\"cache\":{}","cache":{"n":"}\"\\"},"b":"\\"}"#,
            r#"{"a":"\"cache\":{}","b":"\\"}"#,
            "strings that look like structure",
        ),
        (
            r#"{"a":{"cache":{}},"b":[{"cache":1}],"cache":{"cache":{}}}"#,
            r#"{"a":{"cache":{}},"b":[{"cache":1}]}"#,
            "members of the same name elsewhere",
        ),
        (
            r#"{"a":-1.5e3,"c\u0061che":null,"b":true}"#,
            r#"{"a":-1.5e3,"b":true}"#,
            "an escaped name",
        ),
        (
            "{\"\u{e9}\":\"\u{1f600}\",\"cache\":[[],[{}]]}",
            "{\"\u{e9}\":\"\u{1f600}\"}",
            "beyond ASCII",
        ),
    ];
    for (body, expected, why) in cases {
        let left = without_cache(body.as_bytes()).map(String::from_utf8);
        assert_eq!(left, Some(Ok(expected.to_owned())), "{why}");
    }
}

#[test]
fn the_value_is_found_where_it_stands() {
    let body = br#"{ "a": 1, "cache" : {"ttl": 5} , "b": 2}"#;
    let member = only_member(body, "cache").unwrap();
    assert_eq!(&body[member.value], br#"{"ttl": 5}"#);
}

#[test]
fn without_exactly_one_such_member_of_an_object_nothing_is_found() {
    let cases = [
        ("", "nothing"),
        ("{}", "no member"),
        (r#"{"a":1}"#, "no such member"),
        (r#"[{"cache":{}}]"#, "no object"),
        (r#""cache""#, "a string"),
        (r#"{"a":{"cache":{}}}"#, "not at the top"),
        (r#"{"cache":{},"cache":{}}"#, "two of them"),
        (r#"{"cache":{},"c\u0061che":1}"#, "two of them, one escaped"),
        (r#"{"cache":{},"Cache":1}"#, "two of them for some parsers"),
        (r#"{"CACHE":{}}"#, "another letter case"),
        (r#"{"cach":{},"cachee":{}}"#, "names that begin alike"),
        (r#"{"cache":{}"#, "unterminated"),
        (r#"{"cache":{},}"#, "a comma before the end"),
        (r#"{,"cache":{}}"#, "a comma before the first"),
        (r#"{"a":1,,"cache":{}}"#, "two commas"),
        (r#"{"a":1 "cache":{}}"#, "no comma"),
        (r#"{"a":1,"cache":}"#, "no value"),
        (r#"{"a":1,"cache" {}}"#, "no colon"),
        (r#"{"cache":{}} x"#, "something behind the end"),
        ("\u{feff}{\"cache\":{}}", "a byte order mark"),
        (r#"{"\x":1,"cache":{}}"#, "a name that no parser reads"),
        (r#"{"a":"\"#, "ends in an escape"),
    ];
    for (body, why) in cases {
        assert_eq!(only_member(body.as_bytes(), "cache"), None, "{why}");
    }
}

#[test]
fn depth_is_skipped_without_recursion() {
    let deep = format!(
        r#"{{"a":{}{},"cache":{{}}}}"#,
        "[".repeat(1_000_000),
        "]".repeat(1_000_000)
    );
    let left = without_cache(deep.as_bytes()).unwrap();
    assert_eq!(left.len(), 2_000_006);
}

#[test]
fn a_text_is_read_and_replaced_where_it_stands() {
    let body = r#"{ "a": "model", "m\u006fdel" :"g\"pt" , "b":{"model":1}}"#.as_bytes();
    assert_eq!(super::text(body, "model").as_deref(), Some("g\"pt"));
    let member = only_member(body, "model").unwrap();
    let edited = replace(body, &member.value, br#""x""#);
    let expected = r#"{ "a": "model", "m\u006fdel" :"x" , "b":{"model":1}}"#;
    assert_eq!(String::from_utf8(edited).unwrap(), expected);
    for body in [
        r#"{"model":1}"#,
        r#"{"model":null}"#,
        r#"{"model":"a","model":"a"}"#,
        "{}",
        "",
        "model",
    ] {
        assert_eq!(super::text(body.as_bytes(), "model"), None, "{body}");
    }
}

fn blank() -> impl Strategy<Value = String> {
    "[ \t\r\n]{0,3}"
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c\"\\\\{}\\[\\],: \u{e9}\u{1f600}]{0,8}",
        Just("cache".to_owned())
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let members = collection::vec((text(), inner.clone()), 0..4);
        prop_oneof![
            collection::vec(inner, 0..4).prop_map(Value::from),
            members.prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A member as written: blanks, the rest of it, blanks.
type Written = (String, String, String);

fn written(name: String) -> impl Strategy<Value = Written> {
    let parts = (
        blank(),
        blank(),
        blank(),
        blank(),
        value(),
        any::<bool>(),
        Just(name),
    );
    parts.prop_map(|(before, left, right, behind, value, wide, name)| {
        let value = if wide {
            format!("{value:#}")
        } else {
            value.to_string()
        };
        let name = Value::from(name);
        (before, format!("{name}{left}:{right}{value}"), behind)
    })
}

/// Members of an object, `cache` not among them.
fn others() -> impl Strategy<Value = Vec<Written>> {
    let names = collection::btree_set(text(), 0..5);
    names.prop_flat_map(|mut names| {
        names.remove("cache");
        names.into_iter().map(written).collect::<Vec<_>>()
    })
}

fn body(members: &[Written]) -> String {
    let members = members
        .iter()
        .map(|(before, member, behind)| format!("{before}{member}{behind}"));
    format!(" {{{}}}\n", members.collect::<Vec<_>>().join(","))
}

/// Returns what a body is to look like without its member `at`, whose blanks stay.
fn expected(members: &[Written], at: usize) -> String {
    let mut members = members.to_vec();
    let (before, _, behind) = members.remove(at);
    if let Some(next) = members.get_mut(at) {
        next.0.insert_str(0, &before);
    } else if let Some(last) = members.last_mut() {
        last.2.push_str(&behind);
    } else {
        return format!(" {{{before}{behind}}}\n");
    }
    body(&members)
}

fn object(json: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(json).unwrap()
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<Value>(text).is_ok()
}

/// Pieces of JSON in any order.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let pieces: [&[u8]; 16] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"\\",
        b" ",
        b"1",
        b"null",
        b"\"a\"",
        b"\"cache\"",
        b"\"cache\":{}",
        b"\"b\":1",
        b"\xff",
    ];
    let piece = prop::sample::select(pieces.to_vec());
    collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat())
}

/// Bodies with `cache` in them, and in most something wrong near it.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let before = [
        "",
        ",",
        "\"b\":1,",
        "\"b\":1",
        "\"b\":,",
        "\"b\",",
        "\"b\":{]},",
    ];
    let cache = ["\"cache\":{}", "\"cache\":", "\"cache\"{}", "\"cache\":1 1"];
    let behind = [
        "",
        ",",
        ",\"b\":1",
        "\"b\":1",
        ",\"b\":1,",
        "}",
        ",,\"b\":1",
    ];
    let of = |parts: &[&'static str]| prop::sample::select(parts.to_vec());
    let parts = (of(&before), of(&cache), of(&behind));
    parts.prop_map(|(before, cache, behind)| format!("{{{before}{cache}{behind}}}").into_bytes())
}

proptest! {
    #[test]
    fn what_is_left_is_the_same_object_without_the_member(
        mut members in others(),
        cache in written("cache".to_owned()),
        place in any::<prop::sample::Index>(),
    ) {
        let at = place.index(members.len() + 1);
        members.insert(at, cache);
        let body = body(&members);
        let left = without_cache(body.as_bytes()).unwrap();
        prop_assert_eq!(String::from_utf8(left.clone()).unwrap(), expected(&members, at));
        let mut meant = object(body.as_bytes());
        meant.remove("cache");
        prop_assert_eq!(object(&left), meant);
    }

    #[test]
    fn an_object_without_the_member_is_left_alone(members in others()) {
        prop_assert_eq!(only_member(body(&members).as_bytes(), "cache"), None);
    }

    #[test]
    fn a_cut_never_makes_json_of_what_was_none(body in prop_oneof![soup(), nearly_json()]) {
        if let Some(member) = only_member(&body, "cache") {
            let value = body.get(member.value.clone()).unwrap();
            prop_assert!(member.whole.start <= member.value.start && member.value.end <= member.whole.end);
            let left = cut(&body, &member.whole);
            prop_assert_eq!(left.len() + member.whole.len(), body.len());
            prop_assert!(!is_json(&left) || !is_json(value) || is_json(&body));
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(body in collection::vec(any::<u8>(), 0..64)) {
        only_member(&body, "cache");
    }
}
