//! Whatever the bytes, an answer has the outcome that it has for the oracle.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::{LIMIT, Outcome, oracle, split, watch};

type Bytes = Vec<u8>;

/// Values that somebody might read in two ways.
const ODD: [&[u8]; 38] = [
    b"null",
    b"true",
    b"false",
    b"0",
    b"-0",
    b"-0.0",
    b"0E0",
    b"1e-400",
    b"1e400",
    b"1",
    b"-1",
    b"1.5",
    b"1e2",
    b"01",
    b"18446744073709551615",
    b"18446744073709551616",
    b"\"\"",
    b"\" \"",
    b"\"stop\"",
    b"\"\\u0073top\"",
    b"\"{}\"",
    b"\"[\\\"\\\\u0041\\\"]\"",
    b"\"\\ud83d\\ude00\"",
    b"\"\\ud83d\"",
    b"\"a long text with half a pair: \\uDE00\"",
    b"\"\\\\ud83d\"",
    b"\"\xc3\xa9 and \xf0\x9f\x91\x8b\"",
    b"\"\xff\"",
    b"\"a long text of two blocks and a byte: \xc3\"",
    b"[]",
    b"{ }",
    b"[\n]",
    b"[9,12]",
    b"[0,null,null,null,null]",
    b"[{\"a\":\"\\ud800\"},[null]]",
    b"{\"\xff\":[\"\xff\"]}",
    b"{\"a\":1,\"a\":1}",
    b"{\"\\udc00\":{}}",
];

fn odd() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        20 => prop::sample::select(&ODD[..]).prop_map(<[u8]>::to_vec),
        3 => any::<String>().prop_map(|text| serde_json::Value::from(text).to_string().into_bytes()),
        1 => (1_usize..200).prop_map(|depth| {
            ["[{\"x\":".repeat(depth), "0".to_owned(), "}]".repeat(depth)].concat().into_bytes()
        }),
    ]
}

fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = Bytes> {
    prop::sample::select(words).prop_map(|word| word.as_bytes().to_vec())
}

/// An object with some of these members in any order, now and then one more of them or one in another spelling, and blanks.
fn object(members: Vec<(&'static str, BoxedStrategy<Bytes>)>) -> impl Strategy<Value = Bytes> {
    let count = members.len();
    let plain: Vec<_> = (0..count)
        .filter(|at| !members[*at].0.contains("\\u0"))
        .collect();
    let most = plain.len();
    let names = prop::sample::subsequence(plain, 0..=most).prop_shuffle();
    let again = prop_oneof![9 => Just(None), 1 => (0..count).prop_map(Some)];
    let blank = prop_oneof![
        5 => Just(""),
        1 => prop::sample::select(vec![" ", "\t", "\r", "  ", "\u{c}"]),
    ];
    (names, again, blank).prop_flat_map(move |(names, again, blank)| {
        let values: Vec<_> = names
            .into_iter()
            .chain(again)
            .map(|at| (Just(members[at].0), members[at].1.clone()))
            .collect();
        values.prop_map(move |members| {
            let members: Vec<_> = members
                .iter()
                .map(|(name, value)| {
                    let name = format!("{blank}\"{name}\"{blank}:{blank}");
                    [name.as_bytes(), value, blank.as_bytes()].concat()
                })
                .collect();
            [&b"{"[..], &members.join(&b","[..]), b"}"].concat()
        })
    })
}

fn mostly(usual: impl Strategy<Value = Bytes> + 'static) -> BoxedStrategy<Bytes> {
    prop_oneof![30 => usual, 1 => odd()].boxed()
}

fn usage() -> impl Strategy<Value = Bytes> {
    let count = || mostly(any::<u64>().prop_map(|count| count.to_string().into_bytes()));
    object(vec![
        ("prompt_tokens", count()),
        ("completion_tokens", count()),
        ("completion_token\\u0073", odd().boxed()),
        ("total_tokens", odd().boxed()),
    ])
}

fn words() -> impl Strategy<Value = Bytes> {
    object(vec![
        ("role", mostly(one_of(&["\"assistant\""]))),
        (
            "content",
            mostly(one_of(&["null", "\"\"", "\"{\"", "\"}\"", "\"[1]\""])),
        ),
        ("c\\u006fntent", mostly(one_of(&["null", "\"\""]))),
        ("refusal", mostly(one_of(&["null"]))),
        (
            "tool_calls",
            mostly(one_of(&["null", "[]", "[{\"index\":0}]"])),
        ),
        ("function_call", odd().boxed()),
        ("name", odd().boxed()),
        ("reasoning_content", odd().boxed()),
        ("a name that is longer than a block", odd().boxed()),
    ])
}

fn said() -> impl Strategy<Value = Bytes> {
    let reasons = one_of(&["null", "\"stop\"", "\"length\"", "\"\"", "\"\\u0073top\""]);
    object(vec![
        ("index", mostly(one_of(&["null", "0", "1", "2"]))),
        ("finish_reason", mostly(reasons)),
        ("error", mostly(one_of(&["null", "{}", "{\"code\":502}"]))),
        (
            "delta",
            mostly(prop_oneof![9 => words().boxed(), 1 => one_of(&["null"]).boxed()]),
        ),
        ("message", mostly(words())),
        ("logprobs", odd().boxed()),
    ])
}

fn answer() -> impl Strategy<Value = Bytes> {
    let choices = vec(mostly(said()), 0..4)
        .prop_map(|choices| [&b"["[..], &choices.join(&b","[..]), b"]"].concat());
    object(vec![
        (
            "model",
            mostly(one_of(&["\"gpt-5\"", "\"\"", "null", "\"gpt-\\u0035\""])),
        ),
        ("usage", mostly(usage())),
        ("error", mostly(one_of(&["null", "{}", "{\"code\":502}"]))),
        ("choices", mostly(choices.clone())),
        ("choice\\u0073", mostly(choices)),
        ("id", odd().boxed()),
        ("\\ud83d\\ude00", odd().boxed()),
    ])
}

/// Bytes to be put in, taken out or written over, and where; mostly none.
fn wounds() -> impl Strategy<Value = Vec<(Index, Bytes, u8)>> {
    let wound = prop_oneof![
        one_of(&[
            "\"", "\\", ",", ":", "{", "}", "[", "]", "0", " ", "null,", "\\ud800", "\u{e9}"
        ]),
        vec(any::<u8>(), 1..3),
    ];
    prop_oneof![2 => Just(Vec::new()), 1 => vec((any::<Index>(), wound, 0_u8..4), 1..3)]
}

fn hurt(mut bytes: Bytes, wounds: Vec<(Index, Bytes, u8)>) -> Bytes {
    for (at, wound, kind) in wounds {
        let at = at.index(bytes.len() + 1);
        let end = bytes.len().min(at + wound.len());
        match kind {
            0 => drop(bytes.splice(at..at, wound)),
            1 => drop(bytes.splice(at..end, wound)),
            2 => drop(bytes.drain(at..end)),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

proptest! {
    #[test]
    fn a_plain_answer_has_the_outcome_that_serde_gives_it(
        answer in answer(),
        wounds in wounds(),
        wants_json in any::<bool>(),
    ) {
        let body = hurt(answer, wounds);
        let expected = oracle::of_whole(&body, wants_json);
        let text = String::from_utf8_lossy(&body);
        prop_assert_eq!(Outcome::of_whole(&body, wants_json), expected, "{}", text);
    }

    #[test]
    fn a_stream_has_the_outcome_that_serde_gives_it(
        answers in vec(answer(), 1..5),
        wounds in wounds(),
        cuts in vec(any::<Index>(), 0..4),
        wants_json in any::<bool>(),
        is_done in any::<bool>(),
    ) {
        let mut stream: Bytes = answers
            .iter()
            .flat_map(|answer| [&b"data: "[..], answer, b"\n\n"].concat())
            .collect();
        if is_done {
            stream.extend_from_slice(b"data: [DONE]\n\n");
        }
        let stream = hurt(stream, wounds);
        let chunks = split(&stream, &cuts);
        let expected = oracle::of_stream(&chunks, wants_json, LIMIT);
        let text = String::from_utf8_lossy(&stream);
        prop_assert_eq!(watch(wants_json, &chunks), expected, "{}", text);
    }

    #[test]
    fn a_value_anywhere_has_the_outcome_that_serde_gives_it(
        value in odd(),
        place in 0..PLACES.len(),
        wants_json in any::<bool>(),
    ) {
        compare(&value, PLACES[place], wants_json);
    }
}

#[test]
fn an_odd_value_in_every_place_has_the_outcome_that_serde_gives_it() {
    for value in ODD {
        for place in PLACES {
            for wants_json in [false, true] {
                compare(value, place, wants_json);
            }
        }
    }
}

/// Compares both readings of an answer with this value in this place.
fn compare(value: &[u8], place: &str, wants_json: bool) {
    let parts: Vec<_> = place.split('@').map(str::as_bytes).collect();
    let body = parts.join(value);
    let text = String::from_utf8_lossy(&body);
    let expected = oracle::of_whole(&body, wants_json);
    assert_eq!(Outcome::of_whole(&body, wants_json), expected, "{text}");
    let stream = [&b"data: "[..], &body, b"\n\ndata: [DONE]\n\n"].concat();
    let expected = oracle::of_stream(&[&stream], wants_json, LIMIT);
    assert_eq!(watch(wants_json, &[&stream]), expected, "{text}");
}

const PLACES: [&str; 18] = [
    "@",
    r#"{"model":@}"#,
    r#"{"usage":@}"#,
    r#"{"usage":{"prompt_tokens":@,"completion_tokens":3}}"#,
    r#"{"usage":{"prompt_tokens":1,"completion_tokens":3,"x":@}}"#,
    r#"{"error":@}"#,
    r#"{"x":@,"choices":[]}"#,
    r#"{"choices":@}"#,
    r#"{"choices":[@]}"#,
    r#"{"choices":[{"index":@,"finish_reason":"stop"}]}"#,
    r#"{"choices":[{"finish_reason":@}]}"#,
    r#"{"choices":[{"error":@}]}"#,
    r#"{"choices":[{"x":@,"finish_reason":"stop"}]}"#,
    r#"{"choices":[{"delta":@,"message":null,"finish_reason":"stop"}]}"#,
    r#"{"choices":[{"delta":null,"message":@,"finish_reason":"stop"}]}"#,
    r#"{"choices":[{"delta":{"content":@},"message":{"content":@},"finish_reason":"stop"}]}"#,
    r#"{"choices":[{"delta":{"role":@},"message":{"role":"x","y":@}}]}"#,
    r#"{"choices":[{"delta":{"tool_calls":@,"content":"{"},"finish_reason":"stop"}]}"#,
];
