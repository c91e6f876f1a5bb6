//! The connections to an upstream: how many are kept, and how long one that is silent is believed in.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncWriteExt, copy, copy_bidirectional, sink},
    net::{TcpListener, TcpStream},
};

use crate::support::{
    client::{assert_refused, request},
    proxy::proxy_to,
    spawn,
    upstream::{Upstream, upstream},
};

/// Starts a counter of connections in front of `up`; returns its base URL.
async fn counted(up: &Upstream, count: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let behind = up.addr;
    spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            spawn(async move {
                let mut server = TcpStream::connect(behind).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    format!("http://{addr}/v1")
}

#[tokio::test]
async fn a_connection_is_used_again_unless_none_is_to_be_kept() {
    for (settings, connections) in [("pool_max_idle = 1", 1), ("pool_max_idle = 0", 3)] {
        let up = upstream().start().await;
        let count = Arc::new(AtomicUsize::new(0));
        let proxy = proxy_to(&counted(&up, count.clone()).await).with_upstream(settings);
        let proxy = proxy.start().await;
        for _ in 0..3 {
            assert_eq!(proxy.send(&request("GET", "/v1/models")).await.status, 200);
        }
        assert_eq!(count.load(Ordering::SeqCst), connections, "{settings}");
    }
}

/// Starts a peer that reads everything, and says nothing after the beginning of HTTP/2, like one whose network was
/// unplugged; it counts its connections. Returns its base URL.
async fn silent(count: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            spawn(async move {
                let _ = stream.write_all(SETTINGS).await;
                let _ = copy(&mut stream, &mut sink()).await;
            });
        }
    });
    format!("http://{addr}/v1")
}

#[tokio::test]
async fn a_connection_of_http2_that_gives_no_sign_of_life_is_given_up() {
    let count = Arc::new(AtomicUsize::new(0));
    let proxy = proxy_to(&silent(count.clone()).await)
        .with_upstream("http = \"2\"\nkeepalive = \"1s\"\ntimeouts = { first_byte = \"off\" }")
        .start()
        .await;
    let answer = proxy.send(&request("GET", "/v1/models")).await;
    assert_refused(&answer, 502, "upstream_broken");
    let connections = count.load(Ordering::SeqCst);
    assert_eq!(
        connections, 1,
        "it may have been heard, and is not repeated"
    );
}

/// A frame of settings that leaves all at their defaults (RFC 9113 §6.5).
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
