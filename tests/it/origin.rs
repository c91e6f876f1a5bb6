//! What web pages may do: none spends the proxy's key unasked, and those that the operator lists may call. Each call here
//! is what a browser sends, header by header.

use refrain::config::KeyHash;

use crate::support::{
    client::{Request, assert_refused, assert_verdict, chat, request, send_h2},
    proxy::{Proxy, proxy},
    upstream::{Upstream, completion, status, upstream},
};

const APP: &str = "https://app.example";

const KEY: &str = "[[upstream]]\napi_key = \"sk-proxy\"\n";

/// An upstream with a word of its own on who may read, and a proxy with these lines of configuration.
async fn house(config: &str) -> (Upstream, Proxy) {
    let up = upstream().by(|seen, _| {
        let reply = match seen.method.as_str() {
            "OPTIONS" => status(204).header("Access-Control-Allow-Methods", "PATCH"),
            _ => completion("hello"),
        };
        let reply = reply.header("Access-Control-Allow-Origin", "https://upstream.example");
        reply.header("Access-Control-Allow-Credentials", "true")
    });
    let up = up.start().await;
    let proxy = proxy(&up).with(config).start().await;
    (up, proxy)
}

/// What a page of `origin` sends before it may send a call.
fn preflight(origin: &str) -> Request {
    request("OPTIONS", "/v1/chat/completions")
        .header("Origin", origin)
        .header("Access-Control-Request-Method", "POST")
        .header(
            "Access-Control-Request-Headers",
            "authorization,content-type,x-stainless-lang",
        )
        .header("Sec-Fetch-Mode", "cors")
        .header("Sec-Fetch-Site", "cross-site")
}

/// A call that a page of `origin` sends.
fn from_page(origin: &str) -> Request {
    chat("hi")
        .header("Origin", origin)
        .header("Sec-Fetch-Site", "cross-site")
}

#[tokio::test]
async fn a_page_of_another_origin_does_not_spend_the_proxys_key() {
    let (up, proxy) = house(KEY).await;
    // A form or a script may send this without a preflight: text/plain, and no header of its own.
    let simple = request("POST", "/v1/chat/completions").header("Content-Type", "text/plain");
    let simple = simple.body(chat("hi").body_bytes());
    for call in [
        from_page(APP),
        from_page("null"),
        from_page("http://localhost:3000"),
        preflight(APP),
        simple.header("Origin", APP),
        request("GET", "/v1/models").header("Sec-Fetch-Site", "cross-site"),
        request("GET", "/_refrain/healthz").header("Origin", APP),
        request("GET", "/_refrain/nothing").header("Origin", APP),
    ] {
        let answer = proxy.send(&call).await;
        assert_refused(&answer, 403, "forbidden");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    let over_h2 = send_h2(proxy.addr, &from_page(APP)).await;
    assert_refused(&over_h2, 403, "forbidden");
    assert_eq!(up.count(), 0);
    let line = proxy.call_with("error.kind", "forbidden").await;
    assert_eq!(line["http.response.status_code"], 403);
}

#[tokio::test]
async fn a_page_that_names_this_machine_by_its_own_name_does_not_either() {
    let (up, proxy) = house(KEY).await;
    for host in [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
    ] {
        let page = format!("http://{host}");
        let call = chat("hi")
            .header("Host", host)
            .header("Sec-Fetch-Site", "same-origin");
        for call in [call.clone(), call.header("Origin", &page)] {
            assert_refused(&proxy.send(&call).await, 403, "forbidden");
        }
        let probe = request("GET", "/_refrain/readyz").header("Host", host);
        assert_refused(&proxy.send(&probe).await, 403, "forbidden");
    }
    assert_eq!(up.count(), 0);
}

#[tokio::test]
async fn who_is_no_foreign_page_spends_the_proxys_key() {
    let config = format!("{KEY}[limits]\nhosts = [\"refrain.internal\"]\n");
    let (up, proxy) = house(&config).await;
    let own = format!("http://{}", proxy.addr);
    for call in [
        chat("1").without("authorization"),
        chat("2").header("Host", "localhost:8080"),
        chat("3").header("Host", "refrain.internal"),
        chat("4")
            .header("Origin", &own)
            .header("Sec-Fetch-Site", "same-origin"),
        chat("5").header("Sec-Fetch-Site", "none"),
    ] {
        assert_verdict(&proxy.send(&call).await, "MISS");
        assert_eq!(up.last().headers.all("authorization"), ["Bearer sk-proxy"]);
    }
    assert_verdict(&send_h2(proxy.addr, &chat("6")).await, "MISS");
}

#[tokio::test]
async fn where_a_key_has_to_be_shown_the_page_is_nobodys_concern() {
    let caller = format!(
        "{KEY}[[caller]]\nname = \"web\"\nkeys = \"{}\"\n",
        KeyHash::of(b"sk-web")
    );
    for (config, key) in [("", "sk-1"), (caller.as_str(), "sk-web")] {
        let (_up, proxy) = house(config).await;
        let call = from_page(APP)
            .with_bearer(key)
            .header("Host", "evil.example");
        let answer = proxy.send(&call).await;
        assert_verdict(&answer, "MISS");
        assert_eq!(
            answer.expect("access-control-allow-origin"),
            "https://upstream.example",
            "who may read it is the upstream's to say"
        );
    }
}

#[tokio::test]
async fn the_proxys_key_is_not_read_back_by_a_trace() {
    let caller = format!(
        "{KEY}[[caller]]\nname = \"web\"\nkeys = \"{}\"\n",
        KeyHash::of(b"sk-web")
    );
    for (config, key) in [(KEY, "sk-any"), (caller.as_str(), "sk-web")] {
        let (up, proxy) = house(config).await;
        let trace = request("TRACE", "/v1/models").with_bearer(key);
        assert_eq!(proxy.send(&trace).await.status, 200);
        let seen = up.last();
        assert_eq!(
            (seen.method.as_str(), seen.headers.get("authorization")),
            ("TRACE", None)
        );
    }
}

#[tokio::test]
async fn a_page_shows_its_key_as_a_protocol_of_its_socket_and_the_upstream_gets_the_proxys() {
    let caller = format!(
        "{KEY}[[caller]]\nname = \"web\"\nkeys = \"{}\"\n",
        KeyHash::of(b"sk-web")
    );
    let (up, proxy) = house(&caller).await;
    let socket = |key: &str| {
        let offered = format!("realtime, openai-insecure-api-key.{key}");
        request("GET", "/v1/realtime")
            .header("Origin", APP)
            .header("Upgrade", "websocket")
            .header("Connection", "Upgrade")
            .header("Sec-WebSocket-Protocol", &offered)
    };
    let stranger = proxy.send(&socket("sk-webb")).await;
    assert_refused(&stranger, 401, "invalid_api_key");
    assert_eq!(up.count(), 0);
    proxy.send(&socket("sk-web")).await;
    let seen = up.last().headers;
    assert_eq!(seen.all("sec-websocket-protocol"), ["realtime"]);
    assert_eq!(seen.all("authorization"), ["Bearer sk-proxy"]);
}

#[tokio::test]
async fn a_browser_app_of_a_listed_origin_works() {
    let config = format!("{KEY}[cors]\norigins = [\"{APP}\"]\n");
    let (up, proxy) = house(&config).await;
    let asked = proxy.send(&preflight(APP)).await;
    assert_eq!((asked.status, asked.body.as_slice()), (204, &b""[..]));
    assert_eq!(asked.expect("access-control-allow-origin"), APP);
    assert!(
        asked
            .expect("access-control-allow-methods")
            .contains("POST")
    );
    assert_eq!(
        asked.expect("access-control-allow-headers"),
        "authorization,content-type,x-stainless-lang"
    );
    assert_eq!(asked.expect("access-control-max-age"), "7200");
    assert!(asked.expect("vary").contains("Origin"));
    assert_eq!(up.count(), 0, "a preflight is answered here");

    for verdict in ["MISS", "HIT"] {
        let answer = proxy.send(&from_page(APP)).await;
        assert_verdict(&answer, verdict);
        assert_eq!(answer.headers.all("access-control-allow-origin"), [APP]);
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        assert_eq!(answer.expect("vary"), "Origin");
        let exposed = answer
            .expect("access-control-expose-headers")
            .to_ascii_lowercase();
        for (name, _) in &answer.headers.0 {
            let name = name.to_ascii_lowercase();
            let ours = name.starts_with("x-cache")
                || ["age", "cache-status", "x-upstream"].contains(&name.as_str());
            assert!(
                !ours || exposed.split(", ").any(|known| known == name),
                "{name}"
            );
        }
    }
    let elsewhere = proxy.send(&chat("hi")).await;
    assert_verdict(&elsewhere, "HIT");
    assert_eq!(
        (
            elsewhere.header("access-control-allow-origin"),
            elsewhere.header("vary")
        ),
        (None, Some("Origin")),
        "who sends no origin gets nobody's, and no cache gives this answer to the app"
    );
    let refused = proxy
        .send(&from_page(APP).header("X-Cache-TTL", "soon"))
        .await;
    assert_refused(&refused, 400, "bad_header");
    assert_eq!(
        refused.expect("access-control-allow-origin"),
        APP,
        "an error can be read, too"
    );
    assert_refused(
        &proxy.send(&from_page("https://other.example")).await,
        403,
        "forbidden",
    );
}

#[tokio::test]
async fn a_preflight_needs_no_key_where_callers_are_named() {
    let config = format!(
        "[cors]\norigins = \"*\"\n[[caller]]\nname = \"web\"\nkeys = \"{}\"\n",
        KeyHash::of(b"sk-web")
    );
    let (up, proxy) = house(&config).await;
    let local = preflight(APP).header("Access-Control-Request-Private-Network", "true");
    let asked = proxy.send(&local).await;
    assert_eq!(
        (asked.status, asked.expect("access-control-allow-origin")),
        (204, "*")
    );
    assert_eq!(asked.expect("access-control-allow-private-network"), "true");
    let stranger = proxy.send(&from_page(APP)).await;
    assert_refused(&stranger, 401, "invalid_api_key");
    assert_eq!(stranger.expect("access-control-allow-origin"), "*");
    assert_eq!(up.count(), 0);
}

#[tokio::test]
async fn what_comes_from_no_listed_origin_is_left_to_the_upstream() {
    for config in ["", "[cors]\norigins = [\"https://app.example\"]\n"] {
        let (up, proxy) = house(config).await;
        let asked = proxy.send(&preflight("https://other.example")).await;
        assert_eq!(asked.expect("access-control-allow-methods"), "PATCH");
        let plain = proxy.send(&request("OPTIONS", "/v1/models")).await;
        assert_eq!(plain.expect("access-control-allow-methods"), "PATCH");
        let answer = proxy.send(&from_page("https://other.example")).await;
        assert_eq!(
            answer.expect("access-control-allow-origin"),
            "https://upstream.example"
        );
        assert_eq!(up.count(), 3, "{config}");
    }
}

#[tokio::test]
async fn an_upstream_that_refuses_the_proxys_key_is_warned_about_and_not_each_time() {
    let warning = "the upstream refuses the proxy's key";
    for (config, count) in [(KEY, 1), ("", 0)] {
        let up = upstream().by(|_, number| status(if number == 0 { 403 } else { 401 }));
        let up = up.start().await;
        let proxy = proxy(&up).with(config).start().await;
        for expected in [403, 401] {
            assert_eq!(proxy.send(&chat("hi")).await.status, expected);
        }
        // The log is written in order, so that by now the warning is there.
        proxy.call_lines(2).await;
        let printed = proxy.printed();
        assert_eq!(printed.matches(warning).count(), count, "{printed}");
        if count > 0 {
            let line = proxy.logged(warning).await;
            assert_eq!(line["level"], "WARN", "{line}");
            assert!(!printed.contains("sk-proxy"), "{printed}");
        }
    }
}
