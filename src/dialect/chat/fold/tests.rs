use serde_json::{Value, json};

use super::*;

fn folded(stream: &str) -> Option<Value> {
    let completion = fold(stream.as_bytes()).ok()?;
    Some(serde_json::from_slice(&completion).expect("a fold is JSON"))
}

/// Returns a stream of these chunks, with the finish of choice 0 and the end mark behind them.
fn stream(chunks: &[&str]) -> String {
    let finish = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let chunks = chunks.iter().chain([&finish]);
    let events = chunks.map(|chunk| format!("data: {chunk}\n\n"));
    events.chain(["data: [DONE]\n\n".to_owned()]).collect()
}

/// Returns the message that these deltas of choice 0 add up to.
fn message(deltas: &[&str]) -> Option<Value> {
    let chunks: Vec<_> = deltas
        .iter()
        .map(|delta| format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#))
        .collect();
    let chunks: Vec<_> = chunks.iter().map(String::as_str).collect();
    folded(&stream(&chunks)).map(|completion| completion["choices"][0]["message"].clone())
}

#[test]
fn a_stream_becomes_the_completion_that_it_tells() {
    let stream = concat!(
        r#"data: {"id":"c","object":"chat.completion.chunk","created":17,"model":"m","service_tier":"x","system_fingerprint":"f","#,
        r#""choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"aa"}"#,
        "\n\n",
        r#"data: {"id":"c","choices":[{"index":1,"delta":{"content":"z"},"finish_reason":"stop"}],"usage":null}"#,
        "\n\n",
        r#"data: {"id":"c","choices":[{"index":0,"delta":{"content":"Grü"},"finish_reason":null}],"usage":null}"#,
        "\n\n: keep-alive\n\n",
        r#"data: {"id":"c","choices":[{"index":0,"delta":{"content":"ße\n"},"finish_reason":"length"}],"usage":null}"#,
        "\n\n",
        r#"data: {"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
        "\n\ndata: [DONE]",
    );
    let expected = json!({
        "id": "c", "object": "chat.completion", "created": 17, "model": "m", "service_tier": "x",
        "system_fingerprint": "f",
        "choices": [
            {
                "index": 0, "logprobs": null, "finish_reason": "length",
                "message": {"role": "assistant", "content": "Grüße\n", "refusal": null, "annotations": []},
            },
            {"index": 1, "finish_reason": "stop", "message": {"role": "assistant", "content": "z"}},
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    });
    assert_eq!(folded(stream), Some(expected));
}

#[test]
fn tool_calls_add_up_by_their_index_and_lose_it() {
    let deltas = [
        r#"{"content":null,"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]}"#,
        r#"{"tool_calls":[{"index":1,"id":"b","type":"custom","custom":{"name":"g","input":"x"}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\""}},{"index":1,"custom":{"input":"y"}}]}"#,
        r#"{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":":1}"}}]}"#,
    ];
    let expected = json!({
        "role": "assistant", "content": null,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
            {"id": "b", "type": "custom", "custom": {"name": "g", "input": "xy"}},
        ],
    });
    assert_eq!(message(&deltas), Some(expected));
}

#[test]
fn a_single_delta_with_tool_calls_loses_their_index_too() {
    let call = r#"{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]}"#;
    let message = message(&[call]).unwrap();
    assert_eq!(
        message["tool_calls"],
        json!([{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}])
    );
}

#[test]
fn two_calls_that_claim_one_place_are_not_mixed() {
    let both = r#"{"tool_calls":[{"index":0,"id":"a"},{"index":0,"id":"b"}]}"#;
    assert_eq!(message(&[both]), None);
    let [first, second] =
        ["a", "b"].map(|id| format!(r#"{{"tool_calls":[{{"index":0,"id":"{id}"}}]}}"#));
    assert_eq!(message(&[&first, &second]), None);
}

#[test]
fn members_of_vendors_survive_at_every_level() {
    let chunks = [
        r#"{"x":{"a":0.10,"b":1},"provider":"p","choices":[{"delta":{"reasoning":"th","y":{"t":"a","n":2.50},"z":[1]},"w":null,"v":{"hate":null}}]}"#,
        r#"{"x":{"a":0.20},"provider":"p","choices":[{"delta":{"reasoning":"ink","y":{"t":"b"},"z":[2]},"w":"new","v":{"hate":{"filtered":false}}}]}"#,
        r#"{"provider":"","choices":null}"#,
        r#"{"citations":["u"],"choices":[{"delta":{"reasoning_details":[{"index":0,"type":"t","text":"a"}]}}]}"#,
        r#"{"citations":["u"],"choices":[{"delta":{"reasoning_details":[{"index":0,"type":"t","text":"b"}]}}]}"#,
    ];
    let completion = folded(&stream(&chunks)).unwrap();
    let expected = json!({
        "object": "chat.completion", "x": {"a": 0.2, "b": 1}, "provider": "p", "citations": ["u"],
        "choices": [{
            "index": 0, "w": "new", "v": {"hate": {"filtered": false}}, "finish_reason": "stop",
            "message": {
                "role": "assistant", "content": null, "reasoning": "think", "y": {"t": "ab", "n": 2.5}, "z": [1, 2],
                "reasoning_details": [{"index": 0, "type": "t", "text": "ab"}],
            },
        }],
    });
    assert_eq!(completion, expected);
}

#[test]
fn numbers_stay_as_they_were_written() {
    let chunks = [
        r#"{"x":1.50,"choices":[{"delta":{"content":"a"},"logprobs":{"content":[{"token":"a","logprob":-0.10000000149011612}]}}]}"#,
        r#"{"choices":[{"delta":{"n":18446744073709551617},"logprobs":{"content":[{"token":"b","logprob":-1.0e-07}],"refusal":null}}]}"#,
    ];
    let completion = fold(stream(&chunks).as_bytes()).unwrap();
    let completion = String::from_utf8(completion).unwrap();
    for number in [
        "1.50",
        "-0.10000000149011612",
        "-1.0e-07",
        "18446744073709551617",
    ] {
        assert!(completion.contains(number), "{number} in {completion}");
    }
}

#[test]
fn spoken_answers_join_their_data_and_their_transcript() {
    let audio = |data: &str| {
        format!(r#"{{"audio":{{"id":"a","data":"{data}","transcript":"t","expires_at":9}}}}"#)
    };
    let one = message(&[&audio("AAEC"), &audio("AwQF")]).unwrap();
    assert_eq!(
        one["audio"],
        json!({"id": "a", "data": "AAECAwQF", "transcript": "tt", "expires_at": 9})
    );
    // Fragments that are padded each for itself are no base64 when they only stand in a row.
    let padded = message(&[&audio("AA=="), &audio("AQI="), &audio("Aw==")]).unwrap();
    assert_eq!(padded["audio"]["data"], STANDARD.encode([0, 1, 2, 3]));
    assert_eq!(message(&[&audio("A=A"), &audio("A")]), None);
}

#[test]
fn only_a_stream_that_ended_as_it_should_is_folded() {
    let finish =
        r#"data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}"#;
    let done = "data: [DONE]";
    assert!(folded(&format!("{finish}\n\n{done}\n\n")).is_some());
    let table = [
        (format!("{finish}\n\n"), "no end mark"),
        (format!("{done}\n\n"), "no choice"),
        (
            format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"x\"}}}}]}}\n\n{done}\n\n"),
            "no finish reason",
        ),
        (
            format!("{finish}\n\n{done}\n\n{done}\n\n"),
            "something behind the end",
        ),
        (
            format!("data: {{\"error\":{{\"a\":1}}}}\n\n{finish}\n\n{done}\n\n"),
            "an error",
        ),
        (
            format!("event: error\n{finish}\n\n{done}\n\n"),
            "an error event",
        ),
        (format!("data: x\n\n{finish}\n\n{done}\n\n"), "no JSON"),
        (r#"{"choices":[]}"#.to_owned(), "no stream"),
    ];
    for (stream, why) in table {
        assert_eq!(folded(&stream), None, "{why}");
    }
}

#[test]
fn there_are_no_more_choices_than_can_be_asked_for() {
    let chunk = |index: usize| {
        format!(r#"{{"choices":[{{"index":{index},"delta":{{}},"finish_reason":"stop"}}]}}"#)
    };
    let chunks: Vec<_> = (0..=MAX_CHOICES).map(chunk).collect();
    let chunks: Vec<_> = chunks.iter().map(String::as_str).collect();
    assert!(folded(&stream(&chunks[..MAX_CHOICES])).is_some());
    assert_eq!(folded(&stream(&chunks)), None);
}

/// Returns a delta with these tool calls.
fn calling(calls: &str) -> String {
    format!(r#"{{"tool_calls":[{calls}]}}"#)
}

#[test]
fn fragments_of_a_tool_call_without_index_do_not_become_calls_of_their_own() {
    let first = |arguments: &str| {
        let arguments = Value::from(arguments);
        calling(&format!(
            r#"{{"id":"a","type":"function","function":{{"name":"f","arguments":{arguments}}}}}"#
        ))
    };
    let more = calling(r#"{"function":{"arguments":"{\"a\":1}"}}"#);
    let with_null = [r#"{\"a\""#, ":1}"].map(|part| {
        calling(&format!(
            r#"{{"index":null,"id":"a","type":"function","function":{{"name":"f","arguments":"{part}"}}}}"#
        ))
    });
    let nameless = calling(r#"{"id":"a","function":{"arguments":"{}"}}"#);
    let custom = calling(r#"{"id":"a","type":"custom","custom":{"name":"g","input":"x"}}"#);
    let table: &[(&[&str], &str)] = &[
        (&[&first(""), &more], "no id of its own"),
        (&[&with_null[0], &with_null[1]], "the id of another"),
        (&[&first("{}"), &first("{}")], "the id of another"),
        (&[&first("{\"a\":")], "half of its arguments"),
        (&[&nameless], "no name"),
        (&[&custom], "input that nobody knows to be whole"),
    ];
    for (deltas, why) in table {
        assert_eq!(message(deltas), None, "{why}");
    }
}

#[test]
fn whole_tool_calls_without_index_keep_their_order() {
    let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}});
    let (first, second, third) = (call("b", "{\"x\": 1}"), call("a", ""), call("c", "{}"));
    let mut with_null = third.clone();
    with_null["index"] = Value::Null;
    let deltas = [
        calling(&first.to_string()),
        calling(&format!("{second},{with_null}")),
    ];
    let message = message(&[&deltas[0], &deltas[1]]).unwrap();
    assert_eq!(message["tool_calls"], json!([first, second, third]));
    assert_eq!(message["content"], Value::Null);
}

#[test]
fn two_calls_at_one_place_are_not_made_one() {
    let whole = |id: &str, arguments: &str| {
        format!(
            r#"{{"index":0,{id}"type":"function","function":{{"name":"w","arguments":"{arguments}"}}}}"#
        )
    };
    let some = r#"{\"c\":\"A\"}"#;
    for id in ["", r#""id":"","#, r#""id":null,"#] {
        let both = calling(&format!("{},{}", whole(id, some), whole(id, some)));
        assert_eq!(message(&[&both]), None, "in one chunk");
        let one = calling(&whole(id, some));
        assert_eq!(message(&[&one, &one]), None, "one after the other");
        assert!(message(&[&one]).is_some());
        // A name that comes before the arguments have begun is the name of the same call.
        let begin = calling(&whole(id, ""));
        assert!(message(&[&begin, &one]).is_some());
    }
}

#[test]
fn tool_calls_with_and_without_index_are_not_put_together() {
    let placed = calling(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}"#);
    let whole = calling(r#"{"id":"b","function":{"name":"f","arguments":"{}"}}"#);
    assert_eq!(message(&[&placed, &whole]), None);
    assert_eq!(message(&[&whole, &placed]), None);
}

#[test]
fn that_there_are_no_tool_calls_stays_said() {
    assert_eq!(
        message(&[r#"{"tool_calls":[]}"#]).unwrap()["tool_calls"],
        json!([])
    );
    let call = r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]}"#;
    let message = message(&[r#"{"tool_calls":null}"#, call, r#"{"tool_calls":[]}"#]).unwrap();
    assert_eq!(message["tool_calls"][0]["id"], "a");
}

/// A stream of Azure's asynchronous filter, whose last word on violence is this.
fn filtered(severity: &str) -> String {
    let annotation = |results: &str| {
        format!(
            r#"{{"id":"","object":"","created":0,"model":"","choices":[{{"index":0,"finish_reason":null,"content_filter_results":{results},"content_filter_offsets":{{"check_offset":44,"start_offset":44,"end_offset":198}}}}],"usage":null}}"#
        )
    };
    let results = |severity: &str| {
        format!(
            r#"{{"hate":{{"filtered":false,"severity":"safe"}},"violence":{{"filtered":false,"severity":"{severity}"}}}}"#
        )
    };
    let chunks = [
        r#"{"id":"","object":"","created":0,"model":"","prompt_filter_results":[{"prompt_index":0}],"choices":[]}"#.to_owned(),
        r#"{"id":"c","object":"chat.completion.chunk","created":17,"model":"m","choices":[{"index":0,"finish_reason":null,"delta":{"role":"assistant","content":"Hi"}}]}"#.to_owned(),
        annotation(&results("low")),
        r#"{"id":"c","object":"chat.completion.chunk","created":17,"model":"m","choices":[{"index":0,"finish_reason":"stop","delta":{}}]}"#.to_owned(),
        annotation(&results(severity)),
        annotation("{}"),
    ];
    let events = chunks.iter().map(|chunk| format!("data: {chunk}\n\n"));
    events.chain(["data: [DONE]\n\n".to_owned()]).collect()
}

#[test]
fn azures_annotations_do_not_unsay_what_the_answer_is() {
    let completion = folded(&filtered("low")).unwrap();
    assert_eq!(completion["created"], 17);
    assert_eq!(completion["id"], "c");
    assert_eq!(completion["model"], "m");
    assert_eq!(completion["object"], "chat.completion");
    let choice = &completion["choices"][0];
    assert_eq!(
        choice["content_filter_results"]["violence"]["severity"],
        "low"
    );
    assert_eq!(choice.get("content_filter_offsets"), None);
    // Which of two judgements of different parts a plain answer would have is not known here.
    assert_eq!(folded(&filtered("safe")), None);
}

#[test]
fn an_answer_that_never_says_when_it_was_created_says_so() {
    let completion = folded(&stream(&[r#"{"created":0,"choices":[]}"#])).unwrap();
    assert_eq!(completion["created"], 0);
}

#[test]
fn objects_at_the_top_grow() {
    let chunks = [
        r#"{"x_groq":{"id":"req_1","seed":7},"choices":[{"index":0,"delta":{"content":"x"}}]}"#,
        r#"{"x_groq":{"usage":{"queue_time":1.5}},"choices":[]}"#,
    ];
    assert_eq!(
        folded(&stream(&chunks)).unwrap()["x_groq"],
        json!({"id": "req_1", "seed": 7, "usage": {"queue_time": 1.5}})
    );
}

#[test]
fn what_could_be_a_repetition_or_a_fragment_is_neither() {
    let table: &[(&[&str], &str)] = &[
        (
            &[r#"{"delta":{"model":"m"}}"#, r#"{"delta":{"model":"m"}}"#],
            "a repeated string",
        ),
        (
            &[r#"{"delta":{"token_id":1}}"#, r#"{"delta":{"token_id":2}}"#],
            "a number that changes",
        ),
        (
            &[r#"{"delta":{},"text":"a"}"#, r#"{"delta":{},"text":"b"}"#],
            "fragments beside a delta",
        ),
        (
            &[r#"{"delta":{},"text":"a"}"#, r#"{"delta":{},"text":"a"}"#],
            "fragments beside a delta",
        ),
        (
            &[r#"{"delta":{},"finish_reason":"length"}"#],
            "two finish reasons",
        ),
        (
            &[
                r#"{"delta":{"reasoning_details":[{"type":"reasoning.text","text":"a"}]}}"#,
                r#"{"delta":{"reasoning_details":[{"type":"reasoning.text","text":"b"}]}}"#,
            ],
            "parts of one text, or two texts",
        ),
        (
            &[
                r#"{"delta":{"content":[{"type":"text","text":"Hel"}]}}"#,
                r#"{"delta":{"content":[{"type":"text","text":"lo"}]}}"#,
            ],
            "parts of one text, or two texts",
        ),
        (
            &[
                r#"{"delta":{"images":[{"index":0,"image_url":{"url":"data:a"}}]}}"#,
                r#"{"delta":{"images":[{"index":0,"image_url":{"url":"data:a"}}]}}"#,
            ],
            "an image that is repeated",
        ),
    ];
    for (choices, why) in table {
        let chunks: Vec<_> = choices
            .iter()
            .map(|choice| format!(r#"{{"choices":[{choice}]}}"#))
            .collect();
        let chunks: Vec<_> = chunks.iter().map(String::as_str).collect();
        assert_eq!(folded(&stream(&chunks)), None, "{why}");
    }
}
