//! Routes by themselves: tables, and properties of the order among equals.

use proptest::{collection, prelude::*};

use super::*;

fn way(name: &str) -> Way {
    Way {
        name: name.to_owned(),
        base_url: format!("https://{name}.example/v1").parse().unwrap(),
        models: vec![Glob::new("*")],
        rename: BTreeMap::new(),
        priority: 0,
        weight: NonZeroU32::MIN,
        own_key: true,
    }
}

fn serving(name: &str, models: &[&str]) -> Way {
    Way {
        models: models.iter().copied().map(Glob::new).collect(),
        ..way(name)
    }
}

fn renaming(name: &str, asked: &str, sent: &str) -> Way {
    Way {
        rename: BTreeMap::from([(asked.to_owned(), sent.to_owned())]),
        ..way(name)
    }
}

fn prior(priority: u32, way: Way) -> Way {
    Way { priority, ..way }
}

const BODY: &[u8] = br#"{"model":"gpt-4o"}"#;

fn asked(model: Option<&str>) -> Asked<'_> {
    Asked {
        addressed: None,
        dialect: Some(Dialect::Chat),
        model,
        body: BODY,
        stable: BODY,
    }
}

/// Returns the places of a route's candidates.
fn order(route: &Route) -> Vec<usize> {
    route.candidates().map(|one| one.upstream).collect()
}

fn places(ways: &[Way], asked: &Asked<'_>) -> Vec<usize> {
    order(&Routes::new(ways).route(asked).unwrap())
}

fn refusal(ways: &[Way], asked: &Asked<'_>) -> (Kind, String) {
    let error = Routes::new(ways).route(asked).unwrap_err();
    (error.kind(), error.message().to_owned())
}

#[test]
fn one_upstream_that_serves_everything_needs_no_look_at_the_call() {
    let routes = Routes::new(&[way("a")]);
    assert!(!routes.need_the_model());
    let one = routes.route(&asked(Some("gpt-4o"))).unwrap();
    let other = routes.route(&asked(None)).unwrap();
    assert!(Arc::ptr_eq(&one, &other), "nothing is made for a call");
    assert_eq!(*one, Route::to(0, true));
    for ways in [
        vec![way("a"), way("b")],
        vec![serving("a", &["gpt-*"])],
        vec![renaming("a", "gpt-4o", "o")],
    ] {
        assert!(Routes::new(&ways).need_the_model());
    }
}

#[test]
fn the_lowest_priority_goes_first_and_only_who_serves_the_model_is_asked() {
    let ways = [
        prior(2, way("last")),
        prior(1, serving("claudes", &["claude-*"])),
        prior(1, serving("gpts", &["gpt-*", "o3"])),
        prior(0, serving("tiny", &["tiny"])),
    ];
    for (model, expected) in [
        ("gpt-4o", vec![2, 0]),
        ("o3", vec![2, 0]),
        ("claude-3", vec![1, 0]),
        ("tiny", vec![3, 0]),
        ("else", vec![0]),
    ] {
        assert_eq!(places(&ways, &asked(Some(model))), expected, "{model}");
    }
}

#[test]
fn a_call_whose_model_is_not_known_goes_to_who_serves_everything_and_nowhere_else() {
    let ways = [
        serving("gpts", &["gpt-*"]),
        prior(2, way("late")),
        prior(1, serving("all", &["x", "*"])),
    ];
    assert_eq!(places(&ways, &asked(None)), [2]);
    let narrow = [prior(1, serving("a", &["a"])), serving("b", &["b"])];
    assert_eq!(places(&narrow, &asked(None)), [1], "the first by priority");
}

#[test]
fn a_call_of_an_unknown_endpoint_is_not_spread_and_nobody_stands_in() {
    let ways = [
        prior(1, way("late")),
        way("first"),
        way("second"),
        serving("other", &["o"]),
    ];
    for number in 0..50 {
        let stable = [number];
        let asked = Asked {
            dialect: None,
            stable: &stable,
            ..asked(Some("gpt-4o"))
        };
        assert_eq!(places(&ways, &asked), [1]);
    }
}

#[test]
fn an_addressed_upstream_is_the_only_one() {
    let ways = [
        way("a"),
        renaming("b", "gpt-4o", "four"),
        serving("c", &["c"]),
    ];
    let at = |addressed, model| Asked {
        addressed: Some(addressed),
        ..asked(model)
    };
    let route = Routes::new(&ways).route(&at(1, Some("gpt-4o"))).unwrap();
    assert_eq!(order(&route), [1]);
    assert_eq!(route.primary().model.as_deref(), Some("four"));
    assert!(route.is_addressed());
    assert_eq!(places(&ways, &at(2, None)), [2]);
    let (kind, message) = refusal(&ways, &at(2, Some("gpt-4o")));
    assert_eq!(kind, Kind::ModelNotFound);
    for name in ["`gpt-4o`", "`c`", "`/_u/c`"] {
        assert!(message.contains(name), "{message}");
    }
    let single = Routes::new(&ways[..1]).route(&at(0, None)).unwrap();
    assert!(single.is_addressed());
}

#[test]
fn names_are_found_and_an_unknown_one_is_told_what_there_is() {
    let routes = Routes::new(&[way("openai"), way("azure")]);
    assert_eq!(routes.find("azure").unwrap(), 1);
    for unknown in ["", "Azure", "openai2", ".."] {
        let error = routes.find(unknown).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.message().contains("`openai`, `azure`"), "{error}");
    }
}

#[test]
fn a_model_that_nobody_serves_is_named_as_far_as_a_line_goes() {
    let ways = [serving("a", &["gpt-*"])];
    let (kind, message) = refusal(&ways, &asked(Some("claude-3")));
    assert_eq!(kind, Kind::ModelNotFound);
    assert!(message.contains("`claude-3`"), "{message}");
    let endless = "ü".repeat(10_000);
    let (_, message) = refusal(&ways, &asked(Some(&endless)));
    assert!(message.chars().count() < 200, "{message}");
}

#[test]
fn each_upstream_is_asked_by_its_own_name_for_the_model() {
    let ways = [
        renaming("a", "gpt-4o", "four"),
        prior(1, renaming("b", "other", "x")),
    ];
    let route = Routes::new(&ways).route(&asked(Some("gpt-4o"))).unwrap();
    let names: Vec<_> = route
        .candidates()
        .map(|candidate| candidate.model.as_deref())
        .collect();
    assert_eq!(names, [Some("four"), None]);
    assert_eq!(route.model(), Some("gpt-4o"));
    assert_eq!(route.candidate(2), None);
}

#[test]
fn where_the_model_has_no_certain_place_nobody_is_asked_by_another_name() {
    let body = br#"{"model":"gpt-4o","Model":"x"}"#;
    let asked = Asked {
        body,
        ..asked(Some("gpt-4o"))
    };
    let renaming = renaming("a", "gpt-4o", "four");
    assert_eq!(places(&[renaming.clone(), prior(1, way("b"))], &asked), [1]);
    assert_eq!(refusal(&[renaming], &asked).0, Kind::BadRequest);
}

#[test]
fn nobody_stands_in_elsewhere_without_a_key_of_the_proxys_own() {
    let keyless = |name| Way {
        own_key: false,
        ..way(name)
    };
    let beside = |priority| {
        let base_url = "https://a.example/other".parse().unwrap();
        prior(
            priority,
            Way {
                base_url,
                ..keyless("beside")
            },
        )
    };
    let ways = [
        keyless("a"),
        prior(1, keyless("b")),
        prior(2, way("c")),
        beside(3),
    ];
    let route = Routes::new(&ways).route(&asked(Some("m"))).unwrap();
    let facts: Vec<_> = route
        .candidates()
        .map(|one| (one.upstream, one.own_key, one.elsewhere))
        .collect();
    assert_eq!(
        facts,
        [(0, false, false), (2, true, true), (3, false, false)]
    );
}

#[test]
fn among_equals_shares_follow_the_weights() {
    let weighed = |name, weight| Way {
        weight: NonZeroU32::new(weight).unwrap(),
        ..way(name)
    };
    let routes = Routes::new(&[
        weighed("a", 1),
        weighed("b", 3),
        weighed("c", 10),
        weighed("d", 6),
    ]);
    let mut shares = [0_usize; 4];
    for number in 0..10_000_u32 {
        let stable = number.to_be_bytes();
        let asked = Asked {
            stable: &stable,
            ..asked(Some("m"))
        };
        shares[routes.route(&asked).unwrap().primary().upstream] += 1;
    }
    for (share, expected) in shares.into_iter().zip([500, 1_500, 5_000, 3_000]) {
        assert!(share.abs_diff(expected) <= 200, "{shares:?}");
    }
}

#[test]
fn the_order_among_equals_is_the_same_in_every_version() {
    let ways = [way("a"), way("b"), way("c")];
    let orders: Vec<_> = ["one", "two", "three", "four"]
        .map(|stable| {
            let asked = Asked {
                stable: stable.as_bytes(),
                ..asked(Some("m"))
            };
            places(&ways, &asked)
        })
        .into();
    assert_eq!(
        orders,
        [[0, 1, 2], [0, 1, 2], [1, 2, 0], [1, 0, 2]],
        "another order is another key for what is stored"
    );
}

fn ways() -> impl Strategy<Value = Vec<Way>> {
    let one = (0..3_u32, 1..4_u32, any::<bool>());
    collection::vec(one, 1..8).prop_map(|ways| {
        let way = |(at, (priority, weight, own_key))| Way {
            priority,
            weight: NonZeroU32::new(weight).unwrap(),
            own_key,
            ..way(&format!("up-{at}"))
        };
        ways.into_iter().enumerate().map(way).collect()
    })
}

fn all_own_key(ways: &mut [Way]) {
    for way in ways {
        way.own_key = true;
    }
}

proptest! {
    #[test]
    fn the_order_is_a_permutation_by_priority(mut ways in ways(), stable in any::<Vec<u8>>()) {
        all_own_key(&mut ways);
        let asked = Asked { stable: &stable, ..asked(Some("m")) };
        let places = places(&ways, &asked);
        let mut sorted = places.clone();
        sorted.sort_unstable();
        prop_assert_eq!(sorted, (0..ways.len()).collect::<Vec<_>>());
        let priorities: Vec<_> = places.iter().map(|at| ways[*at].priority).collect();
        prop_assert!(priorities.is_sorted());
    }

    #[test]
    fn an_upstream_that_comes_changes_nothing_between_the_others(
        mut ways in ways(), stable in any::<Vec<u8>>(), priority in 0..3_u32, weight in 1..4_u32,
    ) {
        all_own_key(&mut ways);
        let asked = Asked { stable: &stable, ..asked(Some("m")) };
        let before = places(&ways, &asked);
        let new = ways.len();
        let weight = NonZeroU32::new(weight).unwrap();
        ways.push(Way { priority, weight, ..way("new") });
        let mut after = places(&ways, &asked);
        after.retain(|at| *at != new);
        prop_assert_eq!(before, after);
    }

    #[test]
    fn where_an_upstream_stands_in_the_file_makes_no_difference(mut ways in ways(), stable in any::<Vec<u8>>()) {
        all_own_key(&mut ways);
        let asked = Asked { stable: &stable, ..asked(Some("m")) };
        let names = |ways: &[Way]| {
            let places = places(ways, &asked);
            places.into_iter().map(|at| ways[at].name.clone()).collect::<Vec<_>>()
        };
        let before = names(&ways);
        ways.reverse();
        prop_assert_eq!(before, names(&ways));
    }

    #[test]
    fn a_callers_key_never_leaves_its_primarys_origin(ways in ways(), stable in any::<Vec<u8>>()) {
        let asked = Asked { stable: &stable, ..asked(Some("m")) };
        let route = Routes::new(&ways).route(&asked).unwrap();
        for candidate in route.candidates().skip(1) {
            prop_assert!(candidate.elsewhere && candidate.own_key);
        }
    }
}
