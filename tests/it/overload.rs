//! More clients than there may be, or than the system has room for: they wait, and who is there does not notice.

use tokio::net::TcpStream;

use crate::support::{
    client::{Exchange, chat, chat_stream, request},
    gate,
    proxy::proxy,
    upstream::{completion, status, stream, upstream},
};

#[tokio::test]
async fn beyond_the_limit_of_connections_clients_wait_and_are_not_refused() {
    let gate = gate();
    let up = upstream().answers(completion("hello").after(&gate));
    let up = up.start().await;
    let proxy = proxy(&up).with("[limits]\nconnections = 2").start().await;
    let first = proxy.open(&chat("first")).await;
    let second = proxy.open(&chat("second")).await;
    up.arrived(2).await;
    let third = proxy.open(&chat("third")).await;
    proxy.counted("refrain_accept_pauses_total", 1.0).await;
    let line = proxy.logged("accepting pauses").await;
    assert_eq!(line["level"], "WARN", "{line}");
    assert_eq!(up.count(), 2);
    proxy.assert_metric("refrain_connections", &[], 2).await;
    assert_eq!(proxy.admin("/readyz").await.status, 200);
    gate.open();
    assert_eq!(first.finish().await.status, 200);
    assert_eq!(third.finish().await.status, 200);
    assert_eq!(second.finish().await.status, 200);
}

#[tokio::test]
async fn at_the_limit_of_connections_the_end_does_not_reset_those_who_wait_for_a_place() {
    let gate = gate();
    let up = upstream().answers(completion("hello").after(&gate));
    let up = up.start().await;
    let proxy = proxy(&up).with("[limits]\nconnections = 1").start().await;
    let served = proxy.open(&chat("first")).await;
    up.arrived(1).await;
    let parked = proxy.open(&chat("second")).await;
    proxy.counted("refrain_accept_pauses_total", 1.0).await;
    let queued = [
        proxy.open(&chat("third")).await,
        proxy.open(&chat("fourth")).await,
    ];
    proxy.terminate();
    proxy.refusing().await;
    assert_eq!(up.count(), 1);
    gate.open();
    assert_eq!(served.finish().await.status, 200);
    assert_eq!(parked.finish().await.status, 200);
    for waiting in queued {
        assert_eq!(waiting.finish().await.status, 200);
    }
    assert_eq!(proxy.exit().await.code(), Some(0));
}

#[tokio::test]
async fn connections_that_do_nothing_give_their_places_back_when_the_idle_time_is_over() {
    let up = upstream().start().await;
    let limits = "[limits]\nconnections = 1\nidle = \"2s\"";
    let proxy = proxy(&up).with(limits).start().await;
    let _silent = Exchange::raw(proxy.addr, b"").await;
    assert_eq!(proxy.send(&chat("hi")).await.status, 200);
}

#[tokio::test]
async fn a_tunnel_counts_as_the_connection_that_it_is() {
    let switch = status(101)
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade");
    let up = upstream()
        .answers(switch.echoing())
        .answers(completion("hello"));
    let up = up.start().await;
    let proxy = proxy(&up).with("[limits]\nconnections = 1").start().await;
    let call = request("GET", "/v1/realtime")
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade");
    let mut tunnel = proxy.open(&call).await;
    tunnel.head().await;
    tunnel.write(b"ping").await;
    assert_eq!(tunnel.tunnelled(4).await, b"ping");
    let waiting = proxy.open(&chat("hi")).await;
    proxy.counted("refrain_accept_pauses_total", 1.0).await;
    assert_eq!(up.count(), 1);
    drop(tunnel);
    assert_eq!(waiting.finish().await.status, 200);
}

#[tokio::test]
async fn without_descriptors_streams_go_on_and_accepting_begins_again_by_itself() {
    let gate = gate();
    let reply = stream(&["a", "b", "c"]);
    let up = upstream()
        .answers(reply.clone().pausing_after(2, &gate))
        .answers(completion("after"))
        .start()
        .await;
    let few = "ulimit -n 100; exec \"$0\" \"$@\"";
    let proxy = proxy(&up).by_shell(few).start().await;
    let mut running = proxy.open(&chat_stream("hi")).await;
    running.body(1).await;
    let mut silent = Vec::new();
    for _ in 0..120 {
        silent.push(TcpStream::connect(proxy.addr).await.unwrap());
    }
    proxy.logged("no connection accepted").await;
    gate.open();
    assert_eq!(running.finish().await.body, reply.bytes());
    drop(silent);
    assert_eq!(proxy.send(&chat("ho")).await.status, 200);
}

#[tokio::test]
async fn no_call_of_a_flood_is_lost_and_none_waits_for_ever() {
    let gate = gate();
    let up = upstream().answers(completion("hello").after(&gate));
    let up = up.start().await;
    let limit = "max_concurrent = 4\nmax_wait = \"300ms\"";
    let proxy = proxy(&up).with_upstream(limit).start().await;
    let mut exchanges = Vec::new();
    for number in 0..200 {
        exchanges.push(proxy.open(&chat(&number.to_string())).await);
    }
    proxy.counted("refrain_limit_shed_total", 196.0).await;
    assert_eq!(up.count(), 4);
    gate.open();
    let mut statuses = std::collections::BTreeMap::new();
    for exchange in exchanges {
        *statuses.entry(exchange.finish().await.status).or_insert(0) += 1;
    }
    assert_eq!(statuses, [(200, 4), (503, 196)].into());
    proxy.assert_metric("refrain_calls_under_way", &[], 0).await;
}
