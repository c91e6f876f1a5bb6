//! Configurations as operators write them, and what they are told.

use std::{io::Write, path::PathBuf, time::Duration};

use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::{check::Surroundings, load::FILE_NAME, secret::Environment, tree::Node, *};

mod redis;
mod upstream;

/// Returns what the operator is told about a file.
fn told(text: &str) -> String {
    text.parse::<Config>().unwrap_err().to_string()
}

fn from_env(variables: &[(&str, &str)]) -> Result<Config, Problems> {
    Config::load(Sources {
        env: variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        ..Sources::default()
    })
}

fn from_file(content: &[u8]) -> Result<Config, String> {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    let sources = Sources {
        path: Some(file.path().to_owned()),
        ..Sources::default()
    };
    let name = file.path().display().to_string();
    Config::load(sources).map_err(|problems| problems.to_string().replace(&name, "FILE"))
}

/// Returns the keys of a table, such as `cache.ttl`, lists of tables as if they were their first one.
fn keys(table: &toml::Table) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in table {
        let inner = match value {
            toml::Value::Array(items) => items.first().and_then(toml::Value::as_table),
            value => value.as_table(),
        };
        match inner {
            // A table that the operator fills is one setting.
            Some(inner) if !inner.is_empty() => {
                found.extend(keys(inner).iter().map(|key| format!("{name}.{key}")));
            }
            _ => found.push(name.clone()),
        }
    }
    found
}

#[test]
fn the_documented_file_is_exactly_the_defaults() {
    assert_eq!(PROXY_TOML.parse::<Config>(), Ok(Config::default()));
}

/// Returns the documented file with its examples, the lines that begin with `#` and no blank.
fn with_examples() -> toml::Table {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(example) if !example.starts_with(' ') => format!("{example}\n"),
        _ => format!("{line}\n"),
    };
    let text: String = PROXY_TOML.lines().map(line).collect();
    text.parse().unwrap()
}

#[test]
fn the_documented_file_with_its_examples_is_fine() {
    let config = with_examples().to_string().parse::<Config>().unwrap();
    assert_eq!(config.callers.len(), 1);
}

#[test]
fn the_documented_file_names_every_setting_and_no_other() {
    let documented = keys(&with_examples());
    let file = file::File {
        caller: vec![file::Caller::default()],
        ..file::File::default()
    };
    let known = keys(&toml::Table::try_from(file).unwrap());
    assert_eq!(documented, known);
    assert!(known.len() > 70, "{known:?}");
}

#[test]
fn the_documentation_names_every_setting_and_its_variable() {
    let page = include_str!("../../docs/configuration.md");
    for key in keys(&with_examples()) {
        assert!(page.contains(&format!("`{key}`")), "`{key}` is missing");
        let variable = env::name_of(&key);
        assert!(
            page.contains(&format!("`{variable}`")),
            "`{variable}` is missing"
        );
    }
}

#[test]
fn every_setting_can_come_from_the_environment() {
    for key in keys(&with_examples()) {
        let problems = from_env(&[(&env::name_of(&key), "\u{1}")]);
        let unknown = problems.is_err_and(|problems| problems.to_string().contains("unknown key"));
        assert!(!unknown, "`{key}`");
    }
}

#[test]
fn an_empty_file_stands_for_the_defaults() {
    for text in [
        "",
        "\n",
        "# nothing\n",
        "\u{feff}",
        "[cache]\n",
        "[[upstream]]\r\n",
    ] {
        assert_eq!(text.parse::<Config>(), Ok(Config::default()), "{text:?}");
    }
    assert_eq!(
        from_file(b"").map(|config| config.listen),
        Ok(Config::default().listen)
    );
}

#[test]
fn what_is_written_is_what_holds() {
    let config: Config = r#"
        listen = ["127.0.0.1:0", "[::1]:0"]
        admin.listen = "off"

        [[upstream]]
        name = "local"
        base_url = "http://localhost:11434"
        http = "2"
        timeouts.total = "1h"

        [cache]
        ttl = "7d"
        stale_if_error = "off"
        on_disconnect = "cancel"
        allow = ["ttl"]
        vary = ["X-Team"]

        [store]
        memory = "64MiB"
    "#
    .parse()
    .unwrap();
    assert_eq!(config.listen, ["127.0.0.1:0", "[::1]:0"]);
    assert_eq!(config.admin.listen, None);
    assert_eq!(
        config.first_upstream().base_url.to_string(),
        "http://localhost:11434/v1"
    );
    assert_eq!(config.first_upstream().http, HttpVersion::Http2);
    assert_eq!(
        config.first_upstream().timeouts.total,
        Some(Duration::from_secs(3600))
    );
    assert_eq!(
        config.first_upstream().timeouts.connect,
        Some(Duration::from_secs(5))
    );
    assert_eq!(config.cache.ttl, Some(Duration::from_secs(7 * 24 * 3600)));
    assert_eq!(config.cache.stale_if_error, Duration::ZERO);
    assert_eq!(config.cache.on_disconnect, OnDisconnect::Cancel);
    assert_eq!(config.cache.allow, [Directive::Ttl]);
    assert_eq!(config.cache.vary, ["x-team"]);
    assert_eq!(config.store.memory, 64 << 20);
    assert_eq!(config.store.disk, None);
}

#[test]
fn replicas_wait_for_each_other_unless_that_is_off() {
    for (written, wait) in [
        ("", Some(Duration::from_secs(30))),
        ("wait = '5s'", Some(Duration::from_secs(5))),
        ("wait = 'off'", None),
    ] {
        let config: Config = format!("[coalesce]\n{written}").parse().unwrap();
        assert_eq!(config.coalesce.wait, wait, "{written}");
    }
    let problem = "[coalesce]\nwait = '0s'".parse::<Config>().unwrap_err();
    assert!(problem.to_string().contains("coalesce.wait"), "{problem}");
}

#[test]
fn one_value_stands_for_a_list_of_one() {
    let config: Config = "listen = 'localhost:1'\n[upstream]\nname = 'local'\n"
        .parse()
        .unwrap();
    assert_eq!(config.listen, ["localhost:1"]);
    assert_eq!(config.first_upstream().name, "local");
}

#[test]
fn all_mistakes_are_told_at_once_each_with_its_place() {
    insta::assert_snapshot!(told(r#"lisen = "127.0.0.1:8080"
[admin]
listen = 8081
[cache]
threshhold = "1h"
enabled = "yes"
ttl = "5 parsecs"
max_entry = 8
on_disconnect = "finnish"
allow = ["no-cach", "ttl", "forever"]
[[upstream]]
base_url = "https://me:hunter2@api.openai.com/v1"
http = 1.1
timeouts = { conect = "1s", idle = "0s" }
[unknown]
x = 1
"#), @r#"
    error: proxy.toml:1:1: lisen: unknown key
      hint: did you mean `listen`?
    error: proxy.toml:3:10: admin.listen: `8081` does not fit
      hint: expected a string
    error: proxy.toml:5:1: cache.threshhold: unknown key
      hint: expected one of `enabled`, `scope`, `ttl`, `max_ttl`, `stale_while_revalidate`, `stale_if_error`, `proof_ttl`, `max_entry`, `on_disconnect`, `stall`, `allow`, `aliases`, `litellm`, `vary`, `finish_reasons`
    error: proxy.toml:6:11: cache.enabled: `yes` does not fit
      hint: expected `true` or `false`
    error: proxy.toml:7:7: cache.ttl: `5 parsecs` does not fit
      hint: expected `auto` or a duration of at most ten years, such as `90s`, `10m` or `7d`
    error: proxy.toml:8:13: cache.max_entry: `8` does not fit
      hint: expected a size such as `512KiB`, `64MiB` or `4GiB`
    error: proxy.toml:9:17: cache.on_disconnect: `finnish` does not fit
      hint: did you mean `finish`?
    error: proxy.toml:10:10: cache.allow[0]: `no-cach` is no directive
      hint: did you mean `no-cache`?
    error: proxy.toml:10:28: cache.allow[2]: `forever` is no directive
      hint: expected one of `no-cache`, `no-store`, `bypass`, `max-age`, `min-fresh`, `max-stale`, `only-if-cached`, `stale-if-error`, `ttl`, `namespace`, `tags`, `purge`
    error: proxy.toml:12:12: upstream.base_url: holds credentials
      hint: leave `user:password@` out: callers send their own credential, which is passed on
    error: proxy.toml:13:8: upstream.http: `1.1` does not fit
      hint: expected `"1.1"` or `"2"`, in quotes
    error: proxy.toml:14:14: upstream.timeouts.conect: unknown key
      hint: did you mean `connect`?
    error: proxy.toml:14:36: upstream.timeouts.idle: `0s` is no time at all
      hint: write `off` to wait for as long as it takes
    error: proxy.toml:15:2: unknown: unknown key
      hint: expected one of `listen`, `admin`, `upstream`, `retry`, `breaker`, `fallback`, `cache`, `coalesce`, `rule`, `key`, `store`, `limits`, `cors`, `caller`, `log`
    "#);
}

#[test]
fn settings_that_do_not_go_together_are_told() {
    insta::assert_snapshot!(told(r#"listen = ["127.0.0.1:8081", "127.0.0.1:9", "127.0.0.1:9"]
[[upstream]]
name = "Open AI"
base_url = "api.openai.com"
[[upstream]]
[cache]
ttl = "90d"
vary = ["Authorization", "x-cache-ttl", "te", "a b", "x-a", "X-A"]
finish_reasons = []
stall = "0s"
[key]
keep = ["usr", "messages"]
max_body = "4GiB"
[store]
memory = "16MiB"
[log]
level = "inof"
"#), @"
    error: proxy.toml:1:10: listen: `admin.listen` (`127.0.0.1:8081`) takes the same place as `listen` (`127.0.0.1:8081`)
      hint: give the admin listener an address of its own, or `off`
    error: proxy.toml:1:44: listen[2]: `127.0.0.1:9` takes the same place as `127.0.0.1:9`
      hint: leave one of the two out
    error: proxy.toml:3:8: upstream[0].name: `Open AI` is no name
      hint: expected at most 64 of `a-z`, `0-9`, `_` and `-`, a letter or digit first
    error: proxy.toml:4:12: upstream[0].base_url: has no scheme
      hint: write it in full, such as `https://api.openai.com/v1`
    error: proxy.toml:7:7: cache.ttl: `ttl` (90d) is longer than `max_ttl` (60d)
      hint: shorten the one or lengthen the other
    error: proxy.toml:8:9: cache.vary[0]: `authorization` is a credential: whose entries a caller may read is not up to `vary`
      hint: leave it out
    error: proxy.toml:8:26: cache.vary[1]: `x-cache-ttl` is an instruction to Refrain and never part of a key
      hint: leave it out
    error: proxy.toml:8:41: cache.vary[2]: `te` belongs to the connection and not to the call
      hint: leave it out
    error: proxy.toml:8:47: cache.vary[3]: `a b` is no header name
      hint: write it as in `openai-beta`, without colon or blank
    error: proxy.toml:8:61: cache.vary[5]: stands in the list twice
      hint: leave one of the two out
    error: proxy.toml:9:18: cache.finish_reasons: is empty, so nothing would be stored
      hint: for that, write `enabled = false`
    error: proxy.toml:10:9: cache.stall: `0s` is no time at all
      hint: write how long a reader may hold up others, such as `10s`
    error: proxy.toml:12:9: key.keep[0]: `usr` is not among the fields that are left out of the key
      hint: did you mean `user`?
    error: proxy.toml:12:16: key.keep[1]: `messages` is not among the fields that are left out of the key
      hint: expected one of `user`, `metadata`, `safety_identifier`, `prompt_cache_key`, `prompt_cache_retention`
    error: proxy.toml:13:12: key.max_body: 4GiB is too much
      hint: expected at most 256MiB
    error: proxy.toml:13:12: key.max_body: `limits.buffered` (256MiB) is less than `key.max_body` (4GiB)
      hint: raise the one or lower the other, else the largest bodies could never be keyed
    error: proxy.toml:15:10: store.memory: `cache.max_entry` (8MiB) is more than a quarter of `store.memory` (16MiB)
      hint: lower the one or raise the other
    error: proxy.toml:17:9: log.level: `inof` is no log level
      hint: expected `off`, `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,refrain=debug`
    ");
}

#[test]
fn a_section_that_is_none_is_told() {
    insta::assert_snapshot!(told("cache = 5\nkey = []\nupstream = 'https://api.openai.com/v1'\nlog = [[1]]\n"), @"
    error: proxy.toml:1:9: cache: `5` does not fit
      hint: expected a section, `[cache]`
    error: proxy.toml:2:7: key: a list does not fit
      hint: expected a section, `[key]`
    error: proxy.toml:3:12: upstream: `https://api.openai.com/v1` does not fit
      hint: expected a section, `[[upstream]]`
    error: proxy.toml:4:7: log: a list does not fit
      hint: expected a section, `[log]`
    ");
}

#[test]
fn a_truth_in_quotes_is_told() {
    insta::assert_snapshot!(told("cache.enabled = 'true'"), @"
    error: proxy.toml:1:17: cache.enabled: `true` does not fit
      hint: expected `true` or `false`, without quotes
    ");
}

#[test]
fn every_error_of_syntax_is_told() {
    insta::assert_snapshot!(told("listen = \n[cache]\nttl = 1h\nenabled = true\nenabled = false\n"), @"
    error: proxy.toml:1:10: string values must be quoted, expected literal string
    error: proxy.toml:3:7: string values must be quoted, expected literal string
    error: proxy.toml:5:1: duplicate key
    ");
}

#[test]
fn environment_and_flags_count_in_this_order() {
    let mut file = NamedTempFile::new().unwrap();
    writeln!(
        file,
        "listen = '127.0.0.1:1'\n[cache]\nttl = '1m'\nmax_ttl = '2m'"
    )
    .unwrap();
    let flag = |name, key, values: &[&str]| Flag {
        name,
        key,
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    let config = Config::load(Sources {
        path: Some(file.path().to_owned()),
        env: [
            ("REFRAIN_CACHE__TTL", "90s"),
            ("REFRAIN_LISTEN", "127.0.0.1:2, [::1]:2"),
            ("REFRAIN_CACHE__ENABLED", "false"),
            ("REFRAIN_CACHE__ALLOW", ""),
            ("REFRAIN_KEY__VERSION", "2"),
            ("REFRAIN_UPSTREAM__BASE_URL", "http://env"),
            ("REFRAIN_UPSTREAM__TIMEOUTS__TOTAL", "1h"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec(),
        flags: vec![
            flag("--listen", "listen", &["127.0.0.1:3", "127.0.0.1:4"]),
            flag("--upstream", "upstream.base_url", &["http://flag/v2"]),
        ],
    })
    .unwrap();
    assert_eq!(config.listen, ["127.0.0.1:3", "127.0.0.1:4"]);
    assert_eq!(
        config.first_upstream().base_url.to_string(),
        "http://flag/v2"
    );
    assert_eq!(
        config.first_upstream().timeouts.total,
        Some(Duration::from_secs(3600))
    );
    assert_eq!(config.cache.ttl, Some(Duration::from_secs(90)));
    assert_eq!(config.cache.max_ttl, Duration::from_secs(120));
    assert!(!config.cache.enabled);
    assert_eq!(config.cache.allow, []);
    assert_eq!(config.key.version, "2");
}

#[test]
fn a_list_from_the_environment_is_separated_by_commas() {
    let config = from_env(&[("REFRAIN_LISTEN", "127.0.0.1:2, [::1]:2")]).unwrap();
    assert_eq!(config.listen, ["127.0.0.1:2", "[::1]:2"]);
}

#[test]
fn a_mistake_in_the_environment_is_told_with_its_variable() {
    let problems = from_env(&[
        ("REFRAIN_CACHE__TLL", "1h"),
        ("REFRAIN_CACHE__ENABLED", "perhaps"),
        ("REFRAIN_CACHE__ALLOW", "ttl,tag"),
        ("REFRAIN_KEY", "2"),
        ("REFRAIN_LISTN", "x"),
        ("REFRAIN_", "x"),
        ("REFRAIN_UPSTREAM__BASE_URL", "ftp://host"),
        ("REFRAIN_cache__ttl", "1h"),
    ]);
    insta::assert_snapshot!(problems.unwrap_err(), @"
    error: environment REFRAIN_: unknown key
      hint: expected one of `REFRAIN_LISTEN`, `REFRAIN_ADMIN`, `REFRAIN_UPSTREAM`, `REFRAIN_RETRY`, `REFRAIN_BREAKER`, `REFRAIN_FALLBACK`, `REFRAIN_CACHE`, `REFRAIN_COALESCE`, `REFRAIN_RULE`, `REFRAIN_KEY`, `REFRAIN_STORE`, `REFRAIN_LIMITS`, `REFRAIN_CORS`, `REFRAIN_CALLER`, `REFRAIN_LOG`
    error: environment REFRAIN_CACHE__ALLOW: cache.allow[1]: `tag` is no directive
      hint: did you mean `tags`?
    error: environment REFRAIN_CACHE__ENABLED: cache.enabled: `perhaps` does not fit
      hint: expected `true` or `false`
    error: environment REFRAIN_CACHE__TLL: cache.tll: unknown key
      hint: did you mean `REFRAIN_CACHE__TTL`?
    error: environment REFRAIN_KEY: key: `2` does not fit
      hint: expected a section, `[key]`
    error: environment REFRAIN_LISTN: listn: unknown key
      hint: did you mean `REFRAIN_LISTEN`?
    error: environment REFRAIN_UPSTREAM__BASE_URL: upstream.base_url: has the scheme `ftp`
      hint: expected `http` or `https`
    error: environment REFRAIN_cache__ttl: is not written in capitals
      hint: did you mean `REFRAIN_CACHE__TTL`?
    ");
}

#[test]
fn a_mistake_in_a_flag_is_told_with_the_flag() {
    let problems = Config::load(Sources {
        flags: vec![Flag {
            name: "--listen",
            key: "listen",
            values: vec!["127.0.0.1:1".to_owned(), ":8080".to_owned()],
        }],
        ..Sources::default()
    });
    insta::assert_snapshot!(problems.unwrap_err(), @"
    error: flag --listen: listen[1]: `:8080` is no address to listen on
      hint: write `0.0.0.0:8080` for every interface, `127.0.0.1:8080` for this machine only
    ");
}

#[test]
fn a_file_that_cannot_be_read_is_told() {
    insta::assert_snapshot!(from_file(b"listen = '\xff'").unwrap_err(), @"
    error: FILE: is not valid UTF-8 from byte 10 on
      hint: save it as UTF-8
    ");
    insta::assert_snapshot!(from_file(&vec![b'#'; (1 << 20) + 1]).unwrap_err(), @"error: FILE: is larger than 1 MiB, so hardly a configuration");
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("none.toml")] {
        let sources = Sources {
            path: Some(path),
            ..Sources::default()
        };
        let problems = Config::load(sources).unwrap_err().to_string();
        assert!(problems.contains(": cannot be read: "), "{problems}");
    }
}

#[test]
fn a_broken_file_does_not_hide_a_mistake_in_the_environment() {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(b"[cache").unwrap();
    let problems = Config::load(Sources {
        path: Some(file.path().to_owned()),
        env: vec![("REFRAIN_LISTN".into(), "x".into())],
        flags: Vec::new(),
    });
    assert_eq!(problems.unwrap_err().iter().count(), 2);
}

#[test]
fn the_disk_lies_where_it_is_told_to_or_in_the_state_directory() {
    let disk = |text: &str, state: Option<&str>| {
        let tree = Node::parse(FILE_NAME, text).unwrap();
        let surroundings = Surroundings {
            memory: None,
            state: state.map(PathBuf::from),
            ..Surroundings::default()
        };
        let config = Config::settle(&tree, Vec::new(), surroundings).unwrap();
        config.store.disk.map(|disk| (disk.path, disk.max_size))
    };
    let at = |path: &str| Some((PathBuf::from(path), 4 << 30));
    assert_eq!(disk("", Some("/state")), at("/state/refrain.db"));
    assert_eq!(disk("", None), None, "there is no place for it");
    assert_eq!(disk("store.path = 'off'", Some("/state")), None);
    assert_eq!(
        disk("store.path = '/x/y.db'", Some("/state")),
        at("/x/y.db")
    );
    assert_eq!(disk("store.path = 'y.db'", None), at("y.db"));
    let small = disk("store.max_size = '32MiB'", Some("/state"));
    assert_eq!(small, Some(("/state/refrain.db".into(), 32 << 20)));
    let off = "store.path = 'off'\nstore.max_size = '1MiB'";
    assert_eq!(disk(off, Some("/state")), None);
    insta::assert_snapshot!(told("store.path = 'x/'\nstore.max_size = '31MiB'"), @"
    error: proxy.toml:1:14: store.path: `x/` is no file
      hint: name a file, such as `/var/lib/refrain/refrain.db`, or write `auto` or `off`
    error: proxy.toml:2:18: store.max_size: `store.max_size` (31MiB) is less than four times `cache.max_entry` (8MiB)
      hint: raise the one or lower the other; for no disk, write `path = \"off\"`
    ");
}

#[test]
fn memory_follows_the_container_and_entries_follow_memory() {
    const MIB: u64 = 1 << 20;
    for (text, container, memory, max_entry) in [
        ("", None, 256 * MIB, 8 * MIB),
        ("", Some(4096 * MIB), 256 * MIB, 8 * MIB),
        ("", Some(500 * MIB), 200 * MIB, 8 * MIB),
        ("", Some(50 * MIB), 20 * MIB, 5 * MIB),
        ("", Some(0), MIB, MIB / 4),
        ("store.memory = '1GiB'", Some(50 * MIB), 1024 * MIB, 8 * MIB),
    ] {
        let tree = Node::parse(FILE_NAME, text).unwrap();
        let surroundings = Surroundings {
            memory: container,
            ..Surroundings::default()
        };
        let config = Config::settle(&tree, Vec::new(), surroundings).unwrap();
        assert_eq!(config.store.memory, memory, "{text} {container:?}");
        assert_eq!(config.cache.max_entry, max_entry, "{text} {container:?}");
    }
    assert!("cache.max_entry = '100MiB'".parse::<Config>().is_err());
    assert!(
        "cache.max_entry = '100MiB'\nstore.memory = '400MiB'"
            .parse::<Config>()
            .is_ok()
    );
    assert!(
        "store.memory = '1MiB'\ncache.max_entry = '257KiB'"
            .parse::<Config>()
            .is_err()
    );
}

#[test]
fn a_log_level_is_a_level_or_a_filter() {
    for level in [
        "off",
        "INFO",
        "debug",
        "refrain=trace",
        "warn,refrain::cache=debug",
    ] {
        assert!(
            format!("log.level = '{level}'").parse::<Config>().is_ok(),
            "{level}"
        );
    }
    for level in [
        "",
        "inof",
        "info,",
        "refrain",
        "info, hyper=off",
        "info,refrain=lots",
        "a=b=c",
    ] {
        assert!(
            format!("log.level = '{level}'").parse::<Config>().is_err(),
            "{level}"
        );
    }
}

#[test]
fn a_file_with_a_thousand_mistakes_is_told_about_some() {
    let lines: Vec<_> = (0..1000).map(|i| format!("x{i} = 1")).collect();
    let told = lines.join("\n").parse::<Config>().unwrap_err();
    assert_eq!(told.iter().count(), 100);
}

#[test]
fn every_directive_has_a_name_of_its_own() {
    for directive in Directive::ALL {
        assert_eq!(Directive::named(directive.as_str()), Some(directive));
    }
}

proptest! {
    #[test]
    fn any_text_is_a_configuration_or_has_problems(text in "\\PC{0,200}|[a-z\\[\\]=\"'.,{}\\n 0-9]{0,200}") {
        if let Err(problems) = text.parse::<Config>() {
            prop_assert!(problems.iter().count() > 0);
            prop_assert!(problems.to_string().starts_with("error: "));
        }
    }

    /// Cuts, doubles and swaps pieces of the documented file, which reaches further in than arbitrary text.
    #[test]
    fn a_mangled_file_is_a_configuration_or_has_problems(
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[\\PC\\n]{0,6}"), 1..5),
    ) {
        let mut text: Vec<char> = PROXY_TOML.lines().filter(|line| !line.starts_with('#')).flat_map(|line| line.chars().chain(['\n'])).collect();
        for (at, len, put) in cuts {
            let at = at.index(text.len());
            let end = (at + len.index(20)).min(text.len());
            text.splice(at..end, put.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(problems) = text.parse::<Config>() {
            for problem in problems.iter() {
                prop_assert!(!problem.complaint.what.is_empty());
                prop_assert!(matches!(problem.place, Some(Place::Line { .. })), "{}", problem);
            }
        }
    }

    #[test]
    fn any_environment_is_a_configuration_or_has_problems(
        name in "REFRAIN_[A-Z_]{0,20}|REFRAIN_(CACHE|KEY|UPSTREAM|LISTEN)(__[A-Z]{0,8}){0,3}", value in "\\PC{0,40}",
    ) {
        let loaded = from_env(&[(&name, &value)]);
        prop_assert!(loaded.is_ok() || loaded.is_err_and(|problems| problems.iter().count() > 0));
    }
}

/// Returns what is said about `text` where the environment has `KEY=sk-proxy`.
fn checked(text: &str) -> Result<Config, String> {
    let tree = Node::parse(FILE_NAME, text).unwrap();
    let surroundings = Surroundings {
        env: Environment::of(&[("KEY".into(), "sk-proxy".into())]),
        ..Surroundings::default()
    };
    Config::settle(&tree, Vec::new(), surroundings).map_err(|problems| problems.to_string())
}

#[test]
fn who_may_call_is_read_as_written() {
    let config = checked(
        r#"
        listen = "0.0.0.0:8080"
        [upstream]
        api_key = "${KEY}"
        [cache]
        scope = "shared"
        [limits]
        hosts = ["Refrain.Internal."]
        [cors]
        origins = "https://app.example"
        [[caller]]
        name = "web"
        keys = [
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
        ]
        scope = "team"
        [[caller]]
        name = "batch"
        keys = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
        "#,
    )
    .unwrap();
    let key = config.first_upstream().api_key.as_ref().map(ApiKey::expose);
    assert_eq!(key, Some("sk-proxy"));
    assert_eq!(config.cache.scope, Scope::Shared);
    assert_eq!(config.limits.hosts, ["refrain.internal"]);
    assert_eq!(config.cors.origins, ["https://app.example"]);
    let [web, batch] = config.callers.as_slice() else {
        panic!("{:?}", config.callers)
    };
    assert_eq!(
        (web.name.as_str(), web.scope.as_deref()),
        ("web", Some("team"))
    );
    assert_eq!(web.keys, [KeyHash::of(b"abc"), KeyHash::of(b"")]);
    assert_eq!(
        (batch.name.as_str(), &batch.scope, batch.keys.len()),
        ("batch", &None, 1)
    );
    assert_eq!(config.warnings, []);
}

#[test]
fn a_key_of_the_proxys_own_is_spent_by_callers_of_its_own_or_on_loopback() {
    let key = "upstream.api_key = 'sk-canary'\n";
    for listen in ["127.0.0.1:80", "localhost:80", "[::1]:80", "127.9.9.9:80"] {
        assert!(
            checked(&format!("{key}listen = '{listen}'")).is_ok(),
            "{listen}"
        );
    }
    for listen in [
        "0.0.0.0:80",
        "[::]:80",
        "10.0.0.7:80",
        "refrain.internal:80",
    ] {
        assert!(
            checked(&format!("{key}listen = '{listen}'")).is_err(),
            "{listen}"
        );
    }
    insta::assert_snapshot!(checked(&format!("listen = ['127.0.0.1:0', '0.0.0.0:80']\n{key}")).unwrap_err(), @r"
    error: proxy.toml:2:20: upstream.api_key: the key could be spent by whoever reaches the listener
      hint: name the callers in `[[caller]]`, listen on `127.0.0.1`, or let callers send keys of their own
    ");
}

#[test]
fn mistakes_in_who_may_call_are_told_without_a_secret() {
    let told = checked(
        r#"
[upstream]
api_key = "sk canary"
[cache]
scope = "header:authorization"
[limits]
hosts = ["https://a.example", "b.example:80"]
[cors]
origins = ["*", "https://a.example/", "https://A.example", "http://a.example:80", "a.example"]
[[caller]]
name = "Web"
keys = "sk-canary"
scope = "batch"
[[caller]]
name = "batch"
keys = ["sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]
[[caller]]
name = "batch"
keys = ["sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]
[[caller]]
name = "anonymous"
"#,
    )
    .unwrap_err();
    assert!(!told.contains("canary"), "{told}");
    insta::assert_snapshot!(told, @r#"
    error: proxy.toml:3:11: upstream.api_key: is no key that could be sent in a header
      hint: expected visible ASCII without blanks, or `${NAME}` alone for a variable of the environment
    error: proxy.toml:5:9: cache.scope: `authorization` is a credential
      hint: write `credential`, which takes all credentials of a call together
    error: proxy.toml:7:10: limits.hosts[0]: `https://a.example` is no host
      hint: write a name or an address without scheme and port, such as `refrain.internal`
    error: proxy.toml:7:31: limits.hosts[1]: `b.example:80` is no host
      hint: write a name or an address without scheme and port, such as `refrain.internal`
    error: proxy.toml:9:12: cors.origins[0]: `*` stands beside others
      hint: it is all origins: leave out the rest
    error: proxy.toml:9:17: cors.origins[1]: `https://a.example/` is no origin
      hint: write it as browsers send it, such as `https://app.example` or `http://localhost:3000`: lower case, no path, no default port
    error: proxy.toml:9:39: cors.origins[2]: `https://A.example` is no origin
      hint: write it as browsers send it, such as `https://app.example` or `http://localhost:3000`: lower case, no path, no default port
    error: proxy.toml:9:60: cors.origins[3]: `http://a.example:80` is no origin
      hint: write it as browsers send it, such as `https://app.example` or `http://localhost:3000`: lower case, no path, no default port
    error: proxy.toml:9:83: cors.origins[4]: `a.example` is no origin
      hint: write it as browsers send it, such as `https://app.example` or `http://localhost:3000`: lower case, no path, no default port
    error: proxy.toml:11:8: caller[0].name: `Web` is no name for a caller
      hint: expected at most 64 of `a-z`, `0-9`, `_` and `-`, a letter or digit first
    error: proxy.toml:12:8: caller[0].keys: is no hash of a key
      hint: expected `sha256:` and 64 hexadecimal digits; `refrain hash-key` makes one of a key
    error: proxy.toml:13:9: caller[0].scope: `batch` is a caller that does not belong to this tenant
      hint: write `scope = "batch"` there, too, or take another name
    error: proxy.toml:18:8: caller[2].name: `batch` is the name of two callers
      hint: a caller may have several `keys`; else take another name
    error: proxy.toml:19:8: caller[2].keys: stands there twice
      hint: give each caller keys of its own
    error: proxy.toml:21:8: caller[3].name: `anonymous` is no name for a caller
      hint: expected at most 64 of `a-z`, `0-9`, `_` and `-`, a letter or digit first
    error: proxy.toml:21:8: caller[3].name: has no keys, so nobody could be this caller
      hint: `refrain hash-key --new` makes a key and its hash
    "#);
}

#[test]
fn claims_of_tokens_that_nobody_verifies_are_no_identity() {
    let jwt = "upstream.identity = 'jwt'\n";
    assert!(checked(jwt).is_ok());
    insta::assert_snapshot!(checked(&format!("{jwt}upstream.api_key = 'sk-1'")).unwrap_err(), @r"
    error: proxy.toml:1:21: upstream.identity: nobody verifies the tokens whose claims are to count: the upstream never sees the callers' tokens
      hint: leave one of the two out
    ");
    insta::assert_snapshot!(checked(&format!("{jwt}upstream.proof = 'off'")).unwrap_err(), @r"
    error: proxy.toml:1:21: upstream.identity: nobody verifies the tokens whose claims are to count: a token counts that the upstream has not accepted
      hint: leave one of the two out
    ");
}

/// Returns what the operator is warned of.
fn warnings(text: &str) -> String {
    let config = checked(text).unwrap();
    let shown = |warning: &Warning| format!("{warning}\n");
    config.warnings.iter().map(shown).collect()
}

const CALLER: &str = "\n[[caller]]\nname = 'web'\nkeys = 'sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'\n";

#[test]
fn what_can_hardly_be_meant_is_a_warning_with_its_place() {
    insta::assert_snapshot!(
        warnings("[upstream]\napi_key = '${KEY}'\n[cache]\nscope = 'body:/user'\n[cors]\norigins = '*'\n"),
        @r"
        warning: proxy.toml:4:9: cache.scope: `body:/user` without a `[[caller]]`: whoever the upstream accepts can name any tenant and read its entries
          hint: name the callers, or let something in front of Refrain set the value
        warning: proxy.toml:6:11: cors.origins: `*` without a `[[caller]]`: any web page that is open on this machine can spend the key
          hint: list the origins of the pages that may
        "
    );
    for text in ["cache.scope = 'shared'", "cors.origins = '*'"] {
        assert_eq!(warnings(text), "", "{text}");
    }
    for text in [
        "upstream.api_key = 'sk-1'\ncache.scope = 'header:x-tenant'",
        "upstream.api_key = 'sk-1'\ncors.origins = '*'",
    ] {
        assert_eq!(warnings(&format!("{text}{CALLER}")), "", "{text}");
    }
}

#[test]
fn a_callers_key_that_leaves_the_machine_is_a_warning() {
    insta::assert_snapshot!(warnings(CALLER), @r#"
    warning: proxy.toml:2:1: caller: without `api_key` the callers' keys, which are the proxy's own, are sent to `openai`
      hint: set `api_key`, which is sent in their place
    "#);
    for text in [
        "upstream.base_url = 'http://localhost:11434'",
        "upstream.base_url = 'http://[::1]'",
        "upstream.api_key = 'sk-1'",
    ] {
        assert_eq!(warnings(&format!("{text}{CALLER}")), "", "{text}");
    }
}

#[test]
fn shared_entries_that_a_made_up_key_reads_are_a_warning() {
    let off = "upstream.proof = 'off'\n";
    for scope in ["shared", "header:x-tenant", "body:/user"] {
        let told = warnings(&format!("{off}cache.scope = '{scope}'"));
        assert_eq!(told.matches("any made-up key").count(), 1, "{told}");
        let rule = warnings(&format!("{off}[[rule]]\nscope = '{scope}'"));
        assert_eq!(rule.matches("any made-up key").count(), 1, "{rule}");
        let fine = format!("{off}cache.scope = '{scope}'\nupstream.base_url = 'http://[::1]:1'");
        assert_eq!(warnings(&format!("{fine}{CALLER}")), "", "{scope}");
    }
    insta::assert_snapshot!(warnings(&format!("{off}cache.scope = 'shared'")), @r#"
    warning: proxy.toml:2:15: cache.scope: `shared` beside `proof = "off"` and without a `[[caller]]` protects nothing: any made-up key counts as proven, and whoever reaches the listener reads what others were answered
      hint: leave `proof` at `auto`, or name the callers
    "#);
    assert_eq!(warnings(off), "", "everybody has entries of its own");
}

#[test]
fn rules_that_are_never_tried_or_name_nobody_are_warnings() {
    let rules = "upstream.api_key = 'sk-1'\n[[rule]]\nttl = '1h'\nmatch = { path = ['/x', '*'] }\n[[rule]]\nmatch = { caller = ['wbe', 'w*', 'b*'] }\n[[rule]]\n";
    insta::assert_snapshot!(warnings(&format!("{rules}{CALLER}")), @r#"
    warning: proxy.toml:2:1: rule[0]: matches every call, so the rules behind it are never tried
      hint: move it to the end, or say in `match` which calls it is for
    warning: proxy.toml:6:21: rule[1].match.caller[0]: `wbe` fits no `[[caller]]`
      hint: did you mean `web`?
    warning: proxy.toml:6:34: rule[1].match.caller[2]: `b*` fits no `[[caller]]`
      hint: expected one of `web`
    "#);
    let fine = "[[rule]]\nmatch = { caller = 'wbe', model = '*' }\n[[rule]]\nttl = '1h'\n";
    assert_eq!(warnings(fine), "", "callers are known by other names");
}

#[test]
fn an_upstream_that_is_refrain_itself_is_a_warning() {
    insta::assert_snapshot!(warnings("upstream.base_url = 'http://localhost:8080/v1'"), @r#"
    warning: proxy.toml:1:21: upstream.base_url: leads to `127.0.0.1:8080` of `listen`: every call would come back to Refrain
      hint: name the API that calls are for
    "#);
    assert_eq!(
        warnings("upstream.base_url = 'http://localhost:8000/v1'"),
        ""
    );
}

#[test]
fn staleness_that_is_cut_is_a_warning_where_it_was_written() {
    let text = "[cache]\nmax_ttl = '1h'\nstale_while_revalidate = '2h'\nstale_if_error = '3h'";
    insta::assert_snapshot!(warnings(text), @r#"
    warning: proxy.toml:3:26: cache.stale_while_revalidate: `stale_while_revalidate` (2h) is longer than `max_ttl` (1h), and cut to it
      hint: shorten the one or lengthen the other
    warning: proxy.toml:4:18: cache.stale_if_error: `stale_if_error` (3h) is longer than `max_ttl` (1h), and cut to it
      hint: shorten the one or lengthen the other
    "#);
    assert_eq!(warnings("cache.max_ttl = '1h'"), "");
}
