//! What is remembered of bodies, and that it changes nothing.

use std::time::Duration;

use super::*;

/// A keying of its own, and what it is asked with.
struct House {
    keying: Keying,
    policy: Arc<Policy>,
}

/// What an identity is, as far as it can be told apart.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    keyed: Result<(Slot, Scope, Arc<Request>), Unkeyed>,
    read: Option<Arc<Request>>,
    rule: Option<String>,
    route: Route,
}

impl House {
    fn new(config: &str) -> Self {
        let config: Config = config.parse().unwrap();
        let policy = Policy::new(&config.cache, &config.upstreams, Duration::from_secs(1));
        let policy = Arc::new(policy);
        let keying = Keying::new(&config, Secret::from_bytes([7; 32]), policy.clone());
        Self { keying, policy }
    }

    fn ask(&self, sent: &[(&str, &str)], body: &str) -> Told {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        let head = Head {
            method: &Method::POST,
            target: &PathAndQuery::from_static("/v1/chat/completions"),
            addressed: None,
            headers: &headers,
            dialect: Some(Dialect::Chat),
            upgrade: false,
        };
        let plan = self.policy.plan(&headers).unwrap();
        let caller = Caller::of(&headers, self.keying.secret());
        let admitted = self.keying.admits(&head, &plan).expect("a chat call");
        let identity = self
            .keying
            .key(&head, admitted, body.as_bytes(), &caller, &plan)
            .unwrap();
        let Identity {
            keyed,
            read,
            rule,
            route,
        } = identity;
        Told {
            keyed: keyed.map(|keyed| (keyed.slot, keyed.scope, keyed.request.clone())),
            read,
            rule: rule.map(|rule| rule.name.clone()),
            route: Route::clone(&route),
        }
    }

    fn remembered(&self) -> u64 {
        self.keying.memo().bytes()
    }
}

const PLAIN: &str = "";
const TENANTS: &str = "[cache]\nscope = 'header:x-tenant'\n";
const BY_BODY: &str = "[cache]\nscope = 'body:/user'\n";
const RULES: &str = "[[rule]]\nname = 'mini'\nmatch = { model = 'mini' }\nscope = 'header:x-tenant'\n\
    [[rule]]\nname = 'never'\nmatch = { model = 'never' }\ncache = false\n";
const MANY: &str = "[[upstream]]\nname = 'a'\nbase_url = 'http://127.0.0.1:1/v1'\n\
    [[upstream]]\nname = 'b'\nbase_url = 'http://127.0.0.1:2/v1'\nmodels = ['m*']\nrename = { mini = 'small' }\n";

const SENT: [&[(&str, &str)]; 6] = [
    &[],
    &[("authorization", "Bearer a")],
    &[("authorization", "Bearer b")],
    &[("authorization", "Bearer a"), ("x-tenant", "one")],
    &[("authorization", "Bearer a"), ("x-tenant", "two")],
    &[("authorization", "Bearer a"), ("x-cache-namespace", "n")],
];

const BODIES: [&str; 8] = [
    r#"{"model":"mini","messages":[],"user":"u"}"#,
    r#"{"model":"mini","messages":[],"user":"v"}"#,
    r#"{"model":"mini","messages":[],"stream":true}"#,
    r#"{"model":"mini","messages":[],"stream":true,"stream_options":{"x":1}}"#,
    r#"{"model":"other","messages":[]}"#,
    r#"{"model":"never","messages":[]}"#,
    r#"{"model":"mini","messages":[],"store":true}"#,
    r#"{"model":"mini","messages":[],"model":"other"}"#,
];

#[test]
fn a_body_that_is_remembered_is_keyed_as_one_that_is_read() {
    for config in [PLAIN, TENANTS, BY_BODY, RULES, MANY] {
        let remembers = House::new(config);
        for _ in 0..4 {
            for (sent, body) in SENT.iter().flat_map(|sent| BODIES.map(|body| (sent, body))) {
                let expected = House::new(config).ask(sent, body);
                assert_eq!(
                    remembers.ask(sent, body),
                    expected,
                    "{config} {sent:?} {body}"
                );
            }
        }
        assert!(remembers.remembered() > 0);
    }
}

#[test]
fn who_takes_another_secret_keys_what_is_remembered_with_that() {
    let house = House::new(PLAIN);
    let asked = [(); 4].map(|()| house.ask(SENT[1], BODIES[0]));
    assert!(house.keying.secret().adopt([8; 32]));
    let then = house.ask(SENT[1], BODIES[0]);
    assert_ne!(then, asked[3]);
    assert_eq!(house.ask(SENT[1], BODIES[0]), then);
}

#[test]
fn what_is_not_to_be_stored_or_has_no_key_is_not_remembered() {
    let steered: [&[(&str, &str)]; 3] = [
        &[("cache-control", "no-store")],
        &[("x-cache-bypass", "true")],
        &[("helicone-cache-enabled", "false")],
    ];
    let house = House::new(RULES);
    for _ in 0..4 {
        for sent in steered {
            house.ask(sent, BODIES[0]);
        }
        for unkeyed in &BODIES[5..] {
            house.ask(&[], unkeyed);
        }
    }
    assert_eq!(house.remembered(), 0);
    for _ in 0..2 {
        house.ask(&[], BODIES[0]);
    }
    assert!(house.remembered() > 0);
}

#[test]
fn tenants_behind_one_credential_do_not_find_each_others_bodies() {
    for config in [TENANTS, RULES] {
        let house = House::new(config);
        let mut sizes = Vec::new();
        for tenant in [SENT[3], SENT[4], SENT[1]] {
            for _ in 0..3 {
                house.ask(tenant, BODIES[0]);
                sizes.push(house.remembered());
            }
        }
        let one = sizes[1];
        assert!(one > 0);
        // Each is remembered from its own second time on.
        let times = [0, 1, 1, 1, 2, 2, 2, 3, 3];
        assert_eq!(sizes, times.map(|times| times * one), "{config}");
    }
}

#[test]
fn a_tenant_of_one_header_is_not_taken_for_that_of_another() {
    let config = "[cache]\nscope = 'header:a'\n[[rule]]\nname = 'b'\nmatch = { model = 'x' }\nscope = 'header:b'\n";
    let house = House::new(config);
    let sent: [&[(&str, &str)]; 3] = [&[("a", "b")], &[("b", "b")], &[("a", "b"), ("b", "")]];
    let sizes = sent.map(|sent| {
        house.ask(sent, BODIES[0]);
        house.ask(sent, BODIES[0]);
        house.remembered()
    });
    let one = sizes[0];
    assert!(one > 0);
    assert_eq!(sizes, [one, 2 * one, 3 * one]);
}
