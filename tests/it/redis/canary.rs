//! Whoever reads Redis learns nothing of what was asked, and of nobody's credential.

use ::redis::{Value, cmd};

use super::{UP, WRITTEN, purge};
use crate::support::{
    client::{asking, assert_verdict},
    proxy::proxy,
    redis::{Redis, redis},
    upstream::{completion, stream, upstream},
};

#[tokio::test]
async fn no_credential_no_prompt_and_no_configured_secret_is_in_redis() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = upstream().answers(completion("an answer"));
    let up = up.answers(stream(&["an", "answer"])).start().await;
    let proxy = proxy(&up)
        .with(&format!("[key]\nsecret = \"{SECRET}\""))
        .with_redis(&server)
        .start()
        .await;
    proxy.counted(UP, 1.0).await;
    for streams in [false, true] {
        let call = asking(&serde_json::json!({
            "model": "gpt-test", "stream": streams, "user": CANARIES[1],
            "messages": [{"role": "system", "content": CANARIES[2]}, {"role": "user", "content": format!("{} {streams}", CANARIES[3])}],
        }));
        let call = call.with_bearer(CANARIES[0]);
        assert_verdict(&proxy.send(&call).await, "MISS");
    }
    proxy.counted(WRITTEN, 2.0).await;
    purge(&proxy, &serde_json::json!({"tag": "any"})).await;
    let all = everything(&server).await;
    // The dump shows what it would show.
    assert!(contains(&all, b"an answer") && contains(&all, b"gpt-test"));
    for canary in CANARIES.iter().chain([&SECRET]) {
        assert!(!contains(&all, canary.as_bytes()), "{canary}");
        let middle = &canary.as_bytes()[4..canary.len() - 4];
        assert!(!contains(&all, middle), "a part of {canary}");
    }
}

/// Returns all keys and values, with what is packed inside of them.
async fn everything(server: &Redis) -> Vec<u8> {
    let mut all = Vec::new();
    for key in server.keys("*").await {
        let kind: String = server.ask(cmd("TYPE").arg(&key)).await;
        let mut read = match kind.as_str() {
            "string" => cmd("GET"),
            "hash" => cmd("HGETALL"),
            "set" => cmd("SMEMBERS"),
            "zset" => cmd("ZRANGE"),
            "list" => cmd("LRANGE"),
            other => panic!("a {other}"),
        };
        read.arg(&key);
        if matches!(kind.as_str(), "zset" | "list") {
            read.arg(0).arg(-1);
        }
        add(&mut all, &server.ask(&read).await);
        all.extend(key);
    }
    all
}

fn add(all: &mut Vec<u8>, value: &Value) {
    match value {
        Value::BulkString(bytes) => {
            all.extend(bytes);
            all.extend(unpacked(bytes));
        }
        Value::Array(values) => values.iter().for_each(|value| add(all, value)),
        Value::Map(pairs) => {
            for (name, value) in pairs {
                add(all, name);
                add(all, value);
            }
        }
        other => all.extend(format!("{other:?}").into_bytes()),
    }
}

/// Returns what is packed by zstd inside of `bytes`.
fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let frame = bytes.windows(4).position(|four| four == ZSTD);
    let frame = frame.map(|at| zstd::bulk::decompress(&bytes[at..], 1 << 20));
    frame.map(|body| body.expect("a frame")).unwrap_or_default()
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|bytes| bytes == part)
}

const CANARIES: [&str; 4] = [
    "sk-canary-0f9c41d27b",
    "user-canary-77e0a1c3",
    "the system prompt, canary 61b2",
    "what a caller asks, canary 8d15",
];
const SECRET: &str = "3c5be1c58a27d10f86b94e0d9b2f6a7ac4d8139f50e2b671883d4c2ab9f0e615";
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
