//! Something else lies where replicas keep what they agree on: nothing wrong is answered, and the operator is told which key
//! it is and what helps; what can be made anew without harm is.

use std::time::{Duration, SystemTime};

use ::redis::cmd;
use refrain::{
    answer::tasks::Tasks,
    call::key::Secret,
    config::{Host, Redis as Settings, RedisAddress, Servers},
    ledger::clock,
    store::{
        generations::Generations,
        redis::{
            Link,
            layout::Layout,
            sync::{Facts, Options},
        },
        trust::Trust,
    },
};
use tokio::time::Instant;

use super::{ENTRIES, ERRORS, UP, ask, assert_hit, echo, fill, replica, unleased, warnings};
use crate::support::{
    client::assert_verdict,
    proxy::{Proxy, proxy},
    redis::{Redis, redis},
    within,
};

/// Asserts that calls are answered without Redis, and that the operator is told why: because of what lies at `key`.
async fn is_told_of(proxy: &Proxy, key: &str) {
    let remedy = format!("`DEL {key}`");
    proxy.logged("redis is away").await;
    proxy.counted_with(ERRORS, &["kind=\"type\""], 1.0).await;
    proxy.fell_to_zero(UP).await;
    let ready = async {
        loop {
            let ready = proxy.admin("/readyz").await;
            if ready.text().contains(&remedy) {
                return ready.status;
            }
        }
    };
    assert_eq!(within("the remedy", ready).await, 200);
}

#[tokio::test]
async fn a_key_of_another_type_among_the_facts_is_told_with_its_remedy_and_nothing_is_believed() {
    for key in ["refrain:secret", "refrain:generations"] {
        let Some(server) = redis().start().await else {
            return;
        };
        server.cli(&["RPUSH", key, "x"]).await;
        let up = echo().await;
        let a = proxy(&up).with_redis(&server).start().await;
        is_told_of(&a, key).await;
        assert_verdict(&ask(&a, "before").await, "MISS");
        assert_hit(&ask(&a, "before").await, "memory");
        assert_eq!(warnings(&a), 1, "{}", a.printed());
        server.cli(&["DEL", key]).await;
        a.counted(UP, 1.0).await;
        fill(&a, &["after"]).await;
        assert_hit(&ask(&replica(&up, &server).await, "after").await, "redis");
    }
}

#[tokio::test]
async fn purges_that_become_unreadable_end_the_belief_in_entries_until_they_can_be_read() {
    let key = "refrain:generations";
    let damages: [&[&[&str]]; 4] = [
        &[&["DEL", key], &["SET", key, "x"]],
        &[&["HSET", key, "changes", "many"]],
        &[&["HSET", key, "forgotten", "-1"]],
        // A purge, of which nobody can tell what it was; they are read where one was counted.
        &[
            &["HSET", key, "\u{1}\u{2}a", "damaged"],
            &["HINCRBY", key, "changes", "1"],
        ],
    ];
    for damage in damages {
        let Some(server) = redis().start().await else {
            return;
        };
        let up = echo().await;
        let a = replica(&up, &server).await;
        fill(&a, &["hi"]).await;
        for words in damage {
            server.cli(words).await;
        }
        is_told_of(&a, key).await;
        let b = proxy(&up).with_redis(&server).start().await;
        assert_verdict(&ask(&b, "hi").await, "MISS");
        server.cli(&["DEL", key]).await;
        a.counted(UP, 1.0).await;
        fill(&a, &["after"]).await;
    }
}

#[tokio::test]
async fn what_is_huge_among_the_facts_is_not_fetched() {
    let Some(server) = redis().start().await else {
        return;
    };
    let huge = "x".repeat(8 << 20);
    for (key, field) in [
        ("refrain:generations", "era"),
        ("refrain:generations", "nobody's"),
    ] {
        server.cli(&["HSET", key, field, &huge]).await;
    }
    server.cli(&["ZADD", "refrain:proofs", "1", &huge]).await;
    server.cli(&["SET", "refrain:secret", &huge]).await;
    let before = server.sent().await;
    let up = echo().await;
    let a = proxy(&up).with_redis(&server).start().await;
    is_told_of(&a, "refrain:generations").await;
    server.cli(&["DEL", "refrain:generations"]).await;
    a.counted(UP, 1.0).await;
    fill(&a, &["hi"]).await;
    let fetched = server.sent().await - before;
    assert!(fetched < 4 << 20, "{fetched} bytes");
}

#[tokio::test]
async fn what_never_ends_where_leases_and_turns_lie_is_nobodys() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = echo().await;
    let a = replica(&up, &server).await;
    fill(&a, &["hi", "ho"]).await;
    unleased(&server).await;
    // The leases of two calls, of which no entry is there any more.
    let entries = server.keys(ENTRIES).await;
    for (entry, is_list) in entries.iter().zip([true, false]) {
        let entry = String::from_utf8(entry.clone()).unwrap();
        let lease = entry.replace(":e:", ":l:");
        server.cli(&["DEL", &entry]).await;
        let words = if is_list {
            ["RPUSH", &lease, "x"]
        } else {
            ["SET", &lease, "x"]
        };
        server.cli(&words).await;
    }
    server.cli(&["SET", "refrain:sweep", "x"]).await;
    server.cli(&["SET", "refrain:proofs", "x"]).await;
    let b = replica(&up, &server).await;
    fill(&b, &["hi", "ho"]).await;
    unleased(&server).await;
    b.assert_metric(UP, &[], 1).await;
    assert_eq!(warnings(&b), 0, "{}", b.printed());
    // A replica clears up behind a purge, although nobody has ended the turn.
    let purge = crate::support::client::request("POST", "/api/purge")
        .header("Content-Type", "application/json")
        .body(r#"{"all":true}"#.to_owned());
    assert_eq!(purge.send(b.admin).await.status, 200);
    b.counted("refrain_redis_purged_total", 2.0).await;
}

/// A replica of which nothing runs but its agreement.
async fn agrees(server: &Redis, wall: SystemTime) -> (Generations, Link) {
    let generations = Generations::new(wall);
    let options = Options {
        secret: Secret::random().unwrap(),
        is_configured: false,
        generations: generations.clone(),
        trust: Trust::new(Duration::MAX, Instant::now()),
        keep_proofs: Duration::from_secs(60),
    };
    let facts = Facts::new(Layout::new("refrain:"), options);
    let settings = Settings {
        address: RedisAddress {
            tls: false,
            user: None,
            password: None,
            servers: Servers::Single(Host {
                name: server.addr.ip().to_string(),
                port: server.addr.port(),
            }),
            database: 0,
        },
        prefix: "refrain:".to_owned(),
        ca: None,
        budget: Duration::from_secs(5),
    };
    let greeting = move |early| {
        let facts = facts.clone();
        async move { facts.greet(&early).await }
    };
    let link = Link::start(settings, &Tasks::default(), greeting).await;
    let is_up = async {
        while !link.is_up() {
            tokio::task::yield_now().await;
        }
    };
    within("an agreement", is_up).await;
    (generations, link)
}

#[tokio::test]
async fn a_replica_whose_clock_is_off_dates_entries_as_all_others_do() {
    let Some(server) = redis().start().await else {
        return;
    };
    let off = Duration::from_secs(10 * 60);
    let now = clock::wall();
    let (a, _link_a) = agrees(&server, now - off).await;
    let (b, _link_b) = agrees(&server, now + off).await;
    let moment = Instant::now();
    let apart = a.wall(moment).abs_diff(b.wall(moment));
    assert!(apart < 60_000, "{apart} ms apart, of twenty minutes");
    let time: (u64, u64) = server.ask(&cmd("TIME")).await;
    let off = a.now().abs_diff(time.0 * 1_000);
    assert!(off < 60_000, "{off} ms off Redis's clock");
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_a_redis_that_answers_nothing() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = echo().await;
    let proxy = replica(&up, &server).await;
    server.freeze();
    assert_verdict(&ask(&proxy, "hi").await, "MISS");
    proxy.terminate();
    proxy.logged("draining").await;
    proxy.terminate();
    assert_eq!(proxy.exit().await.code(), Some(0));
    server.thaw();
}
