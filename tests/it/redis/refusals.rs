//! Redis answers, but says no: calls are answered all the same, and the operator is told why, once.

use std::time::Instant;

use super::{DROPPED, ENTRIES, ERRORS, UP, ask, assert_hit, echo, replica, warnings};
use crate::support::{
    client::assert_verdict,
    proxy::{Proxy, proxy},
    redis::{Plan, follower, redis},
};

#[tokio::test]
async fn set_silently_fails_on_redis_error_because_it_is_a_replica() {
    let Some(master) = redis().start().await else {
        return;
    };
    let Some(server) = follower(&master).start().await else {
        return;
    };
    let up = echo().await;
    let proxy = proxy(&up).with_redis(&server).start().await;
    answers(&proxy).await;
    proxy
        .counted_with(ERRORS, &["kind=\"readonly\""], 1.0)
        .await;
    proxy.logged("redis is away").await;
    assert_eq!(warnings(&proxy), 1, "{}", proxy.printed());
    // Its master is gone, so it becomes one itself.
    server.cli(&["REPLICAOF", "NO", "ONE"]).await;
    proxy.counted(UP, 1.0).await;
    super::fill(&proxy, &["after"]).await;
    assert_hit(&ask(&replica(&up, &server).await, "after").await, "redis");
}

#[tokio::test]
async fn set_silently_fails_on_redis_error_because_it_is_full() {
    let Some(server) = redis().maxmemory(4_000_000, "noeviction").start().await else {
        return;
    };
    let up = echo().await;
    let proxy = replica(&up, &server).await;
    super::fill(&proxy, &["before"]).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "100000"]).await;
    answers(&proxy).await;
    proxy.counted_with(ERRORS, &["kind=\"full\""], 1.0).await;
    proxy.counted(DROPPED, 1.0).await;
    proxy.logged("redis takes no entries").await;
    let told = proxy.admin("/readyz").await;
    assert!(told.text().contains("redis: full"), "{}", told.text());
    // What is there can still be read.
    let other = self::proxy(&up).with_redis(&server).start().await;
    ask(&other, "before").await;
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]).await;
    proxy.counted(UP, 1.0).await;
    super::fill(&proxy, &["after"]).await;
    proxy.logged("redis takes entries again").await;
}

#[tokio::test]
async fn get_returns_none_on_redis_error_because_of_the_credential() {
    let denied: [(Plan, &str, &str); 4] = [
        (
            redis().password("canary-right"),
            "redis://{}",
            "NOAUTH Authentication required",
        ),
        (
            redis().password("canary-right"),
            "redis://:canary-wrong@{}",
            "refuses user or password",
        ),
        (
            redis().acl("refrain", "canary-right", "~* &* +@all"),
            "redis://refrain:canary-wrong@{}",
            "refuses user or password",
        ),
        (
            redis().acl("refrain", "canary-right", "~other:* +ping"),
            "redis://refrain:canary-right@{}",
            "no permissions to ",
        ),
    ];
    for (plan, url, said) in denied {
        let Some(server) = plan.start().await else {
            return;
        };
        let up = echo().await;
        let url = url.replace("{}", &server.addr.to_string());
        let proxy = proxy(&up).with_redis_at(&url).start().await;
        answers(&proxy).await;
        proxy.counted_with(ERRORS, &["kind=\"denied\""], 1.0).await;
        proxy.logged("redis is away").await;
        proxy.logged(said).await;
        assert_eq!(warnings(&proxy), 1, "{}", proxy.printed());
        assert!(!proxy.printed().contains("canary"), "{}", proxy.printed());
        assert!(server.keys(ENTRIES).await.is_empty());
    }
}

#[tokio::test]
async fn a_cluster_that_does_not_tell_where_keys_lie_is_not_connected_to_all_the_time() {
    let rules = "~* &* +@all -cluster|slots";
    let plan = redis().acl("refrain", "hush", rules);
    let plan = plan.with("cluster-enabled yes");
    let Some(server) = plan.start().await else {
        return;
    };
    let up = echo().await;
    let begun = Instant::now();
    let proxy = proxy(&up).with_redis(&server).start().await;
    answers(&proxy).await;
    proxy.counted_with(ERRORS, &["kind=\"denied\""], 2.0).await;
    let stats = server.cli(&["INFO", "stats"]).await;
    let made = stats
        .lines()
        .find_map(|line| line.strip_prefix("total_connections_received:"));
    let made: u32 = made.expect("a count").trim().parse().expect("a number");
    // A try every 400 ms at most, of a few connections.
    let seconds = u32::try_from(begun.elapsed().as_secs()).expect("not for years");
    let most = 20 + 8 * seconds;
    assert!(made < most, "{made} connections");
}

/// Asserts that calls are answered as they would be without Redis.
async fn answers(proxy: &Proxy) {
    for number in 0..20 {
        let prompt = format!("prompt {number}");
        assert_verdict(&ask(proxy, &prompt).await, "MISS");
        assert_hit(&ask(proxy, &prompt).await, "memory");
    }
}
