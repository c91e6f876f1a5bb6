//! Who may read what is cached: a credential that its upstream has accepted, and has not refused since.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use refrain::config::KeyHash;
use serde_json::json;

use crate::support::{
    Gate,
    client::{Answer, Request, asking, assert_refused, assert_verdict, chat, request},
    gate,
    proxy::{Proxy, Setup, proxy},
    upstream::{Reply, Seen, Upstream, completion, json, status, upstream},
    within,
};

/// What an upstream makes of credentials; a test changes it as it goes.
#[derive(Clone, Default)]
struct Door(Arc<Mutex<Rules>>);

#[derive(Default)]
struct Rules {
    /// Keys that were good and are not any more.
    revoked: HashSet<&'static str>,
    /// Whether it takes calls without a key.
    open: bool,
    /// What its list of models says to a bad key, and to a good one.
    models: Option<(u16, u16)>,
    /// What it says to everybody.
    fails: Option<u16>,
    /// The model that nobody may use.
    forbidden: Option<&'static str>,
}

const GOOD: [&str; 3] = ["Bearer sk-a", "Bearer sk-b", "Bearer sk-c"];
const REFUSAL: &str =
    r#"{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}"#;

impl Door {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.0.lock().unwrap()
    }

    fn revoke(&self, key: &'static str) {
        self.rules().revoked.insert(key);
    }

    fn restore(&self, key: &'static str) {
        self.rules().revoked.remove(key);
    }

    fn fails_with(&self, status: u16) {
        self.rules().fails = Some(status);
    }

    fn reply(&self, seen: &Seen) -> Reply {
        let rules = self.rules();
        let good = match seen.headers.get("authorization") {
            None => rules.open,
            Some(value) => {
                let key = value.trim_start_matches("Bearer ");
                (GOOD.contains(&value) || key.contains('.')) && !rules.revoked.contains(key)
            }
        };
        if let Some(code) = rules.fails {
            return json("{}").status(code);
        }
        if seen.method == "GET" {
            let (bad_says, good_says) = rules.models.unwrap_or((401, 200));
            return json("{}").status(if good { good_says } else { bad_says });
        }
        if !good {
            return json(REFUSAL).status(401).header("x-from", "upstream");
        }
        match rules.forbidden {
            Some(model) if String::from_utf8_lossy(&seen.body).contains(model) => {
                json(REFUSAL).status(403)
            }
            _ => completion("hello"),
        }
    }
}

struct House {
    door: Door,
    up: Upstream,
    proxy: Proxy,
}

/// An upstream with a door, and a proxy of these `[cache]` settings.
async fn house(settings: &str) -> House {
    house_with(settings, |setup| setup).await
}

async fn house_with(settings: &str, change: impl FnOnce(Setup) -> Setup) -> House {
    let door = Door::default();
    let by = door.clone();
    let up = upstream().by(move |seen, _| by.reply(seen)).start().await;
    let setup = proxy(&up).honest().with(&format!("[cache]\n{settings}"));
    let proxy = change(setup).start().await;
    House { door, up, proxy }
}

const SHARED: &str = "scope = \"shared\"";
/// Every proof is old as soon as it is given.
const SHARED_AND_OLD: &str = "scope = \"shared\"\nproof_ttl = \"1us\"";
const OLD: &str = "proof_ttl = \"1us\"";

fn by(key: &str) -> Request {
    chat("hi").with_bearer(key)
}

impl House {
    async fn ask(&self, key: &str) -> Answer {
        self.proxy.send(&by(key)).await
    }

    async fn hits(&self, key: &str) {
        assert_verdict(&self.ask(key).await, "HIT");
    }

    /// Asks until the answer does not come from the cache.
    async fn hits_no_more(&self, key: &str) {
        let hits = async { while self.ask(key).await.header("x-cache") == Some("HIT") {} };
        within("a call to be forwarded", hits).await;
    }

    /// The call is forwarded although an answer lies there, and the upstream takes it.
    async fn is_forwarded(&self, key: &str) {
        let answer = self.ask(key).await;
        assert_verdict(&answer, "MISS");
        assert_eq!(answer.expect("x-cache-reason"), "unproven");
        assert_eq!(answer.status, 200);
    }

    async fn is_refused(&self, request: &Request) {
        let answer = self.proxy.send(request).await;
        assert_eq!((answer.status, answer.text().as_str()), (401, REFUSAL));
        assert_eq!(answer.expect("x-from"), "upstream");
        assert_verdict(&answer, "MISS");
    }

    /// Returns how many calls of this method the upstream has seen.
    fn seen(&self, method: &str) -> usize {
        let calls = (0..self.up.count()).map(|index| self.up.call(index));
        calls.filter(|call| call.method == method).count()
    }

    async fn counted(&self, event: &str, least: f64) {
        let label = format!("event=\"{event}\"");
        let proofs =
            async { while self.proxy.metric("refrain_proofs_total", &[&label]).await < least {} };
        within(&format!("{least} proofs {event}"), proofs).await;
    }
}

#[tokio::test]
async fn in_a_shared_scope_a_second_accepted_key_hits_and_an_invented_one_gets_the_upstreams_401() {
    let house = house(SHARED).await;
    house.is_forwarded("sk-a").await;
    house.hits("sk-a").await;
    house.is_forwarded("sk-b").await;
    house.hits("sk-b").await;
    for _ in 0..2 {
        house.is_refused(&by("sk-invented")).await;
    }
    house.hits("sk-a").await;
    assert_eq!((house.seen("POST"), house.seen("GET")), (4, 0));
}

#[tokio::test]
async fn in_a_shared_scope_an_old_proof_is_renewed_before_anything_is_served() {
    let house = house(SHARED_AND_OLD).await;
    house.is_forwarded("sk-a").await;
    house.hits("sk-a").await;
    let probes: Vec<_> = (1..3).map(|index| house.up.call(index)).collect();
    for probe in &probes {
        assert_eq!(
            (probe.method.as_str(), probe.target.as_str()),
            ("GET", "/v1/models")
        );
        assert_eq!(probe.headers.get("content-type"), None);
    }
    let keys = probes
        .iter()
        .map(|probe| probe.headers.get("authorization"));
    let keys: Vec<_> = keys.map(Option::unwrap).collect();
    assert!(keys[0].starts_with("Bearer sk-") && !GOOD.contains(&keys[0]));
    assert_eq!(keys[1], "Bearer sk-a");
    house.door.revoke("sk-a");
    house.is_refused(&by("sk-a")).await;
    house.door.restore("sk-a");
    house.is_forwarded("sk-a").await;
    house.hits("sk-a").await;
    assert_eq!(house.seen("POST"), 3, "a random key is tried once");
    assert_eq!(house.seen("GET"), 4);
}

#[tokio::test]
async fn where_the_models_are_open_to_all_the_next_call_renews_the_proof() {
    for open in [(200, 200), (404, 404), (401, 403), (401, 404), (401, 405)] {
        let house = house(SHARED_AND_OLD).await;
        house.door.rules().models = Some(open);
        for _ in 0..3 {
            house.is_forwarded("sk-a").await;
        }
        house.is_refused(&by("sk-invented")).await;
        house.door.revoke("sk-a");
        for _ in 0..2 {
            house.is_refused(&by("sk-a")).await;
        }
        let probes = if open.0 == 401 { 2 } else { 1 };
        assert_eq!(house.seen("GET"), probes, "{open:?}");
    }
}

#[tokio::test]
async fn an_answer_of_the_models_proves_nothing_where_they_are_open_to_all() {
    let house = house(SHARED).await;
    house.door.rules().models = Some((200, 200));
    house.is_forwarded("sk-a").await;
    let look = request("GET", "/v1/models").header("Authorization", "Bearer sk-invented");
    assert_eq!(house.proxy.send(&look).await.status, 200);
    house.is_refused(&by("sk-invented")).await;
}

#[tokio::test]
async fn while_the_upstream_cannot_say_an_old_proof_holds_as_long_as_stale_if_error() {
    for (models, code) in [
        ((401, 200), 503),
        ((401, 200), 429),
        ((200, 200), 500),
        ((200, 200), 429),
    ] {
        let patient = house(SHARED_AND_OLD).await;
        let strict = house(&format!("{SHARED_AND_OLD}\nstale_if_error = \"off\"")).await;
        for house in [&patient, &strict] {
            house.door.rules().models = Some(models);
            house.is_forwarded("sk-a").await;
            house.door.fails_with(code);
        }
        patient.hits("sk-a").await;
        patient.hits("sk-a").await;
        assert_eq!(strict.ask("sk-a").await.status, code);
        assert_eq!(patient.ask("sk-b").await.status, code, "it has no proof");
    }
}

#[tokio::test]
async fn a_dead_upstream_ends_no_proof() {
    for settings in [SHARED_AND_OLD, OLD] {
        let closing = completion("hello").header("connection", "close");
        let mut up = upstream().answers(closing).start().await;
        let setup = proxy(&up).honest().with(&format!("[cache]\n{settings}"));
        let proxy = setup.start().await;
        assert_verdict(&proxy.send(&by("sk-a")).await, "MISS");
        up.leave().await;
        for _ in 0..3 {
            assert_verdict(&proxy.send(&by("sk-a")).await, "HIT");
        }
        let other = proxy.send(&by("sk-b")).await;
        assert_refused(&other, 502, "upstream_unreachable");
    }
}

#[tokio::test]
async fn in_scope_credential_an_old_proof_is_renewed_behind_the_hit() {
    let house = house(OLD).await;
    assert_verdict(&house.ask("sk-a").await, "MISS");
    house.hits("sk-a").await;
    house.counted("renewed", 1.0).await;
    house.door.revoke("sk-a");
    // Whoever asks first after the revocation is still answered, and has it found out.
    house.hits_no_more("sk-a").await;
    house.counted("ended", 1.0).await;
    house.is_refused(&by("sk-a")).await;
    house.door.restore("sk-a");
    house.is_forwarded("sk-a").await;
    house.hits("sk-a").await;
}

#[tokio::test]
async fn in_scope_credential_a_401_to_any_call_ends_its_hits_at_once() {
    let house = house("").await;
    assert_verdict(&house.ask("sk-a").await, "MISS");
    house.hits("sk-a").await;
    house.door.revoke("sk-a");
    house.is_refused(&chat("other").with_bearer("sk-a")).await;
    house.is_refused(&by("sk-a")).await;
    house.door.fails_with(503);
    assert_eq!(
        house.ask("sk-a").await.status,
        503,
        "nothing stands in for it"
    );
}

#[tokio::test]
async fn in_scope_credential_the_next_call_renews_where_the_models_are_open_to_all() {
    let house = house(OLD).await;
    house.door.rules().models = Some((200, 200));
    assert_verdict(&house.ask("sk-a").await, "MISS");
    house.hits("sk-a").await;
    house
        .up
        .until("a random key to be tried", |calls| calls.len() == 2)
        .await;
    house.hits_no_more("sk-a").await;
    house.is_forwarded("sk-a").await;
    house.door.fails_with(503);
    house.hits("sk-a").await;
    house.door.rules().fails = None;
    house.door.revoke("sk-a");
    let let_in = async { while house.ask("sk-a").await.status == 200 {} };
    within("the revocation to be noticed", let_in).await;
    house.is_refused(&by("sk-a")).await;
    assert_eq!(house.seen("GET"), 1);
}

#[tokio::test]
async fn a_403_on_a_call_ends_the_proof_for_its_model_alone() {
    let house = house(SHARED).await;
    let asks = |model: &str, prompt: &str| {
        let messages = json!([{"role": "user", "content": prompt}]);
        asking(&json!({"model": model, "messages": messages})).with_bearer("sk-a")
    };
    for verdict in ["MISS", "HIT"] {
        for model in ["model-one", "model-two"] {
            assert_verdict(&house.proxy.send(&asks(model, "hi")).await, verdict);
        }
    }
    house.door.rules().forbidden = Some("model-one");
    for prompt in ["other", "hi"] {
        let answer = house.proxy.send(&asks("model-one", prompt)).await;
        assert_eq!(answer.status, 403, "{prompt}");
    }
    assert_verdict(&house.proxy.send(&asks("model-two", "hi")).await, "HIT");
    house.door.rules().forbidden = None;
    assert_verdict(&house.proxy.send(&asks("model-one", "hi")).await, "MISS");
    assert_verdict(&house.proxy.send(&asks("model-one", "hi")).await, "HIT");
}

#[tokio::test]
async fn no_credential_is_a_credential_of_its_own() {
    let house = house(SHARED).await;
    let anonymous = chat("hi").without("authorization");
    house.is_forwarded("sk-a").await;
    house.is_refused(&anonymous).await;
    house.door.rules().open = true;
    assert_verdict(&house.proxy.send(&anonymous).await, "MISS");
    assert_verdict(&house.proxy.send(&anonymous).await, "HIT");
    house.is_refused(&by("sk-invented")).await;
}

#[tokio::test]
async fn without_a_credential_only_a_call_renews_the_proof() {
    let house = house(SHARED_AND_OLD).await;
    house.door.rules().open = true;
    let anonymous = chat("hi").without("authorization");
    for _ in 0..2 {
        assert_verdict(&house.proxy.send(&anonymous).await, "MISS");
    }
    house.door.rules().open = false;
    house.is_refused(&anonymous).await;
    assert_eq!(house.seen("GET"), 0);
}

#[tokio::test]
async fn proofs_and_refusals_survive_a_restart() {
    let mut house = house(SHARED).await;
    house.is_forwarded("sk-a").await;
    house.proxy.counted("refrain_disk_written_total", 1.0).await;
    house.proxy.kill().await;
    let settings = format!("[cache]\n{SHARED}");
    let setup = proxy(&house.up)
        .honest()
        .with(&settings)
        .in_home_of(&house.proxy);
    house.proxy = setup.start().await;
    house.hits("sk-a").await;
    assert_eq!(house.up.count(), 1);
    house.door.revoke("sk-a");
    house.is_refused(&chat("other").with_bearer("sk-a")).await;
    house.proxy.terminate();
    house.proxy.ended().await;
    house.door.fails_with(503);
    let setup = proxy(&house.up)
        .honest()
        .with(&settings)
        .in_home_of(&house.proxy);
    house.proxy = setup.start().await;
    assert_eq!(house.ask("sk-a").await.status, 503);
}

#[tokio::test]
async fn the_operator_says_how_a_proof_is_renewed() {
    let with =
        |line: &'static str| house_with(SHARED_AND_OLD, move |setup| setup.with_upstream(line));
    let house = with("proof = \"call\"").await;
    house.is_forwarded("sk-a").await;
    house.is_forwarded("sk-a").await;
    assert_eq!(house.seen("GET"), 0);

    let house = with("proof = \"models\"").await;
    house.is_forwarded("sk-a").await;
    house.hits("sk-a").await;
    assert_eq!(house.seen("GET"), 1, "no random key");

    let house = with("proof = \"GET /v1/me?x=1\"").await;
    house.is_forwarded("sk-a").await;
    house.hits("sk-a").await;
    assert_eq!(house.up.last().target, "/v1/me?x=1");

    let house = with("proof = \"off\"").await;
    assert_verdict(&house.ask("sk-a").await, "MISS");
    house.hits("sk-invented").await;
    assert_eq!(house.up.count(), 1);
}

#[tokio::test]
async fn an_unproven_call_that_must_not_go_on_learns_nothing() {
    let house = house(SHARED).await;
    house.is_forwarded("sk-a").await;
    for prompt in ["hi", "never asked"] {
        let only = chat(prompt)
            .with_bearer("sk-invented")
            .header("Cache-Control", "only-if-cached");
        let answer = house.proxy.send(&only).await;
        assert_refused(&answer, 504, "not_cached");
        assert!(answer.text().contains("unproven"), "{}", answer.text());
    }
    assert_eq!(house.up.count(), 1);
}

/// A house whose upstream answers the prompt "hi" at a gate, as it then thinks right.
async fn gated(settings: &str) -> (House, Gate) {
    let (door, gate) = (Door::default(), gate());
    let (by, at) = (door.clone(), gate.clone());
    let up = upstream().by(move |seen, number| {
        let reply = by.reply(seen);
        if number == 2 { reply.after(&at) } else { reply }
    });
    let up = up.start().await;
    let proxy = proxy(&up)
        .with(&format!("[cache]\n{settings}"))
        .start()
        .await;
    (House { door, up, proxy }, gate)
}

#[tokio::test]
async fn an_unproven_credential_joins_no_flight_and_a_proven_one_does() {
    let (house, gate) = gated(SHARED).await;
    for key in ["sk-a", "sk-b"] {
        house.proxy.send(&chat("before").with_bearer(key)).await;
    }
    let leader = house.proxy.open(&by("sk-a")).await;
    house.up.arrived(3).await;
    let follower = house.proxy.open(&by("sk-b")).await;
    house.proxy.joined(1).await;
    house.is_refused(&by("sk-invented")).await;
    house.is_forwarded("sk-c").await;
    gate.open();
    assert_verdict(&leader.finish().await, "MISS");
    assert_verdict(&follower.finish().await, "COLLAPSED");
    house.hits("sk-c").await;
    assert_eq!(house.seen("POST"), 5);
}

#[tokio::test]
async fn a_leaders_refusal_is_its_own_and_the_next_follower_leads() {
    for code in [401, 402, 403, 404, 429] {
        let door = Door::default();
        let gate = gate();
        let (by_door, at) = (door.clone(), gate.clone());
        let up = upstream().by(move |seen, number| match number {
            3 => status(code).after(&at),
            _ => by_door.reply(seen),
        });
        let up = up.start().await;
        let proxy = proxy(&up).with(&format!("[cache]\n{SHARED}")).start().await;
        let house = House { door, up, proxy };
        for key in ["sk-a", "sk-b", "sk-c"] {
            house.proxy.send(&chat("before").with_bearer(key)).await;
        }
        let leader = house.proxy.open(&by("sk-a")).await;
        house.up.arrived(4).await;
        let mut followers = Vec::new();
        for (number, key) in (1..).zip(["sk-b", "sk-c"]) {
            followers.push(house.proxy.open(&by(key)).await);
            house.proxy.joined(number).await;
        }
        gate.open();
        assert_eq!(leader.finish().await.status, code);
        for follower in followers {
            assert_eq!(follower.finish().await.status, 200, "{code}");
        }
        assert!(house.seen("POST") <= 6);
        house.hits("sk-b").await;
    }
}

#[tokio::test]
async fn with_identity_jwt_the_next_token_of_the_same_owner_hits_once_it_was_accepted() {
    let token = |owner: &str, number: u8| {
        let payload = json!({"iss": "i", "aud": "a", "tid": "t", "sub": owner, "exp": number});
        let payload = URL_SAFE_NO_PAD.encode(payload.to_string());
        format!("eyJ9.{payload}.sig{number}")
    };
    let forged: &'static str = Box::leak(token("alice", 3).into_boxed_str());
    let on = house_with("", |setup| setup.with_upstream("identity = \"jwt\"")).await;
    let off = house("").await;
    for house in [&on, &off] {
        house.door.revoke(forged);
        assert_verdict(&house.ask(&token("alice", 1)).await, "MISS");
        house.hits(&token("alice", 1)).await;
        assert_verdict(&house.ask(&token("alice", 2)).await, "MISS");
        house.is_refused(&by(forged)).await;
    }
    assert_eq!(on.up.count(), 3);
    on.hits(&token("alice", 2)).await;
    on.is_forwarded(&token("bob", 2)).await;
    let next = token("alice", 4);
    on.is_forwarded(&next).await;
    on.hits(&next).await;
}

#[tokio::test]
async fn what_the_upstream_says_to_one_callers_own_key_is_not_said_to_another() {
    let (door, gate) = (Door::default(), gate());
    let (by_door, at) = (door.clone(), gate.clone());
    let up = upstream().by(move |seen, number| {
        let reply = by_door.reply(seen);
        if number == 0 { reply.after(&at) } else { reply }
    });
    let up = up.start().await;
    let callers = ["a", "b"].map(|name| {
        let hash = KeyHash::of(format!("sk-{name}").as_bytes());
        format!("[[caller]]\nname = \"{name}\"\nkeys = \"{hash}\"\nscope = \"team\"\n")
    });
    let proxy = proxy(&up).with(&callers.concat()).start().await;
    let house = House { door, up, proxy };
    house.door.revoke("sk-a");
    let leader = house.proxy.open(&by("sk-a")).await;
    house.up.arrived(1).await;
    let follower = house.proxy.open(&by("sk-b")).await;
    house.proxy.joined(1).await;
    gate.open();
    assert_eq!(leader.finish().await.status, 401);
    assert_eq!(follower.finish().await.status, 200);
}

#[tokio::test]
async fn what_was_let_in_by_the_proxys_own_key_proves_nothing_of_a_callers() {
    let (door, gives) = (Door::default(), "Bearer sk-a");
    let by_door = door.clone();
    let up = upstream()
        .by(move |seen, _| by_door.reply(seen))
        .start()
        .await;
    let mut with_key = proxy(&up)
        .with(&format!("[cache]\n{SHARED}\n"))
        .with_upstream(&format!(
            "api_key = \"{}\"",
            gives.trim_start_matches("Bearer ")
        ))
        .start()
        .await;
    assert_verdict(&with_key.send(&by("sk-invented")).await, "MISS");
    assert_verdict(&with_key.send(&by("sk-invented")).await, "HIT");
    with_key.terminate();
    with_key.ended().await;
    let proxy = proxy(&up)
        .with(&format!("[cache]\n{SHARED}\n"))
        .with_upstream("")
        .in_home_of(&with_key)
        .start()
        .await;
    let house = House { door, up, proxy };
    house.is_refused(&by("sk-invented")).await;
}
