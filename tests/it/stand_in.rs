//! Who is given an answer by an upstream that stands in for the primary with a key of the proxy's own, and what becomes of it.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use serde_json::json;

use crate::support::{
    client::{Answer, Request, asking, assert_verdict, chat},
    proxy::{Proxy, proxy},
    upstream::{Upstream, completion, status, upstream},
};

/// `two` takes over from `one`, which fails once told to.
struct House {
    fails: Arc<AtomicU16>,
    one: Upstream,
    two: Upstream,
    proxy: Proxy,
}

/// A house of these `[cache]` settings, and these of upstream `one`.
async fn house(cache: &str, of_one: &str) -> House {
    let fails = Arc::new(AtomicU16::new(200));
    let says = fails.clone();
    let one = upstream().by(move |seen, _| match says.load(Ordering::SeqCst) {
        200 if seen.headers.get("authorization") == Some("Bearer sk-invented") => status(401),
        200 => completion("of one"),
        code => status(code),
    });
    let one = one.start().await;
    let two = upstream().answers(completion("of two")).start().await;
    let section = |name: &str, up: &Upstream, settings: &str| {
        let base_url = up.base_url();
        format!("[[upstream]]\nname = \"{name}\"\nbase_url = \"{base_url}\"\n{settings}\n")
    };
    let proxy = proxy(&one)
        .honest()
        .with(&format!("[cache]\n{cache}"))
        .with(&section("one", &one, of_one))
        .with(&section("two", &two, "api_key = \"sk-two\"\npriority = 1"))
        .start()
        .await;
    House {
        fails,
        one,
        two,
        proxy,
    }
}

impl House {
    /// From now on `one` says this to everybody.
    fn one_says(&self, code: u16) {
        self.fails.store(code, Ordering::SeqCst);
    }

    /// Asserts that the upstream called `name` answers this call now.
    async fn is_answered_by(&self, name: &str, call: &Request) -> Answer {
        let answer = self.proxy.send(call).await;
        assert_verdict(&answer, "MISS");
        assert_eq!(answer.expect("x-upstream"), name);
        answer
    }

    async fn hits(&self, call: &Request) {
        assert_verdict(&self.proxy.send(call).await, "HIT");
    }
}

const SHARED: &str = "scope = \"shared\"";

#[tokio::test]
async fn an_old_proof_holds_while_the_primary_is_down_and_nobodys_key_is_spent_to_renew_it() {
    for cache in [
        "scope = \"shared\"\nproof_ttl = \"1us\"",
        "proof_ttl = \"1us\"",
    ] {
        let house = house(cache, "proof = \"call\"").await;
        house.is_answered_by("one", &chat("hi")).await;
        for code in [500, 429] {
            house.one_says(code);
            for _ in 0..3 {
                house.hits(&chat("hi")).await;
            }
        }
        assert_eq!(house.two.count(), 0, "{cache}");
        house.one_says(200);
        let renewed = house.is_answered_by("one", &chat("hi")).await;
        assert_eq!(renewed.expect("x-cache-reason"), "unproven");
    }
}

#[tokio::test]
async fn where_nothing_cached_fits_an_old_proof_is_good_enough_for_a_stand_in() {
    let cache = format!("{SHARED}\nproof_ttl = \"1us\"");
    let house = house(&cache, "proof = \"call\"").await;
    house.is_answered_by("one", &chat("hi")).await;
    house.one_says(500);
    let choosy = chat("hi").header("Cache-Control", "max-age=0, no-store");
    house.is_answered_by("two", &choosy).await;
    house.is_answered_by("two", &choosy).await;
}

#[tokio::test]
async fn what_was_made_without_the_query_or_a_header_that_counts_is_no_hit_later() {
    let at = |query: &str| chat("hi").at(&format!("/v1/chat/completions{query}"));
    for (cache, call, stored) in [
        ("", at(""), true),
        ("", at("?api-version=7"), false),
        ("", at("").header("OpenAI-Organization", "org9"), false),
        ("", at("").header("X-Style", "terse"), true),
        (SHARED, at("").header("X-Style", "terse"), false),
        (
            "scope = \"header:Tenant\"",
            at("").header("Tenant", "acme"),
            false,
        ),
    ] {
        let house = house(cache, "").await;
        house.is_answered_by("one", &chat("to be known")).await;
        house.one_says(500);
        house.is_answered_by("two", &call).await;
        if stored {
            house.hits(&call).await;
            continue;
        }
        house.is_answered_by("two", &call).await;
        let line = house.proxy.call_line(2).await;
        assert_eq!(line["cache.not_stored"], "withheld", "{line}");
        house.one_says(200);
        house.is_answered_by("one", &call).await;
        house.hits(&call).await;
        assert_eq!((house.one.count(), house.two.count()), (4, 2));
    }
}

/// A chat call to `model`.
fn to(model: &str) -> Request {
    asking(&json!({"model": model, "messages": [{"role": "user", "content": "hi"}]}))
}

#[tokio::test]
async fn who_was_refused_a_model_is_not_given_it_by_a_stand_in() {
    for cache in ["", SHARED] {
        let house = house(cache, "").await;
        for model in ["large", "small"] {
            house.is_answered_by("one", &to(model)).await;
        }
        house.one_says(403);
        let again = to("large").header("Cache-Control", "no-cache, no-store");
        assert_eq!(house.proxy.send(&again).await.status, 403);
        house.one_says(500);
        let unkeyed = to("large").header("X-Cache-Bypass", "true");
        for call in [&again, &unkeyed] {
            assert_eq!(house.proxy.send(call).await.status, 500, "{cache}");
        }
        assert_eq!(house.two.count(), 0, "{cache}");
        let other = to("small").header("Cache-Control", "no-cache");
        house.is_answered_by("two", &other).await;
    }
}

#[tokio::test]
async fn in_a_shared_scope_who_was_never_given_a_model_is_not_given_it_by_a_stand_in() {
    for (cache, given) in [("", true), (SHARED, false)] {
        let house = house(cache, "").await;
        house.is_answered_by("one", &to("small")).await;
        house.one_says(500);
        let answer = house.proxy.send(&to("large")).await;
        assert_eq!(answer.status == 200, given, "{cache}");
        assert_eq!(house.two.count(), usize::from(given), "{cache}");
    }
}
