//! An answer that one replica has fetched anew is what all of them answer with, soon, and whatever news are lost.

use super::{ENTRIES, HEARING, UP, WRITTEN, assert_hit, replica};
use crate::support::{
    client::{Answer, Request, assert_verdict, chat},
    proxy::{Proxy, proxy},
    redis::redis,
    upstream::{Upstream, completion, upstream},
    within,
};

/// An upstream that numbers its answers.
async fn counting() -> Upstream {
    let up = upstream().by(|_, number| completion(&format!("answer {number}")));
    up.start().await
}

/// A call that only the cache may answer.
fn cached() -> Request {
    chat("hi").header("Cache-Control", "only-if-cached")
}

/// Has `proxy` fetch the answer anew, waits until it is written, and returns it.
async fn renewed(proxy: &Proxy, directive: &str) -> Answer {
    let before = proxy.metric(WRITTEN, &[]).await;
    let anew = chat("hi").header("Cache-Control", directive);
    let answer = proxy.send(&anew).await;
    assert_verdict(&answer, "MISS");
    proxy.counted(WRITTEN, before + 1.0).await;
    answer
}

/// Waits until `proxy` answers a call from the cache as `wanted` was answered.
async fn answers_as(proxy: &Proxy, wanted: &Answer) {
    let same = async {
        loop {
            let answer = proxy.send(&cached()).await;
            assert_verdict(&answer, "HIT");
            if answer.body == wanted.body {
                return;
            }
        }
    };
    within("the new answer", same).await;
}

/// Has both replicas have the same answer in memory, and returns it.
async fn shared(one: &Proxy, two: &Proxy) -> Answer {
    assert_verdict(&one.send(&chat("hi")).await, "MISS");
    one.counted(WRITTEN, 1.0).await;
    let first = two.send(&chat("hi")).await;
    assert_hit(&first, "redis");
    for replica in [one, two] {
        let again = replica.send(&cached()).await;
        assert_hit(&again, "memory");
        assert_eq!(again.body, first.body);
    }
    first
}

#[tokio::test]
async fn what_one_replica_fetches_anew_the_others_answer_with() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = counting().await;
    let (one, two) = (replica(&up, &server).await, replica(&up, &server).await);
    let old = shared(&one, &two).await;
    for directive in ["no-cache", "max-age=0"] {
        let new = renewed(&one, directive).await;
        assert_ne!(new.body, old.body);
        answers_as(&two, &new).await;
        // Who has written it has had it all the while.
        for replica in [&one, &two] {
            let answer = replica.send(&cached()).await;
            assert_hit(&answer, "memory");
            assert_eq!(answer.body, new.body);
        }
    }
    let newest = renewed(&two, "no-cache").await;
    answers_as(&one, &newest).await;
    assert_eq!(up.count(), 4);
}

#[tokio::test]
async fn what_is_over_in_memory_does_not_hide_what_is_new_in_redis() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = counting().await;
    let (one, two, three) = (
        replica(&up, &server).await,
        replica(&up, &server).await,
        replica(&up, &server).await,
    );
    one.send(&chat("hi").header("X-Cache-TTL", "5s")).await;
    one.counted(WRITTEN, 1.0).await;
    two.send(&chat("hi")).await;
    let over = async { while two.send(&cached()).await.status != 504 {} };
    within("the entry to be over", over).await;
    for key in server.keys(ENTRIES).await {
        let _: i64 = server.ask(::redis::cmd("DEL").arg(key)).await;
    }
    // The first entry of a place is nobody's news.
    let new = three.send(&chat("hi")).await;
    three.counted(WRITTEN, 1.0).await;
    let found = two.send(&cached()).await;
    assert_hit(&found, "redis");
    assert_eq!(found.body, new.body);
    assert_hit(&two.send(&cached()).await, "memory");
    assert_eq!(up.count(), 2);
}

#[tokio::test]
async fn what_redis_has_lost_is_replaced_in_memory_all_the_same() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = counting().await;
    let (one, two) = (replica(&up, &server).await, replica(&up, &server).await);
    shared(&one, &two).await;
    for key in server.keys(ENTRIES).await {
        let _: i64 = server.ask(::redis::cmd("DEL").arg(key)).await;
    }
    let new = renewed(&one, "no-cache").await;
    answers_as(&two, &new).await;
}

#[tokio::test]
async fn news_that_are_lost_with_their_connection_do_not_matter_for_long() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = counting().await;
    let (one, two) = (replica(&up, &server).await, replica(&up, &server).await);
    shared(&one, &two).await;
    for directive in ["no-cache", "max-age=0"] {
        server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        let new = renewed(&one, directive).await;
        answers_as(&two, &new).await;
        assert_eq!(one.send(&cached()).await.body, new.body);
        for replica in [&one, &two] {
            replica.counted(HEARING, 1.0).await;
        }
    }
}

#[tokio::test]
async fn a_replica_that_never_hears_anything_looks_for_itself() {
    let deaf = "~* &* +@all -subscribe";
    let Some(server) = redis().acl("refrain", "secret", deaf).start().await else {
        return;
    };
    let up = counting().await;
    let start = || proxy(&up).with_redis(&server).start();
    let (one, two) = (start().await, start().await);
    for replica in [&one, &two] {
        replica.counted(UP, 1.0).await;
    }
    assert_verdict(&one.send(&chat("hi")).await, "MISS");
    one.counted(WRITTEN, 1.0).await;
    assert_verdict(&two.send(&chat("hi")).await, "HIT");
    let new = renewed(&one, "no-cache").await;
    answers_as(&two, &new).await;
    one.assert_metric(HEARING, &[], 0).await;
    assert_eq!(up.count(), 2);
}

#[tokio::test]
async fn what_is_looked_up_anew_and_lies_nowhere_else_still_answers() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = counting().await;
    let (one, two) = (replica(&up, &server).await, replica(&up, &server).await);
    let old = shared(&one, &two).await;
    for key in server.keys(ENTRIES).await {
        let _: i64 = server.ask(::redis::cmd("DEL").arg(key)).await;
    }
    for hearing in [0.0, 1.0] {
        let asked = async {
            loop {
                // The channel is back so soon that this may have been missed.
                if hearing < 0.5 {
                    server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
                }
                for replica in [&one, &two] {
                    let answer = replica.send(&cached()).await;
                    assert_hit(&answer, "memory");
                    assert_eq!(answer.body, old.body);
                }
                if two.metric(HEARING, &[]).await.total_cmp(&hearing).is_eq() {
                    return;
                }
            }
        };
        within("the channel to break and to come back", asked).await;
    }
    assert_hit(&two.send(&cached()).await, "memory");
    assert_eq!(up.count(), 1);
}
