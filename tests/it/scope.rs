//! Whose answer is whose: an entry belongs to the credential that paid for it, or to those whom the operator lets share
//! it.

use refrain::config::KeyHash;

use crate::support::{
    client::{Request, assert_bypass, assert_refused, assert_verdict, chat, request},
    proxy::{Proxy, proxy, run},
    upstream::{Upstream, completion, json, upstream},
};

#[tokio::test]
async fn two_credentials_make_two_upstream_calls() {
    let up = upstream()
        .answers(completion("alice's"))
        .answers(completion("bob's"))
        .start()
        .await;
    let proxy = proxy(&up).start().await;
    let (alice, bob) = (
        chat("hi").with_bearer("sk-alice"),
        chat("hi").with_bearer("sk-bob"),
    );
    assert_verdict(&proxy.send(&alice).await, "MISS");
    let first = proxy.send(&bob).await;
    assert_verdict(&first, "MISS");
    assert!(first.text().contains("bob's"));
    let again = proxy.send(&alice).await;
    assert_verdict(&again, "HIT");
    assert!(again.text().contains("alice's"));
    assert_eq!(up.count(), 2);
}

#[tokio::test]
async fn an_unknown_credential_on_a_warm_cache_gets_the_upstreams_401() {
    let refusal = r#"{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}"#;
    let up = upstream().by(move |seen, _| match seen.headers.get("authorization") {
        Some("Bearer sk-good") => completion("hello"),
        _ => json(refusal).status(401).header("x-from", "upstream"),
    });
    let up = up.start().await;
    let proxy = proxy(&up).start().await;
    proxy.send(&chat("hi").with_bearer("sk-good")).await;
    for stranger in [
        chat("hi").with_bearer("sk-bad"),
        chat("hi").without("authorization"),
    ] {
        for _ in 0..2 {
            let answer = proxy.send(&stranger).await;
            assert_eq!((answer.status, answer.text().as_str()), (401, refusal));
            assert_eq!(answer.expect("x-from"), "upstream");
            assert_verdict(&answer, "MISS");
        }
    }
    assert_verdict(&proxy.send(&chat("hi").with_bearer("sk-good")).await, "HIT");
    assert_eq!(up.count(), 5);
}

#[tokio::test]
async fn every_header_that_carries_a_credential_makes_a_scope() {
    let up = upstream().start().await;
    let proxy = proxy(&up).start().await;
    let bare = || chat("hi").without("authorization");
    let callers: [Request; 9] = [
        bare(),
        bare().header("Authorization", "Bearer sk-1"),
        bare().header("Authorization", "Bearer sk-2"),
        bare().header("api-key", "sk-1"),
        bare().header("api-key", "sk-2"),
        bare().header("x-api-key", "sk-1"),
        bare().header("Cookie", "session=1"),
        bare().header("Cookie", "session=2"),
        bare()
            .header("Authorization", "Bearer sk-1")
            .header("Cookie", "session=1"),
    ];
    for caller in &callers {
        assert_verdict(&proxy.send(caller).await, "MISS");
    }
    for caller in &callers {
        assert_verdict(&proxy.send(caller).await, "HIT");
    }
    assert_eq!(up.count(), callers.len());
}

#[tokio::test]
async fn a_gateways_credential_keeps_callers_apart() {
    let up = upstream().start().await;
    let proxy = proxy(&up).start().await;
    let names = [
        "cf-aig-authorization",
        "Helicone-Auth",
        "Ocp-Apim-Subscription-Key",
        "x-goog-api-key",
        "x-portkey-api-key",
        "x-portkey-virtual-key",
    ];
    for (round, name) in names.into_iter().enumerate() {
        for (caller, key) in ["gw-1", "gw-2"].into_iter().enumerate() {
            let call = chat("hi").header(name, key);
            assert_verdict(&proxy.send(&call).await, "MISS");
            assert_eq!(up.count(), 2 * round + caller + 1, "{name}: {key}");
            assert_verdict(&proxy.send(&call).await, "HIT");
        }
    }
}

#[tokio::test]
async fn the_headers_that_choose_a_tenant_of_the_upstream_are_keyed() {
    let up = upstream().start().await;
    let proxy = proxy(&up).start().await;
    let calls = [
        chat("hi"),
        chat("hi").header("OpenAI-Organization", "org-1"),
        chat("hi").header("OpenAI-Organization", "org-2"),
        chat("hi").header("OpenAI-Project", "org-1"),
        chat("hi").header("OpenAI-Beta", "assistants=v2"),
    ];
    for verdict in ["MISS", "HIT"] {
        for call in &calls {
            assert_verdict(&proxy.send(call).await, verdict);
        }
    }
    assert_eq!(up.count(), calls.len());
}

#[tokio::test]
async fn the_query_is_part_of_the_key() {
    let up = upstream().start().await;
    let proxy = proxy(&up).start().await;
    for query in ["", "?", "?a=1", "?a=2", "?a=%31"] {
        let call = chat("hi").at(&format!("/v1/chat/completions{query}"));
        assert_verdict(&proxy.send(&call).await, "MISS");
        assert_eq!(up.last().target, format!("/v1/chat/completions{query}"));
    }
    assert_eq!(up.count(), 5);
}

#[tokio::test]
async fn a_credential_reaches_its_upstream_unchanged_on_every_miss() {
    let up = upstream().start().await;
    let proxy = proxy(&up).start().await;
    let call = chat("hi")
        .header("api-key", "az-1")
        .header("Cookie", "a=1; b=2");
    proxy.send(&call).await;
    let seen = up.call(0).headers;
    assert_eq!(seen.all("authorization"), ["Bearer sk-test-alice"]);
    assert_eq!(
        (seen.get("api-key"), seen.get("cookie")),
        (Some("az-1"), Some("a=1; b=2"))
    );
}

/// A `[[caller]]` with these keys, and what else is said about it.
fn caller(name: &str, keys: &[&str], more: &str) -> String {
    let hashes: Vec<_> = keys
        .iter()
        .map(|key| format!("\"{}\"", KeyHash::of(key.as_bytes())))
        .collect();
    format!(
        "[[caller]]\nname = \"{name}\"\nkeys = [{}]\n{more}",
        hashes.join(", ")
    )
}

/// An upstream that numbers its answers, and a proxy with these lines of configuration.
async fn house(config: &str) -> (Upstream, Proxy) {
    let up = upstream().by(|_, number| completion(&format!("answer {number}")));
    let up = up.start().await;
    let proxy = proxy(&up).with(config).start().await;
    (up, proxy)
}

/// Has each of these callers accepted by the upstream, by a call that nobody else makes.
async fn introduce(proxy: &Proxy, callers: &[&Request]) {
    for (number, caller) in callers.iter().enumerate() {
        let prompt = format!(r#"{{"role":"user","content":"I am number {number}"}}"#);
        let body = format!(r#"{{"model":"gpt-test","messages":[{prompt}]}}"#);
        let call = (*caller).clone().body(body);
        assert_verdict(&proxy.send(&call).await, "MISS");
    }
}

#[tokio::test]
async fn in_a_shared_scope_accepted_callers_share() {
    let (up, proxy) = house("[cache]\nscope = \"shared\"").await;
    let (alice, bob) = (
        chat("hi").with_bearer("sk-a"),
        chat("hi").with_bearer("sk-b"),
    );
    introduce(&proxy, &[&alice, &bob]).await;
    let first = proxy.send(&alice).await;
    assert_verdict(&first, "MISS");
    let again = proxy.send(&bob).await;
    assert_verdict(&again, "HIT");
    assert_eq!(again.body, first.body);
    assert_eq!(up.count(), 3);
}

#[tokio::test]
async fn in_a_shared_scope_an_extension_counts_and_telemetry_does_not() {
    let (up, proxy) = house("[cache]\nscope = \"shared\"").await;
    let call = || chat("hi").with_bearer("sk-a");
    introduce(&proxy, &[&call()]).await;
    for (verdict, call) in [
        ("MISS", call()),
        ("MISS", call().header("X-Model-Override", "large")),
        ("MISS", call().header("X-Model-Override", "small")),
        ("HIT", call().header("x-model-override", "large")),
        (
            "HIT",
            call()
                .header("X-Stainless-Retry-Count", "1")
                .header("X-Request-Id", "r-1"),
        ),
        (
            "HIT",
            call()
                .header("traceparent", "00-1-2-01")
                .header("X-B3-TraceId", "1"),
        ),
    ] {
        assert_verdict(&proxy.send(&call).await, verdict);
    }
    assert_eq!(up.count(), 4);
}

#[tokio::test]
async fn in_a_shared_scope_an_extension_that_counts_cannot_be_nominated_away() {
    let (up, proxy) = house("[cache]\nscope = \"shared\"").await;
    let call = chat("hi")
        .header("X-Override", "1")
        .header("Connection", "x-override, x-trace-id");
    let call = call.header("X-Trace-Id", "2");
    assert_verdict(&proxy.send(&call).await, "MISS");
    let seen = up.last().headers;
    assert_eq!(
        (seen.get("x-override"), seen.get("x-trace-id")),
        (Some("1"), None)
    );
}

#[tokio::test]
async fn an_extension_of_one_credentials_own_calls_does_not_count() {
    let (_up, proxy) = house("").await;
    assert_verdict(
        &proxy
            .send(&chat("hi").header("X-Model-Override", "1"))
            .await,
        "MISS",
    );
    assert_verdict(
        &proxy
            .send(&chat("hi").header("X-Model-Override", "2"))
            .await,
        "HIT",
    );
}

#[tokio::test]
async fn a_header_names_the_tenant_of_several_credentials() {
    let (up, proxy) = house("[cache]\nscope = \"header:X-Tenant\"").await;
    let call = |key: &str, tenant: &str| {
        let call = chat("hi").with_bearer(key);
        if tenant.is_empty() {
            call
        } else {
            call.header("X-Tenant", tenant)
        }
    };
    introduce(&proxy, &[&call("sk-a", ""), &call("sk-b", "")]).await;
    for (verdict, key, tenant) in [
        ("MISS", "sk-a", "acme"),
        ("HIT", "sk-b", "acme"),
        ("MISS", "sk-b", "other"),
        ("MISS", "sk-a", ""),
        ("MISS", "sk-b", ""),
        ("HIT", "sk-a", ""),
    ] {
        let answer = proxy.send(&call(key, tenant)).await;
        assert_verdict(&answer, verdict);
    }
    assert_eq!(up.count(), 6);
}

#[tokio::test]
async fn a_place_of_the_body_names_the_tenant_also_where_it_is_no_part_of_the_key() {
    let (up, proxy) = house("[cache]\nscope = \"body:/user\"").await;
    let call = |key: &str, user: &str| {
        let messages = r#""messages":[{"role":"user","content":"hi"}]"#;
        let body = format!(r#"{{"model":"gpt-test",{user}{messages}}}"#);
        chat("hi").with_bearer(key).body(body)
    };
    introduce(&proxy, &[&call("sk-a", ""), &call("sk-b", "")]).await;
    for (verdict, key, user) in [
        ("MISS", "sk-a", r#""user":"u-1","#),
        ("HIT", "sk-b", r#""\u0075ser" : "u\u002d1","#),
        ("MISS", "sk-b", r#""user":"u-2","#),
        ("MISS", "sk-a", ""),
        ("HIT", "sk-a", r#""user":null,"#),
        ("MISS", "sk-b", r#""user":"","#),
    ] {
        let answer = proxy.send(&call(key, user)).await;
        assert_verdict(&answer, verdict);
    }
    assert_eq!(up.count(), 6);
}

#[tokio::test]
async fn where_callers_are_named_nobody_else_is_let_in() {
    let (up, proxy) = house(&caller("web", &["sk-web"], "")).await;
    assert_verdict(&proxy.send(&chat("hi").with_bearer("sk-web")).await, "MISS");
    let strangers = [
        chat("hi").with_bearer("sk-webb"),
        chat("hi").without("authorization"),
        chat("hi")
            .without("authorization")
            .header("Cookie", "sk-web"),
        request("GET", "/v1/models").header("Authorization", "sk-web"),
        request("OPTIONS", "/v1/models"),
        request("GET", "/_refrain/nothing"),
    ];
    for stranger in &strangers {
        let answer = proxy.send(stranger).await;
        assert_refused(&answer, 401, "invalid_api_key");
        assert_eq!(answer.expect("www-authenticate"), "Bearer");
    }
    assert_eq!(up.count(), 1);
    let health = proxy.send(&request("GET", "/_refrain/healthz")).await;
    assert_eq!(health.status, 200, "a probe needs no key");
    proxy.call_lines(strangers.len() + 1).await;
    let line = proxy.call_with("error.kind", "invalid_api_key").await;
    assert_eq!(line["http.response.status_code"], 401);
    let refused = ["verdict=\"none\"", "status_class=\"4xx\""];
    let counted = proxy.metric("refrain_calls_total", &refused).await;
    assert!((counted - 6.0).abs() < f64::EPSILON, "{counted}");
}

#[tokio::test]
async fn a_caller_is_one_whichever_of_its_keys_it_shows_and_shares_with_its_tenant_alone() {
    let team = "scope = \"team\"\n";
    let config = [
        caller("web", &["sk-web-old", "sk-web-new"], team),
        caller("batch", &["sk-batch"], team),
        caller("intern", &["sk-intern-1", "sk-intern-2"], ""),
        caller("guest", &["sk-guest"], ""),
    ];
    let (up, proxy) = house(&config.concat()).await;
    let bare = || chat("hi").without("authorization");
    for (verdict, call) in [
        ("MISS", bare().header("Authorization", "Bearer sk-web-old")),
        ("HIT", bare().header("Authorization", "Bearer sk-web-new")),
        ("HIT", bare().header("api-key", "sk-batch")),
        ("MISS", bare().header("x-api-key", "sk-intern-1")),
        ("HIT", bare().header("Authorization", "bearer sk-intern-2")),
        ("MISS", bare().header("Authorization", "Bearer sk-guest")),
    ] {
        assert_verdict(&proxy.send(&call).await, verdict);
    }
    assert_eq!(up.count(), 3);
    let lines = proxy.call_lines(6).await;
    let mut callers: Vec<_> = lines
        .iter()
        .filter_map(|line| line["caller"].as_str())
        .collect();
    callers.sort_unstable();
    assert_eq!(
        callers,
        ["batch", "guest", "intern", "intern", "web", "web"]
    );
    assert_eq!(
        up.call(0).headers.get("authorization"),
        Some("Bearer sk-web-old"),
        "without a key of the proxy's own, the caller's goes on"
    );
}

#[tokio::test]
async fn a_named_caller_cannot_name_its_way_into_anothers_tenant() {
    let config = [
        "[cache]\nscope = \"header:X-Tenant\"\n".to_owned(),
        caller("web", &["sk-web"], ""),
        caller("batch", &["sk-batch"], ""),
    ];
    let (_up, proxy) = house(&config.concat()).await;
    let call = |key: &str| chat("hi").with_bearer(key).header("X-Tenant", "acme");
    assert_verdict(&proxy.send(&call("sk-web")).await, "MISS");
    assert_verdict(&proxy.send(&call("sk-batch")).await, "MISS");
    assert_verdict(&proxy.send(&call("sk-web")).await, "HIT");
}

#[tokio::test]
async fn the_proxys_own_key_goes_out_and_the_callers_credential_stays_in() {
    let config = "[[upstream]]\napi_key = \"sk-canary-proxy\"\n".to_owned()
        + &caller("web", &["sk-canary-web"], "");
    let (up, proxy) = house(&config).await;
    let call = chat("hi")
        .with_bearer("sk-canary-web")
        .header("api-key", "sk-1")
        .header("x-api-key", "sk-2")
        .header("Cookie", "session=1")
        .header("x-goog-api-key", "sk-3");
    let models = request("GET", "/v1/models").header("x-api-key", "sk-canary-web");
    assert_verdict(&proxy.send(&call).await, "MISS");
    assert_bypass(&proxy.send(&models).await, "endpoint");
    for index in 0..2 {
        let seen = up.call(index).headers;
        assert_eq!(seen.all("authorization"), ["Bearer sk-canary-proxy"]);
        for name in ["api-key", "x-api-key", "cookie", "x-goog-api-key"] {
            assert_eq!(seen.get(name), None, "{name}");
        }
    }
    proxy.call_lines(2).await;
    assert!(!proxy.printed().contains("canary"), "{}", proxy.printed());
}

#[tokio::test]
async fn a_new_key_from_the_command_line_lets_its_caller_in() {
    let made = run(&["hash-key", "--new"]).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let word = |name: &str| {
        let line = made.out.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {made:?}"))
            .trim()
    };
    let section = format!("[[caller]]\nname = \"web\"\nkeys = \"{}\"", word("hash"));
    let (_up, proxy) = house(&section).await;
    assert_verdict(
        &proxy.send(&chat("hi").with_bearer(word("key"))).await,
        "MISS",
    );
    let with_hash = proxy.send(&chat("hi").with_bearer(word("hash"))).await;
    assert_refused(&with_hash, 401, "invalid_api_key");
}
