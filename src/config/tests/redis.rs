//! What is written about Redis, and about what replicas share there.

use tempfile::TempDir;

use super::*;

/// A password, and a secret, that nothing may repeat.
const CANARY: &str = "canary-7d1e0b52c94fa6830b1c7f3e9a2d";

#[test]
fn the_names_of_all_keys_begin_as_the_operator_says() {
    let prefix = |text: &str| {
        let redis = checked(&format!("store.redis = 'redis://h'\n{text}")).map(|it| it.store.redis);
        redis.map(|redis| redis.unwrap().prefix)
    };
    assert_eq!(prefix("").unwrap(), "refrain:");
    let longest = "p".repeat(64);
    for fine in ["a", "team-a:refrain:", "x/y_z.1", &longest] {
        assert_eq!(
            prefix(&format!("store.prefix = '{fine}'")).unwrap(),
            *fine,
            "{fine}"
        );
    }
    let too_long = "p".repeat(65);
    for odd in [
        "", "{a}:", "a}", "a b", "a*", "a?", "[a]", "a\u{e9}", &too_long,
    ] {
        let told = prefix(&format!("store.prefix = '{odd}'")).unwrap_err();
        assert!(told.contains("store.prefix: "), "{odd}: {told}");
        assert!(
            told.contains("is no prefix") && told.contains("hint: expected 1 to 64"),
            "{odd}: {told}"
        );
    }
    assert!(
        told("store.prefix = \"a\\n\"").contains("is no prefix"),
        "nor where there is no Redis"
    );
}

#[test]
fn the_certificates_behind_redis_are_read_or_refused() {
    let place = TempDir::new().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = place.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let authority = rcgen::generate_simple_self_signed(["redis".to_owned()]).unwrap();
    let pem = authority.cert.pem();
    let good = file("ca.pem", pem.as_bytes());
    let redis = |url: &str, ca: &str| {
        let text = format!("store.redis = '{url}'\nstore.redis_ca = '{ca}'");
        checked(&text).map(|config| config.store.redis.unwrap().ca)
    };
    assert_eq!(
        redis("rediss://h", &good).unwrap(),
        Some(pem.clone().into_bytes())
    );
    assert!(redis("rediss+sentinel://h/main", &good).unwrap().is_some());
    assert_eq!(
        redis("rediss://h", "").unwrap(),
        None,
        "those of the system"
    );
    let key = file("key.pem", authority.signing_key.serialize_pem().as_bytes());
    let broken = pem.replace('M', "?");
    for (ca, what) in [
        (file("none.pem", b"canary"), "holds no certificate"),
        (file("broken.pem", broken.as_bytes()), "ca: `"),
        (key, "holds no certificate"),
        (
            place.path().join("away").display().to_string(),
            "cannot be read",
        ),
    ] {
        let told = redis("rediss://h", &ca).unwrap_err();
        assert!(
            told.contains("store.redis_ca: ") && told.contains(what),
            "{told}"
        );
        assert!(
            !told.contains("canary") && !told.contains("PRIVATE"),
            "{told}"
        );
    }
    for url in ["redis://h", ""] {
        let told = redis(url, &good).unwrap_err();
        assert!(
            told.contains("means nothing without a `rediss://`"),
            "{told}"
        );
    }
}

#[test]
fn the_secret_is_long_and_comes_from_where_the_operator_says() {
    let secret = |text: &str| {
        let tree = Node::parse(FILE_NAME, &format!("key.secret = '{text}'")).unwrap();
        let surroundings = Surroundings {
            env: Environment::of(&[
                ("SECRET".into(), CANARY.into()),
                ("SHORT".into(), "canary".into()),
            ]),
            ..Surroundings::default()
        };
        let config = Config::settle(&tree, Vec::new(), surroundings);
        let config = config.map_err(|problems| problems.to_string())?;
        assert!(!format!("{config:?}").contains("canary"));
        Ok::<_, String>(config.key.secret.map(|secret| secret.expose().to_owned()))
    };
    assert_eq!(secret("").unwrap(), None);
    assert_eq!(secret(CANARY).unwrap().as_deref(), Some(CANARY));
    assert_eq!(secret("${SECRET}").unwrap().as_deref(), Some(CANARY));
    let (short, blank) = (&CANARY[..31], format!("{CANARY} {CANARY}"));
    for (text, what) in [
        (short, "is too short for a secret"),
        ("${SHORT}", "is too short for a secret"),
        (&blank, "is no key that could be sent"),
        ("${NONE}", "the environment has no variable `NONE`"),
        ("${canary-}", "is no variable of the environment"),
    ] {
        let told = secret(text).unwrap_err();
        assert!(
            told.contains("key.secret: ") && told.contains(what),
            "{text}: {told}"
        );
        assert!(!told.contains("canary"), "{told}");
    }
}

#[test]
fn redis_stands_in_the_place_of_the_disk() {
    let disk = |path: &str| {
        let text = format!("store.redis = 'redis://h'\nstore.path = '{path}'");
        let tree = Node::parse(FILE_NAME, &text).unwrap();
        let surroundings = Surroundings {
            state: Some("/state".into()),
            ..Surroundings::default()
        };
        let config = Config::settle(&tree, Vec::new(), surroundings).unwrap();
        assert!(config.store.redis.is_some());
        assert_eq!(config.store.disk, None, "{path}");
        let shown = |warning: &Warning| format!("{warning}\n");
        config.warnings.iter().map(shown).collect::<String>()
    };
    for path in ["auto", "off"] {
        assert_eq!(disk(path), "", "{path}");
    }
    insta::assert_snapshot!(disk("/x/y.db"), @"
    warning: proxy.toml:2:14: store.path: is not used: with `store.redis` answers are kept there
      hint: leave the one or the other out
    ");
    // What is wrong about a disk that is not used hinders nobody; what is no file at all is told.
    let small = "store.redis = 'redis://h'\nstore.max_size = '1MiB'";
    assert!(checked(small).is_ok());
    assert!(checked("store.redis = 'redis://h'\nstore.path = 'x/'").is_err());
}

#[test]
fn a_budget_of_nothing_is_refused_beside_redis() {
    insta::assert_snapshot!(told("store.redis = 'redis://h'\nstore.budget = '0s'"), @"
    error: proxy.toml:2:16: store.budget: `0s` is no time at all
      hint: for no Redis, leave `redis` out
    ");
}

#[test]
fn a_prefix_of_nothing_is_a_warning() {
    let warnings = |text: &str| {
        let config = checked(text).unwrap();
        let shown = |warning: &Warning| format!("{warning}\n");
        config.warnings.iter().map(shown).collect::<String>()
    };
    insta::assert_snapshot!(warnings("store.prefix = 'a:'"), @"
    warning: proxy.toml:1:16: store.prefix: means nothing without `store.redis`
      hint: set `redis`, or leave `prefix` out
    ");
    assert_eq!(warnings("store.prefix = 'refrain:'"), "");
    assert_eq!(
        warnings("store.redis = 'redis://h'\nstore.prefix = 'a:'"),
        ""
    );
}

#[test]
fn what_is_no_one_address_is_told_with_what_was_meant() {
    insta::assert_snapshot!(told("store.redis = ['redis://canary:1', 'redis://canary:2']"), @"
    error: proxy.toml:1:15: store.redis: a list does not fit
      hint: expected one text: `redis://host:6379`, or `redis://a:7000,b:7001` for a cluster
    ");
    insta::assert_snapshot!(told("store.redis_url = 'redis://canary'"), @"
    error: proxy.toml:1:7: store.redis_url: unknown key
      hint: did you mean `redis`?
    ");
    insta::assert_snapshot!(told("store.redis = 'redis://:${CANARY_@h'"), @"
    error: proxy.toml:1:15: store.redis: is no variable of the environment
      hint: write `${NAME}`, a name of letters, digits and `_`, and `}` behind it; what is written out holds no `${`
    ");
}

#[test]
fn a_mistake_in_the_address_is_told_with_its_place_and_without_the_password() {
    let address = format!("redis://:{CANARY}@h/not-a-number");
    let file = told(&format!("store.redis = '{address}'"));
    let variable = from_env(&[("REFRAIN_STORE__REDIS", &address)]).unwrap_err();
    let flag = Flag {
        name: "--redis",
        key: "store.redis",
        values: vec![address],
    };
    let flag = Config::load(Sources {
        flags: vec![flag],
        ..Sources::default()
    });
    for (told, place) in [
        (file, "proxy.toml:1:15"),
        (variable.to_string(), "REFRAIN_STORE__REDIS"),
        (flag.unwrap_err().to_string(), "--redis"),
    ] {
        assert!(
            told.contains(place) && told.contains("store.redis: ends with"),
            "{told}"
        );
        assert!(!told.contains("canary"), "{told}");
    }
}
