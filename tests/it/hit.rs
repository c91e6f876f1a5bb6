//! The second call is answered by Refrain: byte for byte, with an account of itself, without asking the upstream.

use serde_json::json;

use crate::support::{
    client::{Answer, End, Request, asking, asking_bytes, assert_verdict, chat, chat_stream},
    proxy::{Proxy, proxy},
    upstream::{Reply, Upstream, completion, stream, upstream},
};

async fn house(reply: Reply) -> (Upstream, Proxy) {
    let up = upstream().answers(reply).start().await;
    let proxy = proxy(&up).start().await;
    (up, proxy)
}

/// Sends `request` twice and returns the MISS and the HIT.
async fn cold_and_warm(proxy: &Proxy, request: &Request) -> (Answer, Answer) {
    let cold = proxy.send(request).await;
    assert_verdict(&cold, "MISS");
    let warm = proxy.send(request).await;
    assert_verdict(&warm, "HIT");
    (cold, warm)
}

#[tokio::test]
async fn the_second_call_is_a_hit_byte_for_byte() {
    let reply = completion("hello");
    for request in [
        chat("plain"),
        chat("anonymous").without("authorization"),
        asking(&json!({"model": "m", "messages": [], "temperature": 0.7})),
        asking(&json!({"model": "m", "messages": [], "temperature": 2, "seed": 1}))
            .without("authorization"),
    ] {
        let (up, proxy) = house(reply.clone()).await;
        let (cold, warm) = cold_and_warm(&proxy, &request).await;
        assert_eq!(cold.body, reply.bytes());
        assert_eq!(warm.body, reply.bytes());
        assert_eq!((cold.status, warm.status), (200, 200));
        assert_eq!((cold.end, warm.end), (End::Clean, End::Clean));
        assert_eq!(up.count(), 1);
    }
}

#[tokio::test]
async fn the_second_stream_is_a_hit_byte_for_byte() {
    let reply = stream(&["Hel", "lo", "!"]);
    for request in [chat_stream("s"), chat_stream("s").without("authorization")] {
        let (up, proxy) = house(reply.clone()).await;
        let (cold, warm) = cold_and_warm(&proxy, &request).await;
        assert_eq!(cold.body, reply.bytes());
        assert_eq!(warm.body, reply.bytes());
        assert_eq!(warm.header("content-type"), Some("text/event-stream"));
        assert_eq!((cold.end, warm.end), (End::Clean, End::Clean));
        assert_eq!(up.count(), 1);
    }
}

#[tokio::test]
async fn a_hit_says_how_old_it_is_where_it_lay_and_how_long_it_lasts() {
    let (_up, proxy) = house(completion("hello")).await;
    let (cold, warm) = cold_and_warm(&proxy, &chat("hi")).await;
    assert!(cold.expect("cache-status").starts_with("refrain; fwd=miss"));
    assert_eq!(cold.header("age"), None);
    assert_eq!(cold.expect("x-upstream"), "openai");
    assert!(warm.expect("age").parse::<u64>().unwrap() < 60);
    assert_eq!(warm.expect("x-cache-tier"), "memory");
    let ttl: u64 = warm.expect("x-cache-ttl").parse().unwrap();
    assert!((86_000..=86_400).contains(&ttl), "{ttl}");
    let status = warm.expect("cache-status");
    assert_eq!(status, format!("refrain; hit; ttl={ttl}; detail=memory"));
}

#[tokio::test]
async fn both_calls_name_the_same_key() {
    let (_up, proxy) = house(completion("hello")).await;
    let (cold, warm) = cold_and_warm(&proxy, &chat("hi")).await;
    let key = cold.expect("x-cache-key");
    assert_eq!(key.len(), 64);
    assert!(key.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(warm.expect("x-cache-key"), key);
    let other = proxy.send(&chat("ho")).await;
    assert_ne!(other.expect("x-cache-key"), key);
}

#[tokio::test]
async fn a_hit_leaves_out_the_headers_that_belonged_to_the_first_exchange() {
    let mut reply = completion("hello")
        .header("X-Vendor", "kept")
        .header("openai-version", "1");
    for name in OF_ONE_EXCHANGE {
        reply = reply.header(name, "17");
    }
    let (_up, proxy) = house(reply.header("X-Request-Id", "req-first")).await;
    let (cold, warm) = cold_and_warm(&proxy, &chat("hi")).await;
    assert_eq!(cold.expect("x-request-id"), "req-first");
    for name in OF_ONE_EXCHANGE {
        assert!(
            cold.headers.all(name).contains(&"17"),
            "a miss passes `{name}`"
        );
        assert!(
            !warm.headers.all(name).contains(&"17"),
            "a hit repeats `{name}`"
        );
    }
    assert_eq!(warm.expect("x-vendor"), "kept");
    assert_eq!(warm.expect("openai-version"), "1");
    assert_ne!(warm.expect("x-request-id"), "req-first");
    assert_eq!(warm.expect("x-cache-origin-request-id"), "req-first");
}

#[tokio::test]
async fn every_hit_has_a_request_id_of_its_own() {
    let (_up, proxy) = house(completion("hello")).await;
    let (_, first) = cold_and_warm(&proxy, &chat("hi")).await;
    let second = proxy.send(&chat("hi")).await;
    assert_ne!(first.expect("x-request-id"), second.expect("x-request-id"));
}

#[tokio::test]
async fn headers_that_come_twice_are_kept_in_order_on_a_hit() {
    let reply = completion("hello")
        .header("X-Part", "one")
        .header("X-Part", "two");
    let (_up, proxy) = house(reply).await;
    let (cold, warm) = cold_and_warm(&proxy, &chat("hi")).await;
    assert_eq!(cold.headers.all("x-part"), ["one", "two"]);
    assert_eq!(warm.headers.all("x-part"), ["one", "two"]);
}

#[tokio::test]
async fn our_cache_status_is_appended_to_the_upstreams() {
    let (_up, proxy) = house(completion("hello").header("Cache-Status", "theirs; hit")).await;
    let cold = proxy.send(&chat("hi")).await;
    let members = cold.headers.all("cache-status").join(", ");
    assert!(
        members.starts_with("theirs; hit, refrain; fwd=miss"),
        "{members}"
    );
}

#[tokio::test]
async fn spelling_does_not_matter_and_meaning_does() {
    let (up, proxy) = house(completion("hello")).await;
    let ask = async |body: &str| proxy.send(&asking_bytes(body)).await;
    assert_verdict(
        &ask(r#"{"model":"m","messages":[],"temperature":1,"x":"é"}"#).await,
        "MISS",
    );
    for same in [
        r#"{ "messages" : [], "x":"\u00e9", "temperature":1.0, "model":"\u006d" }"#,
        r#"{"model":"m","messages":[],"temperature":10e-1,"x":"é","user":"u","metadata":{"a":1}}"#,
        r#"{"model":"m","messages":[],"temperature":1,"x":"é","stream":false}"#,
    ] {
        assert_verdict(&ask(same).await, "HIT");
    }
    for other in [
        r#"{"model":"M","messages":[],"temperature":1,"x":"é"}"#,
        r#"{"model":"m","messages":[],"temperature":1,"x":"é "}"#,
        r#"{"model":"m","messages":[],"temperature":1,"x":"é","unknown":null}"#,
        r#"{"model":"m","messages":[],"temperature":0.1,"x":"é"}"#,
        r#"{"model":"m","messages":[],"temperature":0.1001,"x":"é"}"#,
        r#"{"model":"m","messages":[],"temperature":0.10009,"x":"é"}"#,
    ] {
        assert_verdict(&ask(other).await, "MISS");
    }
    assert_eq!(up.count(), 7);
}

#[tokio::test]
async fn a_keyed_call_asks_for_an_answer_that_is_not_encoded() {
    let (up, proxy) = house(completion("hello")).await;
    proxy
        .send(&chat("hi").header("Accept-Encoding", "gzip, br"))
        .await;
    assert_eq!(up.call(0).headers.all("accept-encoding"), ["identity"]);
    assert_eq!(up.call(0).body, chat("hi").body_bytes());
}

#[tokio::test]
async fn a_hit_needs_no_upstream() {
    let (up, proxy) = house(completion("hello")).await;
    proxy.send(&chat("hi")).await;
    drop(up);
    assert_verdict(&proxy.send(&chat("hi")).await, "HIT");
}

const OF_ONE_EXCHANGE: [&str; 15] = [
    "Set-Cookie",
    "Date",
    "Age",
    "Via",
    "Alt-Svc",
    "Strict-Transport-Security",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-tokens",
    "Retry-After",
    "retry-after-ms",
    "openai-processing-ms",
    "CF-RAY",
    "cf-cache-status",
    "Server-Timing",
    "Access-Control-Allow-Origin",
];
