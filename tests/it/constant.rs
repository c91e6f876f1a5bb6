//! What the operator has every call take to an upstream.

use crate::support::{
    client::{assert_verdict, chat, request},
    proxy::proxy,
    upstream::upstream,
};

#[tokio::test]
async fn constant_headers_go_in_place_of_the_clients_and_are_no_part_of_the_key() {
    let up = upstream().start().await;
    let proxy = proxy(&up)
        .with_upstream("api_key = \"sk-ours\"\nheaders = { X-Team = \"research\", x-api-key = \"sk-gateway\" }")
        .start()
        .await;
    let call = chat("hi")
        .header("X-Team", "theirs")
        .header("X-Api-Key", "theirs");
    assert_verdict(&proxy.send(&call).await, "MISS");
    let sent = up.last();
    assert_eq!(sent.headers.all("x-team"), ["research"]);
    assert_eq!(sent.headers.all("x-api-key"), ["sk-gateway"]);
    assert_eq!(sent.headers.all("authorization"), ["Bearer sk-ours"]);
    assert_verdict(&proxy.send(&call).await, "HIT");

    let other = request("GET", "/v1/files?limit=1");
    assert_eq!(proxy.send(&other).await.status, 200);
    assert_eq!(
        up.last().headers.all("x-team"),
        ["research"],
        "with every call"
    );
    let printed = proxy.printed();
    assert!(
        !printed.contains("sk-") && !printed.contains("research"),
        "{printed}"
    );
}

#[tokio::test]
async fn no_trace_brings_a_secret_header_back() {
    let up = upstream().start().await;
    let proxy = proxy(&up)
        .with_upstream("api_key = \"sk-ours\"\nheaders = { x-api-key = \"sk-gateway\", x-team = \"research\" }")
        .start()
        .await;
    proxy.send(&request("TRACE", "/v1/models")).await;
    let sent = up.last().headers;
    assert_eq!(sent.all("x-api-key"), Vec::<&str>::new());
    assert_eq!(sent.all("authorization"), Vec::<&str>::new());
    assert_eq!(sent.all("x-team"), ["research"]);
}
