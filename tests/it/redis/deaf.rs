//! A replica that hears no news, for a moment or for ever, still learns what others have purged: it looks.

use serde_json::json;

use super::{ERRORS, UP, ask, assert_hit, echo, fill, is_gone, purge, replica};
use crate::support::{
    client::assert_verdict,
    proxy::{Proxy, proxy},
    redis::redis,
    within,
};

#[tokio::test]
async fn a_purge_while_the_channel_is_cut_is_learnt_all_the_same() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = echo().await;
    let (a, b) = (replica(&up, &server).await, replica(&up, &server).await);
    for round in 1..=3 {
        let both = |told: &str| told.ends_with("\n2");
        server
            .until(&["PUBSUB", "NUMSUB", "refrain:news"], both)
            .await;
        b.counted(HEARING, 1.0).await;
        let prompt = format!("round {round}");
        fill(&a, &[&prompt]).await;
        assert_hit(&ask(&b, &prompt).await, "redis");
        comes_from_memory(&b, &prompt).await;
        let cut = server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        assert_eq!(cut, "2", "both listened");
        purge_all(&a).await;
        is_gone(&b, &prompt).await;
    }
}

#[tokio::test]
async fn a_replica_that_may_not_listen_learns_of_purges_by_looking() {
    let plan = redis().acl("refrain", "hush", "~* &* +@all");
    let plan = plan.with("user deaf on >hush ~* &* +@all -subscribe");
    let Some(server) = plan.start().await else {
        return;
    };
    let up = echo().await;
    let a = replica(&up, &server).await;
    let url = server.url().replace("//refrain:", "//deaf:");
    let b = proxy(&up).with_redis_at(&url).start().await;
    b.counted(UP, 1.0).await;
    b.counted_with(ERRORS, &["kind=\"denied\""], 1.0).await;
    for round in 1..=3 {
        let prompt = format!("round {round}");
        fill(&a, &[&prompt]).await;
        assert_hit(&ask(&b, &prompt).await, "redis");
        comes_from_memory(&b, &prompt).await;
        purge_all(&a).await;
        is_gone(&b, &prompt).await;
    }
    b.assert_metric(HEARING, &[], 0).await;
    // What it purges itself, it still tells.
    fill(&a, &["after"]).await;
    purge_all(&b).await;
    is_gone(&a, "after").await;
    let told = async {
        while !b
            .admin("/readyz")
            .await
            .text()
            .contains("news of other replicas")
        {}
    };
    within("readiness to tell of it", told).await;
}

/// Asks until memory answers, each time a hit: who hears nothing looks into Redis now and then.
async fn comes_from_memory(proxy: &Proxy, prompt: &str) {
    let remembered = async {
        loop {
            let answer = ask(proxy, prompt).await;
            assert_verdict(&answer, "HIT");
            if answer.expect("x-cache-tier") == "memory" {
                return;
            }
        }
    };
    within("an answer from memory", remembered).await;
}

async fn purge_all(proxy: &Proxy) {
    let told = purge(proxy, &json!({"all": true})).await;
    assert_eq!(told["durable"], true, "{told}");
}

const HEARING: &str = "refrain_redis_hearing";
