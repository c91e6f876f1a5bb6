//! What was purged is not served again: whatever was under way, and whatever happens to the process.

use std::fs;

use refrain::config::KeyHash;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::support::{
    client::{Answer, Request, assert_refused, assert_verdict, chat, request},
    gate,
    proxy::{Proxy, proxy, run},
    upstream::{Upstream, completion, upstream},
    within,
};

/// An upstream that numbers its answers.
async fn counting() -> Upstream {
    let up = upstream().by(|_, number| completion(&format!("answer {number}")));
    up.start().await
}

fn order(body: &Value) -> Request {
    request("POST", "/api/purge")
        .header("Content-Type", "application/json")
        .body(body.to_string())
}

/// Purges as the operator and returns what is told.
async fn purge(proxy: &Proxy, body: &Value) -> Value {
    let answer = order(body).send(proxy.admin).await;
    assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    answer.json()
}

fn own(body: &Value) -> Request {
    request("POST", "/_refrain/purge")
        .header("Authorization", "Bearer sk-test-alice")
        .header("Content-Type", "application/json")
        .body(body.to_string())
}

/// A call that is told apart from others by everything a purge can go by.
fn marked(prompt: &str) -> Request {
    chat(prompt)
        .header("X-Cache-Tags", "a, b")
        .header("X-Cache-Namespace", "n")
}

#[tokio::test]
async fn each_selector_purges_what_it_says_and_nothing_else() {
    let up = counting().await;
    let proxy = proxy(&up).start().await;
    let first = proxy.send(&marked("hi")).await;
    let key = first.expect("x-cache-key").to_owned();
    let shown = purge(&proxy, &json!({"tag": "a", "dry_run": true})).await;
    let scope = shown["samples"][0]["scope"].as_str().unwrap().to_owned();
    for (hits, misses) in [
        (json!({"all": true}), json!({"dialect": "embeddings"})),
        (json!({"dialect": "chat"}), json!({"tag": "c"})),
        (json!({"tag": "b"}), json!({"model": "gpt"})),
        (json!({"tags": ["x", "b"]}), json!({"tags": ["c", "d"]})),
        (json!({"model": "gpt-test"}), json!({"namespace": ""})),
        (json!({"namespace": "n"}), json!({"scope": "00"})),
        (json!({"scope": scope}), json!({"upstream": "other"})),
        (
            json!({"upstream": "openai"}),
            json!({"key": "00".repeat(32)}),
        ),
        (json!({"key": key}), json!({"pattern": "openai/chat"})),
        (
            json!({"pattern": "openai/chat/*/n/a,b"}),
            json!({"older_than": "1d"}),
        ),
        (json!({"older_than": "0s"}), json!({"pattern": "other/*"})),
    ] {
        proxy.send(&marked("hi")).await;
        let told = purge(&proxy, &misses).await;
        assert_eq!(told["durable"], true, "{misses}: {told}");
        assert_verdict(&proxy.send(&marked("hi")).await, "HIT");
        until_older(&proxy, &hits).await;
        purge(&proxy, &hits).await;
        assert_verdict(&proxy.send(&marked("hi")).await, "MISS");
    }
}

/// Where a purge goes by age, waits until the clock has moved past the last answer.
async fn until_older(proxy: &Proxy, body: &Value) {
    let Some(age) = body.get("older_than") else {
        return;
    };
    let dry = json!({"older_than": age, "dry_run": true});
    let older = async { while purge(proxy, &dry).await["entries"] != 1 {} };
    within("the clock to move", older).await;
}

#[tokio::test]
async fn a_dry_run_shows_and_changes_nothing_and_a_pattern_tells_how_many() {
    let up = counting().await;
    let proxy = proxy(&up).start().await;
    for prompt in ["one", "two"] {
        proxy.send(&marked(prompt)).await;
    }
    let pattern = json!({"pattern": "openai/chat/gpt-*/n/*", "dry_run": true});
    let told = purge(&proxy, &pattern).await;
    assert_eq!(
        (&told["entries"], &told["dry_run"]),
        (&json!(2), &json!(true))
    );
    assert!(told.get("durable").is_none(), "{told}");
    let sample = &told["samples"][0];
    assert_eq!(sample["model"], "gpt-test", "{told}");
    assert_eq!(sample["tags"], json!(["a", "b"]), "{told}");
    assert!(!told.to_string().contains("one"), "a prompt in {told}");
    assert_verdict(&proxy.send(&marked("one")).await, "HIT");
    let told = purge(&proxy, &json!({"pattern": "openai/chat/gpt-*/n/*"})).await;
    assert_eq!(told["entries"], 2);
    assert_verdict(&proxy.send(&marked("one")).await, "MISS");
    let counted = |kind| {
        let (proxy, label) = (&proxy, format!("kind=\"{kind}\""));
        async move { proxy.metric("refrain_purges_total", &[&label]).await }
    };
    assert!((counted("pattern").await - 1.0).abs() < 0.1);
    assert!(counted("all").await < 0.1);
}

#[tokio::test]
async fn a_purge_during_a_flight_is_not_undone_by_its_answer() {
    let door = gate();
    let held = completion("old").after(&door);
    let up = upstream().answers(held).answers(completion("new"));
    let up = up.start().await;
    let proxy = proxy(&up).start().await;
    let leader = proxy.open(&marked("hi")).await;
    door.reached().await;
    let follower = proxy.open(&marked("hi")).await;
    proxy.joined(1).await;
    purge(&proxy, &json!({"tag": "a"})).await;
    let later = proxy.send(&marked("hi")).await;
    assert_verdict(&later, "MISS");
    assert_eq!(later.body, completion("new").bytes());
    door.open();
    for waited in [leader, follower] {
        assert_eq!(waited.finish().await.body, completion("old").bytes());
    }
    let after = proxy.send(&marked("hi")).await;
    assert_verdict(&after, "HIT");
    assert_eq!(after.body, completion("new").bytes());
}

#[tokio::test]
async fn what_was_purged_stays_purged_after_a_crash() {
    let up = counting().await;
    let mut old = proxy(&up).start().await;
    for prompt in ["gone", "kept"] {
        let tag = format!("of-{prompt}");
        old.send(&chat(prompt).header("X-Cache-Tags", &tag)).await;
    }
    old.counted("refrain_disk_written_total", 2.0).await;
    let told = purge(&old, &json!({"tag": "of-gone"})).await;
    assert_eq!(told["durable"], true);
    old.kill().await;
    let new = proxy(&up).in_home_of(&old).start().await;
    assert_verdict(&new.send(&chat("kept")).await, "HIT");
    let gone = new.send(&chat("gone")).await;
    assert_verdict(&gone, "MISS");
    assert_eq!(gone.body, completion("answer 2").bytes());
}

#[tokio::test]
async fn what_was_purged_softly_still_stands_in_for_a_failed_upstream() {
    let up = upstream()
        .answers(completion("hello"))
        .answers(completion("").status(503))
        .answers(completion("new"));
    let up = up.start().await;
    let proxy = proxy(&up).start().await;
    proxy.send(&marked("hi")).await;
    let told = purge(&proxy, &json!({"tag": "a", "soft": true})).await;
    assert_eq!(told["soft"], true);
    let stale = proxy.send(&marked("hi")).await;
    assert_verdict(&stale, "STALE");
    assert_eq!(stale.body, completion("hello").bytes());
    let lax = marked("hi").header("Cache-Control", "max-stale");
    assert_verdict(&proxy.send(&lax).await, "STALE");
    let fresh = proxy.send(&marked("hi")).await;
    assert_verdict(&fresh, "MISS");
    assert_eq!(fresh.expect("x-cache-reason"), "expired");
    assert_verdict(&proxy.send(&marked("hi")).await, "HIT");
    purge(&proxy, &json!({"all": true})).await;
    assert_verdict(&proxy.send(&lax).await, "MISS");
}

#[tokio::test]
async fn callers_purge_their_own_and_nothing_else() {
    let up = counting().await;
    let proxy = proxy(&up).start().await;
    let (alice, bob) = (marked("hi"), marked("hi").with_bearer("sk-bob"));
    let verdicts = async |first: &str, second: &str| {
        assert_verdict(&proxy.send(&alice).await, first);
        assert_verdict(&proxy.send(&bob).await, second);
    };
    verdicts("MISS", "MISS").await;
    for body in [
        json!({"all": true}),
        json!({"tags": ["x", "b"]}),
        json!({"tag": "a"}),
        json!({"namespace": "n"}),
    ] {
        verdicts("HIT", "HIT").await;
        let mut dry = body.clone();
        dry["dry_run"] = true.into();
        let told = proxy.send(&own(&dry)).await;
        assert_eq!((told.status, &told.json()["entries"]), (200, &json!(1)));
        verdicts("HIT", "HIT").await;
        let told = proxy.send(&own(&body)).await;
        assert_eq!((told.status, &told.json()["durable"]), (200, &json!(true)));
        verdicts("MISS", "HIT").await;
    }
    for body in [json!({"tags": ["c"]}), json!({"namespace": "m"})] {
        proxy.send(&own(&body)).await;
        verdicts("HIT", "HIT").await;
    }
}

#[tokio::test]
async fn an_invented_credential_purges_nothing_and_leaves_no_purge_behind() {
    let up = counting().await;
    let proxy = proxy(&up).start().await;
    let key = proxy.send(&marked("hi")).await;
    let key = key.expect("x-cache-key").to_owned();
    for body in [
        json!({"all": true}),
        json!({"tags": ["a"], "dry_run": true}),
    ] {
        let invented = own(&body).with_bearer("sk-invented");
        assert_refused(&proxy.send(&invented).await, 403, "forbidden");
    }
    let delete = request("DELETE", &format!("/_refrain/cache/{key}"));
    assert_refused(&proxy.send(&delete).await, 404, "not_found");
    for kind in ["all", "key"] {
        let kind = format!("kind=\"{kind}\"");
        let done = proxy.metric("refrain_purges_total", &[&kind]).await;
        assert!(done.abs() < f64::EPSILON, "{kind}");
    }
    assert_verdict(&proxy.send(&marked("hi")).await, "HIT");
}

#[tokio::test]
async fn with_identity_jwt_a_token_that_was_accepted_purges_what_its_owner_has() {
    let up = counting().await;
    let proxy = proxy(&up).with_upstream("identity = \"jwt\"").start().await;
    let by = |call: Request, number: u8| {
        // {"iss":"i","sub":"alice"}
        let token = format!("eyJ9.eyJpc3MiOiJpIiwic3ViIjoiYWxpY2UifQ.sig{number}");
        call.with_bearer(&token)
    };
    let all = || own(&json!({"all": true}));
    assert_verdict(&proxy.send(&by(marked("hi"), 1)).await, "MISS");
    assert_refused(&proxy.send(&by(all(), 2)).await, 403, "forbidden");
    assert_verdict(&proxy.send(&by(marked("hi"), 1)).await, "HIT");
    assert_eq!(proxy.send(&by(all(), 1)).await.status, 200);
    assert_verdict(&proxy.send(&by(marked("hi"), 1)).await, "MISS");
}

#[tokio::test]
async fn a_caller_deletes_an_entry_by_its_key_and_learns_nothing_of_others() {
    let up = counting().await;
    let proxy = proxy(&up).start().await;
    let key = proxy.send(&marked("hi")).await;
    let key = key.expect("x-cache-key").to_owned();
    let delete = |key: &str| {
        request("DELETE", &format!("/_refrain/cache/{key}"))
            .header("Authorization", "Bearer sk-test-alice")
    };
    let bobs = proxy.send(&delete(&key).with_bearer("sk-bob")).await;
    let nobodys = proxy.send(&delete(&"00".repeat(32))).await;
    assert_refused(&bobs, 404, "not_found");
    assert_eq!(bobs.body, nobodys.body, "one cannot be told from the other");
    assert_refused(&proxy.send(&delete("xyz")).await, 404, "not_found");
    assert_verdict(&proxy.send(&marked("hi")).await, "HIT");
    let deleted = proxy.send(&delete(&key)).await;
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    assert_verdict(&proxy.send(&marked("hi")).await, "MISS");
    assert_eq!(up.count(), 2, "none of these went on");
    let lines = proxy.call_lines(7).await;
    let deletions = lines
        .iter()
        .filter(|line| line["http.request.method"] == "DELETE");
    let told: Vec<_> = deletions
        .map(|line| {
            let status = line["http.response.status_code"].as_u64().unwrap();
            (status, line["cache.verdict"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        told,
        [(404, "none"), (404, "none"), (404, "none"), (204, "none")]
    );
}

#[tokio::test]
async fn an_answer_on_its_way_can_be_deleted_by_its_key() {
    let door = gate();
    let paused = completion("old").pausing_after(1, &door);
    let up = upstream().answers(paused).answers(completion("new"));
    let up = up.start().await;
    let proxy = proxy(&up).start().await;
    let mut exchange = proxy.open(&marked("hi")).await;
    let head = exchange.head().await;
    let key = head.headers.get("x-cache-key").unwrap().to_owned();
    let delete = request("DELETE", &format!("/_refrain/cache/{key}"))
        .header("Authorization", "Bearer sk-test-alice");
    assert_eq!(proxy.send(&delete).await.status, 204);
    door.open();
    exchange.finish().await;
    assert_verdict(&proxy.send(&marked("hi")).await, "MISS");
}

#[tokio::test]
async fn a_purge_is_logged_by_its_kind_without_what_it_names() {
    let up = counting().await;
    let proxy = proxy(&up).start().await;
    proxy.send(&marked("hi")).await;
    proxy.send(&own(&json!({"tags": ["canary"]}))).await;
    let line = proxy.logged("\"purged\"").await;
    assert_eq!(line["level"], "INFO", "{line}");
    assert!(line.to_string().contains("\"kind\":\"tag\""), "{line}");
    assert!(!proxy.printed().contains("canary"));
}

#[tokio::test]
async fn the_operator_may_take_purging_from_callers() {
    let up = counting().await;
    let proxy = proxy(&up).with("[cache]\nallow = [\"tags\"]").start().await;
    let key = proxy.send(&chat("hi")).await;
    let key = key.expect("x-cache-key").to_owned();
    let delete = request("DELETE", &format!("/_refrain/cache/{key}"))
        .header("Authorization", "Bearer sk-test-alice");
    for request in [own(&json!({"all": true})), delete] {
        assert_refused(&proxy.send(&request).await, 403, "forbidden");
    }
    assert_verdict(&proxy.send(&chat("hi")).await, "HIT");
}

#[tokio::test]
async fn what_is_not_understood_is_refused_and_purges_nothing() {
    let up = counting().await;
    let proxy = proxy(&up).start().await;
    proxy.send(&marked("hi")).await;
    for body in [
        json!({}),
        json!({"al": true}),
        json!({"all": true, "tag": "a"}),
    ] {
        let told = order(&body).send(proxy.admin).await;
        assert_refused(&told, 400, "bad_request");
        let told = proxy.send(&own(&body)).await;
        assert_refused(&told, 400, "bad_request");
        let message = told.json()["error"]["message"].to_string();
        assert!(message.contains("hint: "), "{message}");
    }
    let large = own(&json!({"tags": ["x".repeat(100_000)]}));
    assert_refused(&proxy.send(&large).await, 400, "bad_request");
    for path in ["/_refrain/purge", "/_refrain/cache/", "/_refrain/cache"] {
        assert_refused(&proxy.send(&request("GET", path)).await, 404, "not_found");
    }
    assert_verdict(&proxy.send(&marked("hi")).await, "HIT");
}

#[tokio::test]
async fn no_web_page_can_purge() {
    let up = counting().await;
    let proxy = proxy(&up).start().await;
    proxy.send(&marked("hi")).await;
    let all = json!({"all": true});
    let status = async |request: Request| -> Answer { request.send(proxy.admin).await };
    let page = order(&all).header("Origin", "https://evil.example");
    assert_refused(&status(page).await, 403, "forbidden");
    let rebound = order(&all).header("Host", "evil.example:8081");
    assert_refused(&status(rebound).await, 403, "forbidden");
    let form = order(&all).without("content-type");
    let form = form.header("Content-Type", "text/plain");
    assert_refused(&status(form).await, 415, "bad_request");
    let simple = own(&all).without("content-type");
    let simple = simple.header("Content-Type", "text/plain");
    assert_refused(&proxy.send(&simple).await, 400, "bad_request");
    assert_verdict(&proxy.send(&marked("hi")).await, "HIT");
    let own_page = format!("http://{}", proxy.admin);
    assert_eq!(
        status(order(&all).header("Origin", &own_page)).await.status,
        200
    );
}

#[tokio::test]
async fn with_a_token_only_its_bearer_passes_and_health_stays_open() {
    let up = counting().await;
    let token = "0123456789abcdef-token";
    let config = format!("[admin]\ntoken = \"{token}\"");
    let proxy = proxy(&up).with(&config).start().await;
    let all = json!({"all": true});
    for wrong in [
        order(&all),
        order(&all).with_bearer("0123456789abcdef-tokeN"),
        order(&all).header("Authorization", token),
    ] {
        let told = wrong.send(proxy.admin).await;
        assert_refused(&told, 401, "forbidden");
        assert_eq!(told.header("www-authenticate"), Some("Bearer"));
    }
    let right = order(&all).with_bearer(token).header("Host", "any.example");
    assert_eq!(right.send(proxy.admin).await.status, 200);
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(proxy.admin(path).await.status, 200, "{path}");
    }
    assert!(!proxy.printed().contains(token));
}

#[tokio::test]
async fn in_a_wider_scope_only_who_is_known_here_purges_what_is_shared() {
    let up = counting().await;
    let by_credential = proxy(&up).with("[cache]\nscope = \"shared\"");
    let by_credential = by_credential.start().await;
    let key = by_credential.send(&marked("hi")).await;
    let key = key.expect("x-cache-key").to_owned();
    let delete = request("DELETE", &format!("/_refrain/cache/{key}"))
        .header("Authorization", "Bearer sk-test-alice");
    for refused in [own(&json!({"all": true})), delete] {
        let told = by_credential.send(&refused).await;
        assert_refused(&told, 403, "forbidden");
        assert!(told.text().contains("the operator's to purge"));
    }
    assert_verdict(&by_credential.send(&marked("hi")).await, "HIT");
    let callers = ["ann", "bob"].map(|name| {
        let hash = KeyHash::of(format!("sk-{name}").as_bytes());
        format!("[[caller]]\nname = \"{name}\"\nkeys = \"{hash}\"\nscope = \"team\"\n")
    });
    let named = proxy(&up).with(&callers.concat()).start().await;
    let [ann, bob] = ["sk-ann", "sk-bob"].map(|key| marked("hi").with_bearer(key));
    assert_verdict(&named.send(&ann).await, "MISS");
    assert_verdict(&named.send(&bob).await, "HIT");
    let all = own(&json!({"all": true}));
    let stranger = named.send(&all.clone().with_bearer("sk-eve")).await;
    assert_refused(&stranger, 401, "invalid_api_key");
    assert_verdict(&named.send(&bob).await, "HIT");
    assert_eq!(named.send(&all.with_bearer("sk-bob")).await.status, 200);
    assert_verdict(&named.send(&ann).await, "MISS");
}

#[tokio::test]
async fn where_a_header_widens_the_scope_a_caller_without_it_purges_its_own() {
    let up = counting().await;
    let config = "[cache]\nscope = \"header:X-Team\"";
    let proxy = proxy(&up).with(config).start().await;
    let shared = marked("hi").header("X-Team", "red");
    for call in [&shared, &marked("hi")] {
        assert_verdict(&proxy.send(call).await, "MISS");
    }
    let all = own(&json!({"all": true}));
    let told = proxy.send(&all.clone().header("X-Team", "red")).await;
    assert_refused(&told, 403, "forbidden");
    assert_eq!(proxy.send(&all).await.status, 200);
    assert_verdict(&proxy.send(&marked("hi")).await, "MISS");
    assert_verdict(&proxy.send(&shared).await, "HIT");
}

#[tokio::test]
async fn the_command_takes_the_token_of_the_configuration_unless_a_flag_names_one() {
    let up = counting().await;
    let token = "[admin]\ntoken = \"0123456789abcdef-token\"";
    let proxy = proxy(&up).with(token).start().await;
    let file = NamedTempFile::new().unwrap();
    // The secrets of the proxy are not the operator's.
    let store = "[store]\nredis = \"redis://:${NOT_KNOWN_HERE}@127.0.0.1\"";
    let config = format!("{token}\nlisten = \"{}\"\n{store}", proxy.admin);
    fs::write(file.path(), config).unwrap();
    let path = file.path().to_str().unwrap();
    let url = format!("http://{}", proxy.admin);
    for more in [&[][..], &["--url", &url]] {
        proxy.send(&marked("hi")).await;
        let done = run(&[&["purge", "--all", "--config", path], more].concat()).await;
        assert_eq!(done.code, Some(0), "{done:?}");
        assert_verdict(&proxy.send(&marked("hi")).await, "MISS");
    }
    let wrong = ["--token", "0123456789abcdef-tokeN"];
    let refused = run(&[&["purge", "--all", "--config", path][..], &wrong].concat()).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(!refused.err.contains("0123456789"), "{refused:?}");
}

#[tokio::test]
async fn the_command_purges_like_the_api() {
    let up = counting().await;
    let token = "0123456789abcdef-token";
    let config = format!("[admin]\ntoken = \"{token}\"");
    let proxy = proxy(&up).with(&config).start().await;
    proxy.send(&marked("hi")).await;
    let url = format!("http://{}", proxy.admin);
    let purge = async |more: &[&str]| run(&[&["purge", "--url", &url], more].concat()).await;
    let shown = purge(&["--tag", "a", "--dry-run", "--token", token]).await;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(
        shown.out.starts_with("1 entry would be purged\n"),
        "{shown:?}"
    );
    assert!(
        shown.out.contains("openai/chat/gpt-test/n/a,b"),
        "{shown:?}"
    );
    assert_verdict(&proxy.send(&marked("hi")).await, "HIT");
    let refused = purge(&["--all"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.err.contains("token is missing or wrong"),
        "{refused:?}"
    );
    let done = purge(&["--older-than", "1d", "--token", token]).await;
    assert_eq!(
        (done.code, done.out.as_str()),
        (Some(0), "0 entries purged\n")
    );
    let done = purge(&["--all", "--token", token]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.out.starts_with("purged: everything, from now on\n"),
        "{done:?}"
    );
    assert_verdict(&proxy.send(&marked("hi")).await, "MISS");
    let more = ["--dialect", "--scope", "--upstream"];
    for (flag, value) in more.into_iter().zip(["other", "00", "other"]) {
        proxy.send(&marked("hi")).await;
        let done = purge(&[flag, value, "--token", token]).await;
        assert_eq!(done.code, Some(0), "{flag}: {done:?}");
        assert_verdict(&proxy.send(&marked("hi")).await, "HIT");
    }
    assert_eq!(purge(&["--all", "--tag", "a"]).await.code, Some(2));
}
