//! Bodies that two parsers could read differently: forwarded to the byte, never keyed, never a wrong hit.

use crate::support::{
    client::{asking_bytes, assert_bypass, assert_verdict, chat, chat_stream},
    proxy::{Proxy, proxy},
    upstream::{Upstream, completion, upstream},
};

async fn house() -> (Upstream, Proxy) {
    let up = upstream().answers(completion("hello")).start().await;
    let proxy = proxy(&up).start().await;
    (up, proxy)
}

/// Returns a chat body with `member` in it.
fn with(member: &str) -> String {
    format!(r#"{{"model":"m","messages":[],{member}}}"#)
}

#[tokio::test]
async fn a_body_that_cannot_be_keyed_is_forwarded_to_the_byte_and_never_a_hit() {
    let (up, proxy) = house().await;
    let nested = |depth| {
        with(&format!(
            r#""x":{}{}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        ))
    };
    let table: Vec<(Vec<u8>, &str)> = vec![
        (with(r#""seed":1,"seed":2"#).into(), "duplicate_key"),
        (with(r#""s":1,"\u0073":2"#).into(), "duplicate_key"),
        (with(r#""model":"n""#).into(), "duplicate_key"),
        (with(r#""user":"a","user":"b""#).into(), "duplicate_key"),
        (with(r#""x":{"y":[{"z":1,"z":1}]}"#).into(), "duplicate_key"),
        (with(r#""x":"\ud800""#).into(), "lone_surrogate"),
        (with(r#""x":"\udc00\ud800""#).into(), "lone_surrogate"),
        (with(r#""x":1e400"#).into(), "number_range"),
        (with(r#""x":-1e400"#).into(), "number_range"),
        (with(r#""x":1e-400"#).into(), "number_range"),
        (
            [b"\xef\xbb\xbf", with(r#""x":1"#).as_bytes()].concat(),
            "bom",
        ),
        (nested(500).into(), "too_deep"),
        (
            [&b"{\"model\":\"\xff\",\"messages\":[]}"[..]].concat(),
            "invalid_utf8",
        ),
        (with(r#""x":NaN"#).into(), "invalid_json"),
        (with(r#""x":Infinity"#).into(), "invalid_json"),
        (with(r#""x":01"#).into(), "invalid_json"),
        (with(r#""x":+1"#).into(), "invalid_json"),
        (with(r#""x":.5"#).into(), "invalid_json"),
        (with(r#""x":1,"#).into(), "invalid_json"),
        (with("\"x\":\"a\nb\"").into(), "invalid_json"),
        (
            [with(r#""x":1"#).as_bytes(), b" x"].concat(),
            "invalid_json",
        ),
        (b"{".to_vec(), "invalid_json"),
        (b"[]".to_vec(), "not_an_object"),
        (b"null".to_vec(), "not_an_object"),
    ];
    for (index, (body, reason)) in table.iter().enumerate() {
        for call in 0..2 {
            let answer = proxy.send(&asking_bytes(body.clone())).await;
            assert_bypass(&answer, reason);
            assert_eq!(answer.body, completion("hello").bytes());
            assert_eq!(up.count(), 2 * index + call + 1);
            assert_eq!(&up.last().body, body);
        }
    }
}

#[tokio::test]
async fn numbers_that_a_double_cannot_tell_apart_are_two() {
    let (up, proxy) = house().await;
    let bodies = [
        with(r#""seed":9007199254740992"#),
        with(r#""seed":9007199254740993"#),
        with(r#""seed":18446744073709551616"#),
        with(r#""seed":18446744073709551617"#),
        with(r#""x":0.1"#),
        with(r#""x":0.10000000149"#),
        with(r#""x":0.1000000000000000055511151231257827"#),
    ];
    for verdict in ["MISS", "HIT"] {
        for body in &bodies {
            assert_verdict(&proxy.send(&asking_bytes(body.as_str())).await, verdict);
        }
    }
    assert_eq!(up.count(), bodies.len());
    for (index, body) in bodies.iter().enumerate() {
        assert_eq!(up.call(index).body, body.as_bytes());
    }
}

#[tokio::test]
async fn one_number_in_five_spellings_is_one() {
    let (up, proxy) = house().await;
    for number in ["1.50", "1.5", "15e-1", "0.15E+1", "150e-2"] {
        proxy
            .send(&asking_bytes(with(&format!(r#""temperature":{number}"#))))
            .await;
    }
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn an_encoded_body_and_a_conditional_or_partial_request_pass_by() {
    let (up, proxy) = house().await;
    proxy.send(&chat("hi")).await;
    for (name, value, reason) in [
        ("Content-Encoding", "gzip", "encoded_body"),
        ("Range", "bytes=0-1", "conditional"),
        ("If-None-Match", "\"x\"", "conditional"),
        (
            "If-Modified-Since",
            "Sat, 29 Oct 1994 19:43:31 GMT",
            "conditional",
        ),
        ("If-Match", "*", "conditional"),
    ] {
        for call in [chat("hi"), chat_stream("hi")] {
            let answer = proxy.send(&call.header(name, value)).await;
            assert_bypass(&answer, reason);
            assert_eq!(up.last().headers.all(name), [value]);
        }
    }
    assert_eq!(up.count(), 11);
}

#[tokio::test]
async fn a_body_above_the_limit_streams_past_the_cache() {
    let up = upstream().answers(completion("hello")).start().await;
    let proxy = proxy(&up).with("[key]\nmax_body = \"1KiB\"").start().await;
    let large = chat(&"x".repeat(1024));
    for count in 1..=2 {
        let answer = proxy.send(&large).await;
        assert_bypass(&answer, "body_too_large");
        assert_eq!(up.count(), count);
        assert_eq!(up.last().body, large.body_bytes());
    }
    let chunked = large.header("Transfer-Encoding", "chunked");
    let mut exchange = chunked.open_head(proxy.addr).await;
    let size = format!("{:x}\r\n", large_body().len());
    exchange
        .write(&[size.as_bytes(), &large_body(), b"\r\n0\r\n\r\n"].concat())
        .await;
    assert_bypass(&exchange.finish().await, "body_too_large");
    assert_eq!(up.last().body, large_body());
    assert_verdict(&proxy.send(&chat("small")).await, "MISS");
}

#[tokio::test]
async fn stateful_calls_and_live_tools_are_never_keyed() {
    let (up, proxy) = house().await;
    let table = [
        (r#""store":true"#, "stateful"),
        (r#""web_search_options":{}"#, "live_tools"),
        (r#""tools":[{"type":"web_search"}]"#, "live_tools"),
        (r#""search_parameters":{"mode":"auto"}"#, "live_tools"),
        (r#""plugins":[{"id":"web"}]"#, "live_tools"),
        (r#""enable_search":true"#, "live_tools"),
        (r#""Enable_Search":true"#, "live_tools"),
        // Servers in Go read it as `store`.
        (r#""Store":true"#, "live_tools"),
    ];
    for (member, reason) in table {
        for _ in 0..2 {
            assert_bypass(&proxy.send(&asking_bytes(with(member))).await, reason);
        }
    }
    assert_eq!(up.count(), 2 * table.len());
    for member in [
        r#""store":false"#,
        r#""tools":[{"type":"function","function":{"name":"f"}}]"#,
    ] {
        assert_verdict(&proxy.send(&asking_bytes(with(member))).await, "MISS");
        assert_verdict(&proxy.send(&asking_bytes(with(member))).await, "HIT");
    }
}

#[tokio::test]
async fn a_model_that_searches_by_itself_is_never_keyed() {
    let (up, proxy) = house().await;
    let asked = |model| asking_bytes(format!(r#"{{"model":"{model}","messages":[]}}"#));
    let searching = [
        "openai/gpt-4o:online",
        "sonar-pro",
        "perplexity/sonar",
        "gpt-4o-search-preview",
    ];
    for model in searching {
        for _ in 0..2 {
            assert_bypass(&proxy.send(&asked(model)).await, "live_tools");
        }
    }
    assert_eq!(up.count(), 2 * searching.len());
    for model in ["sonaric", "gpt-4o", "research"] {
        assert_verdict(&proxy.send(&asked(model)).await, "MISS");
        assert_verdict(&proxy.send(&asked(model)).await, "HIT");
    }
}

#[tokio::test]
async fn half_a_body_never_reaches_the_upstream_as_a_whole_one() {
    let (up, proxy) = house().await;
    let call = chat("hi").header("Content-Length", "100000");
    let mut exchange = call.open(proxy.addr).await;
    exchange.end_writing().await;
    exchange.closed().await;
    assert_verdict(&proxy.send(&chat("ho")).await, "MISS");
    assert_eq!(up.count(), 1);
    assert_eq!(up.call(0).body, chat("ho").body_bytes());
}

fn large_body() -> Vec<u8> {
    chat(&"x".repeat(1024)).body_bytes().to_vec()
}
