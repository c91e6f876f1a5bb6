use proptest::prelude::*;

use super::*;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn stripped(stream: &str) -> String {
    text(&strip(stream.as_bytes()))
}

const STREAM: &str = concat!(
    ": hello\n\n",
    "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\\"usage\\\":null\"}}],\"usage\":null}\n\n",
    "event: x\nid: 7\ndata:{\"usage\" : null , \"choices\":[{}], \"n\": 1.50}\n\n",
    "data: {\"choices\":[],\"prompt_filter_results\":[0.10],\"usage\":null}\r\n\r\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n",
    "data: [DONE]\n\n",
);

const STRIPPED: &str = concat!(
    ": hello\n\n",
    "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\\"usage\\\":null\"}}]}\n\n",
    "event: x\nid: 7\ndata:{\"choices\":[{}], \"n\": 1.50}\n\n",
    "data: {\"choices\":[],\"prompt_filter_results\":[0.10]}\r\n\r\n",
    "data: [DONE]\n\n",
);

#[test]
fn the_usage_goes_and_every_other_byte_stays() {
    assert_eq!(stripped(STREAM), STRIPPED);
    assert_eq!(stripped(STRIPPED), STRIPPED);
}

#[test]
fn a_member_goes_with_one_comma_wherever_it_stands() {
    let table = [
        (r#"{"usage":null}"#, "{}"),
        (r#"{ "usage" : null }"#, "{  }"),
        (
            r#"{"usage":null,"a":1,"choices":[1]}"#,
            r#"{"a":1,"choices":[1]}"#,
        ),
        (
            r#"{"a":1 , "usage":{"x":1},"choices":[1]}"#,
            r#"{"a":1,"choices":[1]}"#,
        ),
        (r#"{"choices":[1],"us\u0061ge":null}"#, r#"{"choices":[1]}"#),
        (
            r#"{"choices":[1],"x":{"usage":null}}"#,
            r#"{"choices":[1],"x":{"usage":null}}"#,
        ),
        (r#"[{"usage":null}]"#, r#"[{"usage":null}]"#),
        (r#"{"usage":null"#, r#"{"usage":null"#),
    ];
    for (data, expected) in table {
        let event = |data: &str| format!("data: {data}\n\n");
        assert_eq!(stripped(&event(data)), event(expected));
    }
}

#[test]
fn an_event_goes_only_if_it_is_there_for_the_usage() {
    let chunk =
        r#"{"choices":[{"index":0,"delta":{"content":"x"}}],"provider":"p","citations":["u"]}"#;
    let table = [
        (
            r#"{"choices":[],"usage":{"a":1},"provider":"p","citations":["u"]}"#,
            None,
            "it repeats what every chunk says",
        ),
        (
            r#"{"error":{"message":"overloaded"},"usage":{"a":1}}"#,
            Some(r#"{"error":{"message":"overloaded"}}"#),
            "an error",
        ),
        (
            r#"{"choices":[],"error":{"message":"overloaded"},"usage":{"a":1}}"#,
            Some(r#"{"choices":[],"error":{"message":"overloaded"}}"#),
            "an error beside no choices",
        ),
        (
            r#"{"id":"c","usage":{"a":1}}"#,
            Some(r#"{"id":"c"}"#),
            "no chunk",
        ),
        (
            r#"{"choices":[],"usage":{"a":1},"citations":["u","v"]}"#,
            Some(r#"{"choices":[],"citations":["u","v"]}"#),
            "more than was said before",
        ),
        (
            r#"{"choices":[],"x_groq":{"id":1},"usage":{"a":1}}"#,
            Some(r#"{"choices":[],"x_groq":{"id":1}}"#),
            "something of its own",
        ),
    ];
    for (last, expected, why) in table {
        let event = |data: &str| format!("data: {data}\n\n");
        let expected = expected.map(event).unwrap_or_default();
        assert_eq!(
            stripped(&(event(chunk) + &event(last))),
            event(chunk) + &expected,
            "{why}"
        );
    }
}

#[test]
fn what_is_remembered_of_a_stream_is_bounded() {
    let mut said = Said::default();
    let large = format!("\"{}\"", "x".repeat(REMEMBERED / 2));
    let says_more = |said: &mut Said, name| said.says_more(name, &large);
    assert!(says_more(&mut said, "a"));
    assert!(!says_more(&mut said, "a"));
    for _ in 0..3 {
        assert!(says_more(&mut said, "b"), "it did not fit");
    }
    assert_eq!(said.0.len(), 1);
}

#[test]
fn data_on_several_lines_loses_the_same() {
    let stream = "data: {\"choices\":[1],\ndata:\"usage\":\ndata: null,\"a\":\ndata: 1}\n\n";
    let expected = "data: {\"choices\":[1]\ndata:\ndata: ,\"a\":\ndata: 1}\n\n";
    assert_eq!(stripped(stream), expected);
    assert_eq!(
        stripped("data: {\"usage\":{\"a\":1},\ndata: \"choices\":[]}\n\n"),
        ""
    );
}

#[test]
fn what_ends_without_a_blank_line_or_is_too_large_passes() {
    for stream in [
        "data: [DONE]",
        "data: {\"usage\":null}\n",
        "data",
        "\u{feff}data: 1\r\r",
        "",
    ] {
        assert_eq!(stripped(stream), stream);
    }
    assert_eq!(
        stripped("\u{feff}data: {\"usage\":null}\n\n"),
        "\u{feff}data: {}\n\n"
    );
    let large = format!(
        "data: {}\n\ndata: {{\"usage\":null}}\n\n",
        "x".repeat(DEFAULT_LIMIT)
    );
    let mut strip = Strip::default();
    let mut out = Vec::new();
    for piece in large.as_bytes().chunks(4_096) {
        out.extend(strip.push(piece));
        assert!(strip.held.len() <= DEFAULT_LIMIT + 4_096);
    }
    assert!(text(&out).ends_with("data: {}\n\n"));
    assert!(strip.is_empty());
}

proptest! {
    #[test]
    fn where_the_network_cuts_does_not_matter(cuts in proptest::collection::vec(1_usize..40, 1..60)) {
        let mut strip = Strip::default();
        let mut out = Vec::new();
        let mut rest = STREAM.as_bytes();
        for cut in cuts.into_iter().cycle() {
            let (piece, tail) = rest.split_at(cut.min(rest.len()));
            out.extend(strip.push(piece));
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        out.extend(strip.finish());
        prop_assert_eq!(text(&out), STRIPPED);
    }

    #[test]
    fn a_stream_without_usage_passes_as_it_is(stream in "(data: ?|[a-z{}\":,\\[\\]]|\r|\n|\u{feff}){0,60}") {
        prop_assume!(!stream.contains("usage"));
        prop_assert_eq!(stripped(&stream), stream);
    }
}
