//! When the upstream fails: an honest error before the first byte, an abort after it, and never an entry.

use tokio::net::{TcpSocket, TcpStream};

use crate::support::{
    client::{End, assert_refused, assert_verdict, chat, chat_stream, request},
    gate,
    proxy::{proxy, proxy_to},
    upstream::{completion, stream, upstream},
};

#[tokio::test]
async fn an_upstream_that_nobody_listens_for_is_a_502() {
    let mut nobody = upstream().start().await;
    nobody.leave().await;
    let proxy = proxy(&nobody).honest().start().await;
    for call in [chat("hi"), chat_stream("hi"), request("GET", "/v1/models")] {
        assert_refused(&proxy.send(&call).await, 502, "upstream_unreachable");
    }
    let line = proxy.call_line(1).await;
    assert_eq!(line["error.kind"], "upstream_unreachable");
    assert_eq!(line["http.response.status_code"], 502);
}

#[tokio::test]
async fn an_upstream_that_hangs_up_or_talks_nonsense_is_a_502() {
    for reply in [
        completion("").cut_before_the_head(),
        completion("").garbled(b""),
        completion("").garbled(b"HTTP/1.1 200 OK\r\ncontent-le"),
        completion("").garbled(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    ] {
        let up = upstream()
            .answers(reply)
            .answers(completion("hello"))
            .start()
            .await;
        let proxy = proxy(&up).honest().start().await;
        assert_refused(&proxy.send(&chat("hi")).await, 502, "upstream_broken");
        let next = proxy.send(&chat("hi")).await;
        assert_verdict(&next, "MISS");
        assert_eq!((next.body, up.count()), (completion("hello").bytes(), 2));
    }
}

#[tokio::test]
async fn no_first_byte_in_time_is_a_504() {
    let never = gate();
    let up = upstream()
        .answers(completion("").after(&never))
        .answers(completion("hello"));
    let up = up.start().await;
    let proxy = proxy(&up)
        .honest()
        .with_timeouts("{ first_byte = \"2s\" }")
        .start()
        .await;
    assert_refused(&proxy.send(&chat("hi")).await, 504, "upstream_timeout");
    up.abandoned(0).await;
    assert_eq!(proxy.call_line(1).await["error.kind"], "upstream_timeout");
    let next = proxy.send(&chat("hi")).await;
    assert_verdict(&next, "MISS");
    assert_eq!(next.body, completion("hello").bytes());
}

/// A listener that accepts nothing: once its queue is full, the system answers no further connection.
#[tokio::test]
async fn no_connection_in_time_is_a_504() {
    const QUEUE: u32 = 1;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(QUEUE).unwrap();
    let address = full.local_addr().unwrap();
    let mut queue = Vec::new();
    for _ in 0..=QUEUE {
        queue.push(TcpStream::connect(address).await.unwrap());
    }
    let proxy = proxy_to(&format!("http://{address}/v1"))
        .honest()
        .with_timeouts("{ connect = \"200ms\" }")
        .start()
        .await;
    for call in [chat("hi"), chat_stream("hi"), request("GET", "/v1/models")] {
        let answer = proxy.send(&call).await;
        assert_refused(&answer, 504, "upstream_timeout");
        assert!(answer.text().contains("200ms"), "{}", answer.text());
    }
    drop(full.accept().await.unwrap());
    assert_eq!(proxy.call_line(1).await["error.kind"], "upstream_timeout");
}

#[tokio::test]
async fn silence_between_events_aborts_the_stream() {
    let whole = stream(&["a", "b", "c"]);
    for call in [chat_stream("hi"), chat_stream("hi").at("/v1/unknown")] {
        let up = upstream()
            .answers(whole.clone().silent_after(3))
            .answers(whole.clone());
        let up = up.start().await;
        let proxy = proxy(&up).with_timeouts("{ idle = \"2s\" }").start().await;
        let answer = proxy.send(&call).await;
        assert_eq!((answer.status, &answer.end), (200, &End::Aborted));
        assert_eq!(answer.body, whole.first(3));
        up.abandoned(0).await;
        let line = proxy.call_line(1).await;
        assert_eq!(line["error.kind"], "upstream_timeout", "{line}");
        assert_eq!(proxy.send(&call).await.body, whole.bytes());
    }
}

#[tokio::test]
async fn the_total_timer_ends_a_stream_that_never_ends() {
    let up = upstream()
        .answers(stream(&["a", "b"]).silent_after(3))
        .start()
        .await;
    let table = "{ idle = \"off\", total = \"3s\" }";
    let proxy = proxy(&up).with_timeouts(table).start().await;
    let answer = proxy.send(&chat_stream("hi")).await;
    assert_eq!((answer.status, answer.end), (200, End::Aborted));
    up.abandoned(0).await;
}

#[tokio::test]
async fn a_failure_is_not_remembered() {
    let up = upstream()
        .answers(completion("").cut_before_the_head())
        .answers(completion("hello"))
        .start()
        .await;
    let proxy = proxy(&up).honest().start().await;
    assert_eq!(proxy.send(&chat("hi")).await.status, 502);
    assert_verdict(&proxy.send(&chat("hi")).await, "MISS");
    assert_verdict(&proxy.send(&chat("hi")).await, "HIT");
}
