//! What lies under an entry's key is not what was put there: it is a miss and is counted, and is never served.

use ::redis::cmd;

use super::{DAMAGED, ENTRIES, ask, assert_hit, echo, fill, replica};
use crate::support::{
    client::assert_verdict,
    redis::{Redis, redis},
};

#[tokio::test]
async fn a_value_that_is_damaged_is_a_miss_and_is_replaced() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = echo().await;
    let one = replica(&up, &server).await;
    let prompts: Vec<String> = (0..DAMAGES.len())
        .map(|number| format!("prompt {number}"))
        .collect();
    let mut keys = Vec::new();
    for prompt in &prompts {
        fill(&one, &[prompt]).await;
        keys.push(newest(&server, &keys).await);
    }
    for (key, damage) in keys.iter().zip(DAMAGES) {
        let value: Vec<u8> = server.ask(cmd("GET").arg(key)).await;
        let damaged = damage(value);
        server
            .ask::<()>(cmd("SET").arg(key).arg(damaged).arg("KEEPTTL"))
            .await;
    }
    let two = replica(&up, &server).await;
    for prompt in &prompts {
        let before = two.metric(DAMAGED, &[]).await;
        assert_verdict(&ask(&two, prompt).await, "MISS");
        // Who is about to go upstream looks again.
        two.counted(DAMAGED, before + 1.0).await;
    }
    let written = f64::from(u32::try_from(DAMAGES.len()).unwrap());
    two.counted(super::WRITTEN, written).await;
    let three = replica(&up, &server).await;
    for prompt in &prompts {
        assert_hit(&ask(&three, prompt).await, "redis");
    }
}

#[tokio::test]
async fn an_entry_under_the_key_of_another_answers_nobody() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = echo().await;
    let one = replica(&up, &server).await;
    fill(&one, &["mine"]).await;
    let mine = newest(&server, &[]).await;
    fill(&one, &["yours"]).await;
    let yours = newest(&server, std::slice::from_ref(&mine)).await;
    server
        .ask::<()>(cmd("COPY").arg(&mine).arg(&yours).arg("REPLACE"))
        .await;
    let two = replica(&up, &server).await;
    assert_verdict(&ask(&two, "yours").await, "MISS");
    assert_hit(&ask(&two, "mine").await, "redis");
    two.assert_metric(DAMAGED, &["reason=\"key\""], 1).await;
}

#[tokio::test]
async fn another_type_under_an_entrys_key_is_a_miss_and_no_outage() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = echo().await;
    fill(&replica(&up, &server).await, &["hi"]).await;
    let key = newest(&server, &[]).await;
    server.ask::<()>(cmd("DEL").arg(&key)).await;
    server.ask::<()>(cmd("RPUSH").arg(&key).arg("x")).await;
    let two = replica(&up, &server).await;
    assert_verdict(&ask(&two, "hi").await, "MISS");
    two.counted(super::WRITTEN, 1.0).await;
    assert_hit(&ask(&replica(&up, &server).await, "hi").await, "redis");
    two.assert_metric(super::UP, &[], 1).await;
}

#[tokio::test]
async fn a_value_that_is_far_too_large_is_not_even_fetched() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = echo().await;
    fill(&replica(&up, &server).await, &["hi"]).await;
    let key = newest(&server, &[]).await;
    server
        .ask::<()>(cmd("SETRANGE").arg(&key).arg(200 << 20).arg("x"))
        .await;
    let before = server.sent().await;
    let two = replica(&up, &server).await;
    assert_verdict(&ask(&two, "hi").await, "MISS");
    let fetched = server.sent().await - before;
    assert!(fetched < 50 << 20, "{fetched} bytes");
}

/// Returns the key of the one entry that is not among those `known`.
async fn newest(server: &Redis, known: &[Vec<u8>]) -> Vec<u8> {
    let mut keys = server.keys(ENTRIES).await;
    keys.retain(|key| !known.contains(key));
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys.remove(0)
}

/// What is done to values.
const DAMAGES: [fn(Vec<u8>) -> Vec<u8>; 9] = [
    |_| b"\x00".to_vec(),
    |_| b"another program's".to_vec(),
    |value| value[..value.len() / 2].to_vec(),
    |value| value[..value.len() - 1].to_vec(),
    |value| [&value[..], b"x"].concat(),
    // The envelope's magic, its version, its checksum, and the body.
    |value| flipped(value, 1),
    |value| flipped(value, 5),
    |value| flipped(value, 10),
    |value| {
        let last = value.len() - 1;
        flipped(value, last)
    },
];

fn flipped(mut value: Vec<u8>, at: usize) -> Vec<u8> {
    value[at] ^= 1;
    value
}
