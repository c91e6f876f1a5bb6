//! Identical calls on several replicas are one upstream call, and whatever happens to its replica or to Redis, every
//! call is answered.

use std::collections::HashSet;

use ::redis::{cmd, pipe};
use futures_util::future::join_all;
use refrain::{
    call::{Slot, key::Key},
    store::redis::message::Message,
};

use super::{HEARING, UP, unleased};
use crate::support::{
    client::{Answer, End, assert_verdict, at_once, chat, chat_stream},
    gate,
    proxy::{Proxy, Setup, proxy},
    redis::{Redis, redis},
    spawn,
    upstream::{Reply, Upstream, completion, finished, json, status, stream, upstream},
    within,
};

/// Starts `count` replicas before `up` that share `redis`, and waits until they do.
async fn fleet(up: &Upstream, redis: &Redis, count: usize) -> Vec<Proxy> {
    let mut replicas = Vec::new();
    for _ in 0..count {
        replicas.push(started(proxy(up).honest(), redis).await);
    }
    replicas
}

/// Starts a replica that shares `redis`, and waits until it does: before, it would go without a lease.
async fn started(setup: Setup, redis: &Redis) -> Proxy {
    // So that all that it is asked can be told.
    for (setting, value) in [
        ("slowlog-log-slower-than", "0"),
        ("slowlog-max-len", "100000"),
    ] {
        redis.cli(&["CONFIG", "SET", setting, value]).await;
    }
    let replica = setup.with_redis(redis).start().await;
    replica.counted(UP, 1.0).await;
    replica
}

/// Waits until somebody holds the only lease, and returns its name.
async fn leased(redis: &Redis) -> String {
    let held = async {
        loop {
            if let [lease] = &redis.keys("refrain:l:*").await[..] {
                return String::from_utf8_lossy(lease).into_owned();
            }
        }
    };
    within("a flight to hold its lease", held).await
}

/// Waits until so many replicas have asked for a lease, each once however often it has looked: by the claims that were made.
async fn asked(redis: &Redis, replicas: usize) {
    let mut claims = HashSet::new();
    let asked = async {
        while claims.len() < replicas {
            claims.extend(claimed(redis).await);
        }
    };
    within("the replicas to ask", asked).await;
}

/// Returns the claims to leases that were made since this was asked before.
async fn claimed(redis: &Redis) -> impl Iterator<Item = Vec<u8>> {
    // Number, moment, microseconds, words, who and its name.
    type Row = (u64, u64, u64, Vec<Vec<u8>>, String, String);
    let mut log = pipe();
    log.atomic();
    log.cmd("SLOWLOG").arg("GET").arg(-1);
    log.cmd("SLOWLOG").arg("RESET").ignore();
    let (rows,): (Vec<Row>,) = redis.ask_all(&log).await;
    // A script about two keys, lease and entry, and what is claimed; who only looks claims nothing.
    rows.into_iter()
        .filter_map(|row| match &row.3[..] {
            [name, _, keys, _, _, claim, ..] if name == b"EVAL" && keys == b"2" => {
                Some(claim.clone())
            }
            _ => None,
        })
        .filter(|claim| !claim.is_empty())
}

fn misses(answers: &[Answer]) -> usize {
    let verdicts = answers.iter().map(|answer| answer.header("x-cache"));
    verdicts.filter(|verdict| *verdict == Some("MISS")).count()
}

fn assert_whole(answer: &Answer, reply: &Reply) {
    assert_eq!((&answer.body, &answer.end), (&reply.bytes(), &End::Clean));
}

#[tokio::test]
async fn three_hundred_calls_over_three_replicas_are_one_upstream_call() {
    for (request, reply) in [
        (chat("hi"), completion("hello")),
        (chat_stream("hi"), stream(&["a", "b"])),
    ] {
        let Some(redis) = redis().start().await else {
            return;
        };
        let gate = gate();
        let up = upstream().answers(reply.clone().after(&gate)).start().await;
        let replicas = fleet(&up, &redis, 3).await;
        let crowds = replicas
            .iter()
            .map(|replica| at_once(replica.addr, &request, 100));
        let (answers, ()) = tokio::join!(join_all(crowds), async {
            asked(&redis, 3).await;
            gate.open();
        });
        let answers = answers.concat();
        for answer in &answers {
            assert_whole(answer, &reply);
        }
        assert_eq!((answers.len(), misses(&answers), up.count()), (300, 1, 1));
        unleased(&redis).await;
        for replica in &replicas {
            assert_verdict(&replica.send(&request).await, "HIT");
        }
    }
}

#[tokio::test]
async fn calls_that_come_as_the_flight_lands_are_no_second_upstream_call() {
    let Some(redis) = redis().start().await else {
        return;
    };
    let up = upstream().answers(completion("hello")).start().await;
    let replicas = fleet(&up, &redis, 3).await;
    for round in 1..=20 {
        let request = chat(&format!("round {round}"));
        let crowds = replicas
            .iter()
            .map(|replica| at_once(replica.addr, &request, 10));
        let answers = join_all(crowds).await.concat();
        assert_eq!((misses(&answers), up.count()), (1, round));
    }
}

#[tokio::test]
async fn when_the_leaders_replica_is_killed_the_next_one_goes() {
    let Some(redis) = redis().start().await else {
        return;
    };
    let gate = gate();
    let up = upstream()
        .answers(completion("lost").after(&gate))
        .answers(completion("hello"))
        .start()
        .await;
    let mut replicas = fleet(&up, &redis, 3).await;
    let addr = replicas[0].addr;
    let _lost = spawn(async move { chat("hi").open(addr).await });
    let lease = leased(&redis).await;
    up.arrived(1).await;
    let others = [replicas[1].addr, replicas[2].addr];
    let others = others.map(|addr| spawn(async move { chat("hi").send(addr).await }));
    asked(&redis, 3).await;
    replicas[0].kill().await;
    // As it would by itself ten seconds later.
    redis.cli(&["DEL", &lease]).await;
    let mut answers = Vec::new();
    for answer in others {
        answers.push(answer.await.unwrap());
    }
    for answer in &answers {
        assert_whole(answer, &completion("hello"));
    }
    assert_eq!((misses(&answers), up.count()), (1, 2));
}

#[tokio::test]
async fn a_lease_dies_by_itself_with_its_replica() {
    let Some(redis) = redis().start().await else {
        return;
    };
    let gate = gate();
    let up = upstream()
        .answers(completion("lost").after(&gate))
        .start()
        .await;
    let mut replicas = fleet(&up, &redis, 1).await;
    let addr = replicas[0].addr;
    let _lost = spawn(async move { chat("hi").open(addr).await });
    let lease = leased(&redis).await;
    let left = redis.cli(&["PTTL", &lease]).await;
    assert!((1..=10_000).contains(&left.parse::<i64>().unwrap()));
    // Renewed while it is held: what is left of it grows again.
    redis.cli(&["PEXPIRE", &lease, "8000"]).await;
    let renewed = |left: &str| left.parse::<i64>().is_ok_and(|left| left > 8000);
    redis.until(&["PTTL", &lease], renewed).await;
    replicas[0].kill().await;
    redis.cli(&["PEXPIRE", &lease, "1"]).await;
    unleased(&redis).await;
}

#[tokio::test]
async fn a_refusal_is_the_leaders_own_and_the_next_one_leads() {
    let Some(redis) = redis().start().await else {
        return;
    };
    let gate = gate();
    let refused = json(r#"{"error": {"message": "no"}}"#).status(401);
    let up = upstream()
        .answers(refused.after(&gate))
        .answers(completion("hello"))
        .start()
        .await;
    let replicas = fleet(&up, &redis, 2).await;
    let (first, second) = (replicas[0].addr, replicas[1].addr);
    let leader = spawn(async move { chat("hi").send(first).await });
    up.arrived(1).await;
    let other = spawn(async move { chat("hi").send(second).await });
    asked(&redis, 2).await;
    gate.open();
    assert_eq!(leader.await.unwrap().status, 401);
    assert_whole(&other.await.unwrap(), &completion("hello"));
    assert_eq!(up.count(), 2);
}

#[tokio::test]
async fn a_wait_for_another_replica_does_not_count_as_refrains_own_overhead() {
    let Some(redis) = redis().start().await else {
        return;
    };
    let gate = gate();
    let up = upstream()
        .answers(status(500).after(&gate))
        .answers(completion("hello"))
        .start()
        .await;
    let replicas = fleet(&up, &redis, 2).await;
    let (first, second) = (replicas[0].addr, replicas[1].addr);
    let leader = spawn(async move { chat("hi").send(first).await });
    up.arrived(1).await;
    let other = spawn(async move { chat("hi").send(second).await });
    asked(&redis, 2).await;
    gate.open();
    leader.await.unwrap();
    assert_verdict(&other.await.unwrap(), "MISS");
    let [ended, overhead] = ["refrain_calls_total", "refrain_overhead_seconds_count"];
    replicas[1].counted(ended, 1.0).await;
    assert!(replicas[1].metric(overhead, &[]).await.abs() < 0.5);
    replicas[1].send(&chat("by itself")).await;
    replicas[1].counted(overhead, 1.0).await;
}

#[tokio::test]
async fn what_is_not_stored_is_not_waited_for_twice() {
    for reply in [
        status(500),
        finished("cut off", "length"),
        completion("hello").header("Cache-Control", "no-store"),
    ] {
        let Some(redis) = redis().start().await else {
            return;
        };
        let gate = gate();
        let up = upstream()
            .answers(reply.clone().after(&gate))
            .answers(reply)
            .start()
            .await;
        let replicas = fleet(&up, &redis, 3).await;
        let leader = replicas[0].addr;
        let leader = spawn(async move { chat("hi").send(leader).await });
        up.arrived(1).await;
        let others = [replicas[1].addr, replicas[2].addr];
        let others = others.map(|addr| spawn(async move { chat("hi").send(addr).await }));
        asked(&redis, 3).await;
        gate.open();
        leader.await.unwrap();
        for other in others {
            other.await.unwrap();
        }
        assert_eq!(up.count(), 3);
        let labels = [r#"outcome="apart""#];
        for replica in &replicas[1..] {
            let name = "refrain_flights_awaited_total";
            replica.assert_metric(name, &labels, 1).await;
        }
        unleased(&redis).await;
    }
}

#[tokio::test]
async fn what_is_too_large_or_breaks_off_is_not_waited_for_twice() {
    let large = stream(&[&"x".repeat(2_000), "y"]);
    let broken = stream(&["a", "b"]).cut_after(1);
    let gate = gate();
    for (first, others) in [
        // Its end comes last of all.
        (large.clone().pausing_after(2, &gate), large),
        (broken.clone(), broken),
    ] {
        let Some(redis) = redis().start().await else {
            return;
        };
        let begin = crate::support::gate();
        let first = first.after(&begin);
        let up = upstream().answers(first).answers(others).start().await;
        let mut replicas = Vec::new();
        for _ in 0..3 {
            let small = "[cache]\nmax_entry = \"1KiB\"";
            let replica = proxy(&up).honest().with(small);
            replicas.push(started(replica, &redis).await);
        }
        let leader = replicas[0].addr;
        let leader = spawn(async move { chat_stream("hi").send(leader).await });
        up.arrived(1).await;
        let others = [replicas[1].addr, replicas[2].addr];
        let others = others.map(|addr| spawn(async move { chat_stream("hi").send(addr).await }));
        asked(&redis, 3).await;
        begin.open();
        for other in others {
            assert_verdict(&other.await.unwrap(), "MISS");
        }
        gate.open();
        leader.await.unwrap();
        assert_eq!(up.count(), 3);
        let labels = [r#"outcome="apart""#];
        for replica in &replicas[1..] {
            let name = "refrain_flights_awaited_total";
            replica.assert_metric(name, &labels, 1).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_causes_no_upstream_call() {
    let Some(redis) = redis().start().await else {
        return;
    };
    let gate = gate();
    let up = upstream().answers(status(500).after(&gate)).start().await;
    let replicas = fleet(&up, &redis, 2).await;
    let leader = replicas[0].addr;
    let leader = spawn(async move { chat("hi").send(leader).await });
    up.arrived(1).await;
    let gone = replicas[1].open(&chat("hi")).await;
    asked(&redis, 2).await;
    drop(gone);
    replicas[1].fell_to_zero(FLIGHTS).await;
    gate.open();
    assert_eq!(leader.await.unwrap().status, 500);
    unleased(&redis).await;
    replicas[1]
        .assert_metric("refrain_flights_led_total", &[], 0)
        .await;
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn a_call_waits_only_for_a_mode_that_would_serve_it() {
    for (held, asked_for, calls) in [
        (chat("hi"), chat_stream("hi"), 1),
        (chat_stream("hi"), chat("hi"), 2),
    ] {
        let Some(redis) = redis().start().await else {
            return;
        };
        let gate = gate();
        let replies = [completion("hello"), stream(&["hello"])];
        let [held_by, own] = if calls == 1 { [0, 1] } else { [1, 0] }.map(|i| replies[i].clone());
        let up = upstream()
            .answers(held_by.after(&gate))
            .answers(own)
            .start()
            .await;
        let replicas = fleet(&up, &redis, 2).await;
        let (first, second) = (replicas[0].addr, replicas[1].addr);
        let leader = spawn(async move { held.send(first).await });
        up.arrived(1).await;
        let other = spawn(async move { asked_for.send(second).await });
        asked(&redis, 2).await;
        if calls == 2 {
            // It does not wait for the gate.
            assert_verdict(&other.await.unwrap(), "MISS");
            gate.open();
        } else {
            gate.open();
            assert_verdict(&other.await.unwrap(), "COLLAPSED");
        }
        leader.await.unwrap();
        assert_eq!(up.count(), calls);
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_gives_the_lease_back() {
    let Some(redis) = redis().start().await else {
        return;
    };
    let gate = gate();
    let up = upstream()
        .answers(completion("lost").after(&gate))
        .answers(completion("hello"))
        .start()
        .await;
    let cancels = "[cache]\non_disconnect = \"cancel\"";
    let first = started(proxy(&up).with(cancels), &redis).await;
    let second = started(proxy(&up), &redis).await;
    let gone = first.open(&chat("hi")).await;
    leased(&redis).await;
    up.arrived(1).await;
    let addr = second.addr;
    let waiting = spawn(async move { chat("hi").send(addr).await });
    asked(&redis, 2).await;
    drop(gone);
    up.abandoned(0).await;
    assert_whole(&waiting.await.unwrap(), &completion("hello"));
}

#[tokio::test]
async fn redis_that_freezes_during_a_flight_keeps_nobody_waiting() {
    let Some(redis) = redis().start().await else {
        return;
    };
    let gate = gate();
    let up = upstream()
        .answers(completion("hello").after(&gate))
        .answers(completion("hello"))
        .start()
        .await;
    let replica = || started(proxy(&up).with_budget("500ms"), &redis);
    let (leading, waiting) = (replica().await, replica().await);
    let (first, second) = (leading.addr, waiting.addr);
    let leader = spawn(async move { chat("hi").send(first).await });
    up.arrived(1).await;
    let other = spawn(async move { chat("hi").send(second).await });
    asked(&redis, 2).await;
    redis.freeze();
    // It goes by itself, while the leader's answer is still to come.
    assert_whole(&other.await.unwrap(), &completion("hello"));
    assert_eq!(up.count(), 2);
    gate.open();
    assert_whole(&leader.await.unwrap(), &completion("hello"));
    redis.thaw();
}

#[tokio::test]
async fn what_others_write_under_the_name_of_a_lease_delays_nobody() {
    for foreign in [
        &["SET", "", "x?"][..],
        &["SET", "", "p\u{0}0123456789abcdef0123456789abcdef"],
        &["LPUSH", "", "a", "b"],
        // As a flight would write it, but for that it never ends, or not for long.
        &["EVAL", LASTING, "1", "", "0"],
        &["EVAL", LASTING, "1", "", "60000"],
    ] {
        let Some(redis) = redis().start().await else {
            return;
        };
        let gate = gate();
        let up = upstream()
            .answers(completion("hello").after(&gate))
            .answers(completion("hello"))
            .start()
            .await;
        let replicas = fleet(&up, &redis, 2).await;
        let first = replicas[0].addr;
        let leader = spawn(async move { chat("hi").send(first).await });
        let lease = leased(&redis).await;
        up.arrived(1).await;
        redis.cli(&["DEL", &lease]).await;
        let words: Vec<_> = foreign
            .iter()
            .map(|word| if word.is_empty() { &lease[..] } else { word })
            .collect();
        redis.cli(&words).await;
        let request = chat("hi");
        let other = replicas[1].send(&request);
        let other = within("a call that nothing delays", other).await;
        assert_whole(&other, &completion("hello"));
        let late = [r#"outcome="late""#];
        let name = "refrain_flights_awaited_total";
        replicas[1].assert_metric(name, &late, 0).await;
        gate.open();
        leader.await.unwrap();
    }
}

#[tokio::test]
async fn replicas_that_are_not_to_wait_do_not() {
    let Some(redis) = redis().start().await else {
        return;
    };
    let gate = gate();
    let up = upstream()
        .answers(completion("hello").after(&gate))
        .answers(completion("hello"))
        .start()
        .await;
    let off = "[coalesce]\nwait = \"off\"";
    let first = started(proxy(&up).with(off), &redis).await;
    let second = started(proxy(&up).with(off), &redis).await;
    let addr = first.addr;
    let slow = spawn(async move { chat("hi").send(addr).await });
    up.arrived(1).await;
    assert_verdict(&second.send(&chat("hi")).await, "MISS");
    assert!(redis.keys("refrain:l:*").await.is_empty());
    gate.open();
    slow.await.unwrap();
}

#[tokio::test]
async fn nobody_waits_for_longer_than_the_operator_says() {
    let Some(redis) = redis().start().await else {
        return;
    };
    let gate = gate();
    let up = upstream()
        .answers(completion("hello").after(&gate))
        .answers(completion("hello"))
        .start()
        .await;
    let short = "[coalesce]\nwait = \"3s\"";
    let first = started(proxy(&up), &redis).await;
    let second = started(proxy(&up).with(short), &redis).await;
    let addr = first.addr;
    let slow = spawn(async move { chat("hi").send(addr).await });
    up.arrived(1).await;
    assert_verdict(&second.send(&chat("hi")).await, "MISS");
    let labels = [r#"outcome="late""#];
    let name = "refrain_flights_awaited_total";
    second.assert_metric(name, &labels, 1).await;
    gate.open();
    slow.await.unwrap();
}

#[tokio::test]
async fn who_waits_looks_as_soon_as_it_is_told() {
    let Some(redis) = redis().start().await else {
        return;
    };
    let gate = gate();
    let up = upstream()
        .answers(completion("hello").after(&gate))
        .start()
        .await;
    let replicas = fleet(&up, &redis, 2).await;
    for replica in &replicas {
        replica.counted(HEARING, 1.0).await;
    }
    let [first, second] = [replicas[0].addr, replicas[1].addr];
    let leader = spawn(async move { chat("hi").send(first).await });
    let lease = leased(&redis).await;
    up.arrived(1).await;
    let other = spawn(async move { chat("hi").send(second).await });
    asked(&redis, 2).await;
    let over = Message::Done(Slot {
        key: key(&lease),
        delivery: 0,
    });
    // By itself it would look twice a second, and this would take minutes.
    let told = async {
        for _ in 0..400 {
            let before = redis.calls("eval").await;
            let mut publish = cmd("PUBLISH");
            publish.arg("refrain:news").arg(over.encode());
            let _: i64 = redis.ask(&publish).await;
            while redis.calls("eval").await == before {}
        }
    };
    within("a look for each word", Box::pin(told)).await;
    assert_eq!(up.count(), 1, "a word is no reason to go");
    gate.open();
    assert_verdict(&leader.await.unwrap(), "MISS");
    assert_verdict(&other.await.unwrap(), "COLLAPSED");
}

#[tokio::test]
async fn who_is_told_nothing_finds_the_answer_all_the_same() {
    let deaf = "~* &* +@all -subscribe";
    for (plan, breaks) in [
        (redis(), true),
        (redis().acl("refrain", "secret", deaf), false),
    ] {
        let Some(redis) = plan.start().await else {
            return;
        };
        let gate = gate();
        let up = upstream()
            .answers(completion("hello").after(&gate))
            .start()
            .await;
        let replicas = fleet(&up, &redis, 3).await;
        let request = chat("hi");
        let crowds = replicas
            .iter()
            .map(|replica| at_once(replica.addr, &request, 10));
        let (answers, ()) = tokio::join!(join_all(crowds), async {
            asked(&redis, 3).await;
            if breaks {
                redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
            }
            gate.open();
        });
        let answers = answers.concat();
        for answer in &answers {
            assert_whole(answer, &completion("hello"));
        }
        assert_eq!((answers.len(), misses(&answers), up.count()), (30, 1, 1));
    }
}

/// Returns the key in the name of a lease.
fn key(lease: &str) -> Key {
    let (_, hex) = lease.split_once('{').unwrap();
    hex.trim_end_matches('}').parse().unwrap()
}

/// Writes a claim that lives for so many milliseconds, or for good.
const LASTING: &str = "redis.call('SET', KEYS[1], 'p\\0' .. '0123456789abcdef')
    if ARGV[1] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
    return 1";
/// Flights that a replica has under way.
const FLIGHTS: &str = "refrain_flights";
