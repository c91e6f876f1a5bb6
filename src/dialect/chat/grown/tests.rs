use super::*;

/// Returns what the member `name` has grown to.
fn grown_as(name: &str, parts: &[&str], level: Level) -> Option<String> {
    let mut object = Object::default();
    for part in parts {
        object.grow(name, part, level).ok()?;
    }
    let mut out = Vec::new();
    object.get_mut(name)?.write(&mut out).ok()?;
    String::from_utf8(out).ok()
}

fn grown(parts: &[&str], level: Level) -> Option<String> {
    grown_as("a", parts, level)
}

#[test]
fn in_a_delta_every_kind_grows_in_its_own_way() {
    let table: &[(&[&str], &str, &str)] = &[
        (
            &[r#""x""#, r#""y""#, r#""\n""#],
            r#""xy\n""#,
            "fragments join",
        ),
        (&["null", r#""x""#, "null"], r#""x""#, "null says nothing"),
        (&["1.50", "1.50"], "1.50", "a number, as written"),
        (&["[ 1.0 ]"], "[ 1.0 ]", "once, as written"),
        (&["[]", "[1.0]", "[ 2 , 3]"], "[1.0,2,3]", "arrays go on"),
        (
            &[r#"{"b":"x","c":1}"#, r#"{"b":"y","d":[]}"#],
            r#"{"b":"xy","c":1,"d":[]}"#,
            "objects grow",
        ),
        (
            &[
                r#"[{"index":1,"t":"x"}]"#,
                r#"[{"index":0,"t":"a"},{"index":1,"t":"y"}]"#,
            ],
            r#"[{"index":0,"t":"a"},{"index":1,"t":"xy"}]"#,
            "items grow by their index",
        ),
        (
            &[r#"{"id":"i","v":2}"#, r#"{"id":"i"}"#, r#"{"id":""}"#],
            r#"{"id":"i","v":2}"#,
            "a name may be repeated",
        ),
        (
            &[
                r#"[{"type":"u","u":{"x":1}}]"#,
                r#"[{"type":"u","u":{"x":2}}]"#,
            ],
            r#"[{"type":"u","u":{"x":1}},{"type":"u","u":{"x":2}}]"#,
            "items without fragments are whole",
        ),
        (
            &[
                r#"[{"type":"a","text":"x"}]"#,
                r#"[{"type":"b","text":"y"}]"#,
            ],
            r#"[{"type":"a","text":"x"},{"type":"b","text":"y"}]"#,
            "an item of another type is another item",
        ),
    ];
    for (parts, expected, why) in table {
        let grown = grown(parts, Level::Delta);
        assert_eq!(grown.as_deref(), Some(*expected), "{why}");
    }
}

#[test]
fn beside_a_delta_things_are_said_once() {
    let table: &[(&str, &[&str], Option<&str>, &str)] = &[
        ("a", &["null", "1", "1", "null"], Some("1"), "repeated"),
        (
            "a",
            &[r#""""#, r#""x""#, r#""""#, r#""x""#],
            Some(r#""x""#),
            "repeated",
        ),
        ("a", &["1", "2"], None, "a number that changes"),
        ("a", &["false", "true"], None, "a truth that changes"),
        ("a", &[r#""x""#, r#""y""#], None, "a text that changes"),
        (
            "text",
            &[r#""x""#, r#""x""#],
            None,
            "fragments or repetitions",
        ),
        (
            "a",
            &[r#"{"b":{"c":1}}"#, r#"{"b":{"d":2}}"#, "{}"],
            Some(r#"{"b":{"c":1,"d":2}}"#),
            "said bit by bit",
        ),
        (
            "a",
            &[r#"{"b":"safe"}"#, r#"{"b":"low"}"#],
            None,
            "a text in it that changes",
        ),
        (
            "a",
            &[r#"{"content":[1]}"#, r#"{"content":[2]}"#],
            Some(r#"{"content":[1,2]}"#),
            "the tokens' list",
        ),
        (
            "a",
            &[
                r#"{"content":[{"token":"ha"}]}"#,
                r#"{"content":[{"token":"ha"}]}"#,
            ],
            Some(r#"{"content":[{"token":"ha"},{"token":"ha"}]}"#),
            "two tokens alike",
        ),
        (
            "token_ids",
            &["[1]", "[1]"],
            Some("[1,1]"),
            "the tokens' list",
        ),
        ("a", &["[]", "[1]", "[]"], Some("[1]"), "one list"),
        (
            "a",
            &["[1]", "[1]"],
            None,
            "a list that goes on or is repeated",
        ),
    ];
    for (name, parts, expected, why) in table {
        let grown = grown_as(name, parts, Level::Choice);
        assert_eq!(grown.as_deref(), *expected, "{why}: {parts:?}");
    }
}

#[test]
fn at_the_top_the_last_word_counts_and_objects_grow() {
    let table: &[(&[&str], &str)] = &[
        (&[r#""x""#, r#""y""#, r#""""#], r#""y""#),
        (&["1", "2e0"], "2e0"),
        (&["[1]", "[1,2]", "[]"], "[1,2]"),
        (
            &[r#"{"b":1,"c":[1]}"#, r#"{"c":[2],"d":3}"#],
            r#"{"b":1,"c":[2],"d":3}"#,
        ),
    ];
    for (parts, expected) in table {
        assert_eq!(grown(parts, Level::Top).as_deref(), Some(*expected));
    }
}

#[test]
fn nothing_is_guessed() {
    let deep = |depth: usize| format!("{}1{}", r#"{"d":"#.repeat(depth), "}".repeat(depth));
    let (shallow, deep) = (deep(MAX_DEPTH - 1), deep(MAX_DEPTH + 1));
    assert!(grown(&[&shallow, &shallow], Level::Delta).is_some());
    let table: &[(&[&str], &str)] = &[
        (&[r#""x""#, "1"], "another kind"),
        (&["[1]", r#"{"a":1}"#], "another kind"),
        (&["1", "2"], "a sum, or the last word"),
        (
            &[r#"["u","v"]"#, r#"["u","v"]"#],
            "a repetition, or four items",
        ),
        (&["[1]", "[2]", "[2]"], "a repetition, or two items"),
        (
            &[r#"[{"type":"u","u":1}]"#, r#"[{"type":"u","u":1}]"#],
            "a repetition, or two items",
        ),
        (&[r#""m""#, r#""m""#], "a repetition, or two fragments"),
        (
            &[r#""x""#, r#""y""#, r#""y""#],
            "a repetition, or two fragments",
        ),
        (&[r#"[{"index":0}]"#, "[1]"], "an item without index"),
        (&[r#"[{"index":0},{}]"#, "[]"], "an item without index"),
        (
            &["[]", r#"[{"index":0,"t":"a"},{"index":0,"t":"b"}]"#],
            "two items at one place",
        ),
        (
            &[r#"[{"index":0,"id":"a"}]"#, r#"[{"index":0,"id":"b"}]"#],
            "another thing at the same place",
        ),
        (
            &[
                r#"[{"type":"t","text":"x"}]"#,
                r#"[{"type":"t","text":"y"}]"#,
            ],
            "an item that goes on with another, or one of its own",
        ),
        (
            &[
                r#"[{"thinking":[{"text":"x"}]}]"#,
                r#"[{"thinking":[{"text":"y"}]}]"#,
            ],
            "an item that goes on with another, or one of its own",
        ),
        (&[&deep, &deep], "too deep"),
    ];
    for (parts, why) in table {
        assert_eq!(grown(parts, Level::Delta), None, "{why}");
    }
}

#[test]
fn what_comes_in_fragments_may_say_the_same_twice() {
    for name in FRAGMENTS {
        let grown = grown_as(name, &[r#""ha""#, r#""ha""#], Level::Delta);
        assert_eq!(grown.as_deref(), Some(r#""haha""#), "{name}");
    }
}
