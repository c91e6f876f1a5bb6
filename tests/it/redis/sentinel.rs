//! A master under sentinels dies: calls go on, and the replica that they make the master is used.

use super::{ENTRIES, UP, ask, assert_hit, echo, fill, load::Load};
use crate::support::{proxy::proxy, redis::sentinels};

#[tokio::test]
async fn after_a_failover_the_new_master_is_used() {
    let Some(mut all) = sentinels().await else {
        return;
    };
    let up = echo().await;
    let one = proxy(&up).with_redis_at(&all.url()).start().await;
    one.counted(UP, 1.0).await;
    fill(&one, &["before"]).await;
    all.master().cli(&["WAIT", "1", "0"]).await;
    let load = Load::on(&one);
    all.master().kill().await;
    one.fell_to_zero(UP).await;
    load.goes_on(50).await;
    let promoted = |info: &str| info.contains("role:master");
    all.replica()
        .until(&["INFO", "replication"], promoted)
        .await;
    one.counted(UP, 1.0).await;
    load.end().await;
    fill(&one, &["after"]).await;
    assert!(all.replica().keys(ENTRIES).await.len() >= 2);
    let two = proxy(&up).with_redis_at(&all.url()).start().await;
    two.counted(UP, 1.0).await;
    for prompt in ["before", "after"] {
        assert_hit(&ask(&two, prompt).await, "redis");
    }
}
