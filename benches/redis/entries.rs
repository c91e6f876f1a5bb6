//! Chat answers of two kilobytes: English words in an order that does not repeat, as models write them.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use refrain::{
    answer::retold::Retold,
    call::{Slot, key::Key},
    dialect::{chat::form::Form, usage::Usage},
    store::{Entry, Label, generations::Seen},
};
use tokio::time::Instant;

/// Returns the entry of this number.
pub(crate) fn entry(number: u64) -> Entry {
    let mut key = [0xab; 32];
    let (first, _) = key.split_at_mut(8);
    first.copy_from_slice(&number.to_be_bytes());
    Entry {
        slot: Slot {
            key: Key::from_bytes(key),
            delivery: 0,
        },
        form: Form::Plain,
        status: StatusCode::OK,
        headers: HeaderMap::from_iter([
            (
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            ),
            (
                header::HeaderName::from_static("openai-version"),
                HeaderValue::from_static("2020-10-01"),
            ),
        ]),
        body: body(number),
        upstream: HeaderValue::from_static("openai"),
        usage: Some(Usage {
            input_tokens: 40,
            output_tokens: 400,
        }),
        made: Instant::now(),
        lifetime: Duration::from_secs(24 * 60 * 60),
        tags: Vec::new(),
        label: Label {
            scope: vec![7; 17],
            dialect: "chat".to_owned(),
            model: "gpt-4o-mini".to_owned(),
            namespace: String::new(),
        },
        retold: Retold::default(),
        seen: Seen::default(),
    }
}

/// Returns the body of the answer of this number.
pub(crate) fn body(number: u64) -> Bytes {
    let mut dice = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::new();
    while text.len() < LENGTH {
        // Xorshift: enough to tell answers apart.
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let turn = usize::try_from(dice >> 33).unwrap_or_default();
        text.extend(WORDS.split(' ').nth(turn % MANY));
        text.push(' ');
    }
    let answer = format!(
        r#"{{"id":"chatcmpl-{number:029}","object":"chat.completion","created":1700000000,"model":"gpt-4o-mini-2024-07-18","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":40,"completion_tokens":400,"total_tokens":440}},"system_fingerprint":"fp_0ba0d124f1"}}"#
    );
    answer.into()
}

/// Bytes of the text.
const LENGTH: usize = 1_600;
/// Words to choose from.
const MANY: usize = 96;
const WORDS: &str = "the of and a to in is you that it he was for on are as with his they at be this have from or one had \
by word but not what all were we when your can said there use an each which she do how their if will up other about out \
many then them these so some her would make like him into time has look two more write go see number no way could people \
my than first water been call who oil its now find long down day did get come made may part";
