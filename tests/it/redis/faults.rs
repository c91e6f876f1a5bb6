//! An error of Redis in reply to a read is a miss, in reply to a write a counted loss, and to the caller nothing at all.

use futures_util::future::join_all;
use serde_json::json;

use super::{DROPPED, ENTRIES, ERRORS, UP, WRITTEN, ask, assert_hit, echo, purge, replica, totals};
use crate::support::{
    client::{assert_verdict, at_once, chat},
    proxy::{Proxy, proxy},
    redis::{Redis, redis},
    upstream::Upstream,
    within,
};

const DOCS: &str = include_str!("../../../docs/redis.md");

#[tokio::test]
async fn get_returns_none_on_redis_error() {
    let plan = redis().acl("refrain", "hush", "~* &* +@all -getrange -get");
    let Some(server) = plan.start().await else {
        return;
    };
    let up = echo().await;
    let one = with_its_own_secret(&up, &server).await;
    assert_verdict(&ask(&one, "hi").await, "MISS");
    let unanswered = "refrain_redis_unanswered_total";
    assert!(one.metric(unanswered, &[]).await >= 1.0);
    one.counted_with(ERRORS, &["kind=\"denied\""], 1.0).await;
    assert_hit(&ask(&one, "hi").await, "memory");
    assert_eq!(up.count(), 1);
    // It was written: whoever may read it has it.
    one.counted(WRITTEN, 1.0).await;
    server.cli(&["ACL", "SETUSER", "refrain", "+@all"]).await;
    let two = with_its_own_secret(&up, &server).await;
    assert_hit(&ask(&two, "hi").await, "redis");
}

#[tokio::test]
async fn set_silently_fails_on_redis_error() {
    let plan = redis().acl("refrain", "hush", "~* &* +@all -set");
    let Some(server) = plan.start().await else {
        return;
    };
    let up = echo().await;
    let one = with_its_own_secret(&up, &server).await;
    assert_verdict(&ask(&one, "hi").await, "MISS");
    one.counted(DROPPED, 1.0).await;
    one.counted_with(ERRORS, &["kind=\"denied\""], 1.0).await;
    one.assert_metric(WRITTEN, &[], 0).await;
    assert!(server.keys(ENTRIES).await.is_empty());
    assert_hit(&ask(&one, "hi").await, "memory");
    assert_eq!(up.count(), 1);
    server.cli(&["ACL", "SETUSER", "refrain", "+@all"]).await;
    super::fill(&one, &["ho"]).await;
}

/// Starts a replica that needs no right but for entries: its secret is the operator's.
async fn with_its_own_secret(up: &Upstream, server: &Redis) -> Proxy {
    let secret = "[key]\nsecret = \"correct-horse-battery-staple-0123\"";
    let replica = proxy(up).with(secret).with_redis(server).start().await;
    replica.counted(UP, 1.0).await;
    replica
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
    // What the docs have later servers be told as well; earlier ones do not know the word.
    let word = "client|setinfo";
    if !server.cli(&["COMMAND", "INFO", word]).await.is_empty() {
        let rule = format!("+{word}");
        assert!(DOCS.contains(&rule.replace('|', "\\|")));
        server.cli(&["ACL", "SETUSER", "refrain", &rule]).await;
    }
    let up = echo().await;
    let (one, two) = (replica(&up, &server).await, replica(&up, &server).await);
    let tagged = chat("tagged").header("X-Cache-Tags", "a");
    assert_verdict(&one.send(&tagged).await, "MISS");
    one.counted(WRITTEN, 1.0).await;
    assert_hit(&two.send(&tagged).await, "redis");
    let together = chat("together");
    let crowds = [&one, &two].map(|replica| at_once(replica.addr, &together, 5));
    join_all(crowds).await;
    let written = async { while server.keys(ENTRIES).await.len() < 2 {} };
    within("both entries to be written", written).await;
    assert_eq!(up.count(), 2);
    for (order, cleared) in [
        (json!({"pattern": "openai/*", "dry_run": true}), 0.0),
        (json!({"tag": "a", "dry_run": true}), 0.0),
        (json!({"model": "gpt-test", "soft": true}), 2.0),
        (json!({"tag": "a"}), 3.0),
        (json!({"all": true}), 4.0),
    ] {
        purge(&one, &order).await;
        one.counted("refrain_redis_purged_total", cleared).await;
    }
    totals::shared(&two, 2).await;
    assert_eq!(server.cli(&["ACL", "LOG"]).await, "");
    for replica in [&one, &two] {
        let denied = ["kind=\"denied\""];
        replica.assert_metric(ERRORS, &denied, 0).await;
    }
}
