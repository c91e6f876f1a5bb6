//! Answers that nobody wants from an upstream: what a real one says when it is busy, broken or wrong.

use serde_json::json;

use super::upstream::{Reply, chunk, json, sse, status};

/// Returns an error in OpenAI's form.
pub(crate) fn failing(code: u16) -> Reply {
    let error = json!({"error": {
        "message": "The server had an error while processing your request.",
        "type": "server_error", "param": null, "code": null,
    }});
    json(&error.to_string()).status(code)
}

/// Returns a 429 with these header fields, such as `Retry-After`.
pub(crate) fn busy(fields: &[(&str, &str)]) -> Reply {
    let error = json!({"error": {
        "message": "Rate limit reached for gpt-test.",
        "type": "requests", "param": null, "code": "rate_limit_exceeded",
    }});
    let reply = json(&error.to_string()).status(429);
    fields
        .iter()
        .fold(reply, |reply, (name, value)| reply.header(name, value))
}

/// Returns a 200 whose body is an error.
pub(crate) fn error_object() -> Reply {
    failing(200)
}

/// Returns a 200 whose JSON stops in its middle, framed as if it were whole.
pub(crate) fn truncated(whole: &Reply) -> Reply {
    let mut bytes = whole.bytes();
    bytes.truncate(bytes.len() / 2);
    status(200)
        .header("content-type", "application/json")
        .body(bytes)
}

/// Returns a stream of `words` with an error event after them, ended as a whole one is.
pub(crate) fn stream_with_error_after(words: &[&str]) -> Reply {
    let events = words
        .iter()
        .map(|word| chunk(&json!({"content": word}), None));
    let error = json!({"error": {"message": "overloaded", "type": "server_error"}});
    let end = [format!("data: {error}\n\n"), "data: [DONE]\n\n".to_owned()];
    sse(events.chain(end))
}

/// Returns a stream of `words` that ends as its framing wants, but without a finish reason and without `[DONE]`.
pub(crate) fn stream_without_an_end(words: &[&str]) -> Reply {
    let events = words
        .iter()
        .map(|word| chunk(&json!({"content": word}), None));
    sse(events)
}

/// Returns `reply` packed by gzip, whoever asked for it.
pub(crate) fn gzipped(reply: &Reply) -> Reply {
    let packed = gzip(&reply.bytes());
    status(200)
        .header("content-type", "application/json")
        .header("content-encoding", "gzip")
        .body(packed)
}

/// Packs `bytes` as one stored block (RFC 1951, 3.2.4) between a gzip member's head and its tail (RFC 1952, 2.3).
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a stored block has at most 64 KiB");
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let lengths = [length.to_le_bytes(), (!length).to_le_bytes()].concat();
    let tail = [crc32(bytes), u32::from(length)].map(u32::to_le_bytes);
    [&head[..], &[1], &lengths, bytes, &tail.concat()].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    let fold = |crc: u32, _| match crc & 1 {
        1 => (crc >> 1) ^ 0xedb8_8320,
        _ => crc >> 1,
    };
    let crc = bytes
        .iter()
        .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), fold));
    !crc
}
