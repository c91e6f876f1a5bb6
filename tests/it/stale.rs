//! Past its lifetime: served at once and fetched anew, or in place of an upstream that fails.
//!
//! A lifetime of a nanosecond is over when the next call comes.

use crate::support::{
    Gate,
    client::{assert_verdict, chat},
    gate,
    house::{ask, house},
    proxy::{Proxy, proxy},
    upstream::{Reply, Upstream, completion, status, upstream},
};

/// What is stored is stale at once, and for an hour worth serving while a new one comes.
const AGEING: &str =
    "[cache]\nttl = \"1ns\"\nstale_while_revalidate = \"1h\"\nstale_if_error = \"off\"";

/// Waits until `count` refreshes have come out as `result`.
async fn refreshed(proxy: &Proxy, result: &str, count: f64) {
    let label = format!("result=\"{result}\"");
    proxy
        .counted_with("refrain_refreshes_total", &[&label], count)
        .await;
}

#[tokio::test]
async fn a_stale_entry_is_served_at_once_and_fetched_anew() {
    let (up, proxy) = house(AGEING).await;
    let call = chat("hi").with_bearer("sk-mine");
    ask(&proxy, &call, "MISS", 0).await;
    let stale = proxy.send(&call).await;
    assert_verdict(&stale, "STALE");
    assert_eq!(stale.expect("x-cache-reason"), "stale_while_revalidate");
    assert_eq!(stale.expect("x-cache-tier"), "memory");
    assert!(stale.expect("cache-status").starts_with("refrain; hit"));
    assert!(stale.text().contains("answer 0\""), "{}", stale.text());
    refreshed(&proxy, "stored", 1.0).await;
    ask(&proxy, &call, "STALE", 1).await;
    refreshed(&proxy, "stored", 2.0).await;
    let refresh = up.call(1);
    assert_eq!(refresh.headers.get("authorization"), Some("Bearer sk-mine"));
    assert_eq!(refresh.body, call.body_bytes());
}

#[tokio::test]
async fn a_refresh_has_a_line_of_its_own() {
    let (_up, proxy) = house(&format!("{AGEING}\n[[rule]]\nname = \"all\"")).await;
    let call = chat("hi").header("X-Request-Id", "mine");
    ask(&proxy, &call, "MISS", 0).await;
    ask(&proxy, &call, "STALE", 0).await;
    let line = proxy.logged("\"message\":\"refresh\"").await;
    let stale = proxy.call_line(2).await;
    for field in [
        "call.id",
        "caller",
        "model",
        "cache.key",
        "rule",
        "url.path",
    ] {
        assert_eq!(line[field], stale[field], "{field}");
    }
    assert_eq!(line["cache.verdict"], "refresh");
    assert_eq!(line["cache.stored"], true);
    assert_eq!(line["http.response.status_code"], 200);
    assert_eq!(line["gen_ai.usage.input_tokens"], 11);
}

#[tokio::test]
async fn one_refresh_at_a_time_is_enough() {
    let gate = gate();
    let (up, proxy) = slow_refresh(&gate).await;
    for _ in 0..5 {
        ask(&proxy, &chat("hi"), "STALE", 0).await;
    }
    up.arrived(2).await;
    gate.open();
    refreshed(&proxy, "stored", 1.0).await;
    assert_eq!(up.count(), 2);
}

/// A proxy with a stale entry, `answer 0`, and an upstream whose every other answer waits at the gate.
async fn slow_refresh(gate: &Gate) -> (Upstream, Proxy) {
    let held = gate.clone();
    let up = upstream().by(move |_, number| {
        let answer = completion(&format!("answer {number}"));
        if number == 0 {
            answer
        } else {
            answer.after(&held)
        }
    });
    let up = up.start().await;
    let proxy = proxy(&up).with(AGEING).start().await;
    ask(&proxy, &chat("hi"), "MISS", 0).await;
    (up, proxy)
}

#[tokio::test]
async fn who_needs_a_fresh_answer_joins_the_refresh() {
    let gate = gate();
    let (up, proxy) = slow_refresh(&gate).await;
    ask(&proxy, &chat("hi"), "STALE", 0).await;
    gate.reached().await;
    let exacting = chat("hi").header("Cache-Control", "max-age=0");
    let joining = proxy.open(&exacting).await;
    proxy.joined(1).await;
    gate.open();
    let joined = joining.finish().await;
    assert_verdict(&joined, "COLLAPSED");
    assert!(joined.text().contains("answer 1\""), "{}", joined.text());
    assert_eq!(up.count(), 2);
}

#[tokio::test]
async fn a_refresh_that_fails_leaves_the_entry() {
    let up = upstream()
        .answers(completion("kept"))
        .answers(status(503))
        .answers_times(2, &completion("").cut_before_the_head())
        .answers(completion("new"));
    let up = up.start().await;
    let proxy = proxy(&up).with(AGEING).start().await;
    assert_verdict(&proxy.send(&chat("hi")).await, "MISS");
    for (result, count, text) in [
        ("not_stored", 1.0, "kept"),
        ("failed", 1.0, "kept"),
        ("stored", 1.0, "kept"),
        ("stored", 2.0, "new"),
    ] {
        let stale = proxy.send(&chat("hi")).await;
        assert_verdict(&stale, "STALE");
        assert!(stale.text().contains(text), "{}", stale.text());
        refreshed(&proxy, result, count).await;
    }
}

#[tokio::test]
async fn what_the_caller_says_counts_more() {
    for (number, directive) in ["no-cache", "min-fresh=0", "max-age=0", "max-stale=0"]
        .into_iter()
        .enumerate()
    {
        let (up, proxy) = house(AGEING).await;
        ask(&proxy, &chat("hi"), "MISS", 0).await;
        let exacting = chat("hi").header("Cache-Control", directive);
        ask(&proxy, &exacting, "MISS", 1).await;
        assert_eq!(up.count(), 2, "{number}: {directive}");
    }
}

#[tokio::test]
async fn who_wants_no_upstream_asked_or_nothing_stored_sets_off_no_refresh() {
    let (up, proxy) = house(AGEING).await;
    ask(&proxy, &chat("hi"), "MISS", 0).await;
    for directive in ["only-if-cached", "no-store"] {
        let modest = chat("hi").header("Cache-Control", directive);
        ask(&proxy, &modest, "STALE", 0).await;
    }
    assert_eq!(up.count(), 1);
    // Had one been set off, this one could not be: it would be the third call.
    ask(&proxy, &chat("hi"), "STALE", 0).await;
    refreshed(&proxy, "stored", 1.0).await;
    assert_eq!(up.count(), 2);
}

#[tokio::test]
async fn a_rule_says_how_long_stale_entries_are_served() {
    let config = "[cache]\nttl = \"1ns\"\nstale_if_error = \"off\"\n[[rule]]\nmatch.namespace = \"old\"\nstale_while_revalidate = \"1h\"";
    let (_up, proxy) = house(config).await;
    let old = chat("hi").header("X-Cache-Namespace", "old");
    ask(&proxy, &old, "MISS", 0).await;
    ask(&proxy, &chat("hi"), "MISS", 1).await;
    ask(&proxy, &chat("hi"), "MISS", 2).await;
    ask(&proxy, &old, "STALE", 0).await;
}

#[tokio::test]
async fn the_end_waits_for_a_refresh() {
    let gate = gate();
    let (_up, proxy) = slow_refresh(&gate).await;
    ask(&proxy, &chat("hi"), "STALE", 0).await;
    gate.reached().await;
    proxy.terminate();
    proxy.refusing().await;
    gate.open();
    let line = proxy.logged("\"message\":\"refresh\"").await;
    assert_eq!(line["cache.stored"], true, "{line}");
    assert!(proxy.exit().await.success());
}

#[tokio::test]
async fn a_stale_entry_on_the_disk_is_fetched_anew_too() {
    let (up, mut before) = house(AGEING).await;
    ask(&before, &chat("hi"), "MISS", 0).await;
    before.terminate();
    before.ended().await;
    let after = proxy(&up).with(AGEING).in_home_of(&before);
    let after = after.start().await;
    let stale = after.send(&chat("hi")).await;
    assert_verdict(&stale, "STALE");
    assert_eq!(stale.expect("x-cache-tier"), "disk");
    refreshed(&after, "stored", 1.0).await;
    ask(&after, &chat("hi"), "STALE", 1).await;
}

/// What is stored is stale at once, and may stand in for a failure for a day.
const FAILING: &str = "[cache]\nttl = \"1ns\"";

/// An upstream that answers once and fails from then on, and a proxy in front of it.
async fn failing(reply: Reply, config: &str) -> (Upstream, Proxy) {
    let up = upstream().answers(completion("kept")).answers(reply);
    let up = up.start().await;
    let proxy = proxy(&up).honest().with(config).start().await;
    assert_verdict(&proxy.send(&chat("hi")).await, "MISS");
    (up, proxy)
}

#[tokio::test]
async fn a_stale_entry_stands_in_for_an_upstream_that_fails() {
    for (reply, asked) in [
        (status(500), 2),
        (status(503).body("busy"), 2),
        // On a connection that was idle before, so it may have been closed for that: it is sent once more.
        (completion("").cut_before_the_head(), 3),
    ] {
        let (up, proxy) = failing(reply, FAILING).await;
        let answer = proxy.send(&chat("hi")).await;
        assert_verdict(&answer, "STALE");
        assert_eq!(answer.expect("x-cache-reason"), "upstream_failed");
        assert_eq!(answer.body, completion("kept").bytes());
        assert_eq!(up.count(), asked, "the upstream was asked first");
    }
}

#[tokio::test]
async fn nothing_stands_in_for_a_refusal() {
    for code in [400, 401, 404, 429] {
        let (_up, proxy) = failing(status(code), FAILING).await;
        assert_eq!(proxy.send(&chat("hi")).await.status, code);
    }
}

#[tokio::test]
async fn caller_rule_and_configuration_say_in_this_order_how_long_an_entry_stands_in() {
    let none = "[cache]\nttl = \"1ns\"\nstale_if_error = \"off\"";
    let rule = |value: &str| format!("[[rule]]\nstale_if_error = \"{value}\"");
    for (config, directive, status_code) in [
        (FAILING.to_owned(), "", 200),
        (none.to_owned(), "", 503),
        (format!("{none}\n{}", rule("1h")), "", 200),
        (format!("{FAILING}\n{}", rule("off")), "", 503),
        (none.to_owned(), "stale-if-error=3600", 200),
        (format!("{none}\n{}", rule("1h")), "stale-if-error=0", 503),
        (format!("{none}\nallow = []"), "stale-if-error=3600", 503),
        // No time is longer than `max_ttl`.
        (
            format!("{FAILING}\nmax_ttl = \"1ns\""),
            "stale-if-error=3600",
            503,
        ),
        // Nor does it count for who asks for something new.
        (FAILING.to_owned(), "no-cache", 503),
        (FAILING.to_owned(), "max-age=0", 503),
        (FAILING.to_owned(), "min-fresh=1", 503),
    ] {
        let (_up, proxy) = failing(status(503), &config).await;
        let call = chat("hi").header("Cache-Control", directive);
        let answer = proxy.send(&call).await;
        assert_eq!(answer.status, status_code, "{config} {directive}");
    }
}

#[tokio::test]
async fn a_lifetime_of_nothing_is_not_stored() {
    let (up, proxy) = house("").await;
    let call = chat("hi").header("X-Cache-TTL", "0");
    for number in 0..2 {
        ask(&proxy, &call, "MISS", number).await;
        let line = proxy.call_line(number + 1).await;
        assert_eq!(line["cache.not_stored"], "no_lifetime");
    }
    assert_eq!(up.count(), 2);
}

#[tokio::test]
async fn another_key_version_is_an_empty_key_space() {
    let up = upstream().start().await;
    let mut before = proxy(&up).start().await;
    assert_verdict(&before.send(&chat("hi")).await, "MISS");
    for (version, verdict) in [("2", "MISS"), ("2", "HIT"), ("", "HIT")] {
        before.terminate();
        before.ended().await;
        let config = format!("[key]\nversion = \"{version}\"");
        let next = proxy(&up).with(&config).in_home_of(&before).start().await;
        assert_verdict(&next.send(&chat("hi")).await, verdict);
        before = next;
    }
    assert_eq!(up.count(), 2);
}
