//! An error of Redis in reply to a read is a miss, in reply to a write a counted loss, and to the caller nothing at all.

use super::{DROPPED, ENTRIES, ERRORS, WRITTEN, ask, assert_hit, echo, replica};
use crate::support::{client::assert_verdict, redis::redis};

#[tokio::test]
async fn get_returns_none_on_redis_error() {
    let plan = redis().acl(
        "refrain",
        "hush",
        "~refrain:* &refrain:* +@all -getrange -get",
    );
    let Some(server) = plan.start().await else {
        return;
    };
    let up = echo().await;
    let one = replica(&up, &server).await;
    assert_verdict(&ask(&one, "hi").await, "MISS");
    let unanswered = "refrain_redis_unanswered_total";
    assert!(one.metric(unanswered, &[]).await >= 1.0);
    one.counted_with(ERRORS, &["kind=\"denied\""], 1.0).await;
    assert_hit(&ask(&one, "hi").await, "memory");
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn set_silently_fails_on_redis_error() {
    let plan = redis().acl("refrain", "hush", "~refrain:* &refrain:* +@all -set");
    let Some(server) = plan.start().await else {
        return;
    };
    let up = echo().await;
    let one = replica(&up, &server).await;
    assert_verdict(&ask(&one, "hi").await, "MISS");
    one.counted(DROPPED, 1.0).await;
    one.counted_with(ERRORS, &["kind=\"denied\""], 1.0).await;
    one.assert_metric(WRITTEN, &[], 0).await;
    assert!(server.keys(ENTRIES).await.is_empty());
    assert_hit(&ask(&one, "hi").await, "memory");
    assert_eq!(up.count(), 1);
}
