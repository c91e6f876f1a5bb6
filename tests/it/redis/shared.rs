//! What one replica answered, the others have, too: by every way to get to Redis.

use super::{ENTRIES, WRITTEN, ask, assert_hit, echo, fill, replica};
use crate::support::{
    client::{assert_verdict, chat, chat_stream},
    proxy::{Proxy, proxy},
    redis::{Plan, redis},
    upstream::{stream, upstream},
};

#[tokio::test]
async fn what_one_replica_answered_is_a_hit_on_another_and_then_in_its_memory() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = echo().await;
    let (one, two) = (replica(&up, &server).await, replica(&up, &server).await);
    fill(&one, &["hi"]).await;
    let cold = ask(&one, "hi").await;
    let warm = ask(&two, "hi").await;
    assert_hit(&cold, "memory");
    assert_hit(&warm, "redis");
    assert!(warm.expect("cache-status").ends_with("detail=redis"));
    for same in ["x-cache-key", "content-type", "x-upstream"] {
        assert_eq!(warm.expect(same), cold.expect(same));
    }
    assert_eq!(warm.body, cold.body);
    assert_hit(&ask(&two, "hi").await, "memory");
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn a_stream_is_shared_as_one_and_as_a_whole() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = upstream().answers(stream(&["a", "b"])).start().await;
    let (one, two) = (replica(&up, &server).await, replica(&up, &server).await);
    let cold = one.send(&chat_stream("hi")).await;
    one.counted(WRITTEN, 1.0).await;
    let warm = two.send(&chat_stream("hi")).await;
    assert_hit(&warm, "redis");
    assert_eq!(warm.body, cold.body);
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn what_is_shared_belongs_to_its_caller_and_keeps_its_lifetime() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = echo().await;
    let (one, two) = (replica(&up, &server).await, replica(&up, &server).await);
    one.send(&chat("hi").header("X-Cache-TTL", "1h")).await;
    one.counted(WRITTEN, 1.0).await;
    let other = chat("hi").with_bearer("sk-test-bob");
    assert_verdict(&two.send(&other).await, "MISS");
    let own = ask(&two, "hi").await;
    assert_hit(&own, "redis");
    let ttl: u64 = own.expect("x-cache-ttl").parse().unwrap();
    assert!((3_500..=3_600).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn replicas_with_another_prefix_share_nothing() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = echo().await;
    let one = replica(&up, &server).await;
    fill(&one, &["hi"]).await;
    let apart = proxy(&up).with_redis(&server);
    let apart = apart.with_env("REFRAIN_STORE__PREFIX", "apart:");
    let apart = apart.start().await;
    fill(&apart, &["hi"]).await;
    assert_eq!(server.keys(ENTRIES).await.len(), 1);
    assert_eq!(server.keys("apart:e:*").await.len(), 1);
}

#[tokio::test]
async fn redis_is_reached_over_tls() {
    share(redis().tls()).await;
}

#[tokio::test]
async fn redis_is_reached_with_a_password_that_nothing_prints() {
    let replicas = share(redis().password("p@ss:w/rd%")).await;
    for replica in replicas.into_iter().flatten() {
        let printed = replica.printed();
        assert!(!printed.contains("w/rd") && !printed.contains("p%40ss"));
    }
}

/// Starts two replicas that share a server of this plan, and has them share an answer.
async fn share(plan: Plan) -> Option<[Proxy; 2]> {
    let server = plan.start().await?;
    let up = echo().await;
    let (one, two) = (replica(&up, &server).await, replica(&up, &server).await);
    fill(&one, &["hi"]).await;
    assert_hit(&ask(&two, "hi").await, "redis");
    Some([one, two])
}
