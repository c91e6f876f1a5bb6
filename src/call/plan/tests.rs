use http::HeaderName;

use super::*;
use crate::config::{BaseUrl, Config};

pub(super) fn policy_at(host: &'static str, change: impl FnOnce(&mut config::Cache)) -> Policy {
    let mut config = Config::default();
    change(&mut config.cache);
    let elsewhere = config.first_upstream().clone();
    let base_url = BaseUrl {
        scheme: http::uri::Scheme::HTTPS,
        authority: http::uri::Authority::from_static(host),
        path: "/v1".to_owned(),
    };
    config.upstreams.push(config::Upstream {
        base_url,
        ..elsewhere
    });
    Policy::new(
        &config.cache,
        &config.upstreams,
        Duration::from_secs(86_400),
    )
}

fn policy() -> Policy {
    policy_at("api.openai.com", |_| {})
}

pub(super) fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    headers
}

fn plan_by(policy: &Policy, lines: &[(&'static str, &str)]) -> Result<Plan, BadHeader> {
    policy.plan(&headers(lines))
}

fn plan(lines: &[(&'static str, &str)]) -> Plan {
    plan_by(&policy(), lines).unwrap()
}

pub(super) fn base() -> Plan {
    plan(&[])
}

pub(super) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// What a lifetime that the caller asks for does to a plan.
pub(super) fn lives(plan: &mut Plan, lifetime: Duration) {
    plan.lifetime = lifetime;
    plan.asked_lifetime = true;
}

#[test]
fn without_headers_a_call_reads_and_stores_for_the_dialects_lifetime() {
    let plan = base();
    assert!(plan.store && !plan.refresh && !plan.bypass && !plan.only_if_cached);
    assert_eq!(plan.lifetime, secs(86_400));
    assert_eq!(plan.stale_if_error, secs(86_400));
}

type Lines = &'static [(&'static str, &'static str)];
pub(super) type Change = fn(&mut Plan);

fn assert_effects(table: &[(Lines, Change)]) {
    for (lines, change) in table {
        let mut expected = base();
        change(&mut expected);
        assert_eq!(plan(lines), expected, "{lines:?}");
    }
}

#[test]
fn cache_control_has_its_effects_and_is_read_leniently() {
    assert_effects(&[
        (&[("cache-control", "no-cache")], |p| p.refresh = true),
        (&[("cache-control", "No-Cache , no-STORE")], |p| {
            p.refresh = true;
            p.store = false;
        }),
        (&[("pragma", "no-cache")], |p| p.refresh = true),
        (
            &[("pragma", "no-cache"), ("cache-control", "max-age=5")],
            |p| p.max_age = Some(secs(5)),
        ),
        (&[("cache-control", "no-store")], |p| p.store = false),
        (&[("cache-control", "only-if-cached")], |p| {
            p.only_if_cached = true;
        }),
        // The stricter of two counts.
        (
            &[
                ("cache-control", "max-age=10"),
                ("cache-control", "max-age=\"7\""),
            ],
            |p| p.max_age = Some(secs(7)),
        ),
        (&[("cache-control", "min-fresh=30, min-fresh=20")], |p| {
            p.min_fresh = Some(secs(30));
        }),
        // In doubt, forward.
        (&[("cache-control", "max-age=soon")], |p| {
            p.max_age = Some(secs(0));
        }),
        (&[("cache-control", "max-stale=x")], |p| {
            p.max_stale = Some(secs(0));
        }),
        (&[("cache-control", "max-stale")], |p| {
            p.max_stale = Some(Duration::MAX);
        }),
        (&[("cache-control", "max-stale=60")], |p| {
            p.max_stale = Some(secs(60));
        }),
        (&[("cache-control", "stale-if-error=5")], |p| {
            p.stale_if_error = secs(5);
            p.asked_stale_if_error = true;
        }),
        (
            &[("cache-control", "max-age=99999999999999999999999")],
            |p| {
                p.max_age = Some(secs(1 << 31));
            },
        ),
        (&[("cache-control", ",, =, ;x, private=\"a")], |_| {}),
    ]);
}

#[test]
fn our_headers_have_their_effects_and_false_means_false() {
    assert_effects(&[
        (&[("x-cache-refresh", "true")], |p| p.refresh = true),
        (&[("x-cache-refresh", "false")], |_| {}),
        (&[("x-cache-bypass", "TRUE")], |p| p.bypass = true),
        (&[("x-cache-bypass", "false")], |_| {}),
        (&[("x-cache-ttl", "90")], |p| lives(p, secs(90))),
        (&[("x-cache-ttl", "10m")], |p| lives(p, secs(600))),
        // Clamped to `max_ttl`.
        (&[("x-cache-ttl", "9999d")], |p| {
            lives(p, secs(60 * 86_400));
        }),
        (&[("x-cache-namespace", " v7 ")], |p| {
            p.namespace = "v7".into();
        }),
        (&[("x-cache-tags", "b, a"), ("x-cache-tags", "a")], |p| {
            p.tags = vec!["a".into(), "b".into()];
        }),
        // Of later versions: read by nobody yet.
        (
            &[
                ("x-cache-semantic", "nonsense"),
                ("x-cache-vars", "{"),
                ("x-cache-variants", "x"),
            ],
            |_| {},
        ),
    ]);
}

#[test]
fn aliases_have_their_effects_and_malformed_ones_have_none() {
    assert_effects(&[
        (&[("helicone-cache-enabled", "false")], |p| p.bypass = true),
        (&[("helicone-cache-enabled", "true")], |_| {}),
        (&[("helicone-cache-seed", "s")], |p| {
            p.namespace = "s".into();
        }),
        (&[("cf-aig-skip-cache", "true")], |p| p.bypass = true),
        (&[("cf-aig-cache-ttl", "60")], |p| lives(p, secs(60))),
        (&[("x-portkey-cache-force-refresh", "true")], |p| {
            p.refresh = true;
        }),
        (&[("x-portkey-cache-force-refresh", "false")], |_| {}),
        (&[("x-portkey-cache-namespace", "n")], |p| {
            p.namespace = "n".into();
        }),
        (&[("x-openrouter-cache", "false")], |p| p.bypass = true),
        (&[("x-openrouter-cache-ttl", "61")], |p| {
            lives(p, secs(61));
        }),
        (&[("x-openrouter-cache-clear", "true")], |p| {
            p.refresh = true;
        }),
        (&[("x-bf-cache-ttl", "30s")], |p| lives(p, secs(30))),
        (&[("x-bf-cache-no-store", "true")], |p| p.store = false),
        (
            &[("cf-aig-cache-ttl", "soon"), ("cf-aig-skip-cache", "?")],
            |_| {},
        ),
        // Ours win, whichever comes first.
        (&[("x-cache-ttl", "90"), ("cf-aig-cache-ttl", "60")], |p| {
            lives(p, secs(90));
        }),
        (&[("cf-aig-cache-ttl", "60"), ("x-cache-ttl", "90")], |p| {
            lives(p, secs(90));
        }),
    ]);
}

#[test]
fn who_wants_the_error_gets_no_apology() {
    assert!(base().apology);
    assert_effects(&[
        (&[("x-fallback", "error")], |p| p.apology = false),
        (&[("x-fallback", " ERROR ")], |p| p.apology = false),
    ]);
    let forbidding = policy_at("api.openai.com", |cache| cache.allow.clear());
    let asked = plan_by(&forbidding, &[("x-fallback", "error")]).unwrap();
    assert!(!asked.apology, "there is nothing to forbid");
}

#[test]
fn a_malformed_value_of_ours_is_refused_by_name() {
    let long = "x".repeat(129);
    let many = vec!["t"; 17].join(",");
    let table = [
        ("x-cache-refresh", "yes", "X-Cache-Refresh"),
        ("x-cache-bypass", "", "X-Cache-Bypass"),
        ("x-cache-ttl", "soon", "X-Cache-TTL"),
        ("x-fallback", "banana", "X-Fallback"),
        ("x-fallback", "", "X-Fallback"),
        ("x-fallback", "apology", "X-Fallback"),
        ("x-cache-ttl", "-1", "X-Cache-TTL"),
        ("x-cache-namespace", "", "X-Cache-Namespace"),
        ("x-cache-namespace", &long, "X-Cache-Namespace"),
        ("x-cache-namespace", "a\tb", "X-Cache-Namespace"),
        ("x-cache-tags", &many, "X-Cache-Tags"),
        ("x-cache-tags", "a,,b", "X-Cache-Tags"),
        ("x-cache-tags", &long, "X-Cache-Tags"),
    ];
    for (name, value, header) in table {
        let refused = plan_by(&policy(), &[(name, value)]).unwrap_err();
        assert_eq!(refused.header, header, "{value}");
    }
}

#[test]
fn of_a_header_sent_twice_the_one_counts_that_asks_less() {
    assert_effects(&[
        (&[("x-cache-ttl", "10"), ("x-cache-ttl", "9000")], |p| {
            lives(p, secs(10));
        }),
        (
            &[("cache-control", "stale-if-error=5, stale-if-error=50")],
            |p| {
                p.stale_if_error = secs(5);
                p.asked_stale_if_error = true;
            },
        ),
        (
            &[("x-cache-namespace", "a"), ("x-cache-namespace", "a")],
            |p| p.namespace = "a".into(),
        ),
    ]);
    let two = [("x-cache-namespace", "a"), ("x-cache-namespace", "b")];
    let refused = plan_by(&policy(), &two).unwrap_err();
    assert_eq!(refused.header, "X-Cache-Namespace");
}

#[test]
fn the_operator_may_take_each_directive_away() {
    let none = policy_at("api.openai.com", |cache| cache.allow.clear());
    let lines: &[(&'static str, &str)] = &[
        (
            "cache-control",
            "no-cache, no-store, only-if-cached, max-age=1, min-fresh=1, max-stale, stale-if-error=1",
        ),
        ("pragma", "no-cache"),
        ("x-cache-refresh", "true"),
        ("x-cache-bypass", "true"),
        ("x-cache-ttl", "1"),
        ("x-cache-namespace", "n"),
        ("x-cache-tags", "t"),
        ("helicone-cache-enabled", "false"),
        ("x-bf-cache-no-store", "true"),
        ("cf-aig-cache-ttl", "1"),
        ("x-portkey-cache-force-refresh", "true"),
        ("x-portkey-cache-namespace", "n"),
    ];
    assert_eq!(plan_by(&none, lines).unwrap(), base());
}

#[test]
fn a_rule_counts_more_than_the_configuration_and_less_than_the_caller() {
    let rule = Rule {
        ttl: Some(secs(60)),
        stale_if_error: Some(secs(7)),
        stale_while_revalidate: Some(secs(8)),
        tags: vec!["b".to_owned()],
        ..Rule::default()
    };
    let obeyed = |lines: &[(&'static str, &str)]| {
        let mut plan = plan(lines);
        policy().obey(&rule, &mut plan);
        plan
    };
    let expected = Plan {
        lifetime: secs(60),
        stale_if_error: secs(7),
        stale_while_revalidate: secs(8),
        tags: vec!["b".to_owned()],
        ..base()
    };
    assert_eq!(obeyed(&[]), expected);
    let asked = obeyed(&[
        ("x-cache-ttl", "90"),
        ("cache-control", "stale-if-error=9"),
        ("x-cache-tags", "c, a, b"),
    ]);
    assert_eq!((asked.lifetime, asked.stale_if_error), (secs(90), secs(9)));
    assert_eq!(asked.tags, ["a", "b", "c"]);
    let mut silent = plan(&[("x-cache-ttl", "90")]);
    policy().obey(&Rule::default(), &mut silent);
    assert_eq!(silent, plan(&[("x-cache-ttl", "90")]));
}

#[test]
fn no_time_exceeds_the_greatest_lifetime() {
    let policy = policy_at("api.openai.com", |cache| {
        cache.ttl = Some(secs(50));
        cache.max_ttl = secs(5);
        cache.stale_if_error = secs(50);
        cache.stale_while_revalidate = secs(50);
    });
    let rule = Rule {
        ttl: Some(secs(60)),
        stale_if_error: Some(secs(60)),
        stale_while_revalidate: Some(secs(60)),
        ..Rule::default()
    };
    let times = |plan: &Plan| {
        [
            plan.lifetime,
            plan.stale_if_error,
            plan.stale_while_revalidate,
        ]
    };
    let asking = [
        ("x-cache-ttl", "90"),
        ("cache-control", "stale-if-error=90"),
    ];
    for lines in [&[][..], &asking[..]] {
        let mut plan = plan_by(&policy, lines).unwrap();
        assert_eq!(times(&plan), [secs(5); 3]);
        policy.obey(&rule, &mut plan);
        assert_eq!(times(&plan), [secs(5); 3]);
    }
}

#[test]
fn a_vendors_own_headers_are_left_to_the_vendor() {
    let policy = policy_at("oai.helicone.ai", |_| {});
    assert!(!policy.is_ours("helicone-cache-enabled"));
    assert!(policy.is_ours("cf-aig-skip-cache"));
    let plan = plan_by(&policy, &[("helicone-cache-enabled", "false")]).unwrap();
    assert!(!plan.bypass);
    let lookalike = policy_at("nothelicone.ai", |_| {});
    assert!(lookalike.is_ours("helicone-cache-enabled"));
}

#[test]
fn aliases_can_be_switched_off() {
    let policy = policy_at("api.openai.com", |cache| cache.aliases = false);
    assert!(!policy.is_ours("cf-aig-skip-cache"));
    assert!(policy.is_ours("x-cache-anything"));
    assert!(policy.is_ours("x-fallback"));
    assert!(!policy.is_ours("cache-control"));
}
