//! Identical calls under way are one upstream call, whose answer all of them read live.

use crate::support::{
    Gate,
    client::{
        Answer, End, Exchange, Request, assert_refused, assert_verdict, at_once, chat, chat_stream,
        request,
    },
    gate,
    proxy::{Proxy, proxy},
    upstream::{Reply, Upstream, completion, json, sse, stream, upstream},
};

/// An upstream whose first answer pauses at a gate after two pieces, and later ones do not.
async fn house(reply: &Reply) -> (Upstream, Proxy, Gate) {
    let gate = gate();
    let paused = reply.clone().pausing_after(2, &gate);
    let up = upstream()
        .answers(paused)
        .answers(reply.clone())
        .start()
        .await;
    let proxy = proxy(&up).start().await;
    (up, proxy, gate)
}

/// Opens `count` exchanges of `request` and reads `prefix` from each, the leader's first: from then on all have joined.
async fn join(proxy: &Proxy, request: &Request, count: usize, prefix: &[u8]) -> Vec<Exchange> {
    let mut exchanges = Vec::with_capacity(count);
    for _ in 0..count {
        let mut exchange = proxy.open(request).await;
        assert_eq!(exchange.body(prefix.len()).await, prefix);
        exchanges.push(exchange);
    }
    exchanges
}

async fn finish_all(exchanges: Vec<Exchange>) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(exchanges.len());
    for exchange in exchanges {
        answers.push(exchange.finish().await);
    }
    answers
}

/// Returns a plain completion in three pieces, so that a follower can be seen to have joined.
fn plain_in_pieces() -> Reply {
    let bytes = completion("one answer for all").bytes();
    let (head, tail) = bytes.split_at(40);
    let (middle, tail) = tail.split_at(40);
    sse([head, middle, tail]).content_type("application/json")
}

#[tokio::test]
async fn followers_get_the_prefix_at_once_and_then_the_live_tail() {
    let cases = [
        (chat_stream("hi"), stream(&["a", "b", "c"])),
        (chat("hi"), plain_in_pieces()),
    ];
    for (request, reply) in cases {
        let (up, proxy, gate) = house(&reply).await;
        let exchanges = join(&proxy, &request, 20, &reply.first(2)).await;
        gate.open();
        for (number, answer) in finish_all(exchanges).await.iter().enumerate() {
            assert_verdict(answer, if number == 0 { "MISS" } else { "COLLAPSED" });
            assert_eq!((&answer.body, &answer.end), (&reply.bytes(), &End::Clean));
        }
        assert_eq!(up.count(), 1);
        assert_verdict(&proxy.send(&request).await, "HIT");
    }
}

#[tokio::test]
async fn a_hundred_calls_at_once_are_one_upstream_call() {
    for (request, reply) in [
        (chat_stream("hi"), stream(&["a", "b"])),
        (chat("hi"), completion("hello")),
    ] {
        let gate = gate();
        let up = upstream().answers(reply.clone().after(&gate)).start().await;
        let proxy = proxy(&up).start().await;
        let crowd = at_once(proxy.addr, &request, 100);
        let (answers, ()) = tokio::join!(crowd, async {
            up.arrived(1).await;
            gate.open();
        });
        for answer in &answers {
            assert_eq!((&answer.body, &answer.end), (&reply.bytes(), &End::Clean));
        }
        let misses = answers
            .iter()
            .filter(|answer| answer.header("x-cache") == Some("MISS"));
        assert_eq!((misses.count(), up.count()), (1, 1));
    }
}

#[tokio::test]
async fn a_follower_says_that_it_followed() {
    let (_up, proxy, gate) = house(&stream(&["a"]).header("Set-Cookie", "leader=1")).await;
    let exchanges = join(&proxy, &chat_stream("hi"), 2, &stream(&["a"]).first(2)).await;
    gate.open();
    let answers = finish_all(exchanges).await;
    let status = answers[1].expect("cache-status");
    assert!(
        status.starts_with("refrain; fwd=miss; collapsed"),
        "{status}"
    );
    assert_eq!(
        answers[1].expect("x-cache-key"),
        answers[0].expect("x-cache-key")
    );
    assert_eq!(answers[0].header("set-cookie"), Some("leader=1"));
    assert_eq!(answers[1].header("set-cookie"), None);
}

#[tokio::test]
async fn a_follower_survives_the_leaders_hang_up_in_mid_stream() {
    for policy in ["finish", "cancel"] {
        let reply = stream(&["a", "b", "c"]);
        let gate = gate();
        let up = upstream()
            .answers(reply.clone().pausing_after(2, &gate))
            .start()
            .await;
        let config = format!("[cache]\non_disconnect = \"{policy}\"");
        let proxy = proxy(&up).with(&config).start().await;
        let mut exchanges = join(&proxy, &chat_stream("hi"), 3, &reply.first(2)).await;
        drop(exchanges.remove(0));
        proxy.call_line(1).await;
        gate.open();
        for answer in finish_all(exchanges).await {
            assert_verdict(&answer, "COLLAPSED");
            assert_eq!((answer.body, answer.end), (reply.bytes(), End::Clean));
        }
        assert_verdict(&proxy.send(&chat_stream("hi")).await, "HIT");
        assert_eq!(up.count(), 1);
    }
}

#[tokio::test]
async fn a_follower_survives_the_leaders_hang_up_before_the_head() {
    let reply = completion("hello");
    let gate = gate();
    let up = upstream()
        .answers(reply.clone().after(&gate))
        .answers(reply.clone())
        .start()
        .await;
    let proxy = proxy(&up).start().await;
    let leader = proxy.open(&chat("hi")).await;
    up.arrived(1).await;
    let follower = proxy.open(&chat("hi")).await;
    drop(leader);
    proxy.call_line(1).await;
    gate.open();
    let answer = follower.finish().await;
    assert_eq!((answer.status, answer.body), (200, reply.bytes()));
    assert_verdict(&proxy.send(&chat("hi")).await, "HIT");
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn a_followers_hang_up_disturbs_nobody() {
    let reply = stream(&["a", "b"]);
    let (up, proxy, gate) = house(&reply).await;
    let mut exchanges = join(&proxy, &chat_stream("hi"), 3, &reply.first(2)).await;
    drop(exchanges.remove(1));
    proxy.call_line(1).await;
    gate.open();
    for answer in finish_all(exchanges).await {
        assert_eq!((answer.body, answer.end), (reply.bytes(), End::Clean));
    }
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn all_members_share_the_upstreams_error_and_the_next_call_asks_again() {
    let error = r#"{"error":{"message":"overloaded","code":null}}"#;
    let (head, tail) = error.split_at(10);
    let (middle, tail) = tail.split_at(10);
    let refusal = sse([head, middle, tail]);
    let refusal = refusal.content_type("application/json").status(503);
    let gate = gate();
    let up = upstream()
        .answers(refusal.pausing_after(2, &gate))
        .answers(completion("better"))
        .start()
        .await;
    let proxy = proxy(&up).honest().start().await;
    let exchanges = join(&proxy, &chat("hi"), 3, &error.as_bytes()[..20]).await;
    gate.open();
    for answer in finish_all(exchanges).await {
        assert_eq!((answer.status, answer.text().as_str()), (503, error));
    }
    let next = proxy.send(&chat("hi")).await;
    assert_verdict(&next, "MISS");
    assert_eq!((next.body, up.count()), (completion("better").bytes(), 2));
}

#[tokio::test]
async fn a_break_in_mid_stream_aborts_every_member_after_the_bytes_before_it() {
    let reply = stream(&["a", "b", "c"]);
    let gate = gate();
    let broken = reply.clone().pausing_after(2, &gate).cut_after(4);
    let up = upstream()
        .answers(broken)
        .answers(reply.clone())
        .start()
        .await;
    let proxy = proxy(&up).start().await;
    let exchanges = join(&proxy, &chat_stream("hi"), 5, &reply.first(2)).await;
    gate.open();
    for answer in finish_all(exchanges).await {
        assert_eq!((answer.body, answer.end), (reply.first(3), End::Aborted));
    }
    let next = proxy.send(&chat_stream("hi")).await;
    assert_verdict(&next, "MISS");
    assert_eq!((next.body, up.count()), (reply.bytes(), 2));
}

#[tokio::test]
async fn an_upstream_that_dies_before_its_head_strands_nobody() {
    let gate = gate();
    let dead = completion("").after(&gate).cut_before_the_head();
    let up = upstream().answers(dead).start().await;
    let proxy = proxy(&up).honest().start().await;
    let call = chat("hi");
    let crowd = at_once(proxy.addr, &call, 10);
    let (answers, ()) = tokio::join!(crowd, async {
        up.arrived(1).await;
        gate.open();
    });
    for answer in &answers {
        assert_refused(answer, 502, "upstream_broken");
    }
}

#[tokio::test]
async fn bypass_and_refresh_do_not_join() {
    for (name, value, verdict) in [
        ("X-Cache-Bypass", "true", "BYPASS"),
        ("Cache-Control", "no-cache", "MISS"),
        ("X-Cache-Refresh", "true", "MISS"),
    ] {
        let reply = stream(&["a"]);
        let (up, proxy, gate) = house(&reply).await;
        let leader = join(&proxy, &chat_stream("hi"), 1, &reply.first(2)).await;
        let alone = proxy.send(&chat_stream("hi").header(name, value)).await;
        assert_verdict(&alone, verdict);
        assert_eq!((alone.body, up.count()), (reply.bytes(), 2));
        gate.open();
        assert_eq!(finish_all(leader).await[0].body, reply.bytes());
    }
}

#[tokio::test]
async fn only_if_cached_does_not_wait_for_a_flight() {
    let reply = stream(&["a"]);
    let (up, proxy, gate) = house(&reply).await;
    let leader = join(&proxy, &chat_stream("hi"), 1, &reply.first(2)).await;
    let asking = chat_stream("hi").header("Cache-Control", "only-if-cached");
    assert_refused(&proxy.send(&asking).await, 504, "not_cached");
    gate.open();
    assert_eq!(finish_all(leader).await[0].body, reply.bytes());
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn a_refresh_leads_a_flight_that_replaces_the_one_before_whichever_ends_first() {
    for refresh_ends_first in [true, false] {
        let (old, new) = (stream(&["old"]), stream(&["new"]));
        let (old_gate, new_gate) = (gate(), gate());
        let up = upstream()
            .answers(old.clone().pausing_after(2, &old_gate))
            .answers(new.clone().pausing_after(2, &new_gate));
        let up = up.start().await;
        let proxy = proxy(&up).start().await;
        let call = chat_stream("hi");
        let refresh = call.clone().header("Cache-Control", "no-cache");
        let before = (old_gate, join(&proxy, &call, 1, &old.first(2)).await, old);
        let mut after = (
            new_gate,
            join(&proxy, &refresh, 1, &new.first(2)).await,
            new.clone(),
        );
        after.1.extend(join(&proxy, &call, 1, &new.first(2)).await);
        let mut flights = [after, before];
        if !refresh_ends_first {
            flights.reverse();
        }
        for (gate, members, reply) in flights {
            gate.open();
            for answer in finish_all(members).await {
                assert_eq!(answer.text().as_bytes(), reply.bytes());
            }
        }
        proxy.call_lines(3).await;
        let warm = proxy.send(&call).await;
        assert_verdict(&warm, "HIT");
        assert!(
            warm.body == new.bytes(),
            "the refreshed answer was replaced by an older one"
        );
        assert_eq!(up.count(), 2);
    }
}

#[tokio::test]
async fn a_flight_is_stored_if_one_member_may_store() {
    let secret = || chat_stream("hi").header("Cache-Control", "no-store");
    for (members, afterwards) in [
        ([secret(), secret()], "MISS"),
        ([secret(), chat_stream("hi")], "HIT"),
        ([chat_stream("hi"), secret()], "HIT"),
    ] {
        let reply = stream(&["a"]);
        let (_up, proxy, gate) = house(&reply).await;
        let mut exchanges = Vec::new();
        for member in &members {
            exchanges.extend(join(&proxy, member, 1, &reply.first(2)).await);
        }
        gate.open();
        let answers = finish_all(exchanges).await;
        assert_verdict(&answers[1], "COLLAPSED");
        proxy.call_lines(2).await;
        assert_verdict(&proxy.send(&chat_stream("hi")).await, afterwards);
    }
}

#[tokio::test]
async fn a_flight_lives_as_long_as_its_shortest_member_asks() {
    let reply = stream(&["a"]);
    let (_up, proxy, gate) = house(&reply).await;
    let mut exchanges = join(&proxy, &chat_stream("hi"), 1, &reply.first(2)).await;
    let short = chat_stream("hi").header("X-Cache-TTL", "90");
    exchanges.extend(join(&proxy, &short, 1, &reply.first(2)).await);
    gate.open();
    finish_all(exchanges).await;
    proxy.call_lines(2).await;
    let warm = proxy.send(&chat_stream("hi")).await;
    assert!(warm.expect("x-cache-ttl").parse::<u64>().unwrap() <= 90);
}

#[tokio::test]
async fn other_credentials_modes_and_namespaces_do_not_join() {
    let reply = stream(&["a"]);
    let (up, proxy, gate) = house(&reply).await;
    let leader = join(&proxy, &chat_stream("hi"), 1, &reply.first(2)).await;
    for (number, other) in [
        chat_stream("hi").with_bearer("sk-bob"),
        chat_stream("hi").without("authorization"),
        chat_stream("hi").header("X-Cache-Namespace", "other"),
        chat("hi"),
    ]
    .iter()
    .enumerate()
    {
        assert_verdict(&proxy.send(other).await, "MISS");
        assert_eq!(up.count(), number + 2);
    }
    gate.open();
    finish_all(leader).await;
}

#[tokio::test]
async fn a_follower_is_not_held_up_by_a_leader_that_reads_nothing() {
    let words: Vec<String> = (0..96)
        .map(|word| format!("{word}").repeat(32 * 1024))
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let reply = stream(&words);
    let (up, proxy, gate) = house(&reply).await;
    let mut leader = chat_stream("hi").open_narrow(proxy.addr).await;
    leader.head().await;
    let follower = join(&proxy, &chat_stream("hi"), 1, &reply.first(2))
        .await
        .remove(0);
    gate.open();
    for exchange in [follower, leader] {
        let answer = exchange.finish().await;
        assert!(answer.body == reply.bytes(), "{} bytes", answer.body.len());
        assert_eq!(answer.end, End::Clean);
    }
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn unkeyed_calls_are_never_joined() {
    let gate = gate();
    let up = upstream().answers(json("{}").after(&gate)).start().await;
    let proxy = proxy(&up).start().await;
    let call = request("GET", "/v1/models");
    let crowd = at_once(proxy.addr, &call, 3);
    let (answers, ()) = tokio::join!(crowd, async {
        up.arrived(3).await;
        gate.open();
    });
    assert_eq!(answers.len(), 3);
}
