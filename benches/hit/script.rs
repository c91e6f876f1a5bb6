//! What clients ask and upstreams answer: shapes and sizes of everyday chat calls.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// Returns the body of a chat call, about 2 KB; different numbers make different calls.
pub(crate) fn question(number: usize, stream: bool) -> String {
    let text: String = LINE.chars().cycle().take(270).collect();
    let messages: Vec<Value> = ["system", "user", "assistant", "user", "assistant", "user"]
        .into_iter()
        .map(|role| json!({ "role": role, "content": text }))
        .collect();
    json!({
        "model": "gpt-4o-mini",
        "messages": messages,
        "max_tokens": 512,
        "temperature": 0.7,
        "top_p": 1,
        "seed": number,
        "stream": stream,
    })
    .to_string()
}

/// Returns a whole HTTP/1.1 request as the official Python SDK sends it.
pub(crate) fn request(server: SocketAddr, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\n\
         Host: {server}\r\n\
         Accept-Encoding: gzip, deflate\r\n\
         Connection: keep-alive\r\n\
         Accept: application/json\r\n\
         Content-Type: application/json\r\n\
         User-Agent: OpenAI/Python 2.8.1\r\n\
         X-Stainless-Lang: python\r\n\
         X-Stainless-Package-Version: 2.8.1\r\n\
         X-Stainless-OS: Linux\r\n\
         X-Stainless-Arch: x64\r\n\
         X-Stainless-Runtime: CPython\r\n\
         X-Stainless-Runtime-Version: 3.12.3\r\n\
         X-Stainless-Async: false\r\n\
         X-Stainless-Retry-Count: 0\r\n\
         X-Stainless-Read-Timeout: 600\r\n\
         Authorization: Bearer {CREDENTIAL}\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// Returns a completion whose content has `size` bytes.
pub(crate) fn completion(size: usize) -> String {
    let content: String = LINE.chars().cycle().take(size).collect();
    json!({
        "id": "chatcmpl-0123456789",
        "object": "chat.completion",
        "created": 1_763_689_200,
        "model": "gpt-4o-mini",
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": content, "refusal": null },
            "logprobs": null,
            "finish_reason": "stop",
        }],
        "usage": { "prompt_tokens": 412, "completion_tokens": 301, "total_tokens": 713 },
    })
    .to_string()
}

/// Returns one event of a stream, its content of `size` bytes.
pub(crate) fn event(size: usize) -> String {
    let content: String = LINE.chars().cycle().take(size).collect();
    let delta = json!({ "role": "assistant", "content": content });
    chunk(&delta, &Value::Null)
}

/// Returns the end of a stream.
pub(crate) fn last_events() -> String {
    format!("{}data: [DONE]\n\n", chunk(&json!({}), &json!("stop")))
}

fn chunk(delta: &Value, finish_reason: &Value) -> String {
    let chunk = json!({
        "id": "chatcmpl-0123456789",
        "object": "chat.completion.chunk",
        "created": 1_763_689_200,
        "model": "gpt-4o-mini",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish_reason }],
    });
    format!("data: {chunk}\n\n")
}

/// Content size of an everyday completion, which is about 1.5 KB as a whole.
pub(crate) const ANSWER: usize = 1_200;
/// The one caller's key.
pub(crate) const CREDENTIAL: &str = "sk-proj-0123456789abcdef0123456789abcdef0123456789abcdef";

const LINE: &str = "The quick brown fox said \"jump\" over the lazy dog.\n";
