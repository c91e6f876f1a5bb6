//! The way to Redis is slow, or breaks, or loses replies: each call still gets its own answer.

use std::time::Duration;

use super::{DAMAGED, UP, WRITTEN, ask, assert_hit, echo, fill, load::Load, replica};
use crate::support::{
    client::{Answer, chat},
    fault::{Fault, Mood},
    proxy::{Proxy, proxy},
    redis::{Redis, redis},
    spawn,
    upstream::Upstream,
};

#[tokio::test]
async fn get_returns_none_on_a_reply_that_is_slow_or_lost_or_broken_off() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = echo().await;
    for mood in MOODS {
        let (fault, proxy) = behind_fault(&up, &server).await;
        let load = Load::on(&proxy);
        load.goes_on(10).await;
        fault.is(mood);
        proxy.fell_to_zero(UP).await;
        load.goes_on(30).await;
        fault.is(Mood::Well);
        proxy.counted(UP, 1.0).await;
        let written = proxy.metric(WRITTEN, &[]).await;
        proxy.counted(WRITTEN, written + 1.0).await;
        load.end().await;
        // What came late or in the place of something else was never taken for an entry.
        proxy.assert_metric(DAMAGED, &[], 0).await;
    }
}

#[tokio::test]
async fn replies_that_come_in_the_place_of_others_answer_nobody() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = echo().await;
    let prompts: Vec<String> = (0..PROMPTS)
        .map(|number| format!("prompt {number}"))
        .collect();
    let all: Vec<&str> = prompts.iter().map(String::as_str).collect();
    fill(&replica(&up, &server).await, &all).await;
    let (fault, proxy) = behind_fault(&up, &server).await;
    let asked = prompts.iter().map(|prompt| {
        let (addr, call) = (proxy.addr, chat(prompt));
        spawn(async move { call.send(addr).await })
    });
    let asked: Vec<_> = asked.collect();
    for _ in 0..20 {
        fault.is(Mood::Lossy);
        tokio::task::yield_now().await;
        fault.is(Mood::Well);
        tokio::task::yield_now().await;
    }
    for (task, prompt) in asked.into_iter().zip(&prompts) {
        let answer: Answer = task.await.unwrap();
        let text = answer.json()["choices"][0]["message"]["content"].clone();
        assert_eq!(text, super::said(prompt));
    }
    for prompt in &prompts {
        ask(&proxy, prompt).await;
    }
}

#[tokio::test]
async fn a_server_that_is_slower_than_the_budget_is_left_alone_however_steadily_it_replies() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = echo().await;
    let (fault, proxy) = behind_fault(&up, &server).await;
    fault.is(Mood::Slow(Duration::from_millis(80)));
    // Nobody calls: that it is too slow is found by signs of life, and who is patient is replied to all the while.
    proxy.fell_to_zero(UP).await;
    let unanswered = "refrain_redis_unanswered_total";
    let waited = proxy.metric(unanswered, &[]).await;
    for number in 0..20 {
        ask(&proxy, &format!("prompt {number}")).await;
    }
    let now = proxy.metric(unanswered, &[]).await;
    assert!(now <= waited, "{now}: it was let in, and calls waited");
    fault.is(Mood::Well);
    proxy.counted(UP, 1.0).await;
}

#[tokio::test]
async fn a_server_that_is_far_is_connected_to_within_ten_times_the_budget() {
    let Some(server) = redis().start().await else {
        return;
    };
    let up = echo().await;
    fill(&replica(&up, &server).await, &["hi"]).await;
    let fault = Fault::before(server.addr).await;
    fault.is(Mood::Slow(Duration::from_millis(300)));
    let proxy = proxy(&up).with_redis_at(&format!("redis://{}", fault.addr));
    let proxy = proxy.with_budget("5s").start().await;
    proxy.counted(UP, 1.0).await;
    assert_hit(&ask(&proxy, "hi").await, "redis");
}

/// Starts a proxy that gets to `server` through a fault, and waits until it does.
async fn behind_fault(up: &Upstream, server: &Redis) -> (Fault, Proxy) {
    let fault = Fault::before(server.addr).await;
    let proxy = proxy(up).with_redis_at(&format!("redis://{}", fault.addr));
    let proxy = proxy.with_budget("50ms").start().await;
    proxy.counted(UP, 1.0).await;
    (fault, proxy)
}

const MOODS: [Mood; 5] = [
    Mood::Slow(Duration::from_secs(2)),
    Mood::Lossy,
    Mood::Half,
    Mood::Stuck,
    Mood::Cut,
];
const PROMPTS: usize = 200;
