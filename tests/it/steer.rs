//! What a caller may ask of the cache: every request header of the contract, and the aliases of other gateways.

use serde_json::Value;

use crate::support::{
    client::{
        Request, asking, asking_bytes, assert_bypass, assert_refused, assert_verdict, chat,
        chat_stream, request,
    },
    house::{ask, house},
    proxy::{Proxy, proxy},
    upstream::{json, upstream},
};

#[tokio::test]
async fn a_refresh_asks_anew_and_replaces_what_was_stored() {
    for (name, value) in [
        ("Cache-Control", "no-cache"),
        ("Cache-Control", "max-age=3600, No-Cache"),
        ("Pragma", "no-cache"),
        ("X-Cache-Refresh", "true"),
        ("x-portkey-cache-force-refresh", "true"),
        ("X-OpenRouter-Cache-Clear", "true"),
    ] {
        let (up, proxy) = house("").await;
        ask(&proxy, &chat("hi"), "MISS", 0).await;
        ask(&proxy, &chat("hi").header(name, value), "MISS", 1).await;
        ask(&proxy, &chat("hi"), "HIT", 1).await;
        assert_eq!(up.count(), 2, "{name}: {value}");
    }
}

#[tokio::test]
async fn a_bypass_neither_reads_nor_stores() {
    for (name, value) in [
        ("X-Cache-Bypass", "true"),
        ("cf-aig-skip-cache", "true"),
        ("Helicone-Cache-Enabled", "false"),
        ("X-OpenRouter-Cache", "false"),
    ] {
        let (up, proxy) = house("").await;
        let passing = chat("hi").header(name, value);
        assert_bypass(&proxy.send(&passing).await, "bypass");
        ask(&proxy, &chat("hi"), "MISS", 1).await;
        ask(&proxy, &passing, "BYPASS", 2).await;
        ask(&proxy, &chat("hi"), "HIT", 1).await;
        assert_eq!(up.count(), 3, "{name}: {value}");
    }
}

#[tokio::test]
async fn no_store_stores_nothing_and_reads_what_is_there() {
    for (name, value) in [
        ("Cache-Control", "no-store"),
        ("x-bf-cache-no-store", "true"),
    ] {
        let (up, proxy) = house("").await;
        let secret = chat("hi").header(name, value);
        ask(&proxy, &secret, "MISS", 0).await;
        assert_eq!(proxy.call_line(1).await["cache.not_stored"], "no_store");
        ask(&proxy, &secret, "MISS", 1).await;
        ask(&proxy, &chat("hi"), "MISS", 2).await;
        ask(&proxy, &secret, "HIT", 2).await;
        assert_eq!(up.count(), 3, "{name}: {value}");
    }
}

#[tokio::test]
async fn false_means_false() {
    let (up, proxy) = house("").await;
    ask(&proxy, &chat("hi"), "MISS", 0).await;
    for (name, value) in [
        ("X-Cache-Bypass", "false"),
        ("X-Cache-Refresh", "false"),
        ("x-portkey-cache-force-refresh", "false"),
        ("cf-aig-skip-cache", "false"),
        ("X-OpenRouter-Cache-Clear", "false"),
        ("x-bf-cache-no-store", "false"),
        ("Helicone-Cache-Enabled", "true"),
        ("X-OpenRouter-Cache", "true"),
    ] {
        ask(&proxy, &chat("hi").header(name, value), "HIT", 0).await;
    }
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn a_lifetime_asked_for_is_the_lifetime_given() {
    for (name, value, at_most) in [
        ("X-Cache-TTL", "90", 90),
        ("X-Cache-TTL", "10m", 600),
        ("X-Cache-TTL", "2h", 7200),
        ("cf-aig-cache-ttl", "90", 90),
        ("X-OpenRouter-Cache-TTL", "90", 90),
        ("x-bf-cache-ttl", "90s", 90),
    ] {
        let (_up, proxy) = house("").await;
        ask(&proxy, &chat("hi").header(name, value), "MISS", 0).await;
        assert_lifetime(&proxy, at_most).await;
    }
}

#[tokio::test]
async fn a_lifetime_is_clamped_to_what_the_operator_allows() {
    let (_up, proxy) = house("[cache]\nttl = \"1m\"\nmax_ttl = \"2m\"").await;
    ask(&proxy, &chat("hi").header("X-Cache-TTL", "1d"), "MISS", 0).await;
    assert_lifetime(&proxy, 120).await;
}

#[tokio::test]
async fn the_operators_lifetime_is_the_default() {
    let (_up, proxy) = house("[cache]\nttl = \"1m\"").await;
    ask(&proxy, &chat("hi"), "MISS", 0).await;
    assert_lifetime(&proxy, 60).await;
}

/// Asserts that a stored answer to `hi` has about `at_most` seconds to live.
async fn assert_lifetime(proxy: &Proxy, at_most: u64) {
    let answer = proxy.send(&chat("hi")).await;
    assert_verdict(&answer, "HIT");
    let left: u64 = answer.expect("x-cache-ttl").parse().unwrap();
    assert!(
        left <= at_most && left + 30 >= at_most,
        "{left} of {at_most} seconds"
    );
}

#[tokio::test]
async fn a_namespace_is_a_key_space_of_its_own() {
    for name in [
        "X-Cache-Namespace",
        "Helicone-Cache-Seed",
        "x-portkey-cache-namespace",
    ] {
        let (up, proxy) = house("").await;
        let calls = [
            chat("hi"),
            chat("hi").header(name, "v1"),
            chat("hi").header(name, "prompt v2"),
        ];
        for verdict in ["MISS", "HIT"] {
            for (number, call) in calls.iter().enumerate() {
                ask(&proxy, call, verdict, number).await;
            }
        }
        assert_eq!(up.count(), 3, "{name}");
    }
}

#[tokio::test]
async fn max_age_and_min_fresh_say_what_is_fresh_enough() {
    let (_up, proxy) = house("").await;
    ask(&proxy, &chat("hi"), "MISS", 0).await;
    for fresh_enough in [
        "max-age=3600",
        "min-fresh=60",
        "max-stale",
        "max-stale=5",
        "",
        "x=\"y, z",
    ] {
        ask(
            &proxy,
            &chat("hi").header("Cache-Control", fresh_enough),
            "HIT",
            0,
        )
        .await;
    }
    ask(
        &proxy,
        &chat("hi").header("Cache-Control", "min-fresh=1000000"),
        "MISS",
        1,
    )
    .await;
    ask(
        &proxy,
        &chat("hi").header("Cache-Control", "max-age=0"),
        "MISS",
        2,
    )
    .await;
    ask(&proxy, &chat("hi"), "HIT", 2).await;
}

#[tokio::test]
async fn only_if_cached_never_calls_the_upstream() {
    let (up, proxy) = house("").await;
    for call in [chat("hi"), chat_stream("hi")] {
        let answer = proxy
            .send(&call.header("Cache-Control", "only-if-cached"))
            .await;
        assert_refused(&answer, 504, "not_cached");
    }
    assert_eq!(up.count(), 0);
    ask(&proxy, &chat("hi"), "MISS", 0).await;
    ask(
        &proxy,
        &chat("hi").header("Cache-Control", "only-if-cached"),
        "HIT",
        0,
    )
    .await;
}

#[tokio::test]
async fn only_if_cached_outranks_a_bypass() {
    let (up, proxy) = house("").await;
    ask(&proxy, &chat("hi"), "MISS", 0).await;
    for (name, value) in [
        ("X-Cache-Bypass", "true"),
        ("Helicone-Cache-Enabled", "false"),
    ] {
        let call = chat("hi").header("Cache-Control", "only-if-cached");
        let answer = proxy.send(&call.header(name, value)).await;
        assert_refused(&answer, 504, "not_cached");
    }
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn what_is_ours_is_stripped_before_forwarding() {
    let (up, proxy) = house("").await;
    for call in [
        chat("hi"),
        chat("hi").header("X-Cache-Bypass", "true"),
        request("GET", "/v1/x"),
    ] {
        let call = OURS
            .iter()
            .fold(call, |call, (name, value)| call.header(name, value));
        assert_eq!(proxy.send(&call).await.status, 200);
        for (name, _) in OURS.into_iter().chain([("X-Cache-Bypass", "")]) {
            assert_eq!(up.last().headers.get(name), None, "`{name}` went on");
        }
    }
    assert_eq!(up.count(), 3);
}

#[tokio::test]
async fn cache_control_is_stripped_from_keyed_calls_alone() {
    let up = upstream().answers(json("{}")).start().await;
    let proxy = proxy(&up).start().await;
    for (call, expected) in [
        (chat("hi"), None),
        (request("GET", "/v1/x"), Some("max-age=5")),
    ] {
        proxy.send(&call.header("Cache-Control", "max-age=5")).await;
        assert_eq!(up.last().headers.get("cache-control"), expected);
    }
}

#[tokio::test]
async fn a_malformed_value_of_ours_is_refused_by_name() {
    let (up, proxy) = house("").await;
    let seventeen = (0..17)
        .map(|tag| format!("t{tag}"))
        .collect::<Vec<_>>()
        .join(", ");
    let long = "t".repeat(129);
    for (name, value) in [
        ("X-Cache-TTL", "soon"),
        ("X-Cache-TTL", "-5"),
        ("X-Cache-TTL", ""),
        ("X-Cache-TTL", "99999999999999999999d"),
        ("X-Cache-Bypass", "maybe"),
        ("X-Cache-Bypass", ""),
        ("X-Cache-Refresh", "2 times"),
        ("X-Cache-Tags", seventeen.as_str()),
        ("X-Cache-Tags", long.as_str()),
    ] {
        let answer = proxy.send(&chat("hi").header(name, value)).await;
        assert_refused(&answer, 400, "bad_header");
        let message = answer.json()["error"]["message"]
            .as_str()
            .unwrap()
            .to_lowercase();
        assert!(message.contains(&name.to_lowercase()), "{name}: {message}");
    }
    assert_eq!(up.count(), 0);
}

#[tokio::test]
async fn malformed_aliases_and_cache_control_are_ignored() {
    let (up, proxy) = house("").await;
    ask(&proxy, &chat("hi"), "MISS", 0).await;
    for (name, value) in [
        ("Cache-Control", "max-stale=x, ,, =,\"no-cache"),
        ("cf-aig-cache-ttl", "soon"),
        ("cf-aig-skip-cache", "maybe"),
        ("X-OpenRouter-Cache-TTL", "-1"),
        ("Helicone-Cache-Enabled", "perhaps"),
        ("X-OpenRouter-Cache", ""),
    ] {
        ask(&proxy, &chat("hi").header(name, value), "HIT", 0).await;
    }
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn ours_outranks_an_alias() {
    let (_up, proxy) = house("").await;
    let both = chat("hi")
        .header("cf-aig-cache-ttl", "7200")
        .header("X-Cache-TTL", "90");
    ask(&proxy, &both, "MISS", 0).await;
    assert_lifetime(&proxy, 90).await;
}

#[tokio::test]
async fn the_operator_can_take_directives_from_callers() {
    let (up, proxy) = house("[cache]\nallow = []").await;
    ask(&proxy, &chat("hi"), "MISS", 0).await;
    for (name, value) in [
        ("Cache-Control", "no-cache"),
        ("Cache-Control", "max-age=0"),
        ("Cache-Control", "min-fresh=1000000"),
        ("X-Cache-Refresh", "true"),
        ("X-Cache-Bypass", "true"),
        ("X-Cache-Namespace", "mine"),
        ("cf-aig-skip-cache", "true"),
    ] {
        ask(&proxy, &chat("hi").header(name, value), "HIT", 0).await;
    }
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn the_operator_can_switch_aliases_off() {
    let (_up, proxy) = house("[cache]\naliases = false").await;
    ask(&proxy, &chat("hi"), "MISS", 0).await;
    ask(
        &proxy,
        &chat("hi").header("cf-aig-skip-cache", "true"),
        "HIT",
        0,
    )
    .await;
    ask(
        &proxy,
        &chat("hi").header("Helicone-Cache-Seed", "x"),
        "HIT",
        0,
    )
    .await;
}

/// A call with this object as LiteLLM's `cache`, among fields and blanks that have to stay as they are.
fn litellm(cache: &str) -> Request {
    let head = r#"{ "model":"gpt-test" , "seed":1.0,"#;
    let tail = r#""messages":[{"role":"user","content":"\u0068i"}] }"#;
    asking_bytes(format!(r#"{head}"cache": {cache} ,{tail}"#))
}

const WITHOUT_LITELLM: &str =
    r#"{ "model":"gpt-test" , "seed":1.0,"messages":[{"role":"user","content":"\u0068i"}] }"#;

#[tokio::test]
async fn litellms_object_is_obeyed_and_goes_no_further() {
    let (up, proxy) = house("[cache]\nlitellm = true").await;
    for (cache, verdict, number) in [
        (r#"{"no-store": true}"#, "MISS", 0),
        (r#"{"ttl": 90}"#, "MISS", 1),
        (r#"{"s-maxage": 600, "use-cache": true}"#, "HIT", 1),
        ("{}", "HIT", 1),
        (r#"{"no-cache": true}"#, "MISS", 2),
        (r#"{"no-store": true}"#, "HIT", 2),
        (r#"{"s-max-age": 0}"#, "MISS", 3),
        (r#"{"namespace": "v2"}"#, "MISS", 4),
        (r#"{"namespace": "v2", "ttl": 5}"#, "HIT", 4),
        (r#"{"ttl": "soon", "namespace": 7}"#, "HIT", 3),
    ] {
        ask(&proxy, &litellm(cache), verdict, number).await;
        assert_eq!(String::from_utf8_lossy(&up.last().body), WITHOUT_LITELLM);
    }
    let plain = asking_bytes(WITHOUT_LITELLM);
    ask(&proxy, &plain, "HIT", 3).await;
    let ours = litellm(r#"{"namespace": "v2"}"#).header("X-Cache-Namespace", "v3");
    ask(&proxy, &ours, "MISS", 5).await;
    ask(&proxy, &plain.header("X-Cache-Namespace", "v3"), "HIT", 5).await;
    assert_eq!(up.count(), 6);
}

#[tokio::test]
async fn litellms_lifetime_is_clamped_and_may_be_taken_away() {
    for (config, at_most) in [("max_ttl = \"1m\"", 60), ("ttl = \"2m\"\nallow = []", 120)] {
        let (_up, proxy) = house(&format!("[cache]\nlitellm = true\n{config}")).await;
        let mut call: Value = serde_json::from_slice(chat("hi").body_bytes()).unwrap();
        call["cache"] = serde_json::json!({"ttl": 90});
        ask(&proxy, &asking(&call), "MISS", 0).await;
        assert_lifetime(&proxy, at_most).await;
    }
}

#[tokio::test]
async fn litellms_object_is_a_field_like_any_other_unless_switched_on() {
    let (up, proxy) = house("").await;
    for (number, cache) in [r#"{"no-cache": true}"#, r#"{"ttl": 0}"#]
        .into_iter()
        .enumerate()
    {
        ask(&proxy, &litellm(cache), "MISS", number).await;
        assert_eq!(up.last().body, litellm(cache).body_bytes());
        ask(&proxy, &litellm(cache), "HIT", number).await;
    }
    assert_eq!(up.count(), 2);
}

#[tokio::test]
async fn what_is_not_litellms_object_travels_as_it_came() {
    let (up, proxy) = house("[cache]\nlitellm = true").await;
    let twice = r#"{"no-cache":true},"cache":{}"#;
    let invalid = r#"{},"x":NaN"#;
    for (cache, verdict) in [
        ("true", "MISS"),
        ("[]", "MISS"),
        (twice, "BYPASS"),
        (invalid, "BYPASS"),
    ] {
        let call = litellm(cache);
        assert_verdict(&proxy.send(&call).await, verdict);
        assert_eq!(up.last().body, call.body_bytes(), "{cache}");
    }
    let unread = litellm("{}").header("X-Cache-Bypass", "true");
    assert_bypass(&proxy.send(&unread).await, "bypass");
    assert_eq!(up.last().body, unread.body_bytes());
}

#[tokio::test]
async fn litellms_object_is_cut_out_of_a_call_that_has_no_key_for_what_it_asks() {
    let (up, proxy) = house("[cache]\nlitellm = true").await;
    let call = litellm(r#"{},"store":true"#);
    assert_bypass(&proxy.send(&call).await, "stateful");
    let expected = WITHOUT_LITELLM.replace("1.0,", "1.0,\"store\":true ,");
    assert_eq!(String::from_utf8_lossy(&up.last().body), expected);
}

#[tokio::test]
async fn a_cache_that_is_switched_off_passes_everything() {
    let (up, proxy) = house("[cache]\nenabled = false").await;
    for count in 1..=2 {
        assert_bypass(&proxy.send(&chat("hi")).await, "disabled");
        assert_eq!(up.count(), count);
    }
}

#[tokio::test]
async fn a_field_that_the_operator_keeps_is_keyed() {
    let (up, proxy) = house("[key]\nkeep = [\"user\"]").await;
    let user = |name: &str| {
        let body = format!(r#"{{"model":"m","messages":[],"user":"{name}"}}"#);
        chat("").body(body)
    };
    ask(&proxy, &user("a"), "MISS", 0).await;
    ask(&proxy, &user("b"), "MISS", 1).await;
    ask(&proxy, &user("a"), "HIT", 0).await;
    assert_eq!(up.count(), 2);
}

const OURS: [(&str, &str); 20] = [
    ("X-Cache-TTL", "90"),
    ("X-Cache-Namespace", "n"),
    ("X-Cache-Tags", "a, b"),
    ("X-Cache-Variants", "3"),
    ("X-Cache-Semantic", "off"),
    ("X-Cache-Vars", "{\"startup\": \"PathAI\"}"),
    ("X-Cache-Refresh", "true"),
    ("X-Cache-Unknown", "of ours, one day"),
    ("X-Fallback", "error"),
    ("Helicone-Cache-Enabled", "true"),
    ("Helicone-Cache-Seed", "s"),
    ("cf-aig-skip-cache", "false"),
    ("cf-aig-cache-ttl", "60"),
    ("x-portkey-cache-force-refresh", "false"),
    ("x-portkey-cache-namespace", "n"),
    ("X-OpenRouter-Cache", "true"),
    ("X-OpenRouter-Cache-TTL", "60"),
    ("X-OpenRouter-Cache-Clear", "false"),
    ("x-bf-cache-ttl", "60s"),
    ("x-bf-cache-no-store", "false"),
];
