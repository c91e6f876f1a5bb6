//! How long a client may take: to send what it announced, to read what it asked for, to say nothing at all.
//!
//! Time passes here by an event: a connection that says nothing is closed when the idle time is over, so whoever waits
//! for that knows that as much time has passed for everybody else.

use crate::support::{
    client::{Exchange, request},
    proxy::proxy,
    upstream::{status, upstream},
};

/// An impatient Refrain.
const SHORT: &str = "[limits]\nheader = \"200ms\"\nidle = \"300ms\"";

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
