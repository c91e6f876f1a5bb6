mod alike;
mod oracle;

use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::{Value, json};

use super::*;

const LIMIT: usize = 1 << 20;

fn watch(wants_json: bool, chunks: &[&[u8]]) -> Outcome {
    let mut watch = Watch::new(wants_json, LIMIT);
    for chunk in chunks {
        watch.push(chunk);
    }
    watch.finish()
}

fn stream(text: &str) -> Outcome {
    watch(false, &[text.as_bytes()])
}

fn json_stream(text: &str) -> Outcome {
    watch(true, &[text.as_bytes()])
}

fn split<'a>(stream: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    places.extend([0, stream.len()]);
    places.sort_unstable();
    places
        .windows(2)
        .map(|pair| &stream[pair[0]..pair[1]])
        .collect()
}

/// The outcome of an answer with which nothing is wrong.
fn good(finish: &[&str]) -> Outcome {
    Outcome {
        ended: true,
        finish: finish.iter().map(ToString::to_string).collect(),
        all_finished: true,
        empty: false,
        error: false,
        invalid_output: false,
        usage: None,
        model: Some("gpt-5".to_owned()),
        readable: true,
    }
}

fn with_usage(outcome: Outcome, input_tokens: u64, output_tokens: u64) -> Outcome {
    let usage = Some(Usage {
        input_tokens,
        output_tokens,
    });
    Outcome { usage, ..outcome }
}

/// One chunk as OpenAI sends it, with these `choices`.
fn chunk(choices: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1764000000,\"model\":\"gpt-5\",\
         \"service_tier\":\"default\",\"system_fingerprint\":null,\"choices\":[{choices}],\"usage\":null,\
         \"obfuscation\":\"x7\"}}\n\n"
    )
}

fn delta(index: usize, delta: &str) -> String {
    chunk(&format!(
        "{{\"index\":{index},\"delta\":{delta},\"logprobs\":null,\"finish_reason\":null}}"
    ))
}

fn finish(index: usize, reason: &str) -> String {
    chunk(&format!(
        "{{\"index\":{index},\"delta\":{{}},\"logprobs\":null,\"finish_reason\":\"{reason}\"}}"
    ))
}

fn usage(input: u64, output: u64) -> String {
    format!(
        "data: {{\"model\":\"gpt-5\",\"choices\":[],\"usage\":{{\"prompt_tokens\":{input},\
         \"completion_tokens\":{output},\"total_tokens\":0}}}}\n\n"
    )
}

const DONE: &str = "data: [DONE]\n\n";
const ROLE: &str = r#"{"role":"assistant","content":"","refusal":null}"#;
const ERROR: &str = "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n";

fn hello() -> String {
    [
        delta(0, ROLE),
        delta(0, r#"{"content":"Hel"}"#),
        delta(0, r#"{"content":"lo \"you\" 👋"}"#),
    ]
    .concat()
}

fn hello_to_the_end() -> String {
    [hello(), finish(0, "stop"), usage(9, 3), DONE.to_owned()].concat()
}

/// A plain answer of one choice with this message.
fn whole(message: &Value, finish: &str) -> Vec<u8> {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_764_000_000, "model": "gpt-5",
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
    })
    .to_string()
    .into_bytes()
}

#[test]
fn a_stream_that_ends_as_it_should_is_good() {
    assert_eq!(
        stream(&hello_to_the_end()),
        with_usage(good(&["stop"]), 9, 3)
    );
}

#[test]
fn a_stream_without_its_usage_chunk_has_no_usage() {
    let text = [hello(), finish(0, "stop"), DONE.to_owned()].concat();
    assert_eq!(stream(&text), good(&["stop"]));
}

#[test]
fn a_plain_answer_has_the_outcome_of_the_stream_that_says_the_same() {
    let body = whole(
        &json!({"role": "assistant", "content": "Hello \"you\" 👋", "refusal": null}),
        "stop",
    );
    assert_eq!(Outcome::of_whole(&body, false), stream(&hello_to_the_end()));
}

#[test]
fn whatever_a_choice_says_is_something() {
    let table = [
        (r#"{"content":"x"}"#, "content"),
        (r#"{"content":" "}"#, "a blank is a text"),
        (r#"{"refusal":"I can't"}"#, "a refusal"),
        (
            r#"{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":""}}]}"#,
            "a call",
        ),
        (
            r#"{"function_call":{"name":"f","arguments":"{"}}"#,
            "a call of the old kind",
        ),
        (r#"{"audio":{"id":"a1","data":"AAAA"}}"#, "audio"),
        (
            r#"{"reasoning_content":"hm"}"#,
            "reasoning as DeepSeek has it",
        ),
        (
            r#"{"reasoning":"hm","content":null}"#,
            "reasoning as OpenRouter has it",
        ),
        (
            r#"{"content":[{"type":"text","text":"x"}]}"#,
            "content in parts, as Mistral has it",
        ),
        (
            r#"{"images":[{"image_url":{"url":"data:"}}]}"#,
            "a member that nobody knows",
        ),
    ];
    for (words, why) in table {
        let text = [
            delta(0, ROLE),
            delta(0, words),
            finish(0, "stop"),
            DONE.to_owned(),
        ]
        .concat();
        assert_eq!(stream(&text), good(&["stop"]), "{why}");
        let body = whole(&serde_json::from_str(words).expect(why), "stop");
        assert_eq!(
            Outcome::of_whole(&body, false),
            with_usage(good(&["stop"]), 9, 3),
            "{why}, plain"
        );
    }
}

#[test]
fn an_answer_that_says_nothing_is_empty() {
    let table = [
        ("{}", "nothing"),
        ("null", "no delta"),
        (
            r#"{"role":"assistant","name":"MiniMax AI"}"#,
            "only who speaks",
        ),
        (
            r#"{"content":"","refusal":null,"tool_calls":[],"audio":{},"annotations":[]}"#,
            "only empty members",
        ),
        (
            r#"{"content":null,"padding":7,"partial":true}"#,
            "numbers and marks are no content",
        ),
    ];
    for (words, why) in table {
        let expected = Outcome {
            empty: true,
            ..good(&["stop"])
        };
        let text = [
            delta(0, ROLE),
            delta(0, words),
            finish(0, "stop"),
            DONE.to_owned(),
        ]
        .concat();
        assert_eq!(stream(&text), expected, "{why}");
        let body = whole(&serde_json::from_str(words).expect(why), "stop");
        assert_eq!(
            Outcome::of_whole(&body, false),
            with_usage(expected, 9, 3),
            "{why}, plain"
        );
    }
}

#[test]
fn parallel_calls_in_fragments_are_one_good_answer() {
    let call = |index: usize, rest: &str| {
        delta(
            0,
            &format!("{{\"tool_calls\":[{{\"index\":{index},{rest}}}]}}"),
        )
    };
    let text = [
        delta(0, r#"{"role":"assistant","content":null}"#),
        call(
            0,
            r#""id":"c1","type":"function","function":{"name":"weather","arguments":""}"#,
        ),
        call(0, r#""function":{"arguments":"{\"ci"}"#),
        call(0, r#""function":{"arguments":"ty\":\"Rome\"}"}"#),
        call(
            1,
            r#""id":"c2","type":"function","function":{"name":"weather","arguments":""}"#,
        ),
        call(1, r#""function":{"arguments":"{}"}"#),
        finish(0, "tool_calls"),
        DONE.to_owned(),
    ]
    .concat();
    assert_eq!(stream(&text), good(&["tool_calls"]));
    assert_eq!(
        json_stream(&text),
        good(&["tool_calls"]),
        "calls are not judged as JSON output"
    );
}

#[test]
fn three_choices_that_take_turns_finish_one_by_one() {
    let say = |index| delta(index, r#"{"content":"x"}"#);
    let turns = [
        say(0),
        say(1),
        say(2),
        say(1),
        finish(1, "stop"),
        say(0),
        say(2),
        finish(2, "length"),
    ]
    .concat();
    let unfinished = stream(&[&turns, DONE].concat());
    assert_eq!(
        unfinished,
        Outcome {
            all_finished: false,
            ..good(&["length", "stop"])
        }
    );
    let finished = stream(&[&turns, &*finish(0, "stop"), DONE].concat());
    assert_eq!(finished, good(&["length", "stop"]));
}

#[test]
fn choices_may_share_a_chunk() {
    let both = r#"{"index":0,"delta":{"content":"a"},"finish_reason":"stop"},
                  {"index":1,"delta":{"content":"b"},"finish_reason":"content_filter"}"#;
    let text = [chunk(&both.replace('\n', "")), DONE.to_owned()].concat();
    assert_eq!(stream(&text), good(&["content_filter", "stop"]));
}

#[test]
fn choices_of_a_plain_answer_are_told_apart_by_their_place() {
    let body = r#"{"model":"gpt-5","choices":[{"message":{"content":"a"},"finish_reason":"stop"},{"message":{"content":"b"}}]}"#;
    let outcome = Outcome::of_whole(body.as_bytes(), false);
    assert_eq!(
        outcome,
        Outcome {
            all_finished: false,
            ..good(&["stop"])
        }
    );
}

#[test]
fn a_choice_keeps_every_finish_reason_it_is_given() {
    let text = [
        hello(),
        finish(0, "content_filter"),
        finish(0, "stop"),
        finish(0, ""),
        DONE.to_owned(),
    ]
    .concat();
    assert_eq!(stream(&text), good(&["content_filter", "stop"]));
}

#[test]
fn azures_filter_reports_are_no_choices_and_take_nothing_back() {
    let first = "data: {\"choices\":[],\"created\":0,\"id\":\"\",\"model\":\"\",\"object\":\"\",\
                 \"prompt_filter_results\":[{\"prompt_index\":0,\"content_filter_results\":{}}]}\n\n";
    let late = r#"{"content_filter_offsets":{"start_offset":0},"content_filter_results":{},"finish_reason":null,"index":0}"#;
    let text = [
        first.to_owned(),
        hello(),
        finish(0, "stop"),
        chunk(late),
        usage(9, 3),
        DONE.to_owned(),
    ]
    .concat();
    assert_eq!(stream(&text), with_usage(good(&["stop"]), 9, 3));
}

#[test]
fn logprobs_annotations_and_vendors_members_are_passed_over() {
    let choice = r#"{"index":0,"delta":{"content":"x"},"logprobs":{"content":[{"token":"x","logprob":-1.25e-3,"bytes":[120],"top_logprobs":[]}],"refusal":null},"finish_reason":null,"native_finish_reason":null,"x":1e999}"#;
    let text = [chunk(choice), finish(0, "stop"), DONE.to_owned()].concat();
    assert_eq!(stream(&text), good(&["stop"]));
}

#[test]
fn a_message_repeated_beside_the_deltas_is_not_counted() {
    let both = |text: &str| {
        chunk(&format!(
            "{{\"index\":0,\"delta\":{{\"content\":\"1\"}},\"message\":{{\"content\":\"{text}\"}}}}"
        ))
    };
    let text = [both("1"), both("11"), finish(0, "stop"), DONE.to_owned()].concat();
    let mut watch = Watch::new(true, LIMIT);
    watch.push(text.as_bytes());
    assert_eq!(watch.reading.choices[0].content, "11");
}

#[test]
fn of_several_usage_reports_the_last_counts_even_if_it_says_nothing() {
    let texts = [
        (
            [usage(1, 1), usage(9, 3)].concat(),
            Some((9, 3)),
            "a running count",
        ),
        (
            [usage(9, 3), hello()].concat(),
            Some((9, 3)),
            "null is no report",
        ),
        (
            [
                usage(9, 3),
                "data: {\"usage\":{\"prompt_tokens\":9}}\n\n".to_owned(),
            ]
            .concat(),
            None,
            "unreadable",
        ),
    ];
    for (text, expected, why) in texts {
        let usage = stream(&text)
            .usage
            .map(|usage| (usage.input_tokens, usage.output_tokens));
        assert_eq!(usage, expected, "{why}");
    }
}

#[test]
fn the_model_is_the_one_that_was_named_first() {
    let named = |name: &str| format!("data: {{\"model\":{name},\"choices\":[]}}\n\n");
    let text = [
        named("7"),
        named("\"\""),
        named("\"first\""),
        named("\"second\""),
        named("null"),
    ]
    .concat();
    assert_eq!(stream(&text).model.as_deref(), Some("first"));
    assert_eq!(stream(&named("null")).model, None);
}

#[test]
fn an_answer_that_was_not_read_whole_is_not_called_invalid() {
    let text = [
        delta(0, r#"{"content":"{\"a\""}"#),
        "data: ?\n\n".to_owned(),
        finish(0, "stop"),
        DONE.to_owned(),
    ];
    let outcome = json_stream(&text.concat());
    assert_eq!((outcome.readable, outcome.invalid_output), (false, false));
}

#[test]
fn without_the_end_mark_a_stream_has_not_ended() {
    let text = [hello(), finish(0, "stop")].concat();
    assert_eq!(
        stream(&text),
        Outcome {
            ended: false,
            ..good(&["stop"])
        }
    );
}

#[test]
fn without_a_finish_reason_no_choice_has_finished() {
    let expected = Outcome {
        all_finished: false,
        ..good(&[])
    };
    assert_eq!(stream(&[&hello(), DONE].concat()), expected);
}

#[test]
fn without_a_choice_there_is_nothing_that_finished() {
    let expected = Outcome {
        all_finished: false,
        empty: true,
        ..with_usage(good(&[]), 9, 0)
    };
    assert_eq!(stream(&[&usage(9, 0), DONE].concat()), expected);
    let body =
        r#"{"model":"gpt-5","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":0}}"#;
    assert_eq!(Outcome::of_whole(body.as_bytes(), false), expected);
}

#[test]
fn an_error_is_seen_wherever_it_stands() {
    let in_choice = r#"{"index":0,"error":{"code":502},"finish_reason":"error"}"#;
    let table = [
        ([ERROR.to_owned(), DONE.to_owned()].concat(), "first"),
        (
            [hello(), ERROR.to_owned()].concat(),
            "in the middle, and the stream ends",
        ),
        (
            [
                hello(),
                ERROR.to_owned(),
                finish(0, "stop"),
                DONE.to_owned(),
            ]
            .concat(),
            "in the middle, and it goes on",
        ),
        (
            [hello(), "event: error\ndata: overloaded\n\n".to_owned()].concat(),
            "as an event of that name",
        ),
        (
            [
                hello(),
                "data: {\"error\":\"overloaded\",\"choices\":[]}\n\n".to_owned(),
            ]
            .concat(),
            "as a text",
        ),
        (
            [hello(), chunk(in_choice), DONE.to_owned()].concat(),
            "in a choice",
        ),
    ];
    for (text, why) in table {
        assert!(stream(&text).error, "{why}");
    }
    assert!(Outcome::of_whole(br#"{"error":{"message":"overloaded"}}"#, false).error);
    let body = format!("{{\"choices\":[{in_choice}]}}");
    assert!(Outcome::of_whole(body.as_bytes(), false).error);
}

#[test]
fn an_error_member_without_an_error_is_none() {
    for nothing in ["null", "false", "\"\"", "{}"] {
        let text =
            hello_to_the_end().replace("\"model\"", &format!("\"error\":{nothing},\"model\""));
        assert_eq!(
            stream(&text),
            with_usage(good(&["stop"]), 9, 3),
            "{nothing}"
        );
    }
}

#[test]
fn what_is_not_a_chunk_makes_a_stream_unreadable_but_not_endless() {
    let table = [
        (r#"{"choices":[{"index":0,"delta":{"conte"#, "cut JSON"),
        ("", "no data"),
        ("ok", "no JSON"),
        ("null", "no object"),
        (
            r"[null,null,null,[]]",
            "an array that could be taken for an object by position",
        ),
        (r#"{"choices":{}}"#, "choices of another shape"),
        (r#"{"choices":[7]}"#, "a choice of another shape"),
        (r#"{"choices":[{"index":-1}]}"#, "an index of another shape"),
        (
            r#"{"choices":[{"finish_reason":7}]}"#,
            "a finish reason of another shape",
        ),
        (r#"{"choices":[{"delta":"x"}]}"#, "a delta of another shape"),
        (
            r#"{"choices":[{"delta":{"content":"\ud83d"}}]}"#,
            "half a surrogate pair",
        ),
        (
            r#"{"choices":[{"delta":{"content":"a","content":"b"}}]}"#,
            "content said twice",
        ),
        (r#"{"choices":[],"choices":[]}"#, "choices said twice"),
        (
            r#"{"choices":[],"\u0063hoices":null}"#,
            "choices said twice, in another spelling and as nothing",
        ),
        (
            r#"{"choices":[[0,null,null,null]]}"#,
            "a choice by position",
        ),
        (r#"{"choices":[]} {}"#, "two objects"),
    ];
    for (data, why) in table {
        let outcome =
            stream(&[&hello(), "data: ", data, "\n\n", &finish(0, "stop"), DONE].concat());
        assert_eq!(
            outcome,
            Outcome {
                readable: false,
                ..good(&["stop"])
            },
            "{why}"
        );
    }
}

#[test]
fn choices_and_finish_reasons_beyond_all_bounds_are_unreadable() {
    let many_in_one = chunk(&vec!["{}"; MAX_CHOICES + 1].join(","));
    let many_in_all: String = (0..=MAX_CHOICES)
        .map(|index| finish(index, "stop"))
        .collect();
    let many_reasons: String = (0..=MAX_REASONS)
        .map(|number| finish(0, &format!("r{number}")))
        .collect();
    for text in [many_in_one, many_in_all, many_reasons] {
        assert!(!stream(&[&text, DONE].concat()).readable);
    }
    let as_many_as_allowed: String = (0..MAX_CHOICES)
        .map(|index| finish(index, "stop"))
        .collect();
    assert!(stream(&[&as_many_as_allowed, DONE].concat()).readable);
}

#[test]
fn depth_is_no_way_to_the_end_of_the_stack() {
    let deep = ["[".repeat(100_000), "]".repeat(100_000)].concat();
    for place in [
        "{\"choices\":@}",
        "{\"choices\":[{\"delta\":{\"x\":@}}]}",
        "{\"x\":@}",
        "{\"error\":@}",
        "@",
    ] {
        let json = place.replace('@', &deep);
        // Outcomes differ with the place; what counts is that there is one.
        assert!(!stream(&format!("data: {json}\n\n")).ended);
        assert_eq!(
            Outcome::of_whole(json.as_bytes(), true).ended,
            json.starts_with('{')
        );
    }
}

#[test]
fn behind_the_end_mark_only_blanks_and_comments_may_come() {
    let table = [
        ("", true, "nothing"),
        ("\n\r\n\r", true, "blank lines"),
        (": bye\n\n", true, "a comment"),
        (": by", true, "half a comment"),
        (DONE, false, "a second mark"),
        (ERROR, false, "an event"),
        ("data: {}", false, "a line without its end"),
        ("data: {}\n", false, "an event without its blank line"),
        ("HTTP/1.1 200 OK\r\n\r\n", false, "another answer"),
        ("\0", false, "a byte"),
    ];
    for (tail, readable, why) in table {
        let outcome = stream(&[&hello(), &finish(0, "stop"), DONE, tail].concat());
        assert!(outcome.ended, "{why}");
        assert_eq!(outcome.readable, readable, "{why}");
    }
}

#[test]
fn the_last_bytes_of_a_stream_decide_whether_it_ended() {
    let table = [
        ("data: [DONE]\n\n", true, true, "the mark"),
        ("data: [DONE]\n", true, true, "without its blank line"),
        ("data: [DONE]", true, true, "without its line end"),
        ("data:[DONE] \r\n\r\n", true, true, "with other blanks"),
        ("data: [DONE", false, false, "cut"),
        (
            "data: {\"choices\":[]}\n",
            false,
            false,
            "an unfinished event",
        ),
        ("da", false, false, "half a field name"),
        (": [DONE]\n\n", false, true, "in a comment"),
    ];
    for (tail, ended, readable, why) in table {
        let outcome = stream(&[&hello(), &finish(0, "stop"), tail].concat());
        assert_eq!(
            (outcome.ended, outcome.readable),
            (ended, readable),
            "{why}"
        );
    }
}

#[test]
fn comments_line_ends_and_a_byte_order_mark_change_nothing() {
    let text = hello_to_the_end();
    let expected = stream(&text);
    let with_comments = text.replace("\n\n", "\n\n: OPENROUTER PROCESSING\n\n");
    let variants = [
        with_comments,
        text.replace('\n', "\r\n"),
        text.replace('\n', "\r"),
        format!("\u{feff}{text}"),
    ];
    for variant in variants {
        assert_eq!(stream(&variant), expected);
    }
}

#[test]
fn content_is_judged_only_where_json_was_asked_for_and_the_choice_stopped() {
    let table = [
        (
            r#"{"content":"{\"a\":"}"#,
            r#"{"content":"1}"}"#,
            "stop",
            false,
            "JSON",
        ),
        (
            r#"{"content":" [1"}"#,
            r#"{"content":"]\n"}"#,
            "stop",
            false,
            "JSON amid blanks",
        ),
        (
            r#"{"content":"{\"a\":"}"#,
            r#"{"content":""}"#,
            "stop",
            true,
            "cut",
        ),
        (
            r#"{"content":"```json\n"}"#,
            r#"{"content":"{}\n```"}"#,
            "stop",
            true,
            "fenced",
        ),
        (
            r#"{"content":"\n"}"#,
            r#"{"content":"\n"}"#,
            "stop",
            true,
            "blanks only",
        ),
        (
            r#"{"content":"{} "}"#,
            r#"{"content":"{}"}"#,
            "stop",
            true,
            "two values",
        ),
        (
            r#"{"content":"{\"a\":"}"#,
            r#"{"content":"x"}"#,
            "length",
            false,
            "not stopped",
        ),
        (
            r#"{"content":null}"#,
            r#"{"refusal":"no"}"#,
            "stop",
            false,
            "a refusal has no content",
        ),
        (
            r#"{"content":"I call"}"#,
            r#"{"tool_calls":[{"index":0}]}"#,
            "stop",
            false,
            "a call",
        ),
    ];
    for (first, second, reason, invalid_output, why) in table {
        let text = [
            delta(0, first),
            delta(0, second),
            finish(0, reason),
            DONE.to_owned(),
        ]
        .concat();
        assert_eq!(
            json_stream(&text),
            Outcome {
                invalid_output,
                ..good(&[reason])
            },
            "{why}"
        );
        assert!(
            !stream(&text).invalid_output,
            "{why}, but JSON was not asked for"
        );
    }
}

#[test]
fn each_choice_is_judged_by_its_own_content() {
    let text = |second: &str| {
        let turns = [
            delta(0, r#"{"content":"{\"a\""}"#),
            delta(1, r#"{"content":"["}"#),
            delta(0, r#"{"content":":1}"}"#),
            delta(1, second),
        ];
        [
            turns.concat(),
            finish(0, "stop"),
            finish(1, "stop"),
            DONE.to_owned(),
        ]
        .concat()
    };
    assert_eq!(json_stream(&text(r#"{"content":"]"}"#)), good(&["stop"]));
    let invalid = Outcome {
        invalid_output: true,
        ..good(&["stop"])
    };
    assert_eq!(json_stream(&text(r#"{"content":"}"}"#)), invalid);
}

#[test]
fn the_content_of_a_plain_answer_is_judged_alike() {
    let judge =
        |content: Value| Outcome::of_whole(&whole(&json!({"content": content}), "stop"), true);
    assert!(!judge(json!("{\"a\": \"é\\n\"}")).invalid_output);
    assert!(judge(json!("{\"a\": ")).invalid_output);
    let in_parts = judge(json!([{"type": "text", "text": "{}"}]));
    assert!(!in_parts.readable, "content in parts cannot be judged");
    assert!(in_parts.ended);
}

#[test]
fn what_is_too_large_is_unreadable() {
    let large = [
        delta(0, r#"{"content":"0123456789abcdef"}"#).as_str(),
        &finish(0, "stop"),
        DONE,
    ]
    .concat();
    let mut watch = Watch::new(false, 100);
    watch.push(large.as_bytes());
    let outcome = watch.finish();
    assert!(!outcome.readable);
    assert!(
        outcome.ended,
        "the end mark behind a large event is still seen"
    );

    let event = delta(0, r#"{"content":"0123456789abcdef"}"#);
    let many = [event.repeat(100).as_str(), &finish(0, "stop"), DONE].concat();
    for (wants_json, readable) in [(false, true), (true, false)] {
        let mut watch = Watch::new(wants_json, 1_000);
        watch.push(many.as_bytes());
        assert_eq!(
            watch.finish().readable,
            readable,
            "content is kept only to be judged"
        );
    }
}

#[test]
fn a_plain_answer_ends_with_its_object() {
    let good = whole(&json!({"content": "x"}), "stop");
    assert!(Outcome::of_whole(&good, false).ended);
    for end in 0..good.len() {
        let outcome = Outcome::of_whole(&good[..end], false);
        assert_eq!(
            (outcome.ended, outcome.readable),
            (false, false),
            "cut at {end}"
        );
    }
    let table: [(&[u8], bool, &str); 6] = [
        (b"{\"choices\":7}", true, "another shape"),
        (b" {} \r\n", true, "blanks around it"),
        (b"{} {}", false, "two objects"),
        (b"[]", false, "an array"),
        (b"\xEF\xBB\xBF{}", false, "a byte order mark"),
        (b"data: {}\n\n", false, "a stream"),
    ];
    for (body, ended, why) in table {
        assert_eq!(Outcome::of_whole(body, false).ended, ended, "{why}");
    }
}

fn usage_of(answer: &Value) -> Option<Usage> {
    let usage = &answer["usage"];
    Some(Usage {
        input_tokens: usage["prompt_tokens"].as_u64()?,
        output_tokens: usage["completion_tokens"].as_u64()?,
    })
}

/// What a client makes of a recorded stream: every event parsed on its own, the deltas put together.
fn assemble(recorded: &str) -> (Vec<String>, Vec<String>, Option<Usage>, Option<String>) {
    let mut contents = Vec::<String>::new();
    let (mut finish, mut usage, mut model) = (Vec::new(), None, None);
    let data = recorded
        .split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "));
    for event in data.filter(|data| *data != "[DONE]") {
        let event: Value = serde_json::from_str(event).expect("a recorded event is JSON");
        for choice in event["choices"].as_array().expect("choices are an array") {
            let index = choice["index"]
                .as_u64()
                .and_then(|index| usize::try_from(index).ok())
                .expect("an index");
            contents.resize(contents.len().max(index + 1), String::new());
            contents[index].push_str(choice["delta"]["content"].as_str().unwrap_or_default());
            finish.extend(choice["finish_reason"].as_str().map(str::to_owned));
        }
        usage = usage_of(&event).or(usage);
        model = model.or(event["model"].as_str().map(str::to_owned));
    }
    finish.sort();
    finish.dedup();
    (contents, finish, usage, model)
}

/// A recorded stream of up to three choices that take turns, with any texts, usage or none.
fn recorded() -> impl Strategy<Value = String> {
    let turns = vec((0_usize..3, any::<String>()), 1..12);
    let reasons = proptest::array::uniform3(prop::sample::select(vec!["stop", "length"]));
    let counts = proptest::option::of(any::<(u64, u64)>());
    (turns, reasons, counts).prop_map(|(turns, reasons, counts)| {
        let said = turns
            .iter()
            .map(|(index, text)| delta(*index, &json!({"content": text}).to_string()));
        let finished = (0..3)
            .zip(reasons)
            .map(|(index, reason)| finish(index, reason));
        let counted = counts.map(|(input, output)| usage(input, output));
        said.chain(finished)
            .chain(counted)
            .chain([DONE.to_owned()])
            .collect()
    })
}

proptest! {
    #[test]
    fn deserialization_reconstructs_response(recorded in recorded(), cuts in vec(any::<Index>(), 0..20)) {
        let chunks = split(recorded.as_bytes(), &cuts);
        prop_assert_eq!(chunks.concat(), recorded.as_bytes());
        let mut watch = Watch::new(true, LIMIT);
        for chunk in chunks {
            watch.push(chunk);
        }
        let (contents, finish, usage, model) = assemble(&recorded);
        for choice in &watch.reading.choices {
            let expected = contents.get(choice.index).map_or("", String::as_str);
            prop_assert_eq!(&choice.content, expected);
        }
        let outcome = watch.finish();
        prop_assert!(outcome.ended && outcome.readable && outcome.all_finished && !outcome.error);
        prop_assert_eq!(outcome.empty, contents.iter().all(String::is_empty));
        prop_assert_eq!(outcome.finish.into_iter().collect::<Vec<_>>(), finish);
        prop_assert_eq!(outcome.usage, usage);
        prop_assert_eq!(outcome.model, model);
    }

    #[test]
    fn deserialization_reconstructs_response_of_a_plain_answer(content in any::<String>(), reason in "[a-z_]{1,9}") {
        let body = whole(&json!({"role": "assistant", "content": content}), &reason);
        let outcome = Outcome::of_whole(&body, true);
        let parsed: Value = serde_json::from_slice(&body).expect("a plain answer is JSON");
        prop_assert_eq!(outcome.model.as_deref(), parsed["model"].as_str());
        prop_assert_eq!(outcome.usage, usage_of(&parsed));
        prop_assert_eq!(outcome.finish.first().map(String::as_str), parsed["choices"][0]["finish_reason"].as_str());
        prop_assert_eq!(outcome.empty, content.is_empty());
        prop_assert!(outcome.ended && outcome.readable && outcome.all_finished);
    }

    #[test]
    fn no_outcome_depends_on_where_the_stream_was_cut(
        recorded in recorded(),
        scar in any::<Index>(),
        wound in prop_oneof![Just(Vec::new()), vec(any::<u8>(), 1..6)],
        cuts in vec(any::<Index>(), 0..20),
        wants_json in any::<bool>(),
    ) {
        let mut stream = recorded.into_bytes();
        let at = scar.index(stream.len());
        stream.splice(at..at, wound);
        let expected = watch(wants_json, &[&stream]);
        prop_assert_eq!(&watch(wants_json, &split(&stream, &cuts)), &expected);
        prop_assert_eq!(&watch(wants_json, &stream.chunks(1).collect::<Vec<_>>()), &expected);
    }

    #[test]
    fn garbage_is_never_a_good_answer(garbage in vec(any::<u8>(), 0..300), cuts in vec(any::<Index>(), 0..8)) {
        let outcome = watch(true, &split(&garbage, &cuts));
        prop_assert!(!(outcome.ended && outcome.all_finished));
        prop_assert!(!Outcome::of_whole(&garbage, true).all_finished);
    }
}
