//! What replicas agree on, they agree on whatever happens to Redis meanwhile: what was purged, the secret, the proofs.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::json;

use super::{UP, purge, replica, sharing};
use crate::support::{
    client::{Answer, Request, assert_verdict, chat},
    fault::{Fault, Mood},
    proxy::{Proxy, Setup, proxy},
    redis::{Redis, redis},
    upstream::{Upstream, completion, json as reply, upstream},
    within,
};

/// An upstream that numbers its answers.
pub(super) async fn counting() -> Upstream {
    let up = upstream().by(|_, number| completion(&format!("answer {number}")));
    up.start().await
}

/// Prepares a proxy that shares `server`.
pub(super) fn setup(up: &Upstream, server: &Redis) -> Setup {
    proxy(up).with_redis(server)
}

pub(super) fn tagged(prompt: &str) -> Request {
    chat(prompt).header("X-Cache-Tags", "a")
}

/// A call that is answered from the cache or not at all.
pub(super) fn cached(prompt: &str) -> Request {
    tagged(prompt).header("Cache-Control", "only-if-cached")
}

/// Waits until so many entries lie in Redis.
pub(super) async fn written(server: &Redis, count: usize) {
    let written = async { while server.keys("refrain:e:*").await.len() < count {} };
    within("entries to be written", written).await;
}

/// Asks until an answer is as `wanted`, and returns that.
pub(super) async fn until(
    proxy: &Proxy,
    asked: &Request,
    wanted: impl Fn(&Answer) -> bool,
) -> Answer {
    let answered = async {
        loop {
            let answer = proxy.send(asked).await;
            if wanted(&answer) {
                return answer;
            }
        }
    };
    within("another answer", answered).await
}

pub(super) fn is_hit(answer: &Answer) -> bool {
    answer.header("x-cache") == Some("HIT")
}

/// Asserts that nothing cached answers, now and from then on.
pub(super) async fn is_gone(proxy: &Proxy, prompt: &str) {
    until(proxy, &cached(prompt), |answer| !is_hit(answer)).await;
    let answer = proxy.send(&cached(prompt)).await;
    assert_eq!(answer.status, 504, "{}", answer.text());
}

/// Takes the entries out of Redis, as a copy of it would have them that is to be put back.
pub(super) async fn copy(server: &Redis) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    for key in server.keys("refrain:e:*").await {
        let value = server.ask(redis::cmd("GET").arg(&key)).await;
        entries.push((key, value));
    }
    assert!(!entries.is_empty());
    entries
}

pub(super) async fn put_back(server: &Redis, entries: &[(Vec<u8>, Vec<u8>)]) {
    for (key, value) in entries {
        let _: () = server.ask(redis::cmd("SET").arg(key).arg(value)).await;
    }
}

#[tokio::test]
async fn what_one_replica_purges_is_a_miss_on_the_others() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = counting().await;
    let (a, b) = tokio::join!(replica(&up, &server), replica(&up, &server));
    assert_verdict(&a.send(&tagged("hi")).await, "MISS");
    written(&server, 1).await;
    assert_eq!(b.send(&tagged("hi")).await.expect("x-cache-tier"), "redis");
    assert_eq!(b.send(&tagged("hi")).await.expect("x-cache-tier"), "memory");
    let kept = copy(&server).await;
    assert_eq!(purge(&a, &json!({"tag": "a"})).await["durable"], true);
    is_gone(&b, "hi").await;
    put_back(&server, &kept).await;
    is_gone(&a, "hi").await;
    is_gone(&b, "hi").await;
    let c = replica(&up, &server).await;
    is_gone(&c, "hi").await;
}

#[tokio::test]
async fn a_soft_purge_makes_stale_everywhere() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = counting().await;
    let (a, b) = tokio::join!(replica(&up, &server), replica(&up, &server));
    a.send(&tagged("hi")).await;
    written(&server, 1).await;
    assert!(is_hit(&b.send(&tagged("hi")).await));
    purge(&a, &json!({"tag": "a", "soft": true})).await;
    until(&b, &cached("hi"), |answer| !is_hit(answer)).await;
    let lenient = cached("hi").header("Cache-Control", "max-stale");
    let stale = until(&b, &lenient, |answer| !is_hit(answer)).await;
    assert_eq!(stale.header("x-cache"), Some("STALE"));
}

#[tokio::test]
async fn a_purge_while_redis_is_away_holds_when_it_is_back() {
    let Some(mut server) = redis().aof().start().await else {
        return;
    };
    let up = counting().await;
    let (a, b) = tokio::join!(replica(&up, &server), replica(&up, &server));
    a.send(&tagged("hi")).await;
    written(&server, 1).await;
    assert!(is_hit(&b.send(&tagged("hi")).await));
    server.kill().await;
    assert_eq!(purge(&a, &json!({"tag": "a"})).await["durable"], false);
    is_gone(&a, "hi").await;
    server.restart().await;
    is_gone(&b, "hi").await;
    is_gone(&a, "hi").await;
    let c = replica(&up, &server).await;
    is_gone(&c, "hi").await;
}

#[tokio::test]
async fn after_a_flush_a_third_replica_shares_with_the_others() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = counting().await;
    let (a, b) = tokio::join!(replica(&up, &server), replica(&up, &server));
    let before = server.cli(&["GET", "refrain:secret"]).await;
    assert_eq!(before.len(), 64);
    server.cli(&["FLUSHALL"]).await;
    let c = replica(&up, &server).await;
    server
        .until(&["GET", "refrain:secret"], |now| now == before)
        .await;
    let first = a.send(&tagged("hi")).await;
    written(&server, 1).await;
    for other in [&b, &c] {
        let hit = until(other, &tagged("hi"), is_hit).await;
        assert_eq!(hit.expect("x-cache-key"), first.expect("x-cache-key"));
    }
}

#[tokio::test]
async fn a_purge_holds_though_the_hash_that_keeps_it_is_deleted() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = counting().await;
    let (a, b) = tokio::join!(replica(&up, &server), replica(&up, &server));
    a.send(&tagged("hi")).await;
    written(&server, 1).await;
    let kept = copy(&server).await;
    purge(&a, &json!({"tag": "a"})).await;
    is_gone(&b, "hi").await;
    server.cli(&["DEL", "refrain:generations"]).await;
    put_back(&server, &kept).await;
    let c = replica(&up, &server).await;
    for replica in [&a, &b, &c] {
        is_gone(replica, "hi").await;
    }
    server
        .until(&["HEXISTS", "refrain:generations", "era"], |there| {
            there == "1"
        })
        .await;
    for replica in [&a, &b, &c] {
        is_gone(replica, "hi").await;
    }
}

#[tokio::test]
async fn nothing_is_revived_where_all_who_knew_of_a_purge_are_gone() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = counting().await;
    let mut a = replica(&up, &server).await;
    a.send(&tagged("hi")).await;
    written(&server, 1).await;
    let kept = copy(&server).await;
    purge(&a, &json!({"tag": "a"})).await;
    a.kill().await;
    server.cli(&["DEL", "refrain:generations"]).await;
    put_back(&server, &kept).await;
    let b = replica(&up, &server).await;
    is_gone(&b, "hi").await;
}

#[tokio::test]
async fn a_purge_that_no_message_told_of_is_found_by_the_check() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = counting().await;
    let b = replica(&up, &server).await;
    b.send(&tagged("hi")).await;
    assert!(is_hit(&b.send(&tagged("hi")).await));
    // As the script writes it, but for the message: `all`.
    let row = [[7_u8; 8], 1_000_000_u64.to_le_bytes()].concat();
    let mut set = redis::cmd("HSET");
    set.arg("refrain:generations").arg(&[0_u8, 0, 0]).arg(row);
    let _: i64 = server.ask(&set).await;
    server
        .cli(&["HINCRBY", "refrain:generations", "changes", "1"])
        .await;
    is_gone(&b, "hi").await;
}

#[tokio::test]
async fn foreign_facts_fail_no_call() {
    let Some(server) = redis().start().await else {
        return;
    };
    server.cli(&["SET", "refrain:secret", "no secret"]).await;
    server
        .cli(&[
            "HSET",
            "refrain:generations",
            "era",
            "x",
            "changes",
            "y",
            "z",
            "1",
        ])
        .await;
    server
        .cli(&["ZADD", "refrain:proofs", "inf", "nobody"])
        .await;
    let up = counting().await;
    let a = setup(&up, &server).start().await;
    assert_verdict(&a.send(&tagged("hi")).await, "MISS");
    assert!(is_hit(&a.send(&tagged("hi")).await));
    server
        .until(&["STRLEN", "refrain:secret"], |length| length == "64")
        .await;
    server
        .cli(&["DEL", "refrain:secret", "refrain:generations"])
        .await;
    server.cli(&["LPUSH", "refrain:secret", "x"]).await;
    server.cli(&["SET", "refrain:generations", "x"]).await;
    assert!(is_hit(&a.send(&tagged("hi")).await));
    assert_verdict(&a.send(&tagged("ho")).await, "MISS");
}

#[tokio::test]
async fn a_configured_secret_is_shared_and_not_written() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = counting().await;
    let replica =
        || setup(&up, &server).with("[key]\nsecret = \"correct-horse-battery-staple-0123\"");
    let (a, b) = tokio::join!(sharing(replica()), sharing(replica()));
    a.send(&tagged("hi")).await;
    written(&server, 1).await;
    assert!(is_hit(&b.send(&tagged("hi")).await));
    assert_eq!(server.cli(&["EXISTS", "refrain:secret"]).await, "0");
}

#[tokio::test]
async fn a_key_that_one_replica_sees_refused_is_refused_on_the_others() {
    let Some(server) = redis().start().await else {
        return;
    };
    let is_revoked = Arc::new(AtomicBool::new(false));
    let by = is_revoked.clone();
    let up = upstream().by(move |_, _| {
        if by.load(Ordering::Relaxed) {
            reply(r#"{"error":{"message":"no"}}"#).status(401)
        } else {
            completion("hello")
        }
    });
    let up = up.start().await;
    let replica = || {
        setup(&up, &server)
            .honest()
            .with("[cache]\nscope = \"shared\"")
    };
    let (a, b) = tokio::join!(sharing(replica()), sharing(replica()));
    let by = |prompt: &str| tagged(prompt).with_bearer("sk-a");
    assert_verdict(&a.send(&by("hi")).await, "MISS");
    written(&server, 1).await;
    // What A was told of the key, B knows.
    until(
        &b,
        &by("hi").header("Cache-Control", "only-if-cached"),
        is_hit,
    )
    .await;
    assert_eq!(up.count(), 1);
    is_revoked.store(true, Ordering::Relaxed);
    assert_eq!(a.send(&by("ho")).await.status, 401);
    let refused = until(&b, &by("hi"), |answer| !is_hit(answer)).await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.expect("x-cache-reason"), "unproven");
    let c = replica().start().await;
    c.counted(UP, 1.0).await;
    assert_eq!(
        c.send(&by("hi")).await.status,
        401,
        "who comes later knows it, too"
    );
}

#[tokio::test]
async fn a_replica_that_is_cut_off_trusts_its_memory_for_a_while_only() {
    let Some(server) = redis().start().await else {
        return;
    };
    let mut up = counting().await;
    let way = Fault::before(server.addr).await;
    let b = proxy(&up)
        .with_redis_at(&format!("redis://{}", way.addr))
        .with("[store]\ntrust = \"1us\"");
    let b = sharing(b).await;
    b.send(&chat("hi")).await;
    assert!(is_hit(&b.send(&chat("hi")).await));
    way.is(Mood::Cut);
    let miss = until(&b, &chat("hi"), |answer| !is_hit(answer)).await;
    assert_verdict(&miss, "MISS");
    assert_eq!(miss.expect("x-cache-reason"), "untrusted");
    up.leave().await;
    let stale = b.send(&chat("hi")).await;
    assert_verdict(&stale, "STALE");
    up.come_back().await;
    way.is(Mood::Well);
    until(&b, &chat("hi"), is_hit).await;
}

#[tokio::test]
async fn a_replica_may_trust_its_memory_for_ever() {
    let Some(mut server) = redis().start().await else {
        return;
    };
    let up = counting().await;
    let b = sharing(setup(&up, &server).with("[store]\ntrust = \"off\"")).await;
    b.send(&chat("hi")).await;
    server.kill().await;
    // By then it knows that it is cut off.
    let trusted = async { while b.metric("refrain_redis_trusted", &[]).await > 0.5 {} };
    within("the trust to be lost", trusted).await;
    assert!(is_hit(&b.send(&chat("hi")).await));
}

#[tokio::test]
async fn proofs_of_which_there_are_many_are_all_read() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = counting().await;
    let replica = || {
        setup(&up, &server)
            .honest()
            .with("[cache]\nscope = \"shared\"")
    };
    let a = sharing(replica()).await;
    let by = tagged("hi").with_bearer("sk-a");
    a.send(&by).await;
    written(&server, 1).await;
    server
        .until(&["ZCARD", "refrain:proofs"], |count| count != "0")
        .await;
    // Two pages of later ones are read before it.
    let mut add = redis::cmd("ZADD");
    add.arg("refrain:proofs");
    for number in 0..450_u64 {
        let subject = [number.to_le_bytes(); 4].concat();
        add.arg(8_000_000_000_000_000_u64 + number).arg(subject);
    }
    let _: i64 = server.ask(&add).await;
    let b = sharing(replica()).await;
    let by = by.header("Cache-Control", "only-if-cached");
    until(&b, &by, is_hit).await;
    assert_eq!(up.count(), 1);
}
