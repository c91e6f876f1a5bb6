//! What is asked and answered: an answer names its question, so that nobody can get another's unnoticed.

use serde_json::{Value, json};

/// Returns the body of the call that asks question `number`.
pub(crate) fn question(number: u64, stream: bool) -> String {
    json!({
        "model": "gpt-soak",
        "messages": [{"role": "user", "content": format!("{MARK}{number}.")}],
        "stream": stream,
    })
    .to_string()
}

/// Reads the number of the question, and whether a stream is wanted, from the body of a call.
pub(crate) fn asked(body: &[u8]) -> Option<(u64, bool)> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once(MARK)?;
    let (digits, _) = rest.split_once('.')?;
    let streams = text.contains("\"stream\":true");
    Some((digits.parse().ok()?, streams))
}

/// Returns the completion that answers question `number`.
pub(crate) fn completion(number: u64) -> String {
    let message = json!({"role": "assistant", "content": words(number).concat()});
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-soak",
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    })
    .to_string()
}

/// Returns the events that answer question `number`, without the end mark.
pub(crate) fn events(number: u64) -> Vec<String> {
    let said = words(number).map(|word| event(&json!({"content": word}), &Value::Null));
    let last = event(&json!({}), &json!("stop"));
    said.into_iter().chain([last]).collect()
}

/// The end mark of a stream.
pub(crate) const DONE: &str = "data: [DONE]\n\n";

/// An error in OpenAI's form.
pub(crate) const ERROR: &str =
    r#"{"error":{"message":"overloaded","type":"server_error","param":null,"code":null}}"#;

/// Returns what a 200 to question `number` says; `None` where it is no whole answer.
pub(crate) fn said(body: &[u8], streams: bool) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    if !streams {
        let value: Value = serde_json::from_str(text).ok()?;
        let content = value.pointer("/choices/0/message/content")?;
        return Some(content.as_str()?.to_owned());
    }
    let mut said = String::new();
    for event in text.strip_suffix(DONE)?.split_terminator("\n\n") {
        let value: Value = serde_json::from_str(event.strip_prefix("data: ")?).ok()?;
        let delta = value.pointer("/choices/0/delta")?;
        said.push_str(
            delta
                .get("content")
                .and_then(Value::as_str)
                .unwrap_or_default(),
        );
    }
    Some(said)
}

/// Returns the whole text that answers question `number`.
pub(crate) fn text(number: u64) -> String {
    words(number).concat()
}

fn words(number: u64) -> [String; WORDS] {
    std::array::from_fn(|word| format!("{number}:{word} {}", "x".repeat(100)))
}

fn event(delta: &Value, finish: &Value) -> String {
    let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
    let chunk = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-soak",
        "choices": [choice],
    });
    format!("data: {chunk}\n\n")
}

/// Words of an answer, each an event of a stream.
const WORDS: usize = 8;
const MARK: &str = "question ";
