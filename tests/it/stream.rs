//! Streams: every byte at once and unchanged, and a broken one is never taken for a whole one.

use crate::support::{
    client::{End, Request, assert_verdict, chat, chat_stream, send_h2},
    gate,
    miser::{Miser, WINDOW},
    proxy::{Proxy, proxy},
    upstream::{Reply, Upstream, chunk, completion, sse, status, stream, upstream},
};

async fn house(reply: Reply) -> (Upstream, Proxy) {
    let up = upstream().answers(reply).start().await;
    let proxy = proxy(&up).start().await;
    (up, proxy)
}

/// Asserts that `call` was not stored, for `reason`, and that it is asked anew.
async fn assert_not_stored(up: &Upstream, proxy: &Proxy, call: &Request, reason: &str) {
    let line = proxy.call_line(up.count()).await;
    assert_eq!(line["cache.not_stored"], reason, "{line}");
    let before = up.count();
    assert_verdict(&proxy.send(call).await, "MISS");
    assert_eq!(up.count(), before + 1);
}

#[tokio::test]
async fn a_cut_stream_is_aborted_after_every_byte_before_the_cut() {
    let whole = stream(&["a", "b", "c", "d", "e"]);
    for reply in [whole.clone().cut_after(5), whole.clone().closed_after(5)] {
        let (up, proxy) = house(reply).await;
        let call = chat_stream("hi");
        let answer = proxy.send(&call).await;
        assert_eq!((answer.status, &answer.end), (200, &End::Aborted));
        assert_eq!(answer.body, whole.first(5));
        assert_not_stored(&up, &proxy, &call, "broken").await;
    }
}

#[tokio::test]
async fn a_cut_stream_is_reset_on_http2_after_every_byte_before_the_cut() {
    let whole = stream(&["a", "b", "c", "d", "e"]);
    for reply in [whole.clone().cut_after(5), whole.clone().closed_after(5)] {
        let (up, proxy) = house(reply).await;
        let answer = send_h2(proxy.addr, &chat_stream("hi")).await;
        assert_eq!((answer.status, &answer.end), (200, &End::Aborted));
        assert_eq!(answer.body, whole.first(5));
        assert_not_stored(&up, &proxy, &chat_stream("hi"), "broken").await;
    }
}

#[tokio::test]
async fn a_client_on_http2_may_take_its_time_for_what_came_before_a_cut() {
    // The last piece begins where the client has room, and ends where it has none.
    let word = "x".repeat(2 * WINDOW + 100 - stream(&[""]).first(2).len());
    let whole = stream(&[word.as_str()]);
    let up = upstream().answers(whole.clone().cut_after(2)).start().await;
    for target in ["/v1/chat/completions", "/v1/passed"] {
        let proxy = proxy(&up).with("[limits]\nidle = \"1s\"").start().await;
        let call = chat_stream("hi").at(target);
        let mut miser = Miser::open(proxy.addr, &call).await;
        let mut left = whole.first(2);
        while left.len() > WINDOW {
            let rest = left.split_off(WINDOW);
            assert!(miser.read(WINDOW).await == left, "other bytes");
            proxy.idle_time().await;
            miser.grant();
            left = rest;
        }
        assert!(miser.read(left.len()).await == left, "other bytes");
        assert!(miser.ends_by_reset().await);
    }
}

#[tokio::test]
async fn a_cut_stream_is_no_clean_end_on_http_1_0() {
    let whole = stream(&["a", "b", "c", "d", "e"]);
    for reply in [whole.clone().cut_after(5), whole.clone().closed_after(5)] {
        let (_up, proxy) = house(reply).await;
        let exchange = chat_stream("hi").open_http10(proxy.addr).await;
        let answer = exchange.finish().await;
        assert_eq!((answer.status, &answer.end), (200, &End::Aborted));
        assert_eq!(answer.body, whole.first(5));
    }
    let (_up, proxy) = house(whole.clone()).await;
    let exchange = chat_stream("hi").open_http10(proxy.addr).await;
    let answer = exchange.finish().await;
    assert_eq!((answer.body, answer.end), (whole.bytes(), End::Unframed));
}

#[tokio::test]
async fn what_came_before_a_cut_was_delivered_before_it() {
    let whole = stream(&["a", "b", "c", "d", "e"]);
    let gate = gate();
    let (_up, proxy) = house(whole.clone().pausing_after(5, &gate).cut_after(6)).await;
    let mut exchange = proxy.open(&chat_stream("hi")).await;
    let prefix = whole.first(5);
    assert_eq!(exchange.body(prefix.len()).await, prefix);
    gate.open();
    let answer = exchange.finish().await;
    assert_eq!((answer.body, answer.end), (prefix, End::Aborted));
}

#[tokio::test]
async fn a_clean_end_without_an_end_mark_passes_unchanged_and_unstored() {
    let events = [
        chunk(&serde_json::json!({"content": "a"}), None),
        ": bye\n\n".to_owned(),
    ];
    let reply = sse(events);
    let (up, proxy) = house(reply.clone()).await;
    let answer = proxy.send(&chat_stream("hi")).await;
    assert_eq!((&answer.body, &answer.end), (&reply.bytes(), &End::Clean));
    assert_not_stored(&up, &proxy, &chat_stream("hi"), "incomplete").await;
}

#[tokio::test]
async fn a_close_delimited_stream_counts_by_its_end_mark() {
    let whole = stream(&["a"]).close_delimited();
    let (_up, proxy) = house(whole.clone()).await;
    let answer = proxy.send(&chat_stream("hi")).await;
    assert_eq!((answer.body, answer.end), (whole.bytes(), End::Clean));
    assert_verdict(&proxy.send(&chat_stream("hi")).await, "HIT");

    let (up, proxy) = house(whole.clone().closed_after(3)).await;
    let answer = proxy.send(&chat_stream("hi")).await;
    assert_eq!((answer.body, answer.end), (whole.first(3), End::Aborted));
    assert_not_stored(&up, &proxy, &chat_stream("hi"), "incomplete").await;
}

#[tokio::test]
async fn a_length_that_is_a_lie_is_a_break() {
    let whole = completion("hello");
    let (up, proxy) = house(whole.clone().claiming(whole.bytes().len() + 1)).await;
    let answer = proxy.send(&chat("hi")).await;
    assert_eq!((answer.body, answer.end), (whole.bytes(), End::Aborted));
    assert_not_stored(&up, &proxy, &chat("hi"), "broken").await;
}

#[tokio::test]
async fn a_plain_answer_cut_in_the_middle_is_aborted() {
    let whole = completion("hello");
    let bytes = whole.bytes();
    let (head, tail) = bytes.split_at(30);
    let reply = sse([head, tail])
        .content_type("application/json")
        .cut_after(1);
    let (up, proxy) = house(reply).await;
    let answer = proxy.send(&chat("hi")).await;
    assert_eq!((answer.body.as_slice(), answer.end), (head, End::Aborted));
    assert_not_stored(&up, &proxy, &chat("hi"), "broken").await;
}

#[tokio::test]
async fn one_byte_at_a_time_is_the_same_stream() {
    let reply = stream(&["Grüße", "\r\n", "😀"])
        .header("X-Odd", "1")
        .bytewise();
    let (up, proxy) = house(reply.clone()).await;
    for verdict in ["MISS", "HIT"] {
        let answer = proxy.send(&chat_stream("hi")).await;
        assert_verdict(&answer, verdict);
        assert_eq!((answer.body, answer.end), (reply.bytes(), End::Clean));
    }
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn comments_odd_line_ends_and_vendor_fields_survive_a_replay() {
    let reply = sse([
        ": keep-alive\n\n",
        "event: x\r\nid: 7\r\nretry: 10\r\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"hm\"}}]}\r\n\r\n",
        "data:{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\r\r",
        "data: [DONE]\n\n",
    ]);
    let (up, proxy) = house(reply.clone()).await;
    for verdict in ["MISS", "HIT"] {
        let answer = proxy.send(&chat_stream("hi")).await;
        assert_verdict(&answer, verdict);
        assert_eq!(answer.body, reply.bytes());
    }
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn an_error_event_passes_unchanged_and_unstored() {
    let reply = sse([
        chunk(&serde_json::json!({"content": "a"}), None),
        "data: {\"error\":{\"message\":\"overloaded\"}}\n\n".to_owned(),
        "data: [DONE]\n\n".to_owned(),
    ]);
    let (up, proxy) = house(reply.clone()).await;
    let answer = proxy.send(&chat_stream("hi")).await;
    assert_eq!((&answer.body, &answer.end), (&reply.bytes(), &End::Clean));
    assert_not_stored(&up, &proxy, &chat_stream("hi"), "error_object").await;
}

#[tokio::test]
async fn an_answer_in_the_other_mode_passes_and_is_not_stored() {
    for (call, reply) in [
        (chat_stream("hi"), completion("a")),
        (chat("hi"), stream(&["a"])),
    ] {
        let (up, proxy) = house(reply.clone()).await;
        let answer = proxy.send(&call).await;
        assert_eq!((&answer.body, &answer.end), (&reply.bytes(), &End::Clean));
        assert_not_stored(&up, &proxy, &call, "other_mode").await;
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_holds_nobody_up() {
    let long = vec![b'x'; 64 * 1024 * 1024];
    let up = upstream().by(move |seen, _| match seen.target.as_str() {
        "/v1/long" => status(200).body(long.clone()),
        _ => completion("hello"),
    });
    let up = up.start().await;
    let proxy = proxy(&up).start().await;
    let stalled = proxy.open(&chat("hi").at("/v1/long")).await;
    up.arrived(1).await;
    for call in 0..20 {
        let answer = proxy.send(&chat(&format!("call {call}"))).await;
        assert_eq!((answer.status, answer.end), (200, End::Clean));
    }
    drop(stalled);
    up.abandoned(0).await;
}

#[tokio::test]
async fn a_reader_that_stalls_a_stream_beyond_the_cap_is_let_go() {
    let word = "x".repeat(64 * 1024);
    let reply = stream(&[word.as_str(); 256]);
    let up = upstream()
        .answers(reply)
        .answers(completion("hello"))
        .start()
        .await;
    let config = "[cache]\nmax_entry = \"64KiB\"\nstall = \"200ms\"";
    let proxy = proxy(&up).with(config).start().await;
    let _stalled = chat_stream("hi").open_narrow(proxy.addr).await;
    let line = proxy.call_with("error.kind", "client_stalled").await;
    assert_eq!(line["http.response.status_code"], 200);
    assert_eq!(proxy.send(&chat("other")).await.status, 200);
}

#[tokio::test]
async fn a_stream_is_finished_and_stored_although_its_client_hung_up() {
    let reply = stream(&["a", "b", "c"]);
    let gate = gate();
    let (up, proxy) = house(reply.clone().pausing_after(2, &gate)).await;
    let mut exchange = proxy.open(&chat_stream("hi")).await;
    exchange.body(reply.first(2).len()).await;
    drop(exchange);
    gate.open();
    let answer = proxy.send(&chat_stream("hi")).await;
    assert_eq!((answer.body, answer.end), (reply.bytes(), End::Clean));
    assert_verdict(&proxy.send(&chat_stream("hi")).await, "HIT");
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn a_stream_is_cancelled_with_its_client_where_the_operator_says_so() {
    let reply = stream(&["a", "b", "c"]);
    let up = upstream()
        .answers(reply.clone().silent_after(2))
        .answers(reply.clone())
        .start()
        .await;
    let proxy = proxy(&up)
        .with("[cache]\non_disconnect = \"cancel\"")
        .start()
        .await;
    let mut exchange = proxy.open(&chat_stream("hi")).await;
    exchange.body(reply.first(2).len()).await;
    drop(exchange);
    up.abandoned(0).await;
    let answer = proxy.send(&chat_stream("hi")).await;
    assert_verdict(&answer, "MISS");
    assert_eq!(answer.body, reply.bytes());
}

#[tokio::test]
async fn a_call_is_cancelled_with_its_client_before_the_head_too() {
    let gate = gate();
    let up = upstream()
        .answers(completion("hello").after(&gate))
        .start()
        .await;
    let proxy = proxy(&up)
        .with("[cache]\non_disconnect = \"cancel\"")
        .start()
        .await;
    let exchange = proxy.open(&chat("hi")).await;
    up.arrived(1).await;
    drop(exchange);
    up.abandoned(0).await;
}

#[tokio::test]
async fn an_unkeyed_stream_ends_upstream_with_its_client() {
    let (up, proxy) = house(stream(&["a", "b"]).silent_after(2)).await;
    let mut exchange = proxy.open(&chat_stream("hi").at("/v1/responses")).await;
    exchange.body(1).await;
    drop(exchange);
    up.abandoned(0).await;
}
