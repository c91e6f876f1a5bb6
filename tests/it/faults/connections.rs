//! No connection, or one that is gone before the call is through.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{House, honest};
use crate::support::{
    client::{assert_refused, chat, chat_stream},
    proxy::proxy_to,
    spawn,
    upstream::{completion, stream, upstream},
};

#[tokio::test]
async fn an_upstream_that_refuses_connections_is_a_502_until_it_is_back() {
    for (call, whole) in [
        (honest(chat("hi")), completion("hello")),
        (honest(chat_stream("hi")), stream(&["a"])),
    ] {
        let mut house = House::new(upstream().answers(whole.clone()), "").await;
        house.up.leave().await;
        house
            .assert_refused(&call, 502, "upstream_unreachable")
            .await;
        house.up.come_back();
        house.assert_over(&call, &whole).await;
        assert_eq!(house.up.count(), 1);
    }
}

/// A label of more than 63 characters is no name at all (RFC 1035, 2.3.4): the resolver says so without a network.
#[tokio::test]
async fn an_upstream_whose_name_does_not_resolve_is_a_502() {
    let name = "x".repeat(64);
    let proxy = proxy_to(&format!("http://{name}.invalid/v1")).start().await;
    let answer = proxy.send(&honest(chat("hi"))).await;
    assert_refused(&answer, 502, "upstream_unreachable");
    assert_eq!(
        proxy.call_line(1).await["error.kind"],
        "upstream_unreachable"
    );
}

#[tokio::test]
async fn an_upstream_that_does_not_speak_tls_is_a_502() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let plain = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            drop(stream.write_all(plain).await);
            drop(stream.read(&mut [0; 1024]).await);
        }
    });
    let proxy = proxy_to(&format!("https://{address}/v1")).start().await;
    let answer = proxy.send(&honest(chat("hi"))).await;
    assert_refused(&answer, 502, "upstream_unreachable");
}

#[tokio::test]
async fn a_connection_that_is_reset_as_it_is_made_is_a_502() {
    let whole = completion("hello");
    let script = upstream().slamming(1).answers(whole.clone());
    let house = House::new(script, "").await;
    let call = honest(chat("hi"));
    house.assert_refused(&call, 502, "upstream_broken").await;
    house.assert_over(&call, &whole).await;
}

#[tokio::test]
async fn a_kept_connection_that_the_upstream_has_left_costs_no_call() {
    let mut house = House::new(upstream().answers(completion("hello")), "").await;
    for prompt in ["a", "b", "c"] {
        let answer = house.proxy.send(&honest(chat(prompt))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        house.up.leave().await;
        house.up.come_back();
    }
    assert_eq!((house.up.count(), house.up.connections()), (3, 3));
    assert!((0..3).all(|number| !house.up.call(number).reused));
}
