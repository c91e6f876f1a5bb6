//! What Refrain does not understand it forwards untouched, both ways, streaming.

use crate::support::{
    client::{
        Answer, End, Exchange, Request, assert_refused, assert_verdict, chat, chat_stream, request,
        send_h2,
    },
    gate,
    proxy::{Proxy, proxy, proxy_to},
    upstream::{Reply, Upstream, completion, json, sse, status, stream, upstream},
};

async fn house(reply: Reply) -> (Upstream, Proxy) {
    let up = upstream().answers(reply).start().await;
    let proxy = proxy(&up).honest().start().await;
    (up, proxy)
}

#[tokio::test]
async fn every_method_arrives_with_its_body() {
    let (up, proxy) = house(json("{}")).await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "PROPFIND", "QUERY"] {
        let answer = proxy
            .send(&request(method, "/v1/things").body("{not json"))
            .await;
        assert_verdict(&answer, "BYPASS");
        let call = up.last();
        assert_eq!(
            (call.method.as_str(), call.target.as_str()),
            (method, "/v1/things")
        );
        assert_eq!(call.body, b"{not json");
    }
    assert_eq!(up.count(), 7);
}

#[tokio::test]
async fn path_and_query_arrive_exactly_as_sent() {
    let (up, proxy) = house(json("{}")).await;
    for target in [
        "/v1/files/a%2Fb'c",
        "/v1/files/%E4%BD%A0?x=%20'&y[]=1&y[]=2&z=a+b",
        "/v1/files?",
        "/v1//double//slash/",
        "/v1/models/gpt-4.1..x/...?from=../../etc",
        "/v1/a;b=c,d/$!*()~@:&=+|^",
        "/v1",
        "/elsewhere/x?y",
        "/",
    ] {
        proxy.send(&request("GET", target)).await;
        assert_eq!(up.last().target, target);
    }
}

#[tokio::test]
async fn v1_stands_for_the_path_of_the_base_url() {
    let up = upstream().start().await;
    for (base, sent, expected) in [
        ("/api/openai/v2", "/v1/models?x", "/api/openai/v2/models?x"),
        ("/api/openai/v2/", "/v1/models", "/api/openai/v2/models"),
        ("/api/openai/v2", "/other", "/other"),
        ("", "/v1/models", "/v1/models"),
        ("/", "/v1/models", "/v1/models"),
    ] {
        let proxy = proxy_to(&format!("http://{}{base}", up.addr)).start().await;
        proxy.send(&request("GET", sent)).await;
        assert_eq!(up.last().target, expected, "base URL path `{base}`");
    }
}

#[tokio::test]
async fn an_absolute_target_chooses_neither_host_nor_port() {
    let (up, proxy) = house(json("{}")).await;
    let answer = proxy
        .send(&request("GET", "http://127.0.0.1:1/v1/models?x"))
        .await;
    assert_eq!(
        (answer.status, up.last().target.as_str()),
        (200, "/v1/models?x")
    );
    assert_eq!(
        up.last().headers.get("host"),
        Some(up.addr.to_string().as_str())
    );
}

#[tokio::test]
async fn no_spelling_of_dot_segments_leaves_the_base_url() {
    let (up, proxy) = house(json("{}")).await;
    for target in [
        "/v1/../admin",
        "/v1/..",
        "/v1/a/./b",
        "/v1/.",
        "/..",
        "/v1/%2e%2e/admin",
        "/v1/%2E%2e/admin",
        "/v1/.%2e/admin",
        "/v1/%2E./admin",
        "/v1/%2e/admin",
        "/v1/..%2fadmin",
        "/v1/x%2F..%2Fadmin",
        "/v1/..\\admin",
        "/v1/a\\b",
        "/v1/..%5cadmin",
        "/elsewhere/../v1/models",
        "http://127.0.0.1:1/v1/../admin",
    ] {
        let answer = proxy.send(&request("GET", target)).await;
        assert_refused(&answer, 400, "bad_path");
        let answer = proxy.send(&chat("hi").at(target)).await;
        assert_refused(&answer, 400, "bad_path");
    }
    assert_eq!(up.count(), 0);
}

#[tokio::test]
async fn unknown_request_headers_arrive_in_order_and_none_is_invented() {
    let (up, proxy) = house(json("{}")).await;
    let sent = request("GET", "/v1/models")
        .header("X-Vendor", "one")
        .header("x-vendor", "two")
        .header("X-Empty", "")
        .header("X-Bytes", "caf\u{e9}")
        .header("X-Stainless-Retry-Count", "0")
        .header("Cache-Control", "no-cache")
        .header("X-Request-Id", "mine");
    proxy.send(&sent).await;
    let seen = up.call(0).headers;
    assert_eq!(seen.all("x-vendor"), ["one", "two"]);
    for (name, value) in [
        ("x-empty", ""),
        ("x-bytes", "caf\u{e9}"),
        ("x-stainless-retry-count", "0"),
        ("cache-control", "no-cache"),
        ("x-request-id", "mine"),
    ] {
        assert_eq!(seen.all(name), [value], "{name}");
    }
    for name in INVENTIONS {
        assert_eq!(seen.get(name), None, "`{name}` is invented");
    }
}

#[tokio::test]
async fn what_the_client_accepts_is_what_the_upstream_hears() {
    let (up, proxy) = house(json("{}")).await;
    let sent = request("GET", "/v1/models")
        .header("Accept", "*/*;q=0.1")
        .header("Accept-Encoding", "gzip, br;q=0.5")
        .header("User-Agent", "OpenAI/Python 3.52.0");
    proxy.send(&sent).await;
    let seen = up.call(0).headers;
    assert_eq!(seen.all("accept"), ["*/*;q=0.1"]);
    assert_eq!(seen.all("accept-encoding"), ["gzip, br;q=0.5"]);
    assert_eq!(seen.all("user-agent"), ["OpenAI/Python 3.52.0"]);
}

#[tokio::test]
async fn hop_by_hop_headers_end_here_in_both_directions() {
    let reply = json("{}")
        .header("Connection", "X-Inner, keep-alive")
        .header("X-Inner", "theirs")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Authenticate", "Basic")
        .header("X-Outer", "kept");
    let (up, proxy) = house(reply).await;
    let hop = |call: Request| {
        call.header("Connection", "X-Secret-Hop, TE")
            .header("X-Secret-Hop", "mine")
            .header("TE", "trailers, deflate")
            .header("Keep-Alive", "timeout=5")
            .header("Proxy-Connection", "keep-alive")
            .header("Proxy-Authorization", "Basic eDp5")
            .header("Upgrade", "h2c")
            .header("X-Outer", "kept")
    };
    for (call, te) in [
        // Each hop says by itself whether it takes trailers; of a keyed answer they would be no part.
        (hop(request("GET", "/v1/models")), Some("trailers")),
        (hop(chat("hi")), None),
    ] {
        let answer = proxy.send(&call).await;
        for name in ["x-inner", "keep-alive", "proxy-authenticate"] {
            assert_eq!(answer.header(name), None, "`{name}` came back");
        }
        let seen = up.last().headers;
        assert_eq!(seen.get("te"), te);
        for name in HOP_BY_HOP {
            assert_eq!(seen.get(name), None, "`{name}` went on");
        }
        assert_eq!(
            (seen.get("x-outer"), answer.header("x-outer")),
            (Some("kept"), Some("kept"))
        );
    }
}

#[tokio::test]
async fn an_error_of_the_upstream_passes_whole() {
    let body = r#"{"error":{"message":"slow down","type":"requests","param":null,"code":"rate"} }"#;
    for code in [400, 401, 403, 404, 409, 418, 422, 429, 500, 502, 503, 529] {
        let reply = json(body)
            .status(code)
            .header("Retry-After", "17")
            .header("X-Part", "one")
            .header("x-ratelimit-limit-requests", "5")
            .header("X-Part", "two")
            .header("x-should-retry", "true");
        let (up, proxy) = house(reply).await;
        for call in [chat("hi"), chat_stream("hi"), request("GET", "/v1/models")] {
            let answer = proxy.send(&call).await;
            assert_eq!((answer.status, answer.text().as_str()), (code, body));
            assert_eq!(answer.end, End::Clean);
            assert_eq!(answer.headers.all("x-part"), ["one", "two"]);
            assert_eq!(answer.expect("retry-after"), "17");
            assert_eq!(answer.expect("x-ratelimit-limit-requests"), "5");
            assert_eq!(answer.headers.all("x-should-retry"), ["true"]);
        }
        assert_eq!(up.count(), 3, "{code} was retried");
    }
}

#[tokio::test]
async fn a_redirect_is_passed_on_and_never_followed() {
    for code in [301, 302, 307, 308] {
        let elsewhere = upstream().start().await;
        let location = format!("http://{}/v1/models", elsewhere.addr);
        let (up, proxy) = house(status(code).header("Location", &location)).await;
        for call in [chat("hi"), request("GET", "/v1/models")] {
            let answer = proxy.send(&call).await;
            assert_eq!(
                (answer.status, answer.expect("location")),
                (code, location.as_str())
            );
        }
        assert_eq!((up.count(), elsewhere.count()), (2, 0));
    }
}

#[tokio::test]
async fn head_gets_the_head_alone() {
    let (up, proxy) = house(status(200).bodiless().header("Content-Length", "1234")).await;
    let answer = proxy.send(&request("HEAD", "/v1/models")).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(answer.headers.all("content-length"), ["1234"]);
    assert_eq!(up.call(0).method, "HEAD");
    assert_eq!(up.call(0).body, b"");
}

#[tokio::test]
async fn head_of_the_chat_path_is_no_chat_call() {
    let (up, proxy) = house(completion("hello")).await;
    proxy.send(&chat("hi")).await;
    let (_up, answer) = (
        up,
        proxy.send(&request("HEAD", "/v1/chat/completions")).await,
    );
    assert_verdict(&answer, "BYPASS");
}

#[tokio::test]
async fn options_is_the_upstreams_to_answer() {
    let reply = status(204)
        .bodiless()
        .header("Access-Control-Allow-Origin", "https://app.test");
    let (up, proxy) = house(reply).await;
    let preflight = request("OPTIONS", "/v1/chat/completions")
        .header("Origin", "https://app.test")
        .header("Access-Control-Request-Method", "POST");
    let answer = proxy.send(&preflight).await;
    assert_eq!(answer.status, 204);
    assert_eq!(
        answer.expect("access-control-allow-origin"),
        "https://app.test"
    );
    assert_eq!(up.call(0).headers.get("origin"), Some("https://app.test"));
}

#[tokio::test]
async fn expect_100_continue_is_answered_here() {
    let (up, proxy) = house(completion("hello")).await;
    for target in ["/v1/files", "/v1/chat/completions"] {
        let body = chat("hi").body_bytes().to_vec();
        let call = request("POST", target)
            .header("Expect", "100-continue")
            .header("Content-Length", &body.len().to_string());
        let mut exchange = call.open_head(proxy.addr).await;
        assert_eq!(exchange.interim().await, 100);
        exchange.write(&body).await;
        assert_eq!(exchange.finish().await.status, 200);
        assert_eq!(up.last().body, body);
        assert_eq!(up.last().headers.get("expect"), None);
    }
}

#[tokio::test]
async fn trailers_travel_both_ways() {
    let reply = sse(["a", "b"])
        .header("Trailer", "X-Sum")
        .trailer("X-Sum", "down");
    let (up, proxy) = house(reply).await;
    let call = request("POST", "/v1/files")
        .header("Transfer-Encoding", "chunked")
        .header("Trailer", "X-Sum")
        .header("Connection", "TE")
        .header("TE", "trailers");
    let mut exchange = call.open_head(proxy.addr).await;
    exchange.write(b"3\r\nabc\r\n0\r\nX-Sum: up\r\n\r\n").await;
    let answer = exchange.finish().await;
    assert_eq!((answer.text().as_str(), answer.end), ("ab", End::Clean));
    assert_eq!(answer.trailers.get("x-sum"), Some("down"));
    let seen = up.call(0);
    assert_eq!(
        (seen.body.as_slice(), seen.trailers.get("x-sum")),
        (&b"abc"[..], Some("up"))
    );
}

#[tokio::test]
async fn an_upload_streams_while_it_is_being_sent() {
    let (up, proxy) = house(json("{}")).await;
    let call = request("POST", "/v1/files")
        .header("Content-Type", "multipart/form-data; boundary=XX")
        .header(
            "Content-Length",
            &(FORM_START.len() + FORM_END.len()).to_string(),
        );
    let mut exchange = call.open_head(proxy.addr).await;
    exchange.write(FORM_START).await;
    up.until("the first half of the upload", |calls| {
        calls.first().is_some_and(|call| call.body == FORM_START)
    })
    .await;
    exchange.write(FORM_END).await;
    assert_eq!(exchange.finish().await.status, 200);
    let seen = up.call(0);
    assert_eq!(seen.body, [FORM_START, FORM_END].concat());
    assert_eq!(
        seen.headers.all("content-type"),
        ["multipart/form-data; boundary=XX"]
    );
}

#[tokio::test]
async fn an_answer_streams_while_it_is_being_made() {
    let gate = gate();
    let reply = stream(&["a", "b"]);
    let (_up, proxy) = house(reply.clone().pausing_after(2, &gate)).await;
    for call in [chat_stream("hi"), chat_stream("hi").at("/v1/unknown")] {
        let mut exchange = proxy.open(&call).await;
        let prefix = reply.first(2);
        assert_eq!(exchange.body(prefix.len()).await, prefix);
        drop(exchange);
    }
    gate.open();
}

#[tokio::test]
async fn a_large_upload_and_a_large_download_arrive_whole() {
    let bytes: Vec<u8> = (0..24 * 1024 * 1024_u32)
        .map(|at| (at % 251) as u8)
        .collect();
    for reply in [
        status(200).body(bytes.clone()),
        status(200).body(bytes.clone()).chunked(),
    ] {
        let (up, proxy) = house(reply).await;
        let answer = proxy
            .send(&request("PUT", "/v1/blob").body(bytes.clone()))
            .await;
        assert!(
            answer.body == bytes,
            "the download has {} bytes",
            answer.body.len()
        );
        assert_eq!(answer.end, End::Clean);
        let seen = up.call(0).body;
        assert!(seen == bytes, "the upload has {} bytes", seen.len());
    }
}

#[tokio::test]
async fn an_encoded_answer_to_an_unkeyed_call_is_left_encoded() {
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3];
    let reply = status(200).header("Content-Encoding", "gzip").body(gzip);
    let (_up, proxy) = house(reply).await;
    let answer = proxy
        .send(&request("GET", "/v1/x").header("Accept-Encoding", "gzip"))
        .await;
    assert_eq!(answer.body, gzip);
    assert_eq!(answer.expect("content-encoding"), "gzip");
    assert_eq!(answer.headers.all("content-length"), ["13"]);
}

#[tokio::test]
async fn a_websocket_speaks_both_ways() {
    let reply = status(101)
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        .echoing();
    let (up, proxy) = house(reply).await;
    let call = request("GET", "/v1/realtime?model=gpt-realtime")
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let mut exchange = proxy.open(&call).await;
    let head = exchange.head().await;
    assert!(head.start.starts_with("HTTP/1.1 101"), "{}", head.start);
    assert_eq!(head.headers.get("upgrade"), Some("websocket"));
    assert_eq!(
        head.headers.get("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    for frame in [&b"\x81\x05hello"[..], &[0, 255, 13, 10]] {
        exchange.write(frame).await;
        assert_eq!(exchange.tunnelled(frame.len()).await, frame);
    }
    let seen = up.call(0);
    assert_eq!(seen.target, "/v1/realtime?model=gpt-realtime");
    assert_eq!(seen.headers.get("upgrade"), Some("websocket"));
    assert_eq!(seen.headers.get("sec-websocket-version"), Some("13"));
    exchange.end_writing().await;
    exchange.closed().await;
}

#[tokio::test]
async fn an_upgrade_that_the_upstream_refuses_is_an_ordinary_answer() {
    let (_up, proxy) = house(json(r#"{"error":{}}"#).status(426)).await;
    let call = request("GET", "/v1/realtime")
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade");
    let answer = proxy.send(&call).await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (426, r#"{"error":{}}"#)
    );
}

#[tokio::test]
async fn http2_clients_get_the_same_bytes() {
    for (call, reply) in [
        (chat("hi"), completion("hello")),
        (chat_stream("hi"), stream(&["a"])),
    ] {
        let (up, proxy) = house(reply.clone()).await;
        for verdict in ["MISS", "HIT"] {
            let answer = send_h2(proxy.addr, &call).await;
            assert_verdict(&answer, verdict);
            assert_eq!((answer.status, answer.end), (200, End::Clean));
            assert_eq!(answer.body, reply.bytes());
        }
        assert_verdict(&proxy.send(&call).await, "HIT");
        assert_eq!(up.count(), 1);
        assert_eq!(up.call(0).headers.all("host"), [up.addr.to_string()]);
    }
}

#[tokio::test]
async fn an_offer_of_h2c_is_passed_over_and_the_call_cached_as_ever() {
    let (up, proxy) = house(completion("hello")).await;
    let call = chat("hi")
        .header("Connection", "Upgrade, HTTP2-Settings")
        .header("Upgrade", "h2c")
        .header("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA");
    for verdict in ["MISS", "HIT"] {
        let answer = proxy.send(&call).await;
        assert_eq!((answer.status, &answer.end), (200, &End::Clean));
        assert_verdict(&answer, verdict);
    }
    assert_eq!(up.count(), 1);
    for name in ["upgrade", "http2-settings"] {
        assert_eq!(up.call(0).headers.get(name), None, "`{name}` went on");
    }
}

#[tokio::test]
async fn one_connection_carries_many_calls() {
    let (up, proxy) = house(completion("hello")).await;
    let call = chat("hi");
    let wire = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{}",
        call.body_bytes().len(),
        String::from_utf8_lossy(call.body_bytes())
    );
    let mut exchange = Exchange::raw(proxy.addr, wire.repeat(3).as_bytes()).await;
    for verdict in ["MISS", "HIT", "HIT"] {
        let answer: Answer = exchange.next().await;
        assert_verdict(&answer, verdict);
        assert_eq!(answer.body, completion("hello").bytes());
    }
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn the_upstreams_request_id_passes_and_where_there_is_none_one_is_made() {
    let (_up, theirs) = house(json("{}").header("X-Request-Id", "req-upstream")).await;
    let answer = theirs.send(&request("GET", "/v1/models")).await;
    assert_eq!(answer.headers.all("x-request-id"), ["req-upstream"]);
    let (up, ours) = house(json("{}")).await;
    let made = ours.send(&request("GET", "/v1/models")).await;
    assert!(!made.expect("x-request-id").is_empty());
    assert_eq!(up.count(), 1);
}

const FORM_START: &[u8] = b"--XX\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n\x00\xff";
const FORM_END: &[u8] = b"the rest\r\n--XX--\r\n";

const INVENTIONS: [&str; 6] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "user-agent",
    "content-type",
    "content-length",
];

const HOP_BY_HOP: [&str; 5] = [
    "x-secret-hop",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "upgrade",
];
