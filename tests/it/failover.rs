//! When an upstream fails before the first byte: the call is made once more, there or elsewhere, and no more than that.

use serde_json::json;

use crate::support::{
    client::{End, asking_bytes, assert_refused, assert_verdict, chat, chat_stream, request},
    proxy::{Proxy, proxy},
    upstream::{Reply, Script, Upstream, chunk, completion, json, sse, status, stream, upstream},
};

#[tokio::test]
async fn a_connection_that_died_idle_costs_a_try_that_nobody_notices() {
    let up = upstream()
        .answers(completion("first"))
        .answers(completion("").cut_before_the_head())
        .answers(completion("second"))
        .start()
        .await;
    let proxy = proxy(&up).start().await;
    assert_verdict(&proxy.send(&chat("one")).await, "MISS");
    let answer = proxy.send(&chat("two")).await;
    assert_verdict(&answer, "MISS");
    assert_eq!(answer.body, completion("second").bytes());
    assert_eq!(up.count(), 3);
    assert_eq!(up.call(1).body, up.call(2).body);
}

#[tokio::test]
async fn what_only_reads_is_sent_again_too_and_what_creates_is_not() {
    for (method, sent, status_code) in [("GET", 3, 200), ("POST", 2, 502)] {
        let up = upstream()
            .answers(json("{}"))
            .answers(status(200).cut_before_the_head())
            .answers(json("{}"))
            .start()
            .await;
        let proxy = proxy(&up).start().await;
        let call = request(method, "/v1/files");
        assert_eq!(proxy.send(&call).await.status, 200);
        assert_eq!(proxy.send(&call).await.status, status_code, "{method}");
        assert_eq!(up.count(), sent, "{method}");
    }
}

#[tokio::test]
async fn a_connection_that_dies_twice_or_in_the_middle_of_an_answer_is_a_failure() {
    for (reply, sent) in [
        (completion("").cut_before_the_head(), 3),
        (completion("").garbled(b"HTTP/1.1 200 OK\r\ncontent-le"), 2),
    ] {
        let up = upstream()
            .answers(completion("first"))
            .answers(reply)
            .answers(completion("").cut_before_the_head())
            .start()
            .await;
        let proxy = proxy(&up).honest().start().await;
        assert_verdict(&proxy.send(&chat("one")).await, "MISS");
        let answer = proxy.send(&chat("two")).await;
        assert_refused(&answer, 502, "upstream_broken");
        assert_eq!(up.count(), sent);
    }
}

/// Two upstreams, and the proxy in front of both: `two` takes over from `one`.
struct House {
    one: Upstream,
    two: Upstream,
    proxy: Proxy,
}

/// A house in which `one` has these `replies`, and `two` says hello.
async fn house(replies: &[Reply]) -> House {
    house_with(replies, completion("of two")).await
}

async fn house_with(replies: &[Reply], of_two: Reply) -> House {
    house_under("", replies, of_two).await
}

/// A house under these settings, too.
async fn house_under(settings: &str, replies: &[Reply], of_two: Reply) -> House {
    let script = replies.iter().cloned().fold(upstream(), Script::answers);
    let one = script.start().await;
    let two = upstream().answers(of_two).start().await;
    let section = |name: &str, up: &Upstream, settings: &str| {
        let base_url = up.base_url();
        format!("[[upstream]]\nname = \"{name}\"\nbase_url = \"{base_url}\"\n{settings}\n")
    };
    let proxy = proxy(&one)
        .with(&section("one", &one, ""))
        .with(&section("two", &two, "api_key = \"sk-two\"\npriority = 1"))
        .with(settings)
        .start()
        .await;
    House { one, two, proxy }
}

/// Once asked, a caller is known: `one` has accepted the credential.
async fn known_house(fault: &Reply) -> House {
    let house = house(&[completion("of one"), fault.clone()]).await;
    let answer = house.proxy.send(&chat("to be known")).await;
    assert_eq!(answer.expect("x-upstream"), "one");
    house
}

#[tokio::test]
async fn the_next_upstream_answers_with_its_own_key_when_the_first_fails() {
    for (fault, reason) in [
        (status(503).body("oops"), "status"),
        (status(429).header("retry-after", "2"), "busy"),
        (completion("").garbled(b"HTTP/1.1 200"), "broken"),
    ] {
        let house = known_house(&fault).await;
        let answer = house.proxy.send(&chat("hi")).await;
        assert_verdict(&answer, "MISS");
        assert_eq!(answer.expect("x-upstream"), "two");
        assert_eq!(answer.body, completion("of two").bytes());
        assert_eq!((house.one.count(), house.two.count()), (2, 1));
        let seen = String::from_utf8(house.two.last().head).unwrap();
        assert!(seen.contains("Bearer sk-two") && !seen.contains("sk-test-alice"));
        let line = house.proxy.call_line(2).await;
        assert_eq!(line["upstream"], "two", "{line}");
        assert_eq!(line["retries"], 1, "{line}");
        assert_eq!(line["retry.reason"], reason, "{line}");
        let proxy = &house.proxy;
        let failed = ["upstream=\"one\"", &format!("outcome=\"{reason}\"")];
        proxy.assert_metric("refrain_tries_total", &failed, 1).await;
        let moved = ["from=\"one\"", "to=\"two\""];
        proxy
            .assert_metric("refrain_failovers_total", &moved, 1)
            .await;
    }
}

#[tokio::test]
async fn nobody_spends_the_operators_key_who_was_never_accepted() {
    let house = house(&[status(500).body("oops")]).await;
    let answer = house.proxy.send(&chat("hi")).await;
    assert_eq!(house.two.count(), 0);
    assert_ne!(answer.body, completion("of two").bytes());
    let skipped = ["upstream=\"two\"", "outcome=\"no_credential\""];
    house
        .proxy
        .counted_with("refrain_tries_total", &skipped, 1.0)
        .await;
}

#[tokio::test]
async fn what_the_upstream_keeps_is_made_once_whyever_it_has_a_key_or_none() {
    let kept = || asking_bytes(r#"{"model":"gpt-test","store":true,"messages":[]}"#);
    let unclear = asking_bytes(r#"{"model":"gpt-test","store":true,"store":true,"messages":[]}"#);
    let bypassing = kept().header("X-Cache-Bypass", "true");
    let partial = kept().header("Range", "bytes=0-");
    for (settings, call, reason) in [
        ("", kept(), "stateful"),
        ("", bypassing, "bypass"),
        ("", unclear, "duplicate_key"),
        ("", partial, "conditional"),
        ("[cache]\nenabled = false", kept(), "disabled"),
        ("[[rule]]\ncache = false", kept(), "rule"),
        ("[[rule]]\ncache = true", kept(), "it has a key"),
    ] {
        let replies = [completion("of one"), status(500)];
        let house = house_under(settings, &replies, completion("of two")).await;
        house.proxy.send(&chat("to be known")).await;
        let answer = house.proxy.send(&call).await;
        let counts = (house.one.count(), house.two.count());
        assert_eq!(counts, (2, 0), "{reason}: {answer:?}");
    }
    let house = known_house(&status(500)).await;
    let bypassing = chat("hi").header("X-Cache-Bypass", "true");
    let answer = house.proxy.send(&bypassing).await;
    assert_eq!(answer.expect("x-upstream"), "two");
}

#[tokio::test]
async fn a_client_error_is_nobody_elses_to_answer() {
    let refusal = status(400).header("x-mine", "1").body("{\"error\":{}}");
    let house = known_house(&refusal).await;
    let answer = house.proxy.send(&chat("hi")).await;
    assert_eq!((answer.status, answer.expect("x-mine")), (400, "1"));
    assert_eq!(answer.body, refusal.bytes());
    assert_eq!(house.two.count(), 0);
}

#[tokio::test]
async fn a_stream_that_begins_with_an_error_fails_over_and_one_with_content_does_not() {
    let role = chunk(&json!({"role": "assistant", "content": ""}), None);
    let error = "data: {\"error\":{\"message\":\"overloaded\",\"code\":503}}\n\n";
    let early = sse([
        ": PROCESSING\n\n".to_owned(),
        role.clone(),
        error.to_owned(),
    ]);
    let whole = stream(&["hel", "lo"]);
    let late = whole.clone().cut_after(3);
    for (fault, cut) in [(early, false), (late, true)] {
        let replies = [completion("of one"), fault.clone()];
        let house = house_with(&replies, whole.clone()).await;
        house.proxy.send(&chat("to be known")).await;
        let answer = house.proxy.send(&chat_stream("hi")).await;
        assert_eq!(answer.status, 200);
        if cut {
            assert_eq!((answer.end, house.two.count()), (End::Aborted, 0));
            assert_eq!(answer.body, whole.first(3));
        } else {
            assert_eq!(answer.expect("x-upstream"), "two");
            assert_eq!((answer.body, answer.end), (whole.bytes(), End::Clean));
        }
    }
}

#[tokio::test]
async fn alone_an_upstream_gets_a_second_try_and_a_429_none() {
    let up = upstream()
        .answers(status(503).body("oops"))
        .answers(completion("hello"))
        .answers(status(429).header("retry-after", "2").body("busy"))
        .start()
        .await;
    let proxy = proxy(&up).with_retries().start().await;
    let answer = proxy.send(&chat("one")).await;
    assert_verdict(&answer, "MISS");
    assert_eq!(answer.body, completion("hello").bytes());
    let busy = proxy.send(&chat("two")).await;
    assert_eq!((busy.status, busy.expect("retry-after")), (429, "2"));
    assert_eq!(busy.body, b"busy");
    assert_eq!(busy.headers.get("x-should-retry"), None);
    assert_eq!(up.count(), 3);
    let retried = ["upstream=\"openai\"", "reason=\"status\""];
    proxy
        .assert_metric("refrain_retries_total", &retried, 1)
        .await;
}

#[tokio::test]
async fn an_answer_that_was_kept_while_another_upstream_failed_is_written_down_as_whole() {
    let refusal = status(503).body("down for maintenance");
    let house = house_with(
        &[completion("of one"), refusal.clone()],
        completion("").cut_before_the_head(),
    )
    .await;
    house.proxy.send(&chat("to be known")).await;
    let call = chat("hi").header("X-Fallback", "error");
    let answer = house.proxy.send(&call).await;
    assert_eq!((answer.status, &answer.body), (503, &refusal.bytes()));
    let line = house.proxy.call_line(2).await;
    assert_eq!(line["error"], json!(null), "{line}");
    assert_eq!(line["retries"], 1, "{line}");
}

#[tokio::test]
async fn a_call_that_nobody_answers_says_how_often_it_was_tried() {
    let dead = || completion("").cut_before_the_head();
    for call in [chat("hi"), chat("hi").header("X-Fallback", "error")] {
        let house = house_with(&[completion("of one"), dead()], dead()).await;
        house.proxy.send(&chat("to be known")).await;
        house.proxy.send(&call).await;
        let line = house.proxy.call_line(2).await;
        assert_eq!(line["retries"], 1, "{line}");
        assert_eq!(line["retry.reason"], "broken", "{line}");
    }
}
