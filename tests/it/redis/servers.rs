//! What the other tests here stand on does what it says.

use std::time::Duration;

use tokio::time::timeout;

use crate::support::{
    fault::{Fault, Mood},
    redis::{cluster, follower, patient, redis, sentinels},
    within,
};

#[tokio::test]
async fn a_server_that_is_killed_comes_back_on_its_port_with_what_it_kept() {
    let Some(mut server) = redis().aof().password("hush").start().await else {
        return;
    };
    server.cli(&["SET", "kept", "yes"]).await;
    let before = server.addr;
    server.kill().await;
    server.restart().await;
    assert_eq!(server.addr, before);
    assert_eq!(server.cli(&["GET", "kept"]).await, "yes");
    assert_eq!(server.calls("get").await, 1);
    assert!(server.url().contains(":hush@"));
    assert!(server.printed().contains("Ready"));
}

#[tokio::test]
async fn a_server_behind_tls_answers_those_who_trust_it() {
    let Some(server) = redis()
        .tls()
        .maxmemory(10_000_000, "noeviction")
        .start()
        .await
    else {
        return;
    };
    server.cli(&["SET", "a", "1"]).await;
    assert_eq!(server.keys("*").await, [b"a"]);
    assert!(server.url().starts_with("rediss://"));
}

#[tokio::test]
async fn a_user_may_do_what_the_rules_say() {
    let plan = redis().acl("refrain", "hush", "~refrain:* &refrain:* +get");
    let Some(server) = plan.start().await else {
        return;
    };
    let dry = ["ACL", "DRYRUN", "refrain", "GET", "refrain:a"];
    assert_eq!(server.cli(&dry).await, "OK");
    let dry = ["ACL", "DRYRUN", "refrain", "GET", "other:a"];
    assert_ne!(server.cli(&dry).await, "OK");
    assert!(server.url().contains("refrain:hush@"));
}

#[tokio::test]
async fn the_replica_of_a_cluster_takes_over_when_its_master_dies() {
    let Some(mut cluster) = cluster().await else {
        return;
    };
    let old = cluster.master_of("a").await;
    assert_eq!(cluster.masters().await.len(), 3);
    assert_eq!(cluster.url().matches("127.0.0.1").count(), 6);
    cluster.node(old).cli(&["SET", "a", "1"]).await;
    cluster.node(old).replicated().await;
    cluster.node(old).kill().await;
    cluster.moved("a", old).await;
    let new = cluster.master_of("a").await;
    assert_eq!(cluster.node(new).cli(&["GET", "a"]).await, "1");
    assert_eq!(cluster.keys("*").await, [b"a"]);
}

#[tokio::test]
async fn sentinels_make_the_replica_the_master_when_that_dies() {
    let Some(mut all) = sentinels().await else {
        return;
    };
    assert!(all.url().starts_with("redis+sentinel://127.0.0.1:"));
    all.master().kill().await;
    let promoted = |info: &str| info.contains("role:master");
    all.replica()
        .until(&["INFO", "replication"], promoted)
        .await;
}

#[tokio::test]
async fn a_replica_takes_no_writes() {
    let Some(master) = redis().start().await else {
        return;
    };
    let Some(replica) = follower(&master).start().await else {
        return;
    };
    let mut set = ::redis::cmd("SET");
    set.arg("a").arg("1");
    let refused = replica.try_ask::<()>(&set).await;
    assert_eq!(refused.unwrap_err().code(), Some("READONLY"));
}

#[tokio::test]
async fn a_replica_that_got_nothing_yet_is_waited_for_whoever_has_written() {
    let Some(master) = redis().start().await else {
        return;
    };
    let Some(replica) = follower(&master).start().await else {
        return;
    };
    let linked = |info: &str| info.contains("master_link_status:up");
    replica.until(&["INFO", "replication"], linked).await;
    replica.freeze();
    let client = ::redis::Client::open(master.url()).unwrap();
    let mut other = client
        .get_multiplexed_async_connection_with_config(&patient())
        .await
        .unwrap();
    let () = ::redis::cmd("SET")
        .arg("a")
        .arg("1")
        .query_async(&mut other)
        .await
        .unwrap();
    let asked = async {
        for _ in 0..100 {
            master.cli(&["PING"]).await;
        }
    };
    tokio::select! {
        biased;
        () = master.replicated() => panic!("nobody has it yet"),
        () = asked => {}
    }
    replica.thaw();
    master.replicated().await;
    assert_eq!(replica.cli(&["GET", "a"]).await, "1");
}

#[tokio::test]
async fn a_fault_does_to_replies_what_it_is_told() {
    let Some(server) = redis().start().await else {
        return;
    };
    let fault = Fault::before(server.addr).await;
    let client = ::redis::Client::open(format!("redis://{}", fault.addr)).unwrap();
    let config = patient();
    for (mood, timely) in [
        (Mood::Slow(Duration::from_secs(600)), false),
        (Mood::Lossy, false),
        (Mood::Half, true),
        (Mood::Stuck, false),
        (Mood::Cut, true),
    ] {
        fault.is(Mood::Well);
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .unwrap();
        let ping = ::redis::cmd("PING");
        let reply: String = ping.query_async(&mut connection).await.unwrap();
        assert_eq!(reply, "PONG");
        fault.is(mood);
        let asked = async {
            let reply: ::redis::RedisResult<String> = ping.query_async(&mut connection).await;
            assert!(reply.is_err(), "{mood:?}");
        };
        if timely {
            within("an error", asked).await;
        } else {
            let silent = timeout(Duration::from_millis(300), asked).await;
            assert!(silent.is_err(), "{mood:?}");
        }
    }
    server.freeze();
    server.thaw();
    assert_eq!(server.cli(&["PING"]).await, "PONG");
}
