//! How long a client may take: to send what it announced, to read what it asked for, to say nothing at all.
//!
//! Time passes here by an event: a connection that says nothing is closed when the idle time is over, so whoever waits
//! for that knows that as much time has passed for everybody else.

use tokio::net::TcpStream;

use crate::support::{
    client::{End, Exchange, assert_refused, assert_verdict, chat, chat_stream, request, send_h2},
    gate,
    miser::{Miser, WINDOW},
    proxy::{Proxy, proxy},
    spawn,
    upstream::{Reply, Seen, completion, status, stream, upstream},
    within,
};

/// An impatient Refrain.
const SHORT: &str = "[limits]\nheader = \"1s\"\nidle = \"2s\"";

#[tokio::test]
async fn a_connection_without_a_call_is_closed_when_the_idle_time_is_over() {
    let up = upstream().start().await;
    let proxy = proxy(&up).with(SHORT).start().await;
    proxy.idle_time().await;
    Exchange::raw(proxy.addr, b"POST /v1/chat/comp")
        .await
        .closed()
        .await;
    assert_eq!(up.count(), 0);
}

#[tokio::test]
async fn a_tunnel_outlives_the_header_and_the_idle_time() {
    let switch = status(101)
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade");
    let up = upstream().answers(switch.echoing()).start().await;
    let proxy = proxy(&up).with(SHORT).start().await;
    let call = request("GET", "/v1/realtime")
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade");
    let mut exchange = proxy.open(&call).await;
    assert!(exchange.head().await.start.starts_with("HTTP/1.1 101"));
    for frame in [b"first", b"later", b"still"] {
        proxy.idle_time().await;
        exchange.write(frame).await;
        assert_eq!(exchange.tunnelled(frame.len()).await, frame);
    }
}

/// A completion that is larger than all buffers between two processes.
fn long() -> Reply {
    completion(&"x".repeat(16 << 20))
}

/// Room for [`long`].
const ROOMY: &str = "[store]\nmemory = \"256MiB\"\n[cache]\nmax_entry = \"32MiB\"";

#[tokio::test]
async fn a_hit_reaches_a_client_that_reads_it_long_after_the_idle_time() {
    let up = upstream().answers(long()).start().await;
    let proxy = proxy(&up).with(SHORT).with(ROOMY).start().await;
    assert_verdict(&proxy.send(&chat("hi")).await, "MISS");
    let mut exchange = proxy.open(&chat("hi")).await;
    exchange.head().await;
    for _ in 0..3 {
        proxy.idle_time().await;
    }
    let answer = exchange.finish().await;
    assert_verdict(&answer, "HIT");
    assert_eq!(answer.end, End::Clean);
    assert!(answer.body == long().bytes(), "the body is another");
}

#[tokio::test]
async fn a_client_that_makes_no_room_for_the_write_time_is_cut_off() {
    let up = upstream().answers(long()).start().await;
    let limits = "[limits]\nwrite = \"200ms\"";
    let proxy = proxy(&up).with(limits).start().await;
    let passed = chat("hi").at("/v1/passed");
    let exchange = proxy.open(&passed).await;
    let line = proxy.call_with("error.kind", "client_stalled").await;
    assert_eq!(line["http.response.status_code"], 200);
    up.abandoned(0).await;
    assert_eq!(exchange.finish().await.end, End::Aborted);
}

#[tokio::test]
async fn a_client_that_does_not_read_a_hit_is_cut_off_too() {
    let up = upstream().answers(long()).start().await;
    let limits = "[limits]\nwrite = \"200ms\"\nidle = \"3s\"";
    let proxy = proxy(&up).with(limits).with(ROOMY).start().await;
    proxy.send(&chat("hi")).await;
    proxy.counted("refrain_stored_total", 1.0).await;
    let mut exchange = proxy.open(&chat("hi")).await;
    exchange.head().await;
    proxy.idle_time().await;
    assert_eq!(exchange.finish().await.end, End::Aborted);
}

#[tokio::test]
async fn a_stream_of_http2_whose_client_takes_nothing_is_reset() {
    let up = upstream().answers(long()).start().await;
    let limits = "[limits]\nwrite = \"400ms\"";
    let proxy = proxy(&up).with(limits).with(ROOMY).start().await;
    let passed = chat("hi").at("/v1/passed");
    let miser = Miser::open_without_room(proxy.addr, &passed).await;
    assert!(miser.ends_by_reset().await);
    up.abandoned(0).await;
    let line = proxy.call_with("error.kind", "client_stalled").await;
    assert_eq!(line["http.response.status_code"], 200);

    assert_verdict(&proxy.send(&chat("hi")).await, "MISS");
    proxy.counted("refrain_stored_total", 1.0).await;
    let mut miser = Miser::open(proxy.addr, &chat("hi")).await;
    miser.read(WINDOW).await;
    assert!(miser.ends_by_reset().await);
    let line = proxy.call_with("cache.verdict", "hit").await;
    assert_eq!(line["error.kind"], "client_stalled", "{line}");
}

#[tokio::test]
async fn a_stream_of_http2_that_waits_for_the_upstream_is_none_that_takes_nothing() {
    let gate = gate();
    let reply = stream(&["a", "b"]);
    let up = upstream()
        .answers(reply.clone().pausing_after(2, &gate))
        .start()
        .await;
    let limits = "[limits]\nwrite = \"200ms\"\nidle = \"1s\"";
    let proxy = proxy(&up).with(limits).start().await;
    let addr = proxy.addr;
    let patient = spawn(async move { send_h2(addr, &chat_stream("hi")).await });
    gate.reached().await;
    proxy.idle_time().await;
    gate.open();
    let answer = patient.await.unwrap();
    assert_eq!((answer.body, answer.end), (reply.bytes(), End::Clean));
}

#[tokio::test]
async fn a_connection_of_http2_that_only_pings_is_closed_when_the_idle_time_is_over() {
    let up = upstream().start().await;
    let proxy = proxy(&up).with(SHORT).start().await;
    let stream = TcpStream::connect(proxy.addr).await.unwrap();
    let (_sender, mut connection) = h2::client::handshake(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let chatting = async { while pings.ping(h2::Ping::opaque()).await.is_ok() {} };
    let closed = async { drop(tokio::join!(connection, chatting)) };
    within("the connection to end", closed).await;
}

#[tokio::test]
async fn a_connection_is_kept_for_the_idle_time_after_an_answer_that_took_none() {
    let up = upstream().start().await;
    let limits = "[limits]\nheader = \"200ms\"\nidle = \"10s\"";
    let proxy = proxy(&up).with(limits).start().await;
    proxy.send(&chat("hi")).await;
    let mut kept = proxy.open(&chat("hi")).await;
    assert_verdict(&kept.next().await, "HIT");
    Exchange::raw(proxy.addr, b"POST /v1/chat/comp")
        .await
        .closed()
        .await;
    kept.write(b"GET /_refrain/healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    assert_eq!(kept.next().await.status, 200);
}

/// Sends half a body until one takes all the room: a call that is quicker than it makes it a stream, which takes none.
async fn half_that_fills(proxy: &Proxy) -> Exchange {
    loop {
        let head = chat("hi").body([]).header("Content-Length", "1000");
        let mut half = head.open_head(proxy.addr).await;
        half.write(&[b' '; 999]).await;
        for _ in 0..5 {
            proxy.send(&request("GET", "/_refrain/healthz")).await;
        }
        let other = proxy.send(&chat("ho")).await;
        if other.header("x-cache-reason") == Some("buffer_full") {
            return half;
        }
    }
}

#[tokio::test]
async fn half_sent_bodies_do_not_keep_the_cache_from_others() {
    let up = upstream().start().await;
    let config = "[key]\nmax_body = \"1KiB\"\n[limits]\nbuffered = \"1KiB\"\nbody = \"2s\"";
    let proxy = proxy(&up).with(config).start().await;
    let mut half = within("a half to take all the room", half_that_fills(&proxy)).await;
    let passed = up.count();
    let answer = half.next().await;
    assert_refused(&answer, 408, "request_timeout");
    assert_eq!(answer.header("connection"), Some("close"));
    half.closed().await;
    assert_eq!(up.count(), passed, "the half went on");
    assert_verdict(&proxy.send(&chat("hi")).await, "MISS");
    assert_verdict(&proxy.send(&chat("hi")).await, "HIT");
}

#[tokio::test]
async fn a_half_sent_upload_is_given_up_on_both_sides() {
    let up = upstream().start().await;
    let proxy = proxy(&up).with("[limits]\nbody = \"3s\"").start().await;
    let upload = request("POST", "/v1/files").header("Content-Length", "1000");
    let mut upload = upload.open_head(proxy.addr).await;
    upload.write(b"half of it").await;
    let half = |calls: &[Seen]| calls.first().is_some_and(|call| call.body == b"half of it");
    up.until("half of it", half).await;
    assert_refused(&upload.next().await, 408, "request_timeout");
    upload.closed().await;
    let seen = up.last();
    assert_eq!(
        (seen.body.as_slice(), seen.whole),
        (&b"half of it"[..], false)
    );
    assert_eq!(proxy.call_line(1).await["error.kind"], "request_timeout");
}
