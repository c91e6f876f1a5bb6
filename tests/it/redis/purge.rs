//! A purge is cleared up behind in Redis, too, page by page, and touches nothing that is not Refrain's.

use ::redis::{Pipeline, SetExpiry, SetOptions, cmd};
use refrain::call::key::Key;
use serde_json::{Value, json};

use super::{ENTRIES, WRITTEN, ask, assert_hit, echo, fill, purge, replica};
use crate::support::{
    client::{asking, assert_verdict, at_once, chat, request},
    redis::{Redis, redis},
    upstream::{Seen, completion, stream, upstream},
    within,
};

#[tokio::test]
async fn invalidation_uses_scan() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = echo().await;
    let one = replica(&up, &server).await;
    fill(&one, &["a", "b"]).await;
    foreign(&server).await;
    let told = purge(&one, &json!({"pattern": "openai/chat/*", "dry_run": true})).await;
    assert_eq!(told["entries"], 2, "{told}");
    let other = json!({"pattern": "other/*", "dry_run": true});
    assert_eq!(purge(&one, &other).await["entries"], 0);
    let before = server.calls("scan").await;
    assert!(before > 0);

    purge(&one, &json!({"pattern": "openai/chat/*"})).await;
    gone(&server).await;
    assert!(server.calls("scan").await > before);
    one.counted("refrain_redis_purged_total", 2.0).await;
    assert!(server.calls("unlink").await >= 2);
    blocked_nobody(&server).await;
    still_there(&server).await;
    assert_verdict(&ask(&one, "a").await, "MISS");
}

#[tokio::test]
async fn invalidation_handles_large_keyspace() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = echo().await;
    let one = replica(&up, &server).await;
    fill(&one, &["hi"]).await;
    copies(&server, COPIES).await;
    foreign(&server).await;
    let order = json!({"pattern": "openai/*", "dry_run": true});
    assert_eq!(purge(&one, &order).await["entries"], COPIES + 1);
    let pages = server.calls("scan").await;
    assert!(pages > COPIES / 1_000, "{pages} small pages");

    purge(&one, &json!({"pattern": "openai/*"})).await;
    gone(&server).await;
    let purged = u32::try_from(COPIES + 1).unwrap();
    one.counted("refrain_redis_purged_total", f64::from(purged))
        .await;
    blocked_nobody(&server).await;
    still_there(&server).await;
}

#[tokio::test]
async fn a_callers_delete_of_its_key_looks_at_nothing_else() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = upstream().by(|seen, _| {
        if as_stream(seen) {
            stream(&["hi"])
        } else {
            completion("hi")
        }
    });
    let up = up.start().await;
    let one = replica(&up, &server).await;
    let two = replica(&up, &server).await;
    let answer = one.send(&chat("hi")).await;
    let key = answer.expect("x-cache-key").to_owned();
    let other_way = json!({
        "model": "gpt-test", "messages": [{"role": "user", "content": "hi"}],
        "stream": true, "stream_options": {"include_obfuscation": false},
    });
    let other = one.send(&asking(&other_way)).await;
    assert_eq!(other.expect("x-cache-key"), key, "{}", other.text());
    let deliveries = format!("refrain:e:{{{key}}}*");
    let written = async { while server.keys(&deliveries).await.len() < 2 {} };
    within("an entry for each way of delivery", written).await;
    copies(&server, 2_000).await;
    let unknown = "ab".repeat(32);
    let before = server.calls("getrange").await;
    let delete = |key: &str| {
        let delete = request("DELETE", &format!("/_refrain/cache/{key}"));
        delete.header("Authorization", "Bearer sk-test-alice")
    };
    // Many at once, and of nothing that is there, are none too many either.
    let unknown = at_once(two.addr, &delete(&unknown), 20).await;
    assert!(unknown.iter().all(|answer| answer.status == 404));
    assert_eq!(two.send(&delete(&key)).await.status, 204);
    assert_eq!(two.send(&delete(&key)).await.status, 404);
    let gone = async { while !server.keys(&deliveries).await.is_empty() {} };
    within("both entries to be gone", gone).await;
    let read = server.calls("getrange").await - before;
    assert!(
        read < 1_000,
        "{read} reads; a look at everything takes 2,000"
    );
}

#[tokio::test]
async fn what_has_a_tag_is_found_by_its_index_and_not_by_a_look_at_everything() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = echo().await;
    let one = replica(&up, &server).await;
    one.send(&chat("a").header("X-Cache-Tags", "red, blue"))
        .await;
    one.send(&chat("b").header("X-Cache-Tags", "blue")).await;
    one.send(&chat("c")).await;
    one.counted(WRITTEN, 3.0).await;
    let indexes = || server.keys("refrain:t:*");
    let both = async { while indexes().await.len() < 2 {} };
    within("two indexes", both).await;
    for key in indexes().await {
        let ttl: i64 = server.ask(cmd("PTTL").arg(&key)).await;
        assert!(ttl > 0, "an index ends with its last entry");
    }
    let before = server.calls("scan").await;
    let told = purge(&one, &json!({"tag": "red", "dry_run": true})).await;
    assert_eq!(server.calls("scan").await, before, "the index says it");
    assert_eq!(told["entries"], 1, "{told}");
    purge(&one, &json!({"tag": "red"})).await;
    let left = async { while server.keys(ENTRIES).await.len() > 2 {} };
    within("the entry to be deleted", left).await;
    assert!(server.calls("zscan").await >= 2);
    one.counted("refrain_redis_purged_total", 1.0).await;
    assert_hit(&one.send(&chat("b")).await, "memory");
}

#[tokio::test]
async fn what_is_purged_softly_stays_and_is_marked() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = echo().await;
    let one = replica(&up, &server).await;
    fill(&one, &["hi"]).await;
    let key = server.keys(ENTRIES).await.remove(0);
    let ttl: i64 = server.ask(cmd("PTTL").arg(&key)).await;
    purge(&one, &json!({"model": "gpt-test", "soft": true})).await;
    let marked = async {
        while server
            .ask::<Vec<u8>>(cmd("GETRANGE").arg(&key).arg(0).arg(0))
            .await
            != [1]
        {}
    };
    within("the mark", marked).await;
    let left: i64 = server.ask(cmd("PTTL").arg(&key)).await;
    assert!(left > 0 && left <= ttl, "it lives as long as before");
    assert_verdict(&ask(&one, "hi").await, "MISS");
}

fn as_stream(seen: &Seen) -> bool {
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    body["stream"] == true
}

/// Puts as many entries beside the one that is there, under keys of their own: what is looked at is like a real one.
async fn copies(server: &Redis, count: u64) {
    let key = server.keys(ENTRIES).await.remove(0);
    let value: Vec<u8> = server.ask(cmd("GET").arg(&key)).await;
    let numbers: Vec<u64> = (0..count).collect();
    for some in numbers.chunks(1_000) {
        let mut pipeline = Pipeline::new();
        for number in some {
            let mut bytes = [0xab; 32];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            let hex = Key::from_bytes(bytes).hex();
            let mut copy = value.clone();
            copy[KEY..KEY + 32].copy_from_slice(&bytes);
            let key = format!("refrain:e:{{{hex}}}");
            let hour = SetOptions::default().with_expiration(SetExpiry::EX(3_600));
            pipeline.set_options(key, copy, hour);
        }
        server.ask_all::<()>(&pipeline).await;
    }
}

/// Puts there what is not ours, under our names and under others.
async fn foreign(server: &Redis) {
    server
        .cli(&["SET", "refrain:e:other", "another program's"])
        .await;
    server
        .cli(&["RPUSH", "refrain:e:list", "another program's"])
        .await;
    server.cli(&["SET", "other", "another program's"]).await;
}

async fn still_there(server: &Redis) {
    let count = ["EXISTS", "refrain:e:other", "refrain:e:list", "other"];
    assert_eq!(server.cli(&count).await, "3");
}

/// Waits until no entry is left.
async fn gone(server: &Redis) {
    let gone = async { while !server.keys("refrain:e:{*").await.is_empty() {} };
    within("all entries to be deleted", gone).await;
}

/// Asserts that no command was run that goes through everything at once, and that nothing was deleted in the foreground but
/// leases, which are small.
async fn blocked_nobody(server: &Redis) {
    for command in ["keys", "flushdb", "flushall"] {
        assert_eq!(server.calls(command).await, 0, "{command}");
    }
    let deleted = server.calls("del").await;
    assert!(deleted <= LEASES, "{deleted} deletions");
}

/// Leases that are given back, at most: one for each call.
const LEASES: u64 = 2;
/// Entries in a large keyspace.
const COPIES: u64 = 10_000;
/// Where in a value the key stands: behind the flag, magic, version and checksum.
const KEY: usize = 1 + 4 + 2 + 16;
