//! `hedge = "on"`: an answer that is later than almost all before it is asked for a second time.

use crate::support::{
    client::{assert_verdict, chat},
    gate,
    proxy::{Proxy, proxy},
    upstream::{Upstream, completion, upstream},
};

/// Calls that it takes to know an upstream's pace.
const LEAST: usize = 30;

/// An upstream whose every answer comes at once, but for the one after the pace is known.
async fn house(settings: &str) -> (Upstream, Proxy, crate::support::Gate) {
    let gate = gate();
    let late = completion("late").after(&gate);
    let up = upstream()
        .by(move |_, number| match number {
            LEAST => late.clone(),
            _ => completion(&number.to_string()),
        })
        .start()
        .await;
    let proxy = proxy(&up).with_upstream(settings).start().await;
    for number in 0..LEAST {
        let answer = proxy.send(&chat(&number.to_string())).await;
        assert_verdict(&answer, "MISS");
    }
    (up, proxy, gate)
}

#[tokio::test]
async fn a_late_answer_is_overtaken_by_a_second_call_and_given_up() {
    let (up, proxy, _never) = house("hedge = \"on\"").await;
    let answer = proxy.send(&chat("late")).await;
    assert_verdict(&answer, "MISS");
    let second = completion(&(LEAST + 1).to_string());
    assert_eq!(answer.body, second.bytes());
    assert_eq!(up.call(LEAST).body, up.call(LEAST + 1).body);
    up.abandoned(LEAST).await;
    assert_eq!(proxy.metric("refrain_hedges_total", &[]).await, 1.0);
    assert_eq!(proxy.metric("refrain_hedges_won_total", &[]).await, 1.0);
    assert_verdict(&proxy.send(&chat("late")).await, "HIT");
}

#[tokio::test]
async fn nothing_is_asked_for_twice_unless_the_operator_says_so() {
    let (up, proxy, gate) = house("").await;
    let exchange = proxy.open(&chat("late")).await;
    up.arrived(LEAST + 1).await;
    for number in 100..110 {
        let answer = proxy.send(&chat(&number.to_string())).await;
        assert_verdict(&answer, "MISS");
    }
    gate.open();
    assert_eq!(exchange.finish().await.body, completion("late").bytes());
    assert_eq!(up.count(), LEAST + 11);
}
