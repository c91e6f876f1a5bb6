//! An error of Redis in reply to a read is a miss, in reply to a write a counted loss, and to the caller nothing at all.

use super::{DROPPED, ENTRIES, ERRORS, WRITTEN, ask, assert_hit, echo, replica};
use crate::support::{
    client::{assert_verdict, chat, request},
    redis::redis,
};

const DOCS: &str = include_str!("../../../docs/redis.md");

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

#[tokio::test]
async fn the_rules_that_the_docs_give_a_user_suffice() {
    let rules = DOCS
        .lines()
        .find_map(|line| line.strip_prefix("    user refrain on >SECRET "));
    let plan = redis().acl("refrain", "hush", rules.unwrap());
    let Some(server) = plan.start().await else {
        return;
    };
    let up = echo().await;
    let one = replica(&up, &server).await;
    let tagged = chat("tagged").header("X-Cache-Tags", "a");
    assert_verdict(&one.send(&tagged).await, "MISS");
    one.counted(WRITTEN, 1.0).await;
    let order = request("POST", "/api/purge")
        .header("Content-Type", "application/json")
        .body(r#"{"all": true}"#);
    assert_eq!(order.send(one.admin).await.status, 200);
    one.counted("refrain_redis_purged_total", 1.0).await;
    one.assert_metric(ERRORS, &["kind=\"denied\""], 0).await;
}
