//! Whose answer is whose: an entry belongs to the credential that paid for it.

use crate::support::{
    client::{Request, assert_verdict, chat},
    proxy::proxy,
    upstream::{completion, json, upstream},
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
