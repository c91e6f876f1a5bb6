//! A completion that no model made: it says that there is none. Pure.
//!
//! It is told in each form by the same code as any other completion ([`convert`]), so what the official SDKs make of one
//! they make of the other.

use serde_json::Value;

use super::{Unreadable, convert, form::Form};

/// Returns an apology of this `text` in this `form`, with as many `choices` as the call asks for; `created` is in
/// seconds since the epoch.
pub fn apology(
    form: Form,
    choices: Option<u8>,
    text: &str,
    id: &str,
    created: u64,
) -> Result<Vec<u8>, Unreadable> {
    let choices = choices.unwrap_or(1).clamp(1, MOST_CHOICES);
    let completion = completion(text, choices, id, created);
    convert(completion.as_bytes(), Form::Plain, form)
}

/// Returns the completion, its members as the API reference has them ("The chat completion object").
fn completion(text: &str, choices: u8, id: &str, created: u64) -> String {
    let [text, id] = [text, id].map(Value::from);
    let choices: Vec<_> = (0..choices).map(|index| choice(index, &text)).collect();
    let choices = choices.join(",");
    format!(
        r#"{{"id":{id},"object":"chat.completion","created":{created},"model":"{MODEL}","choices":[{choices}],"usage":{USAGE}}}"#
    )
}

fn choice(index: u8, text: &Value) -> String {
    format!(
        r#"{{"index":{index},"message":{{"role":"assistant","content":{text},"refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}"#
    )
}

/// What is said to have made it.
const MODEL: &str = "fallback";
/// It cost nothing.
const USAGE: &str = r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#;
/// The most that the API lets a call ask for.
const MOST_CHOICES: u8 = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::dialect::chat::reply::{Outcome, Watch};

    fn told(form: Form, choices: Option<u8>) -> Vec<u8> {
        let told = apology(form, choices, "Sorry.", "chatcmpl-1", 1_700_000_000);
        told.expect("a completion of ours can be told")
    }

    #[test]
    fn a_plain_call_gets_a_completion() {
        let told = told(Form::Plain, None);
        let completion: Value = serde_json::from_slice(&told).expect("JSON");
        let message = json!({
            "role": "assistant", "content": "Sorry.", "refusal": null, "annotations": [],
        });
        let choice =
            json!({"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"});
        let usage = json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0});
        assert_eq!(
            completion,
            json!({
                "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000,
                "model": "fallback", "choices": [choice], "usage": usage,
            })
        );
    }

    #[test]
    fn a_stream_gets_role_text_end_and_the_usage_if_it_asked_for_it() {
        for usage in [false, true] {
            let stream = told(Form::Stream { usage }, None);
            let stream = String::from_utf8(stream).expect("text");
            let events = stream
                .strip_suffix("data: [DONE]\n\n")
                .expect("an end mark");
            let chunks: Vec<Value> = events
                .split_terminator("\n\n")
                .filter_map(|event| event.strip_prefix("data: "))
                .map(|data| serde_json::from_str(data).expect("JSON"))
                .collect();
            let choices: Vec<_> = chunks.iter().map(|chunk| &chunk["choices"][0]).collect();
            assert_eq!(choices[0]["delta"]["role"], "assistant");
            assert_eq!(choices[1]["delta"]["content"], "Sorry.");
            assert_eq!(choices[2]["finish_reason"], "stop");
            let total = chunks.get(3).map(|chunk| &chunk["usage"]["total_tokens"]);
            assert_eq!(total, usage.then_some(&json!(0)));
            for chunk in &chunks {
                assert_eq!(chunk["object"], "chat.completion.chunk");
                assert_eq!(chunk["model"], "fallback");
                assert_eq!(chunk["id"], "chatcmpl-1");
            }
        }
    }

    #[test]
    fn each_choice_asked_for_apologises_up_to_what_the_api_allows() {
        for (asked, expected) in [(None, 1), (Some(0), 1), (Some(3), 3), (Some(200), 128)] {
            let told = told(Form::Plain, asked);
            let completion: Value = serde_json::from_slice(&told).expect("JSON");
            let choices = completion["choices"].as_array().expect("choices");
            let indices = choices.iter().map(|choice| choice["index"].as_u64());
            assert!(indices.eq((0..expected).map(Some)), "{asked:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_text_it_is_a_whole_answer_in_every_form(
            text in any::<String>(),
            id in any::<String>(),
            choices in any::<Option<u8>>(),
        ) {
            for form in Form::ALL {
                let told = apology(form, choices, &text, &id, 1);
                let body = told.expect("a completion of ours can be told");
                let outcome = if form.is_stream() {
                    let mut watch = Watch::new(false, body.len());
                    watch.push(&body);
                    watch.finish()
                } else {
                    Outcome::of_whole(&body, false)
                };
                prop_assert!(outcome.ended && outcome.all_finished && outcome.readable);
                prop_assert!(!outcome.error);
                prop_assert_eq!(outcome.empty, text.is_empty());
                prop_assert_eq!(outcome.usage.is_some(), form.is_entitled());
                prop_assert_eq!(outcome.model.as_deref(), Some("fallback"));
            }
        }
    }
}
