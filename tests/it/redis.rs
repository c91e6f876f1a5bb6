//! Replicas share what they answered through Redis, and whatever Redis does, no call pays for it.

mod canary;
mod cluster;
mod deaf;
mod disputes;
mod facts;
mod faults;
mod flights;
mod foreign;
mod load;
mod network;
mod outage;
mod password;
mod purge;
mod refusals;
mod regenerate;

mod sentinel;
mod servers;
mod shared;
mod totals;
mod values;

use serde_json::Value;

use crate::support::{
    client::{Answer, assert_verdict, chat, request},
    proxy::{Proxy, Setup, proxy},
    redis::Redis,
    upstream::{Reply, Seen, Upstream, completion, upstream},
    within,
};

/// Answers each call by a text of the call's own, so that a mix-up shows.
async fn echo() -> Upstream {
    upstream().by(|seen, _| reply_to(seen)).start().await
}

fn reply_to(seen: &Seen) -> Reply {
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    let prompt = body["messages"][0]["content"].as_str().unwrap();
    completion(&said(prompt))
}

/// Returns the answer to `prompt`: a kilobyte or more.
fn said(prompt: &str) -> String {
    format!("<{prompt}> {}", prompt.repeat(100))
}

/// Starts a replica that shares `server`, and waits until it does, and hears what others say.
async fn replica(up: &Upstream, server: &Redis) -> Proxy {
    sharing(proxy(up).with_redis(server)).await
}

/// Starts a replica, and waits until it shares its server, and hears what others say.
async fn sharing(setup: Setup) -> Proxy {
    let replica = setup.start().await;
    replica.counted(UP, 1.0).await;
    replica.counted(HEARING, 1.0).await;
    replica
}

/// Asks `prompt` and asserts that the answer is the one to it.
async fn ask(proxy: &Proxy, prompt: &str) -> Answer {
    let answer = proxy.send(&chat(prompt)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = &answer.json()["choices"][0]["message"]["content"];
    assert_eq!(text, &said(prompt));
    answer
}

/// Has the answers to `prompts` made, and waits until Redis has them.
async fn fill(proxy: &Proxy, prompts: &[&str]) {
    let before = proxy.metric(WRITTEN, &[]).await;
    for prompt in prompts {
        assert_verdict(&ask(proxy, prompt).await, "MISS");
    }
    let count = u32::try_from(prompts.len()).unwrap();
    proxy.counted(WRITTEN, before + f64::from(count)).await;
}

/// Purges as the operator and returns what is told.
async fn purge(proxy: &Proxy, what: &Value) -> Value {
    let order = request("POST", "/api/purge")
        .header("Content-Type", "application/json")
        .body(what.to_string());
    let answer = order.send(proxy.admin).await;
    assert_eq!(answer.status, 200, "{what}: {}", answer.text());
    answer.json()
}

/// Waits until nobody holds any lease, and nobody says that there is no use in waiting.
async fn unleased(redis: &Redis) {
    let free = async { while !redis.keys("refrain:l:*").await.is_empty() {} };
    within("the lease to be free", free).await;
}

/// Waits until nothing cached answers `prompt`.
async fn is_gone(proxy: &Proxy, prompt: &str) {
    let cached = chat(prompt).header("Cache-Control", "only-if-cached");
    let gone = async { while proxy.send(&cached).await.status != 504 {} };
    within("the answer to be gone", gone).await;
}

fn assert_hit(answer: &Answer, tier: &str) {
    assert_verdict(answer, "HIT");
    assert_eq!(answer.expect("x-cache-tier"), tier);
}

/// Returns how many warnings have been logged.
fn warnings(proxy: &Proxy) -> usize {
    proxy.printed().matches("\"WARN\"").count()
}

/// Returns how often it has been logged that Redis is away.
fn outages(proxy: &Proxy) -> usize {
    proxy.printed().matches("\"redis is away: ").count()
}

const UP: &str = "refrain_redis_up";
const HEARING: &str = "refrain_redis_hearing";
const WRITTEN: &str = "refrain_redis_written_total";
const DROPPED: &str = "refrain_redis_dropped_total";
const ERRORS: &str = "refrain_redis_errors_total";
const DAMAGED: &str = "refrain_redis_damaged_total";
/// Where the entries lie.
const ENTRIES: &str = "refrain:e:*";
