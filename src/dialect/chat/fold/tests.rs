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
        r#"{"x":{"a":0.10},"provider":"p","choices":[{"delta":{"reasoning":"th","y":{"t":"a","n":1},"z":[1]},"w":"old","v":{"hate":null}}]}"#,
        r#"{"x":{"a":0.20},"provider":"p","choices":[{"delta":{"reasoning":"ink","y":{"t":"b","n":2.50},"z":[2]},"w":"new","v":{"hate":{"filtered":false}}}]}"#,
        r#"{"provider":"","choices":null}"#,
        r#"{"citations":["u"],"choices":[{"delta":{"reasoning_details":[{"index":0,"type":"t","text":"a"}]}}]}"#,
        r#"{"citations":["u"],"choices":[{"delta":{"reasoning_details":[{"index":0,"type":"t","text":"b"}]}}]}"#,
    ];
    let completion = folded(&stream(&chunks)).unwrap();
    let expected = json!({
        "object": "chat.completion", "x": {"a": 0.2}, "provider": "p", "citations": ["u"],
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
