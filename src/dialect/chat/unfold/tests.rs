//! The stream that a completion becomes; and, over generated completions, that folding gives it back whoever told it.

use proptest::{collection::vec, option, prelude::*};
use serde_json::{Map, Value, json};

use super::*;
use crate::dialect::chat::{
    fold::fold,
    form::Form,
    reply::{Outcome, Watch},
    strip::strip,
};

fn unfolded(completion: &str, usage: bool) -> Option<String> {
    let stream = unfold(completion.as_bytes(), usage).ok()?;
    Some(String::from_utf8(stream).expect("a stream of text"))
}

#[test]
fn a_completion_becomes_the_stream_that_tells_it() {
    let completion = r#"{
        "id": "c", "object": "chat.completion", "created": 17, "model": "m", "x": [0.10],
        "choices": [{
            "index": 0,
            "message": {
                "role": "assistant", "content": "a\nb", "refusal": null, "annotations": [],
                "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
            },
            "logprobs": {"content": [{"token": "a", "logprob": -0.50}], "refusal": null},
            "stop_reason": 7,
            "finish_reason": "stop"
        }],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2}
    }"#;
    let stream = unfolded(completion, true).unwrap();
    let lines: Vec<_> = stream.split("\n\n").collect();
    let common = r#"data: {"id":"c","created":17,"model":"m","object":"chat.completion.chunk","#;
    let expected = [
        r#""x":[0.10],"choices":[{"index":0,"delta":{"role":"assistant","refusal":null},"finish_reason":null}],"usage":null}"#,
        r#""choices":[{"index":0,"delta":{"content":"a\nb"},"logprobs":{"content":[{"token":"a","logprob":-0.50}],"refusal":null},"finish_reason":null}],"usage":null}"#,
        r#""choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":null}],"usage":null}"#,
        r#""choices":[{"index":0,"delta":{},"stop_reason":7,"finish_reason":"stop"}],"usage":null}"#,
        r#""choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|rest| format!("{common}{rest}"))
        .chain(["data: [DONE]".to_owned(), String::new()])
        .collect();
    assert_eq!(lines, expected);
}

#[test]
fn the_usage_is_told_only_to_those_who_ask_and_only_if_it_is_there() {
    let choice =
        r#"{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}"#;
    let with =
        format!(r#"{{"choices":[{choice}],"usage":{{"prompt_tokens":1,"completion_tokens":2}}}}"#);
    let without = format!(r#"{{"choices":[{choice}],"usage":null}}"#);
    assert!(unfolded(&with, true).unwrap().contains("prompt_tokens"));
    for (completion, usage) in [(&with, false), (&without, true), (&without, false)] {
        assert!(!unfolded(completion, usage).unwrap().contains("usage"));
    }
}

#[test]
fn what_is_no_completion_is_not_unfolded() {
    for completion in [
        "",
        "[]",
        "{}",
        r#"{"choices":{}}"#,
        r#"{"choices":[1]}"#,
        r#"{"choices":[{"message":[]}]}"#,
        r#"{"choices":[{"index":-1,"message":{}}]}"#,
        r#"{"choices":[{"message":{"tool_calls":[1]}}]}"#,
        r#"{"choices":[{"message":{},"delta":{}}]}"#,
        r#"{"choices":[],"choices":[]}"#,
    ] {
        assert_eq!(unfolded(completion, true), None, "{completion}");
    }
}

#[test]
fn what_was_thought_comes_before_what_was_said() {
    let completion = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"said","reasoning_content":"thought","x":1,"reasoning_details":["d"]},"finish_reason":"stop"}]}"#;
    let stream = unfolded(completion, false).unwrap();
    let places = ["thought", "\"d\"", "said", "\"x\""].map(|word| stream.find(word).unwrap());
    assert!(places.is_sorted(), "{stream}");
}

#[test]
fn a_completion_does_not_become_a_stream_out_of_all_proportion() {
    let completion = |id: usize, calls: usize| {
        let (id, calls) = ("i".repeat(id), vec!["{}"; calls].join(","));
        format!(
            r#"{{"id":"{id}","choices":[{{"index":0,"message":{{"tool_calls":[{calls}]}},"finish_reason":"stop"}}]}}"#
        )
    };
    assert!(unfolded(&completion(2_000, 100_000), false).is_none());
    assert!(unfolded(&completion(800_000, 10), false).is_none());
    assert!(unfolded(&completion(2_000, 100), false).is_some());
    // As many choices as can be asked for, each as short as can be.
    let choice = |index: usize| {
        format!(
            r#"{{"index":{index},"message":{{"role":"assistant","content":"a"}},"finish_reason":"stop"}}"#
        )
    };
    let choices: Vec<_> = (0..128).map(choice).collect();
    let id = "i".repeat(400);
    let many = format!(r#"{{"id":"{id}","choices":[{}]}}"#, choices.join(","));
    assert!(unfolded(&many, true).is_some());
}

/// Numbers whose text a float would change, in place of which the generated JSON has [`number`]s.
const NUMBERS: [&str; 6] = [
    "0.10",
    "-1.1920928955078125e-07",
    "1E3",
    "18446744073709551617",
    "-0.0",
    "3",
];

fn number(text: &str) -> Value {
    json!(format!("#{text}#"))
}

/// Writes a generated value, its numbers in place.
fn wire(value: &Value) -> String {
    NUMBERS.iter().fold(value.to_string(), |json, text| {
        json.replace(&format!("\"#{text}#\""), text)
    })
}

/// Reads JSON so that two values are equal only if their numbers are spelled alike.
fn lexical(json: &str) -> Value {
    let mut marked = String::new();
    let mut in_text = false;
    let mut escaped = false;
    let mut in_number = false;
    for letter in json.chars() {
        let numeric = !in_text && matches!(letter, '0'..='9' | '-' | '+' | '.' | 'E')
            || in_number && letter == 'e';
        if numeric != in_number {
            marked.push_str(if numeric { "\"#" } else { "#\"" });
        }
        in_number = numeric;
        if letter == '"' && !escaped {
            in_text = !in_text;
        }
        escaped = in_text && !escaped && letter == '\\';
        marked.push(letter);
    }
    serde_json::from_str(&marked).unwrap_or_else(|why| panic!("{why}: {json}"))
}

fn words() -> impl Strategy<Value = String> {
    "[a-zé😀\"\\\\\n\u{1}\u{2028} {}\\[\\]:,]{1,12}"
}

fn numbers() -> impl Strategy<Value = Value> {
    prop::sample::select(&NUMBERS[..]).prop_map(number)
}

/// Something that a vendor may send: no strings, whose fragments only the vendor knows, at its top.
fn vendor() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![numbers(), Just(json!(true)), words().prop_map(Value::from)];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 1..3).prop_map(Value::from),
            proptest::collection::btree_map("[a-d]", inner, 1..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn logprobs() -> impl Strategy<Value = Value> {
    let token = (words(), numbers()).prop_map(|(token, logprob)| {
        json!({"token": token, "logprob": logprob, "bytes": [logprob], "top_logprobs": []})
    });
    vec(token, 0..4).prop_map(|tokens| json!({"content": tokens, "refusal": null}))
}

fn tool_calls() -> impl Strategy<Value = Value> {
    let call = (words(), any::<bool>(), vendor()).prop_map(|(text, custom, vendor)| {
        if custom {
            json!({"type": "custom", "custom": {"name": "g", "input": text}})
        } else {
            json!({"type": "function", "function": {"name": "f", "arguments": text}, "x": [vendor]})
        }
    });
    vec(call, 1..4).prop_map(|mut calls| {
        for (at, call) in calls.iter_mut().enumerate() {
            call["id"] = json!(format!("call_{at}"));
        }
        Value::from(calls)
    })
}

fn message() -> impl Strategy<Value = Value> {
    let texts = (
        option::of(words()),
        option::of(words()),
        option::of(words()),
    );
    let rest = (
        option::of(tool_calls()),
        option::of(vendor()),
        any::<[bool; 4]>(),
    );
    (texts, rest).prop_map(|((content, refusal, reasoning), (calls, vendor, [announces, old, speaks, cites]))| {
        let mut message = json!({"role": "assistant", "content": content});
        if announces || refusal.is_some() {
            message["refusal"] = json!(refusal);
            let citation = json!({"type": "url_citation", "url_citation": {"url": "u"}});
            message["annotations"] = Value::from_iter(cites.then_some(citation));
        }
        let more = [
            ("reasoning_content", reasoning.map(Value::from)),
            ("tool_calls", calls),
            ("x_vendor", vendor),
            ("function_call", old.then(|| json!({"name": "f", "arguments": "{\"a\": 1}"}))),
            (
                "audio",
                speaks.then(|| json!({"id": "a", "data": "AAECAwQF", "transcript": "t", "expires_at": number("3")})),
            ),
        ];
        for (name, value) in more {
            if let Some(value) = value {
                message[name] = value;
            }
        }
        message
    })
}

fn choice() -> impl Strategy<Value = Value> {
    (
        message(),
        option::of(logprobs()),
        option::of(vendor()),
        any::<bool>(),
    )
        .prop_map(|(message, logprobs, vendor, stops)| {
            let finish = if stops { "stop" } else { "tool_calls" };
            let mut choice =
                json!({"message": message, "logprobs": logprobs, "finish_reason": finish});
            if let Some(vendor) = vendor {
                choice["x_choice"] = vendor;
            }
            choice
        })
}

fn completion() -> impl Strategy<Value = Value> {
    (vec(choice(), 1..4), option::of(vendor()), any::<bool>()).prop_map(|(mut choices, vendor, tells)| {
        for (index, choice) in choices.iter_mut().enumerate() {
            choice["index"] = json!(index);
        }
        let mut completion = json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": number("3"), "model": "m",
            "system_fingerprint": "fp", "service_tier": "default", "choices": choices,
        });
        if tells {
            completion["usage"] = json!({"prompt_tokens": number("3"), "completion_tokens": number("3"), "cost": number("0.10")});
        }
        if let Some(vendor) = vendor {
            completion["x_top"] = vendor;
        }
        completion
    })
}

/// Tells a completion as its own upstream might have: in fragments, the choices mixed, as `dice` fall.
fn tell(completion: &Value, dice: &mut impl Iterator<Item = usize>) -> String {
    let mut common = completion.as_object().unwrap().clone();
    let choices = common.remove("choices").unwrap();
    let usage = common.remove("usage");
    common["object"] = json!("chat.completion.chunk");
    let mut left: Vec<_> = choices
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| told(choice, dice).into_iter())
        .collect();
    let mut chunks = Vec::new();
    while !left.is_empty() {
        let at = dice.next().unwrap() % left.len();
        match left[at].next() {
            Some(choice) => chunks.push((json!([choice]), json!(null))),
            None => drop(left.swap_remove(at)),
        }
    }
    chunks.extend(usage.map(|usage| (json!([]), usage)));
    let events = chunks.into_iter().map(|(choices, usage)| {
        let mut chunk = common.clone();
        chunk.insert("choices".into(), choices);
        chunk.insert("usage".into(), usage);
        format!("data: {}\n\n", wire(&Value::Object(chunk)))
    });
    events.chain(["data: [DONE]\n\n".to_owned()]).collect()
}

/// Returns the choices of the chunks that tell one choice.
fn told(choice: &Value, dice: &mut impl Iterator<Item = usize>) -> Vec<Value> {
    let index = &choice["index"];
    let mut deltas = Vec::new();
    for (name, value) in choice["message"].as_object().unwrap() {
        match (name.as_str(), value) {
            ("content" | "refusal" | "reasoning_content", Value::String(text)) => {
                deltas.extend(
                    fragments(text, dice)
                        .into_iter()
                        .map(|part| json!({name: part})),
                );
            }
            ("tool_calls", Value::Array(calls)) => {
                for (at, call) in calls.iter().enumerate() {
                    for mut part in told_call(call, dice) {
                        part["index"] = json!(at);
                        deltas.push(json!({"tool_calls": [part]}));
                    }
                }
            }
            _ => deltas.push(json!({name: value})),
        }
    }
    let mut chunks: Vec<_> = deltas
        .into_iter()
        .map(|delta| json!({"index": index, "delta": delta, "finish_reason": null}))
        .collect();
    tell_logprobs(&choice["logprobs"], &mut chunks);
    let mut last = choice.as_object().unwrap().clone();
    last.remove("message");
    last.remove("logprobs");
    last.insert("delta".into(), json!({}));
    chunks.push(Value::Object(last));
    chunks
}

/// Spreads the logprobs over the chunks, one token each, the rest with the last.
fn tell_logprobs(logprobs: &Value, chunks: &mut [Value]) {
    let Some(tokens) = logprobs["content"].as_array() else {
        chunks[0]["logprobs"] = logprobs.clone();
        return;
    };
    let mut tokens = tokens.iter();
    let last = chunks.len() - 1;
    for (at, chunk) in chunks.iter_mut().enumerate() {
        let here: Vec<_> = if at == last {
            tokens.by_ref().collect()
        } else {
            tokens.next().into_iter().collect()
        };
        chunk["logprobs"] = json!({"content": here, "refusal": null});
    }
}

fn told_call(call: &Value, dice: &mut impl Iterator<Item = usize>) -> Vec<Value> {
    let (kind, text) = match call["type"].as_str() {
        Some("custom") => ("custom", "input"),
        _ => ("function", "arguments"),
    };
    let said = call[kind][text].as_str().unwrap().to_owned();
    let mut first = call.clone();
    first[kind][text] = json!("");
    let rest = fragments(&said, dice).into_iter();
    let rest = rest.map(|part| {
        let part = Map::from_iter([(text.to_owned(), part)]);
        Value::Object(Map::from_iter([(kind.to_owned(), Value::Object(part))]))
    });
    [first].into_iter().chain(rest).collect()
}

fn fragments(text: &str, dice: &mut impl Iterator<Item = usize>) -> Vec<Value> {
    let letters: Vec<_> = text.chars().collect();
    let mut rest = letters.as_slice();
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (part, tail) = rest.split_at((dice.next().unwrap() % 4).min(rest.len()));
        parts.push(json!(part.iter().collect::<String>()));
        rest = tail;
    }
    parts
}

/// Watches a stream as it would pass, in pieces of `size` bytes.
fn watched(stream: &str, size: usize) -> Outcome {
    let mut watch = Watch::new(false, 1 << 20);
    for piece in stream.as_bytes().chunks(size) {
        watch.push(piece);
    }
    watch.finish()
}

proptest! {
    #[test]
    fn folding_what_was_unfolded_gives_it_back(completion in completion()) {
        let completion = wire(&completion);
        let stream = unfolded(&completion, true).unwrap();
        let folded = String::from_utf8(fold(stream.as_bytes()).unwrap()).unwrap();
        prop_assert_eq!(lexical(&folded), lexical(&completion));
        prop_assert_eq!(unfolded(&completion, true), Some(stream));
    }

    #[test]
    fn a_stream_folds_to_what_it_tells_however_it_is_told(completion in completion(), dice in vec(0_usize..100, 50)) {
        let mut falls = dice.into_iter().chain([1]).cycle();
        let stream = tell(&completion, &mut falls);
        let folded = String::from_utf8(fold(stream.as_bytes()).unwrap()).unwrap();
        prop_assert_eq!(lexical(&folded), lexical(&wire(&completion)));
    }

    #[test]
    fn an_answer_is_the_same_in_every_form(completion in completion(), size in 1_usize..50) {
        let completion = wire(&completion);
        let plain = Outcome::of_whole(completion.as_bytes(), false);
        let stream = unfolded(&completion, true).unwrap();
        prop_assert_eq!(&watched(&stream, size), &plain);
        let silent = unfolded(&completion, false).unwrap();
        prop_assert_eq!(String::from_utf8(strip(stream.as_bytes())).unwrap(), silent.clone());
        prop_assert_eq!(watched(&silent, size), Outcome { usage: None, ..plain });
    }

    #[test]
    fn nothing_that_can_be_recorded_makes_a_conversion_panic(json in "[\\[\\]{}\",:a0 ]{0,40}", name in "choices|delta|message|usage|tool_calls") {
        let json = json.replace('a', &format!("\"{name}\""));
        for from in Form::ALL {
            for to in Form::ALL {
                let framed = format!("data: {json}\n\ndata: [DONE]\n\n");
                let recording = if from.is_stream() { &framed } else { &json };
                let _ = crate::dialect::chat::convert(recording.as_bytes(), from, to);
            }
        }
    }
}
