//! Redis comes back as an older copy, takes no writes, or has messages lost, and replicas purge at once: whoever is right, what
//! was purged stays so.

use std::collections::HashMap;

use redis::cmd;
use serde_json::json;

use super::{
    UP,
    facts::{cached, copy, counting, is_gone, is_hit, put_back, setup, tagged, until, written},
    purge, replica, sharing,
};
use crate::support::{
    client::chat,
    redis::{Redis, redis},
    within,
};

const HASH: &str = "refrain:generations";

/// Returns the purges that lie in Redis: the value and the moment of each, by its name.
async fn purges(server: &Redis) -> HashMap<Vec<u8>, (u64, u64)> {
    let fields: HashMap<Vec<u8>, Vec<u8>> = server.ask(cmd("HGETALL").arg(HASH)).await;
    let purges = fields
        .into_iter()
        .filter(|(name, _)| matches!(name.first(), Some(0 | 1)));
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
    let read = |value: &[u8]| (number(&value[..8]), number(&value[8..]));
    purges.map(|(name, value)| (name, read(&value))).collect()
}

/// Returns the only purge that lies in Redis.
async fn only_purge(server: &Redis) -> (Vec<u8>, u64, u64) {
    let purges = purges(server).await;
    let [(name, (value, at))] = &purges.iter().collect::<Vec<_>>()[..] else {
        panic!("one purge: {purges:?}");
    };
    ((*name).clone(), *value, *at)
}

/// Puts a purge into Redis, as nobody hears of it.
async fn plant(server: &Redis, name: &[u8], value: u64, at: u64) {
    let row = [value.to_le_bytes(), at.to_le_bytes()].concat();
    let _: i64 = server.ask(cmd("HSET").arg(HASH).arg(name).arg(row)).await;
}

/// Waits until replicas have checked so many times more.
async fn checked(server: &Redis, times: u64) {
    let before = server.calls("hlen").await;
    let checked = async { while server.calls("hlen").await < before + times {} };
    within("checks", checked).await;
}

#[tokio::test]
async fn a_second_purge_holds_though_redis_comes_back_as_it_was_after_the_first() {
    let Some(mut server) = redis().start().await else {
        return;
    };
    let up = counting().await;
    let a = replica(&up, &server).await;
    assert_eq!(purge(&a, &json!({"tag": "a"})).await["durable"], true);
    let (_, first, _) = only_purge(&server).await;
    a.send(&tagged("hi")).await;
    written(&server, 1).await;
    server.cli(&["SAVE"]).await;
    let kept = copy(&server).await;
    assert_eq!(purge(&a, &json!({"tag": "a"})).await["durable"], true);
    let (_, second, later) = only_purge(&server).await;
    is_gone(&a, "hi").await;
    server.kill().await;
    a.fell_to_zero(UP).await;
    server.restart().await;
    a.counted(UP, 1.0).await;
    // It may have been cleared up by now.
    put_back(&server, &kept).await;
    let gone = a.send(&cached("hi")).await;
    assert_eq!(gone.status, 504, "it is revived: {}", gone.text());
    let renewed = async {
        loop {
            let (_, value, at) = only_purge(&server).await;
            if value != first {
                assert!(value != second && at > later, "it is a purge of its own");
                return;
            }
        }
    };
    within("the name to be purged anew", renewed).await;
    put_back(&server, &kept).await;
    let b = replica(&up, &server).await;
    is_gone(&b, "hi").await;
}

#[tokio::test]
async fn a_purge_while_redis_takes_no_writes_costs_no_hit() {
    let full = redis().with("maxmemory-policy noeviction");
    let Some(server) = full.start().await else {
        return;
    };
    let up = counting().await;
    let trusting = || setup(&up, &server).with("[store]\ntrust = \"1us\"");
    let a = sharing(trusting()).await;
    a.send(&chat("hi")).await;
    written(&server, 1).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let nobodys = json!({"tag": "nobody has it"});
    assert_eq!(purge(&a, &nobodys).await["durable"], false);
    checked(&server, 3).await;
    a.assert_metric("refrain_redis_trusted", &[], 1).await;
    assert!(is_hit(&a.send(&chat("hi")).await));
    // Whoever connects meanwhile is let in, with a purge to be written and without.
    let reconnects = a.metric("refrain_redis_reconnects_total", &[]).await;
    server.cli(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    a.counted("refrain_redis_reconnects_total", reconnects + 1.0)
        .await;
    let b = trusting().start().await;
    for replica in [&a, &b] {
        let hit = until(replica, &chat("hi"), is_hit).await;
        assert_eq!(hit.status, 200);
    }
    assert!(purges(&server).await.is_empty());
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let told = async { while purges(&server).await.is_empty() {} };
    within("the purge to be written", told).await;
}

#[tokio::test]
async fn a_purge_that_no_message_told_of_is_found_though_another_was_told_of_twice() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = counting().await;
    let (a, b) = tokio::join!(replica(&up, &server), replica(&up, &server));
    a.send(&tagged("hi")).await;
    written(&server, 1).await;
    assert!(is_hit(&b.send(&tagged("hi")).await));
    purge(&a, &json!({"tag": "b"})).await;
    let (name, value, at) = only_purge(&server).await;
    // After two checks, both replicas have read it or counted what they heard of it.
    checked(&server, 4).await;
    let change: u64 = server.ask(cmd("HGET").arg(HASH).arg("changes")).await;
    let numbers = [value, at, change].map(u64::to_le_bytes).concat();
    let message = [&b"p"[..], &numbers, &name].concat();
    let heard: i64 = server
        .ask(cmd("PUBLISH").arg("refrain:news").arg(message))
        .await;
    assert_eq!(heard, 2);
    let other: Vec<u8> = [&name[..name.len() - 1], b"a"].concat();
    plant(&server, &other, 7, at + 1).await;
    let counted = cmd("HINCRBY").arg(HASH).arg("changes").arg(1).clone();
    let _: i64 = server.ask(&counted).await;
    is_gone(&a, "hi").await;
    is_gone(&b, "hi").await;
}

#[tokio::test]
async fn a_purge_takes_the_place_of_one_that_is_dated_ahead() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = counting().await;
    let a = replica(&up, &server).await;
    purge(&a, &json!({"tag": "a"})).await;
    let (name, _, at) = only_purge(&server).await;
    let ahead = at + 3_600_000;
    plant(&server, &name, 7, ahead).await;
    a.send(&tagged("hi")).await;
    assert_eq!(purge(&a, &json!({"tag": "a"})).await["durable"], true);
    let (_, value, later) = only_purge(&server).await;
    assert!(value != 7 && later > ahead, "{value} at {later}");
    is_gone(&a, "hi").await;
}

#[tokio::test]
async fn replicas_that_purge_one_name_at_once_agree_which_was_the_last() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = counting().await;
    let (a, b) = tokio::join!(replica(&up, &server), replica(&up, &server));
    let tag = json!({"tag": "a"});
    for round in 0..8 {
        tokio::join!(
            purge(&a, &tag),
            purge(&b, &tag),
            purge(&a, &tag),
            purge(&b, &tag)
        );
        let prompt = format!("round {round}");
        // What A writes, B takes in if both know the same purge.
        let shared = async {
            loop {
                until(&a, &tagged(&prompt), is_hit).await;
                if is_hit(&b.send(&cached(&prompt)).await) {
                    return;
                }
            }
        };
        within("one purge on both", shared).await;
    }
}

#[tokio::test]
async fn readiness_tells_that_purges_may_be_missed() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = counting().await;
    let a = replica(&up, &server).await;
    server.cli(&["ACL", "SETUSER", "default", "-hlen"]).await;
    a.fell_to_zero("refrain_redis_trusted").await;
    let told = a.admin("/readyz").await;
    assert_eq!(told.status, 200);
    let text = told.text();
    assert!(
        text.contains("purges of other replicas may be missed"),
        "{text}"
    );
    server.cli(&["ACL", "SETUSER", "default", "+hlen"]).await;
    a.counted("refrain_redis_trusted", 1.0).await;
}
