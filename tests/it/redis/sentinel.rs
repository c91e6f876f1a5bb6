//! A master under sentinels dies: calls go on, and the replica that they make the master is used.

use serde_json::json;

use super::{ENTRIES, UP, ask, assert_hit, echo, fill, is_gone, load::Load, purge};
use crate::support::{
    proxy::{Proxy, proxy},
    redis::{Sentinels, sentinels},
    upstream::Upstream,
};

#[tokio::test]
async fn after_a_failover_the_new_master_is_used() {
    let Some(mut all) = sentinels().await else {
        return;
    };
    let up = echo().await;
    let one = replica(&up, &all).await;
    fill(&one, &["before"]).await;
    all.master().replicated().await;
    let load = Load::on(&one);
    all.master().kill().await;
    one.fell_to_zero(UP).await;
    load.goes_on(50).await;
    promoted(&all).await;
    one.counted(UP, 1.0).await;
    load.end().await;
    fill(&one, &["after"]).await;
    assert!(all.replica().keys(ENTRIES).await.len() >= 2);
    brings(&all, &up, &["before", "after"]).await;
}

#[tokio::test]
async fn a_master_that_hangs_is_replaced_and_is_not_gone_back_to() {
    let Some(mut all) = sentinels().await else {
        return;
    };
    let up = echo().await;
    let one = replica(&up, &all).await;
    fill(&one, &["before"]).await;
    all.master().replicated().await;
    let load = Load::on(&one);
    all.master().freeze();
    one.fell_to_zero(UP).await;
    load.goes_on(50).await;
    promoted(&all).await;
    one.counted(UP, 1.0).await;
    all.master().thaw();
    load.goes_on(50).await;
    load.end().await;
    one.counted(UP, 1.0).await;
    fill(&one, &["after"]).await;
    brings(&all, &up, &["before", "after"]).await;
}

#[tokio::test]
async fn a_purge_that_a_lagging_replica_never_got_holds_after_its_promotion() {
    let Some(mut all) = sentinels().await else {
        return;
    };
    let up = echo().await;
    let (one, two) = (replica(&up, &all).await, replica(&up, &all).await);
    fill(&one, &["hi"]).await;
    assert_hit(&ask(&two, "hi").await, "redis");
    all.master().replicated().await;
    // From here on it gets nothing, not even what was sent and waits to be read.
    all.replica().freeze();
    all.master()
        .cli(&["CLIENT", "KILL", "TYPE", "replica"])
        .await;
    let told = purge(&one, &json!({"all": true})).await;
    assert_eq!(told["durable"], true, "{told}");
    is_gone(&two, "hi").await;
    all.master().kill().await;
    all.replica().thaw();
    assert_eq!(all.replica().keys(ENTRIES).await.len(), 1, "it lags");
    promoted(&all).await;
    for proxy in [&one, &two] {
        proxy.counted(UP, 1.0).await;
        is_gone(proxy, "hi").await;
    }
    let three = replica(&up, &all).await;
    is_gone(&three, "hi").await;
}

/// Starts a replica that asks the sentinels, and waits until it is connected.
async fn replica(up: &Upstream, all: &Sentinels) -> Proxy {
    let replica = proxy(up).with_redis_at(&all.url()).start().await;
    replica.counted(UP, 1.0).await;
    replica
}

/// Asserts that a new replica finds what is asked for at the new master.
async fn brings(all: &Sentinels, up: &Upstream, prompts: &[&str]) {
    let (new, calls) = (replica(up, all).await, up.count());
    for prompt in prompts {
        ask(&new, prompt).await;
    }
    assert_eq!(up.count(), calls, "{}", new.printed());
}

/// Waits until the replica is the master.
async fn promoted(all: &Sentinels) {
    let promoted = |info: &str| info.contains("role:master");
    all.replica()
        .until(&["INFO", "replication"], promoted)
        .await;
}
