//! LiteLLM's `cache`, an object in the body: what it asks for amends the plan, and the object does not travel. Pure.
//!
//! # Scope
//! Counts only where the operator has switched it on and the body is an object with exactly one member of that name,
//! itself an object. A control that cannot be read, or that nobody knows, is ignored by itself. Where headers ask for
//! something, too, the one that asks less of the cache wins; a TTL or namespace of ours wins over the object's.

use http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Draft, Plan, Policy, delta_seconds, name};
use crate::{call::splice, config::Directive};

/// A body without its `cache` object, and the plan with what that object asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steered {
    /// The plan of the headers, amended.
    pub plan: Plan,
    /// The body's own bytes, except those of the member and its comma.
    pub body: Vec<u8>,
}

/// The controls as spelled: one that cannot be read must not take the others with it.
#[derive(Debug, Deserialize)]
struct Controls<'a> {
    #[serde(borrow, rename = "no-cache")]
    no_cache: Option<&'a RawValue>,
    #[serde(borrow, rename = "no-store")]
    no_store: Option<&'a RawValue>,
    #[serde(borrow)]
    ttl: Option<&'a RawValue>,
    #[serde(borrow, rename = "s-maxage")]
    s_maxage: Option<&'a RawValue>,
    #[serde(borrow, rename = "s-max-age")]
    s_max_age: Option<&'a RawValue>,
    #[serde(borrow)]
    namespace: Option<&'a RawValue>,
}

impl Policy {
    /// Takes LiteLLM's `cache` object out of `body` and into `plan`, which was read from `headers`.
    ///
    /// `None` where there is no such object or the operator has not switched it on: nothing changes.
    pub fn steered(&self, plan: &Plan, headers: &HeaderMap, body: &[u8]) -> Option<Steered> {
        if !self.litellm {
            return None;
        }
        let member = splice::only_member(body, MEMBER)?;
        let controls = Controls::read(body.get(member.value)?)?;
        let mut draft = Draft {
            named_ttl: headers.contains_key("x-cache-ttl"),
            named_namespace: headers.contains_key("x-cache-namespace"),
            ..self.draft(plan.clone())
        };
        draft.litellm(&controls);
        Some(Steered {
            plan: draft.plan,
            body: splice::cut(body, &member.whole),
        })
    }
}

impl<'a> Controls<'a> {
    /// Reads the controls of an object; `None` for any other value, and for one that names a control twice.
    fn read(json: &'a [u8]) -> Option<Self> {
        // The derived reader takes arrays, too.
        json.starts_with(b"{").then_some(())?;
        serde_json::from_str(str::from_utf8(json).ok()?).ok()
    }
}

impl Draft<'_> {
    /// Obeys LiteLLM's controls, as far as the operator allows.
    fn litellm(&mut self, controls: &Controls<'_>) {
        let asks = |control, directive| is_true(control) && self.policy.allows(directive);
        self.plan.refresh |= asks(controls.no_cache, Directive::NoCache);
        self.plan.store &= !asks(controls.no_store, Directive::NoStore);
        for age in [controls.s_maxage, controls.s_max_age] {
            if let Some(age) = seconds(age) {
                self.max_age(age);
            }
        }
        if let Some(ttl) = seconds(controls.ttl).filter(|_| !self.named_ttl) {
            self.ttl(ttl);
        }
        if let Some(name) = label(controls.namespace).filter(|_| !self.named_namespace) {
            self.namespace(name);
        }
    }
}

fn is_true(control: Option<&RawValue>) -> bool {
    control.is_some_and(|json| json.get() == "true")
}

/// Reads whole seconds.
fn seconds(control: Option<&RawValue>) -> Option<std::time::Duration> {
    delta_seconds(control?.get().as_bytes())
}

fn label(control: Option<&RawValue>) -> Option<String> {
    let text: String = serde_json::from_str(control?.get()).ok()?;
    name(&text)
}

/// What the object is called; without `k` and `s`, as [`splice::only_member`] wants it.
const MEMBER: &str = "cache";

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};
    use crate::config::Cache;

    fn litellm(change: impl FnOnce(&mut Cache)) -> Policy {
        policy_at("api.openai.com", |cache| {
            cache.litellm = true;
            change(cache);
        })
    }

    /// Returns what becomes of the plan that `lines` ask for by this `cache`, which is no longer in the body.
    fn amended(policy: &Policy, lines: &[(&'static str, &str)], cache: &str) -> Plan {
        let headers = headers(lines);
        let plan = policy.plan(&headers).unwrap();
        let body = format!(r#"{{"model":"m","cache":{cache},"n":1.0}}"#);
        let steered = policy.steered(&plan, &headers, body.as_bytes()).unwrap();
        assert_eq!(steered.body, br#"{"model":"m","n":1.0}"#);
        steered.plan
    }

    #[test]
    fn each_control_has_its_effect() {
        let table: [(&str, Change); 12] = [
            ("{}", |_| {}),
            (r#"{"no-cache": true}"#, |p| p.refresh = true),
            (r#"{"no-cache": false, "no-store": false}"#, |_| {}),
            (r#"{"no-store": true}"#, |p| p.store = false),
            (r#"{"ttl": 300}"#, |p| lives(p, secs(300))),
            (r#"{"ttl": 0}"#, |p| lives(p, secs(0))),
            (r#"{"ttl": 99999999999999999999999}"#, |p| {
                lives(p, secs(60 * 86_400));
            }),
            (r#"{"s-maxage": 600}"#, |p| p.max_age = Some(secs(600))),
            (r#"{"s-max-age": 600}"#, |p| p.max_age = Some(secs(600))),
            (r#"{"s-maxage": 600, "s-max-age": 60}"#, |p| {
                p.max_age = Some(secs(60));
            }),
            (r#"{"namesp\u0061ce": "v\u0037"}"#, |p| {
                p.namespace = "v7".into();
            }),
            (r#"{"use-cache": true, "later": {"ttl": 1}}"#, |_| {}),
        ];
        let policy = litellm(|_| {});
        for (cache, change) in table {
            let mut expected = base();
            change(&mut expected);
            assert_eq!(amended(&policy, &[], cache), expected, "{cache}");
        }
    }

    #[test]
    fn a_malformed_control_is_ignored_by_itself() {
        let policy = litellm(|_| {});
        let expected = Plan {
            lifetime: secs(7),
            asked_lifetime: true,
            ..base()
        };
        for control in [
            r#""no-cache": "true""#,
            r#""no-cache": 1"#,
            r#""no-store": null"#,
            r#""no-store": [true]"#,
            r#""s-maxage": -1"#,
            r#""s-maxage": 1.5"#,
            r#""s-maxage": "60""#,
            r#""s-max-age": {"s": 1}"#,
            r#""namespace": """#,
            r#""namespace": 7"#,
            r#""namespace": "\ud800""#,
            r#""namespace": "a\tb""#,
        ] {
            let cache = format!(r#"{{{control}, "ttl": 7}}"#);
            assert_eq!(amended(&policy, &[], &cache), expected, "{control}");
        }
    }

    #[test]
    fn our_headers_win_and_of_two_wishes_the_stricter_one() {
        let policy = litellm(|_| {});
        let lines = [
            ("x-cache-ttl", "90"),
            ("x-cache-namespace", "ours"),
            ("cache-control", "max-age=60, no-store"),
        ];
        let cache = r#"{"ttl": 5, "namespace": "n", "s-maxage": 600, "no-store": false}"#;
        let unchanged = policy.plan(&headers(&lines)).unwrap();
        assert_eq!(amended(&policy, &lines, cache), unchanged);
        let others = [
            ("cf-aig-cache-ttl", "90"),
            ("helicone-cache-seed", "theirs"),
        ];
        let plan = amended(&policy, &others, cache);
        assert_eq!((plan.lifetime, plan.namespace), (secs(5), "n".to_owned()));
    }

    #[test]
    fn the_operator_may_take_each_control_away() {
        let policy = litellm(|cache| cache.allow.clear());
        let cache = r#"{"no-cache":true,"no-store":true,"ttl":1,"s-maxage":1,"s-max-age":1,"namespace":"n"}"#;
        assert_eq!(amended(&policy, &[], cache), base());
    }

    #[test]
    fn a_body_without_such_an_object_is_left_alone() {
        let policy = litellm(|_| {});
        for body in [
            r#"{"model":"m"}"#,
            r#"{"cache":true}"#,
            r#"{"cache":null}"#,
            r#"{"cache":[true,null,1,2,3,"n"]}"#,
            r#"{"cache":{"ttl":1,"ttl":2}}"#,
            r#"{"cache":{"ttl":1},"cache":{}}"#,
            r#"{"cache":{"ttl":1},"CACHE":{}}"#,
            r#"{"cache":{"ttl":}}"#,
            r#"{"cache":{"ttl"]}"#,
            r#"{"x":{"cache":{}}}"#,
            "not JSON",
        ] {
            let steered = policy.steered(&base(), &HeaderMap::new(), body.as_bytes());
            assert_eq!(steered, None, "{body}");
        }
        let invalid = b"{\"cache\":{\"x\":\"\xff\"}}";
        assert_eq!(policy.steered(&base(), &HeaderMap::new(), invalid), None);
    }

    #[test]
    fn switched_off_it_is_a_field_like_any_other() {
        let body = br#"{"cache":{"no-cache":true}}"#;
        for aliases in [true, false] {
            let policy = policy_at("api.openai.com", |cache| cache.aliases = aliases);
            assert_eq!(policy.steered(&base(), &HeaderMap::new(), body), None);
        }
        let policy = litellm(|cache| cache.aliases = false);
        let steered = policy.steered(&base(), &HeaderMap::new(), body);
        assert!(steered.is_some_and(|steered| steered.plan.refresh));
    }
}
