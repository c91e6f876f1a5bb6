//! Six nodes: entries lie on every master, a purge finds them all, and a master that dies costs misses, and no call.

use serde_json::json;

use super::{DROPPED, ENTRIES, UP, WRITTEN, ask, assert_hit, echo, fill, load::Load, purge};
use crate::support::{
    proxy::{Proxy, proxy},
    redis::{Cluster, cluster},
    upstream::Upstream,
    within,
};

#[tokio::test]
async fn a_cluster_is_shared_purged_and_survives_the_death_of_a_master() {
    let Some(mut cluster) = cluster().await else {
        return;
    };
    let up = echo().await;
    let (one, two) = (replica(&up, &cluster).await, replica(&up, &cluster).await);
    let prompts = prompts("prompt");
    let all: Vec<&str> = prompts.iter().map(String::as_str).collect();
    fill(&one, &all).await;
    for prompt in &prompts {
        assert_hit(&ask(&two, prompt).await, "redis");
    }
    for master in cluster.masters().await {
        assert!(!cluster.node(master).keys(ENTRIES).await.is_empty());
    }
    purge(&one, &json!({"pattern": "openai/chat/*"})).await;
    let gone = async { while !cluster.keys(ENTRIES).await.is_empty() {} };
    within("the entries on all masters to be gone", gone).await;

    fill(&one, &all).await;
    let key = cluster.keys(ENTRIES).await.remove(0);
    let key = String::from_utf8(key).unwrap();
    for master in cluster.masters().await {
        cluster.node(master).replicated().await;
    }
    let kept = cluster.keys(ENTRIES).await.len();
    let victim = cluster.master_of(&key).await;
    let load = Load::on(&two);
    load.goes_on(20).await;
    cluster.node(victim).kill().await;
    load.goes_on(50).await;
    cluster.moved(&key, victim).await;
    for proxy in [&one, &two] {
        proxy.counted(UP, 1.0).await;
    }
    load.end().await;
    assert!(cluster.keys(ENTRIES).await.len() >= kept);
    let three = replica(&up, &cluster).await;
    for prompt in &prompts {
        assert_hit(&ask(&three, prompt).await, "redis");
    }
}

#[tokio::test]
async fn a_master_that_hangs_is_replaced_as_one_that_died_and_no_call_fails() {
    let Some(mut cluster) = cluster().await else {
        return;
    };
    let up = echo().await;
    let (one, two) = (replica(&up, &cluster).await, replica(&up, &cluster).await);
    let before = prompts("before");
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    fill(&one, &before).await;
    let key = cluster.keys(ENTRIES).await.remove(0);
    let key = String::from_utf8(key).unwrap();
    for master in cluster.masters().await {
        cluster.node(master).replicated().await;
    }
    let victim = cluster.master_of(&key).await;
    let load = Load::on(&two);
    load.goes_on(20).await;
    cluster.node(victim).freeze();
    load.goes_on(50).await;
    cluster.moved(&key, victim).await;
    load.goes_on(50).await;
    within("a replica to learn of the new master", learn(&one)).await;
    // Each of the masters is written to again, the new one, too.
    let after = prompts("after");
    let after: Vec<&str> = after.iter().map(String::as_str).collect();
    fill(&one, &after).await;
    cluster.node(victim).thaw();
    cluster.settled().await;
    load.goes_on(50).await;
    load.end().await;
    for proxy in [&one, &two] {
        proxy.counted(UP, 1.0).await;
    }
    let three = replica(&up, &cluster).await;
    for prompt in before.iter().chain(&after) {
        assert_hit(&ask(&three, prompt).await, "redis");
    }
}

/// Makes calls until none of their answers is dropped: what is written before `proxy` has learnt of a new master may be.
async fn learn(proxy: &Proxy) {
    for round in 0.. {
        let counts = async || {
            let dropped = proxy.metric(DROPPED, &[]).await;
            (proxy.metric(WRITTEN, &[]).await + dropped, dropped)
        };
        let (before, lost) = counts().await;
        let prompts = prompts(&format!("round {round}"));
        for prompt in &prompts {
            ask(proxy, prompt).await;
        }
        let ended = async {
            loop {
                let (now, dropped) = counts().await;
                if now - before > f64::from(PROMPTS) - 0.5 {
                    return dropped - lost < 0.5;
                }
            }
        };
        if ended.await {
            return;
        }
    }
}

fn prompts(name: &str) -> Vec<String> {
    (0..PROMPTS)
        .map(|number| format!("{name} {number}"))
        .collect()
}

/// Starts a replica that shares `cluster`, and waits until it does.
async fn replica(up: &Upstream, cluster: &Cluster) -> Proxy {
    let replica = proxy(up).with_redis_at(&cluster.url()).start().await;
    replica.counted(UP, 1.0).await;
    replica
}

const PROMPTS: u32 = 40;
