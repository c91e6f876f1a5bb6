use std::borrow::Cow;

use proptest::{collection::vec, prelude::*, sample::Index};
use serde::de::IgnoredAny;

use super::*;

/// Returns what serde makes of `json`, whose reader takes all that the grammar has and nothing else.
fn is_json_for_serde(json: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(json).is_ok()
}

#[test]
fn what_the_grammar_has_is_passed_over() {
    let spellings = [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "10",
        "1.5",
        "-0.0",
        "1e5",
        "1E+5",
        "1.25e-30",
        "1e99999",
        "123456789012345678901234567890",
        r#""""#,
        r#""a""#,
        r#""0123456""#,
        r#""01234567""#,
        r#""0123456789abcdef0123456789abcdef""#,
        r#""0123456\n89abcdef\"0123456789abcdef\\""#,
        r#""\"\\\/\b\f\n\r\t\u0000\uabCD""#,
        r#""\ud800 \udc00 \\ud""#,
        "\"\u{7f}\u{e9}\u{1f600}\"",
        "[]",
        "[ ]",
        "{}",
        "{\n}",
        "[0]",
        "[[],{},[{}]]",
        r#"{"a":1,"a":[2,{"b":null}]}"#,
        " \t\r\n[ 1 , 2 ] \t\r\n",
        r#" { "a" : 1 , "b" : { } } "#,
        r#"[true,false,null,-1,"",{"":""}]"#,
    ];
    for json in spellings {
        assert!(is_json(json.as_bytes()), "{json}");
        assert!(is_json_for_serde(json.as_bytes()), "{json}");
    }
}

#[test]
fn what_the_grammar_has_not_is_refused() {
    let spellings = [
        "",
        " ",
        "nul",
        "nulL",
        "truefalse",
        "True",
        "NaN",
        "-",
        "+1",
        "01",
        "-01",
        "[01]",
        ".5",
        "1.",
        "1.e5",
        "1e",
        "1e+",
        "1e5.0",
        "0x10",
        "1 2",
        "\"",
        r#""a"#,
        r#""\""#,
        r#""\x""#,
        r#""\u12""#,
        r#""\u12g4""#,
        r#""\u+123""#,
        r#""\U0041""#,
        "\"\\u00e\u{e9}\"",
        "\"\n\"",
        "\"\0\"",
        "\"01234567\u{1f}\"",
        "'a'",
        "[",
        "]",
        "[1",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1}",
        "{]",
        "[[]",
        "[]]",
        "{",
        "}",
        "{a:1}",
        r#"{"a"}"#,
        r#"{"a" 1}"#,
        r#"{"a":}"#,
        r#"{"a":1"#,
        r#"{"a":1,}"#,
        r#"{,"a":1}"#,
        r#"{"a":1 "b":2}"#,
        "{1:2}",
        r#"[{"a":[1}]]"#,
        "{} {}",
        "[1]// comment",
        "\u{feff}{}",
        "\u{a0}1",
        "\u{c}1",
        "1\0",
    ];
    for json in spellings {
        assert!(!is_json(json.as_bytes()), "{json}");
        assert!(!is_json_for_serde(json.as_bytes()), "{json}");
    }
}

#[test]
fn depth_takes_no_stack_and_brackets_still_have_to_match() {
    for depth in [1, 62, 63, 64, 65, 126, 127, 128, 1_000, 1_000_000] {
        let open = "[{\"a\":".repeat(depth);
        let close = "}]".repeat(depth);
        assert!(is_json(format!("{open}0{close}").as_bytes()), "{depth}");
        assert!(!is_json(format!("{open}0{close}]").as_bytes()), "{depth}");
        assert!(!is_json(format!("{open}0").as_bytes()), "{depth}");
        let (_, short) = close.split_at(1);
        assert!(!is_json(format!("{open}0{short}").as_bytes()), "{depth}");
    }
    assert!(!is_json("[".repeat(1_000_000).as_bytes()));
}

#[test]
fn members_and_items_come_in_their_order() {
    let mut skim = Skim::new(br#" { "a" : [ 1 , "x" ] , "\u0062" : { } , "c":null } "#);
    skim.object().unwrap();
    let name = skim.member().unwrap().unwrap();
    assert!(name.is("a") && !name.is("b"));
    skim.array().unwrap();
    assert!(skim.item().unwrap());
    assert_eq!(skim.value().unwrap().count(), Some(1));
    assert!(skim.item().unwrap());
    assert!(skim.value().unwrap().quoted().unwrap().is("x"));
    assert!(!skim.item().unwrap());
    let name = skim.member().unwrap().unwrap();
    assert!(name.is("b") && !name.is("a"));
    skim.object().unwrap();
    assert!(skim.member().unwrap().is_none());
    assert!(skim.member().unwrap().unwrap().is("c"));
    assert!(skim.null().unwrap());
    assert!(skim.member().unwrap().is_none());
    assert_eq!(skim.end(), Ok(()));
}

#[test]
fn members_that_are_known_come_once_and_others_are_passed_over() {
    let read = |json: &str| {
        let mut skim = Skim::new(json.as_bytes());
        let mut members = Members::of(&["a", "b"]);
        let mut found = Vec::new();
        skim.object()?;
        while let Some(name) = members.next(&mut skim)? {
            found.push((name, skim.value()?.count()));
        }
        skim.end().map(|()| found)
    };
    let both = Ok(vec![("b", Some(2)), ("a", Some(1))]);
    assert_eq!(read(r#"{"b":2,"a":1}"#), both);
    assert_eq!(
        read(r#"{"x":[{}],"\u0062":2,"x":0,"a":1,"y":"\ud800"}"#),
        both
    );
    assert_eq!(read("{}"), Ok(Vec::new()));
    for json in [
        r#"{"a":1,"a":1}"#,
        r#"{"a":1,"b":2,"\u0061":null}"#,
        r#"{"a":1,}"#,
        r#"{"\ud800":1}"#,
        r#"{"a":1}}"#,
        "[]",
    ] {
        assert_eq!(read(json), Err(Malformed), "{json}");
    }
    let mut skim = Skim::new(b"{\"\xff\":1}");
    skim.object().unwrap();
    assert!(skim.member().is_err(), "a name is text");
}

#[test]
fn a_text_is_copied_only_where_it_has_escapes() {
    let table = [
        (r#""plain""#, "plain", true),
        (
            r#""a long plain text é, past a block""#,
            "a long plain text é, past a block",
            true,
        ),
        (r#""a\nb""#, "a\nb", false),
        (r#""\ud83d\ude00""#, "\u{1f600}", false),
        (r#""\uD83D\uDE00""#, "\u{1f600}", false),
        (r#""\\ud83d\\""#, "\\ud83d\\", false),
    ];
    for (json, expected, is_borrowed) in table {
        let text = Skim::new(json.as_bytes())
            .value()
            .unwrap()
            .quoted()
            .unwrap();
        let text = text.text().unwrap();
        assert_eq!(text, expected);
        assert_eq!(matches!(text, Cow::Borrowed(_)), is_borrowed, "{json}");
    }
}

#[test]
fn what_is_taken_is_utf8_and_what_is_passed_over_need_not_be() {
    for json in [
        &b"\"\xff\""[..],
        b"[\"x\",[\"01234567\xff\"]]",
        b"\"0123456789abcdef\xc3\"",
        b"{\"0123456789abcdef\xff0123456789abcdef\":1}",
        b"\"\xed\xa0\x80\"",
    ] {
        assert!(Skim::new(json).value().is_err(), "{json:?}");
        assert!(is_json(json) && is_json_for_serde(json), "{json:?}");
    }
    for json in ["\"é\"", "[\"0123456789abcdef👋\"]"] {
        let value = Skim::new(json.as_bytes()).value().unwrap();
        assert_eq!(value.json(), json.as_bytes());
    }
    assert!(!is_json(b"[1\xff]"), "outside of a string");
}

#[test]
fn a_count_is_exact_or_none() {
    let table = [
        ("0", Some(0)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("-0", None),
        ("-1", None),
        ("1.0", None),
        ("1e2", None),
        ("null", None),
        ("\"1\"", None),
        ("[]", None),
    ];
    for (json, expected) in table {
        let value = Skim::new(json.as_bytes()).value().unwrap();
        assert_eq!(value.count(), expected, "{json}");
    }
}

/// What JSON is made of, and what it is not.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let tokens = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        " ",
        "\n",
        "null",
        "true",
        "false",
        "0",
        "-",
        "1.5",
        "e",
        "2E+7",
        "01",
        "\"a\":",
        "\"a\"",
        "\"\"",
        "\\u0041",
        "\\ud83d",
        "\\n",
        "a long run of plain text ",
        "é",
        "{\"a\":1},",
        "[0],",
    ];
    prop_oneof![
        8 => prop::sample::select(tokens.to_vec()).prop_map(|token: &str| token.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 1..3),
    ]
}

/// A value, mostly one that the grammar has.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "null",
            "true",
            "-0",
            "0.5e1",
            "01",
            "1.",
            "\"\"",
            "\"\\ud800\"",
            "\" \\\\\""
        ])
        .prop_map(str::to_owned),
        any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        let members = vec(("[a-z\\\\]{0,20}", inner.clone()), 0..5);
        prop_oneof![
            vec(inner, 0..5).prop_map(|items| format!("[ {} ]", items.join(" ,"))),
            members.prop_map(|members| {
                let members: Vec<_> = members
                    .iter()
                    .map(|(name, value)| format!("\"{name}\" :{value}"))
                    .collect();
                format!("{{{}\n}}", members.join(", "))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn it_takes_for_json_what_serde_does(pieces in vec(pieces(), 0..12)) {
        let json = pieces.concat();
        prop_assert_eq!(is_json(&json), is_json_for_serde(&json), "{:?}", String::from_utf8_lossy(&json));
    }

    #[test]
    fn it_takes_for_json_what_serde_does_of_what_is_nearly_json(
        value in value(),
        wounds in vec((any::<Index>(), any::<u8>(), 0_u8..4), 0..3),
    ) {
        let mut json = value.into_bytes();
        for (at, byte, kind) in wounds {
            let at = at.index(json.len() + 1);
            match kind {
                0 => json.insert(at, byte),
                1 => json.truncate(at),
                2 if at < json.len() => json[at] = byte,
                _ => drop(json.drain(at.saturating_sub(1)..at)),
            }
        }
        prop_assert_eq!(is_json(&json), is_json_for_serde(&json), "{:?}", String::from_utf8_lossy(&json));
    }
}
