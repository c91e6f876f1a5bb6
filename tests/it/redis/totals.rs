//! What replicas count adds up in Redis, each call once, whatever happens to a replica, to Redis or to a reply.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    client::chat,
    fault::{Fault, Mood},
    proxy::{Proxy, Setup, proxy},
    redis::{Redis, cluster, redis},
    upstream::{Upstream, completion, upstream},
    within,
};

/// An upstream whose answers have 11 and 7 tokens.
async fn answering() -> Upstream {
    upstream().answers(completion("hello")).start().await
}

fn replica(up: &Upstream, server: &Redis) -> Setup {
    proxy(up).with_redis(server)
}

/// Makes so many calls that are misses, and waits until they are counted.
async fn miss(proxy: &Proxy, name: &str, calls: usize) {
    let before = proxy.metric("refrain_calls_total", &[]).await;
    for number in 0..calls {
        proxy.send(&chat(&format!("{name} {number}"))).await;
    }
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let counted = before + calls as f64;
    proxy.counted("refrain_calls_total", counted).await;
}

async fn told(proxy: &Proxy) -> Value {
    proxy.admin("/api/stats?days=2").await.json()
}

/// Returns the misses that a replica tells of, and whether these are all.
async fn misses(proxy: &Proxy) -> (u64, bool) {
    let told = told(proxy).await;
    let misses = told["total"]["miss"].as_u64().unwrap();
    (misses, told["complete"] == true)
}

/// Waits until a replica tells for `days` what all have counted, and returns that: a reply of Redis may be late.
pub(super) async fn shared(proxy: &Proxy, days: u32) -> Value {
    let told = async {
        loop {
            let path = format!("/api/stats?days={days}");
            let told = proxy.admin(&path).await.json();
            if told["covers"] == "replicas" {
                return told;
            }
        }
    };
    within("the counters of all replicas", told).await
}

/// Waits until a replica tells of so many misses, which are all.
async fn all_are(proxy: &Proxy, expected: u64) {
    let counted = async { while misses(proxy).await != (expected, true) {} };
    within(&format!("{expected} misses to be told"), counted).await;
}

/// Returns the key of the day's counters.
async fn key(server: &Redis) -> String {
    let keys = server.keys("refrain:totals:*").await;
    let key = keys.last().expect("counters in Redis");
    String::from_utf8(key.clone()).unwrap()
}

#[tokio::test]
async fn metrics_persisted_to_redis() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = answering().await;
    let mut proxy = replica(&up, &server).start().await;
    miss(&proxy, "a", 3).await;
    // Without anybody asking for them.
    let written = async { while server.keys("refrain:totals:*").await.is_empty() {} };
    within("counters in Redis", written).await;
    let key = key(&server).await;
    // The first of them may have gone before the others were made.
    server
        .until(&["HGET", &key, "miss:chat:8:gpt-test"], |all| all == "3")
        .await;
    proxy.kill().await;
    let fields = server.cli(&["HGETALL", &key]).await;
    let miss = "miss:chat:8:gpt-test\n3\n";
    assert!((fields.clone() + "\n").contains(miss), "{fields}");
    let input = "spent_input:chat:8:gpt-test\n33\n";
    assert!((fields.clone() + "\n").contains(input), "{fields}");
    assert_eq!(server.cli(&["TTL", &key]).await, "-1", "it does not expire");
}

#[tokio::test]
async fn metrics_survive_restart() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = answering().await;
    let mut old = replica(&up, &server).start().await;
    miss(&old, "a", 2).await;
    all_are(&old, 2).await;
    old.kill().await;
    let mut new = replica(&up, &server).start().await;
    all_are(&new, 2).await;
    miss(&new, "b", 1).await;
    new.terminate();
    new.ended().await;
    let last = replica(&up, &server).start().await;
    all_are(&last, 3).await;
    let told = shared(&last, 2).await;
    assert_eq!(
        told["total"]["spent_tokens"],
        json!({"input": 33, "output": 21})
    );
}

#[tokio::test]
async fn what_two_replicas_count_is_told_as_one_sum_by_both() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = answering().await;
    let one = replica(&up, &server).start().await;
    let two = replica(&up, &server).start().await;
    miss(&one, "one", 2).await;
    miss(&two, "two", 3).await;
    // Each sends what it has counted when it is asked.
    misses(&one).await;
    all_are(&two, 5).await;
    all_are(&one, 5).await;
}

#[tokio::test]
async fn what_was_counted_while_redis_was_away_is_not_lost() {
    let Some(mut server) = redis().aof().start().await else {
        return;
    };
    let up = answering().await;
    let proxy = replica(&up, &server).start().await;
    miss(&proxy, "before", 1).await;
    all_are(&proxy, 1).await;
    server.kill().await;
    miss(&proxy, "meanwhile", 2).await;
    let away = told(&proxy).await;
    assert_eq!(away["complete"], false, "{away}");
    assert_eq!(away["covers"], "process");
    assert_eq!(away["total"]["miss"], 3, "what it has counted itself");
    server.restart().await;
    all_are(&proxy, 3).await;
}

#[tokio::test]
async fn a_redis_that_hangs_counts_each_call_once() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = answering().await;
    let proxy = replica(&up, &server).start().await;
    miss(&proxy, "before", 1).await;
    all_are(&proxy, 1).await;
    server.freeze();
    miss(&proxy, "meanwhile", 4).await;
    for _ in 0..2 {
        assert_eq!(misses(&proxy).await, (5, false));
    }
    server.thaw();
    all_are(&proxy, 5).await;
    miss(&proxy, "after", 1).await;
    all_are(&proxy, 6).await;
}

#[tokio::test]
async fn a_batch_whose_reply_was_lost_is_not_counted_twice() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = answering().await;
    let fault = Fault::before(server.addr).await;
    let url = format!("redis://{}", fault.addr);
    let proxy = proxy(&up).with_redis_at(&url).start().await;
    miss(&proxy, "before", 1).await;
    all_are(&proxy, 1).await;
    let key = key(&server).await;
    let field = ["HGET", &key, "miss:chat:8:gpt-test"];
    miss(&proxy, "meanwhile", 2).await;
    // The next thing that is sent are the counters; Redis takes them, and nobody hears of it.
    let written = async { while server.keys("refrain:e:*").await.len() < 3 {} };
    within("three entries in Redis", written).await;
    fault.is(Mood::Half);
    assert_eq!(misses(&proxy).await, (3, false));
    fault.is(Mood::Well);
    all_are(&proxy, 3).await;
    miss(&proxy, "after", 1).await;
    all_are(&proxy, 4).await;
    assert_eq!(server.cli(&field).await, "4");
}

#[tokio::test]
async fn in_a_cluster_every_day_is_counted_on_its_node() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let up = answering().await;
    let one = proxy(&up).with_redis_at(&cluster.url()).start().await;
    let two = proxy(&up).with_redis_at(&cluster.url()).start().await;
    miss(&one, "one", 2).await;
    miss(&two, "two", 1).await;
    all_are(&one, 2).await;
    all_are(&two, 3).await;
    let keys = cluster.keys("refrain:totals:*").await;
    assert!(!keys.is_empty());
}

#[tokio::test]
async fn whatever_lies_under_the_key_the_counters_go_on() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = answering().await;
    let proxy = replica(&up, &server).start().await;
    miss(&proxy, "a", 1).await;
    all_are(&proxy, 1).await;
    let key = key(&server).await;
    for (field, value) in [
        ("rubbish", "1"),
        ("hit:chat:99:short", "7"),
        ("hit:chat:8:gpt-test", "-5"),
        ("stale:chat:8:gpt-test", "many"),
        ("seq:nobody", "1"),
    ] {
        server.cli(&["HSET", &key, field, value]).await;
    }
    all_are(&proxy, 1).await;
    proxy.send(&chat("a 0")).await;
    miss(&proxy, "b", 1).await;
    all_are(&proxy, 2).await;
    server.cli(&["DEL", &key]).await;
    server.cli(&["SET", &key, "a string"]).await;
    miss(&proxy, "c", 1).await;
    all_are(&proxy, 1).await;
    assert_eq!(server.cli(&["TYPE", &key]).await, "hash");
}

/// Returns the key of the counters `days` before those of `key`.
fn before(key: &str, days: u64) -> String {
    let (prefix, date) = key.split_at(key.len() - 8);
    let (year, rest) = date.split_at(4);
    let (month, day) = rest.split_at(2);
    let begins = humantime::parse_rfc3339(&format!("{year}-{month}-{day}T00:00:00Z")).unwrap();
    let past = begins - Duration::from_secs(days * 24 * 60 * 60);
    let past = humantime::format_rfc3339_seconds(past).to_string();
    format!("{prefix}{}", past[..10].replace('-', ""))
}

#[tokio::test]
async fn counters_do_not_give_way_to_entries_when_redis_is_full() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = answering().await;
    let proxy = replica(&up, &server).start().await;
    miss(&proxy, "a", 1).await;
    all_are(&proxy, 1).await;
    let key = key(&server).await;
    server.cli(&["COPY", &key, &before(&key, 1)]).await;
    for (setting, value) in [("maxmemory-policy", "volatile-lru"), ("maxmemory", "8mb")] {
        server.cli(&["CONFIG", "SET", setting, value]).await;
    }
    // Twice what there is room for, each used later than the counters.
    let fill = "for n = 1, 100 do redis.call('SET', 'e' .. ARGV[1] .. n, string.rep('x', 10000), 'EX', 9999) end";
    for round in 0..16 {
        server.cli(&["EVAL", fill, "0", &format!("{round}-")]).await;
    }
    let info = server.cli(&["INFO", "stats"]).await;
    assert!(!info.contains("evicted_keys:0"), "{info}");
    all_are(&proxy, 2).await;
}

#[tokio::test]
async fn days_past_those_that_are_kept_go_when_a_new_one_begins() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = answering().await;
    let proxy = replica(&up, &server).start().await;
    miss(&proxy, "a", 1).await;
    all_are(&proxy, 1).await;
    let today = key(&server).await;
    let [kept, old, older] = [399, 400, 440].map(|days| before(&today, days));
    for key in [&kept, &old, &older] {
        server.cli(&["COPY", &today, key]).await;
    }
    miss(&proxy, "b", 1).await;
    all_are(&proxy, 2).await;
    assert_eq!(server.cli(&["EXISTS", &kept, &old, &older]).await, "3");
    // The next batch is the first of its day.
    server.cli(&["DEL", &today]).await;
    miss(&proxy, "c", 1).await;
    all_are(&proxy, 1).await;
    assert_eq!(server.cli(&["EXISTS", &kept]).await, "1");
    assert_eq!(server.cli(&["EXISTS", &old, &older]).await, "0");
}

#[tokio::test]
async fn the_longest_report_does_not_ask_for_one_day_after_the_other() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = answering().await;
    let fault = Fault::before(server.addr).await;
    let url = format!("redis://{}", fault.addr);
    let proxy = proxy(&up).with_redis_at(&url).start().await;
    miss(&proxy, "a", 1).await;
    all_are(&proxy, 1).await;
    let today = key(&server).await;
    server.cli(&["COPY", &today, &before(&today, 399)]).await;
    // One after the other they would take eight seconds; who asks waits for three.
    fault.is(Mood::Slow(Duration::from_millis(20)));
    let told = shared(&proxy, 400).await;
    assert_eq!(told["complete"], true, "{told}");
    assert_eq!(told["total"]["miss"], 2);
}

#[tokio::test]
async fn a_past_day_that_is_something_else_hides_no_other() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = answering().await;
    let proxy = replica(&up, &server).start().await;
    miss(&proxy, "a", 2).await;
    all_are(&proxy, 2).await;
    let yesterday = before(&key(&server).await, 1);
    server.cli(&["SET", &yesterday, "a string"]).await;
    let odd = shared(&proxy, 2).await;
    assert_eq!(
        (&odd["total"]["miss"], &odd["complete"]),
        (&json!(2), &json!(false))
    );
    server.cli(&["DEL", &yesterday]).await;
    all_are(&proxy, 2).await;
}

#[tokio::test]
async fn what_is_huge_among_the_counters_is_not_fetched() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = answering().await;
    let proxy = replica(&up, &server).start().await;
    miss(&proxy, "a", 1).await;
    all_are(&proxy, 1).await;
    let key = key(&server).await;
    let huge =
        "redis.call('HSET', KEYS[1], 'huge', string.rep('x', 2 ^ 24), string.rep('y', 2 ^ 24), 1)";
    server.cli(&["EVAL", huge, "1", &key]).await;
    let sent = server.sent().await;
    all_are(&proxy, 1).await;
    let sent = server.sent().await - sent;
    assert!(sent < 1 << 20, "{sent} bytes");
}
