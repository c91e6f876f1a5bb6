use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::{call::key::Secret, config::Temperature};

/// A call that the tables change.
#[derive(Debug)]
struct Example {
    path: &'static str,
    dialect: Option<Dialect>,
    headers: HeaderMap,
    namespace: &'static str,
    request: Option<Request>,
}

impl Example {
    fn facts<'a>(&'a self, caller: &'a Caller) -> Facts<'a> {
        Facts {
            path: self.path,
            dialect: self.dialect,
            headers: &self.headers,
            caller,
            namespace: self.namespace,
            request: self.request.as_ref(),
        }
    }
}

fn example() -> Example {
    Example {
        path: "/v1/chat/completions",
        dialect: Some(Dialect::Chat),
        headers: HeaderMap::from_iter([(
            HeaderName::from_static("x-team"),
            HeaderValue::from_static("research"),
        )]),
        namespace: "",
        request: Some(Request {
            model: "gpt-4o".to_owned(),
            temperature: Temperature::parse("0.7"),
            ..Request::default()
        }),
    }
}

fn caller() -> Caller {
    Caller::of(&HeaderMap::new(), &Secret::from_bytes([0; 32]))
}

/// Returns whether the example matches a rule with this `match`, written as in the file.
fn fits(example: &Example, condition: &str) -> bool {
    let text = format!("[[rule]]\nmatch = {{ {condition} }}");
    let config: config::Config = text.parse().unwrap();
    let rules = Rules::new(&config.rules);
    rules.first(&example.facts(&caller())).is_some()
}

#[test]
fn each_condition_is_asked() {
    for (condition, expected) in [
        ("", true),
        ("model = 'gpt-4*'", true),
        ("model = ['o3', 'gpt-4?']", true),
        ("model = 'gpt-3*'", false),
        ("path = '/v1/chat/*'", true),
        ("path = '/v1/chat'", false),
        ("dialect = 'chat'", true),
        ("namespace = '*'", true),
        ("namespace = '?*'", false),
        ("header = { X-Team = 're*' }", true),
        ("header = { X-Team = ['sales', '*search'] }", true),
        ("header = { X-Team = 'sales' }", false),
        ("header = { X-Absent = '*' }", false),
        ("header = { X-Team = '*', X-Absent = '*' }", false),
        ("caller = 'anon*'", true),
        ("caller = ['me', 'you']", false),
        ("min_temperature = 0.7", true),
        ("min_temperature = 0.71", false),
        ("max_temperature = 0.7", true),
        ("max_temperature = 0.69", false),
        ("min_temperature = 0, max_temperature = 1", true),
        ("tools = false", true),
        ("tools = true", false),
        ("model = 'gpt-4*', tools = true", false),
    ] {
        assert_eq!(fits(&example(), condition), expected, "{condition}");
    }
}

#[test]
fn what_is_not_known_of_a_call_does_not_match() {
    let unread = Example {
        path: "/v1/models",
        dialect: None,
        request: None,
        ..example()
    };
    for (condition, expected) in [
        ("", true),
        ("path = '/v1/models'", true),
        ("header = { x-team = '*' }", true),
        ("caller = 'anonymous'", true),
        ("namespace = '*'", true),
        ("model = '*'", false),
        ("dialect = 'chat'", false),
        ("tools = false", false),
        ("max_temperature = 2", false),
    ] {
        assert_eq!(fits(&unread, condition), expected, "{condition}");
    }
    let mut warm = example();
    warm.request = warm.request.map(|request| Request {
        temperature: None,
        ..request
    });
    assert!(!fits(&warm, "min_temperature = 0"));
}

#[test]
fn one_of_several_values_of_a_header_is_enough_and_binary_ones_match_nothing() {
    let mut many = example();
    many.headers
        .append("x-team", HeaderValue::from_static("sales"));
    assert!(fits(&many, "header = { x-team = 'sales' }"));
    many.headers
        .insert("x-team", HeaderValue::from_bytes(b"\xff").unwrap());
    assert!(!fits(&many, "header = { x-team = '*' }"));
}

prop_compose! {
    fn any_rule()(
        name in "[a-z]{1,8}",
        model in proptest::option::of("[go*?]{1,4}"),
        tools in proptest::option::of(proptest::bool::ANY),
        greatest in proptest::option::of(0_u8..3),
    ) -> Rule {
        Rule {
            name,
            when: Match {
                model: model.into_iter().map(Glob::new).collect(),
                tools,
                max_temperature: greatest.and_then(|greatest| Temperature::parse(&greatest.to_string())),
                ..Match::default()
            },
            ..Rule::default()
        }
    }
}

prop_compose! {
    fn any_call()(model in "[go]{0,4}", tools in proptest::bool::ANY, temperature in 0_u8..3, read in proptest::bool::ANY) -> Example {
        let request = Request {
            model,
            tools,
            temperature: Temperature::parse(&temperature.to_string()),
            ..Request::default()
        };
        Example { request: read.then_some(request), ..example() }
    }
}

proptest! {
    #[test]
    fn the_first_rule_that_matches_alone_counts(
        rules in proptest::collection::vec(any_rule(), 0..6), call in any_call(),
    ) {
        let caller = caller();
        let facts = call.facts(&caller);
        let alone = |rule: &&Rule| Rules::new(std::slice::from_ref(*rule)).first(&facts).is_some();
        let expected = rules.iter().find(alone);
        let all = Rules::new(&rules);
        prop_assert_eq!(all.first(&facts).map(|rule| &**rule), expected);
    }

    #[test]
    fn a_later_rule_never_changes_an_earlier_match(
        rules in proptest::collection::vec(any_rule(), 0..6), later in any_rule(), call in any_call(),
    ) {
        let caller = caller();
        let facts = call.facts(&caller);
        let before = Rules::new(&rules).first(&facts).cloned();
        let more = Rules::new(&[rules, vec![later]].concat());
        if before.is_some() {
            prop_assert_eq!(more.first(&facts).cloned(), before);
        }
    }
}
