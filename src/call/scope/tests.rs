//! Who shares with whom, and that nobody else does.

use proptest::prelude::*;

use std::time::Duration;

use http::{Method, uri::PathAndQuery};

use super::*;
use crate::{
    call::{
        caller::Named,
        key::Key,
        keying::{Head, Keying},
        plan::Policy,
    },
    config::Config,
    dialect::Dialect,
};

fn secret() -> Secret {
    Secret::from_bytes([7; 32])
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, value.parse().unwrap());
    }
    headers
}

/// A caller known by its credential; none where `key` is empty.
fn by_key(key: &str) -> Caller {
    let pairs = [("authorization", key)];
    let sent = if key.is_empty() { &[][..] } else { &pairs };
    Caller::of(&headers(sent), &secret())
}

fn named(name: &str, scope: Option<&str>) -> Caller {
    let caller = config::Caller {
        name: name.to_owned(),
        keys: Vec::new(),
        scope: scope.map(str::to_owned),
    };
    Caller::named(Named::new(&caller, &secret()).into())
}

fn scope_of(wanted: &str, caller: &Caller, sent: &[(&str, &str)], body: &str) -> Scope {
    let scoping = Scoping::new(&secret(), Identity::Off);
    let wanted = wanted.parse().unwrap();
    let mut scratch = Scratch::default();
    scoping.scope(
        &wanted,
        caller,
        &headers(sent),
        body.as_bytes(),
        &mut scratch,
    )
}

#[test]
fn the_table_of_the_module_holds() {
    let tenant = [("x-tenant", "acme")];
    let user = r#"{"user":"acme"}"#;
    let key = by_key("Bearer sk-1");
    let (alone, member) = (named("web", None), named("web", Some("team")));
    let team = Scope::of_named(&Scope::of_tenant("team", &secret()));

    for caller in [&key, &alone] {
        assert_eq!(
            scope_of("credential", caller, &tenant, user),
            caller.itself()
        );
        assert_eq!(
            scope_of("shared", caller, &tenant, user),
            scope_of("shared", &by_key(""), &[], "{}"),
            "everybody shares"
        );
    }
    for wanted in ["credential", "shared"] {
        assert_eq!(scope_of(wanted, &member, &tenant, user), team);
    }
    for wanted in ["header:x-tenant", "body:/user"] {
        for caller in [&key, &alone, &member] {
            assert_eq!(
                scope_of(wanted, caller, &[], "{}"),
                caller.itself(),
                "none sent"
            );
            assert_ne!(scope_of(wanted, caller, &tenant, user), caller.itself());
        }
        let sent = |caller: &Caller| scope_of(wanted, caller, &tenant, user);
        assert_eq!(
            sent(&key),
            sent(&by_key("Bearer sk-2")),
            "a tenant of several credentials"
        );
        assert_eq!(
            sent(&member),
            sent(&named("batch", Some("team"))),
            "of several callers"
        );
        let apart = [
            sent(&key),
            sent(&alone),
            sent(&named("batch", None)),
            sent(&member),
        ];
        for (i, one) in apart.iter().enumerate() {
            assert!(!apart[..i].contains(one), "{wanted} {i}");
        }
    }
}

#[test]
fn what_says_nothing_leaves_the_narrowest_scope() {
    let caller = by_key("Bearer sk-1");
    for body in [
        "{}",
        r#"{"user":null}"#,
        r#"{"user":""}"#,
        r#"{"User":"acme"}"#,
        r#"{"metadata":{"user":"acme"}}"#,
        "[]",
        "",
        r#"{"user":"acme""#,
    ] {
        assert_eq!(
            scope_of("body:/user", &caller, &[], body),
            caller.itself(),
            "{body}"
        );
    }
    for sent in [&[][..], &[("x-tenant", "")], &[("tenant", "acme")]] {
        assert_eq!(
            scope_of("header:x-tenant", &caller, sent, "{}"),
            caller.itself()
        );
    }
}

#[test]
fn two_spellings_of_a_value_are_one_tenant_and_two_values_are_two() {
    let of = |body: &str| scope_of("body:/user", &by_key(""), &[], body);
    let bodies = [
        r#"{"user":"A1"}"#,
        r#"{"user":"a1"}"#,
        r#"{"user":"1"}"#,
        r#"{"user":1}"#,
        r#"{"user":["1"]}"#,
        r#"{"user":{"a":1,"b":2}}"#,
        r#"{"user":false}"#,
    ];
    for (i, one) in bodies.iter().enumerate() {
        for (j, other) in bodies.iter().enumerate() {
            assert_eq!(of(one) == of(other), i == j, "{one} {other}");
        }
    }
    assert_eq!(
        of(r#"{"user":"A1"}"#),
        of(r#"{ "\u0075ser" : "\u00411", "x": 1}"#)
    );
    assert_eq!(
        of(r#"{"user":{"a":1,"b":2}}"#),
        of(r#"{"user":{"b":2.0,"a":1}}"#)
    );
    assert_eq!(of(r#"{"user":1}"#), of(r#"{"user":1.0}"#));
}

#[test]
fn no_kind_of_scope_meets_another_of_the_same_name() {
    let everyone = by_key("");
    let scopes = [
        by_key("a").itself(),
        by_key("").itself(),
        named("a", None).itself(),
        Scope::of_named(&Scope::of_tenant("a", &secret())),
        scope_of("shared", &everyone, &[], "{}"),
        scope_of("header:a", &everyone, &[("a", "a")], "{}"),
        scope_of("header:b", &everyone, &[("b", "a")], "{}"),
        scope_of("header:a", &everyone, &[("a", "a"), ("a", "a")], "{}"),
        scope_of("header:a", &everyone, &[("a", "aa")], "{}"),
        scope_of("body:/a", &everyone, &[], r#"{"a":"a"}"#),
        scope_of("body:/b", &everyone, &[], r#"{"b":"a"}"#),
        scope_of("body:/a/a", &everyone, &[], r#"{"a":{"a":"a"}}"#),
    ];
    for (i, one) in scopes.iter().enumerate() {
        assert!(!scopes[..i].contains(one), "{i}");
    }
}

#[test]
fn only_a_credentials_own_scope_is_narrow() {
    assert_eq!(by_key("a").itself().breadth(), Breadth::Credential);
    assert_eq!(by_key("").itself().breadth(), Breadth::Credential);
    assert_eq!(named("a", None).itself().breadth(), Breadth::Wider);
    for wanted in ["shared", "header:a", "body:/a"] {
        let scope = scope_of(wanted, &by_key("a"), &[("a", "a")], r#"{"a":"a"}"#);
        assert_eq!(scope.breadth(), Breadth::Wider, "{wanted}");
    }
}

#[test]
fn an_extension_may_change_the_answer_and_telemetry_does_not() {
    for name in [
        "x-model-override",
        "x-http-method-override",
        "x-original-url",
        "x-title",
        "x-",
        "helicone-target-url",
        "cf-aig-custom-provider",
    ] {
        assert!(may_change_the_answer(name), "{name}");
    }
    let prefixed = TELEMETRY_PREFIXES.map(|prefix| format!("{prefix}something"));
    let listed = TELEMETRY.map(str::to_owned);
    for name in prefixed.iter().chain(&listed) {
        assert!(!may_change_the_answer(name), "{name}");
    }
    for name in [
        "x-api-key",
        "x-goog-api-key",
        "helicone-auth",
        "cf-aig-authorization",
        "traceparent",
        "user-agent",
        "accept",
    ] {
        assert!(!may_change_the_answer(name), "{name}");
    }
}

/// A caller, by its key, or by name and tenant.
fn any_caller() -> impl Strategy<Value = (String, Caller)> {
    let name = "[ab]{1,2}";
    prop_oneof![
        "[ab]{0,2}".prop_map(|key| (format!("key {key}"), by_key(&key))),
        name.prop_map(|name| (format!("named {name}"), named(&name, None))),
        (name, name).prop_map(|(name, team)| {
            (format!("named {name} of {team}"), named(&name, Some(&team)))
        }),
    ]
}

/// Returns in words whom a call shares with, by the table alone.
fn in_words(wanted: &str, who: &str, value: &str) -> String {
    let tenant = who
        .split_once(" of ")
        .map(|(_, team)| format!("tenant {team}"));
    let itself = who.split(" of ").next().unwrap_or_default().to_owned();
    match wanted {
        "credential" => tenant.unwrap_or(itself),
        "shared" => tenant.unwrap_or("everybody".to_owned()),
        _ if value.is_empty() => itself,
        _ if who.starts_with("key") => format!("{wanted}={value}"),
        _ => format!("{wanted}={value} in {}", tenant.unwrap_or(itself)),
    }
}

/// Returns the key of a call whose every possible claim has this `value`.
fn key_of(wanted: &str, caller: &Caller, value: &str) -> Key {
    let config: Config = format!("[cache]\nscope = '{wanted}'\n").parse().unwrap();
    let policy = Policy::new(&config.cache, &config.upstreams, Duration::from_secs(1));
    let plan = policy.plan(&HeaderMap::new()).unwrap();
    let keying = Keying::new(&config, secret(), policy.into());
    // None of these is part of a key by itself.
    let headers = headers(&[("a", value), ("b", value)]);
    let body =
        format!(r#"{{"model":"m","messages":[],"user":"{value}","prompt_cache_key":"{value}"}}"#);
    let head = Head {
        method: &Method::POST,
        target: &PathAndQuery::from_static("/v1/chat/completions"),
        addressed: None,
        headers: &headers,
        dialect: Some(Dialect::Chat),
        upgrade: false,
    };
    let admitted = keying.admits(&head, &plan).expect("a chat call");
    let identity = keying.key(&head, admitted, body.as_bytes(), caller, &plan);
    identity.unwrap().keyed.unwrap().slot.key
}

proptest! {
    #[test]
    fn two_calls_share_a_key_exactly_where_the_table_says_so(
        (one, one_caller) in any_caller(),
        (other, other_caller) in any_caller(),
        wanted in prop::array::uniform2(prop::sample::select(vec![
            "credential", "shared", "header:a", "header:b", "body:/user", "body:/prompt_cache_key",
        ])),
        values in prop::array::uniform2("[ab]{0,2}"),
    ) {
        let [one_words, other_words] = [(0, &one), (1, &other)]
            .map(|(i, who)| in_words(wanted[i], who, &values[i]));
        let one_key = key_of(wanted[0], &one_caller, &values[0]);
        let other_key = key_of(wanted[1], &other_caller, &values[1]);
        prop_assert_eq!(one_key == other_key, one_words == other_words, "{} and {}", one_words, other_words);
    }
}

#[test]
fn with_identity_jwt_a_token_is_its_owner_and_everybody_else_is_as_before() {
    let scoping = Scoping::new(&secret(), Identity::Jwt);
    let scope = |wanted: &str, caller: &Caller, sent: &[(&str, &str)]| {
        let wanted = wanted.parse().unwrap();
        scoping.scope(
            &wanted,
            caller,
            &headers(sent),
            b"{}",
            &mut Scratch::default(),
        )
    };
    // {"iss":"i","sub":"s"}, signed by two.
    let tokens = [
        "a.eyJpc3MiOiJpIiwic3ViIjoicyJ9.one",
        "a.eyJpc3MiOiJpIiwic3ViIjoicyJ9.two",
    ];
    let [one, two] = tokens.map(|token| format!("Bearer {token}"));
    let of = |wanted: &str, key: &str| scope(wanted, &by_key(key), &[("authorization", key)]);
    let owner = of("credential", &one);
    assert_eq!(owner, of("credential", &two));
    assert_eq!(
        owner.breadth(),
        Breadth::Wider,
        "each token has to be proven"
    );
    assert_eq!(owner, of("header:x-tenant", &one), "nothing was sent there");
    assert_ne!(owner, of("shared", &one));
    let key = "Bearer sk-1";
    assert_eq!(of("credential", key), by_key(key).itself());
    let named = named("web", None);
    let sent = [("authorization", one.as_str())];
    assert_eq!(scope("credential", &named, &sent), named.itself());
}
