//! Redis is away, or answers nothing: no call waits for it or fails, one warning says so, and it is used again by itself.

use super::{
    ENTRIES, ERRORS, UP, WRITTEN, ask, assert_hit, echo, fill, load::Load, outages, replica,
};
use crate::support::{
    client::assert_verdict,
    proxy::{Proxy, proxy},
    redis::{Redis, redis},
    upstream::Upstream,
};

#[tokio::test]
async fn a_redis_that_is_away_at_the_start_is_used_as_soon_as_it_is_there() {
    let Some(mut server) = redis().start().await else {
        return;
    };
    server.kill().await;
    let up = echo().await;
    let proxy = proxy(&up).with_redis(&server).start().await;
    without(&proxy).await;
    server.restart().await;
    is_back(&proxy, &up, &server).await;
}

#[tokio::test]
async fn a_redis_that_hangs_at_the_start_is_used_as_soon_as_it_answers() {
    let Some(server) = redis().start().await else {
        return;
    };
    server.freeze();
    let up = echo().await;
    let proxy = proxy(&up).with_redis(&server).start().await;
    without(&proxy).await;
    server.thaw();
    is_back(&proxy, &up, &server).await;
}

/// Asserts that a proxy serves without Redis, and has said so.
async fn without(proxy: &Proxy) {
    assert_verdict(&ask(proxy, "before").await, "MISS");
    assert_hit(&ask(proxy, "before").await, "memory");
    proxy.logged("redis is away").await;
    let ready = proxy.admin("/readyz").await;
    assert_eq!(ready.status, 200, "{}", ready.text());
    assert!(ready.text().contains("redis"), "{}", ready.text());
}

/// Waits until a proxy uses Redis again, and asserts that it has warned once.
async fn is_back(proxy: &Proxy, up: &Upstream, server: &Redis) {
    proxy.counted(UP, 1.0).await;
    proxy.logged("redis is back").await;
    fill(proxy, &["after"]).await;
    assert_hit(&ask(&replica(up, server).await, "after").await, "redis");
    assert_eq!(outages(proxy), 1, "{}", proxy.printed());
}

#[tokio::test]
async fn no_call_fails_while_redis_is_killed_and_comes_back() {
    for is_first in [false, true] {
        let Some(mut server) = redis().start().await else {
            return;
        };
        let up = echo().await;
        let proxy = hasty(&up, &mut server, is_first).await;
        let load = Load::on(&proxy);
        proxy.counted(WRITTEN, 10.0).await;
        server.kill().await;
        proxy.fell_to_zero(UP).await;
        load.goes_on(50).await;
        server.restart().await;
        is_written_again(&proxy).await;
        load.end().await;
        assert!(!server.keys(ENTRIES).await.is_empty());
    }
}

#[tokio::test]
async fn no_call_fails_while_redis_is_frozen_and_thaws() {
    for is_first in [false, true] {
        let Some(mut server) = redis().start().await else {
            return;
        };
        let up = echo().await;
        let proxy = hasty(&up, &mut server, is_first).await;
        let load = Load::on(&proxy);
        proxy.counted(WRITTEN, 10.0).await;
        server.freeze();
        proxy.fell_to_zero(UP).await;
        let timeouts = proxy.metric(ERRORS, &["kind=\"timeout\""]).await;
        assert!(timeouts > 0.5, "{timeouts}");
        load.goes_on(50).await;
        server.thaw();
        is_written_again(&proxy).await;
        load.end().await;
    }
}

/// Starts a proxy that waits for Redis as short as it does by itself, before Redis or after it, and waits until it uses it.
async fn hasty(up: &Upstream, server: &mut Redis, is_first: bool) -> Proxy {
    if is_first {
        server.kill().await;
    }
    let proxy = proxy(up).with_redis(server).with_budget("50ms");
    let proxy = proxy.start().await;
    if is_first {
        server.restart().await;
    }
    proxy.counted(UP, 1.0).await;
    proxy
}

/// Waits until Redis is used again.
async fn is_written_again(proxy: &Proxy) {
    proxy.counted(UP, 1.0).await;
    let written = proxy.metric(WRITTEN, &[]).await;
    proxy.counted(WRITTEN, written + 10.0).await;
}

#[tokio::test]
async fn logs_redis_errors() {
    let Some(mut server) = redis().password("canary-5e1f").start().await else {
        return;
    };
    let up = echo().await;
    let proxy = replica(&up, &server).await;
    fill(&proxy, &["before"]).await;
    for outage in 1..=2 {
        server.kill().await;
        proxy.fell_to_zero(UP).await;
        for number in 0..20 {
            assert_verdict(&ask(&proxy, &format!("{outage} {number}")).await, "MISS");
        }
        let line = proxy.logged("redis is away").await;
        assert_eq!(line["level"], "WARN", "{line}");
        assert!(
            line.to_string().contains(&server.addr.to_string()),
            "{line}"
        );
        server.restart().await;
        proxy.counted(UP, 1.0).await;
    }
    let line = proxy.logged("redis is back").await;
    assert_eq!(line["level"], "INFO", "{line}");
    // A warning for an outage; fewer where one comes soon after another.
    assert!((1..=2).contains(&outages(&proxy)), "{}", proxy.printed());
    assert!(!proxy.printed().contains("canary-5e1f"));
}
