//! `POST /api/purge`: what its body says, and what is told back.
//!
//! # Scope
//! Exactly one selector; what is not understood is refused with the remedy. Nothing is purged here.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    answer::verdict::Tier,
    call::key::Key,
    config::{MAX_NAME, MAX_TAGS},
    store::purge::{Order, Outcome, Purge, Sample, Selector},
};

/// What is wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}\nhint: {hint}")]
pub struct BadOrder {
    what: String,
    hint: &'static str,
}

/// The body, member by member.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
struct Wish {
    all: Option<bool>,
    dialect: Option<String>,
    tag: Option<String>,
    tags: Option<Vec<String>>,
    model: Option<String>,
    namespace: Option<String>,
    scope: Option<String>,
    upstream: Option<String>,
    key: Option<String>,
    pattern: Option<String>,
    older_than: Option<String>,
    dry_run: bool,
    soft: bool,
}

impl BadOrder {
    /// Says what is wrong, and the remedy.
    pub fn new(what: impl Into<String>, hint: &'static str) -> Self {
        Self {
            what: what.into(),
            hint,
        }
    }
}

/// Reads an order; `ago` returns the moment so long ago, milliseconds of Unix time.
pub fn order(body: &[u8], ago: impl FnOnce(Duration) -> u64) -> Result<Order, BadOrder> {
    let wish: Wish = serde_json::from_slice(body)
        .map_err(|error| BadOrder::new(format!("the body cannot be read: {error}"), HINT))?;
    let (dry_run, soft) = (wish.dry_run, wish.soft);
    let purge = |selector| Purge {
        selector,
        within: None,
        soft,
    };
    let selectors = selectors(wish, ago)?.into_iter();
    Ok(Order {
        purges: selectors.map(purge).collect(),
        dry_run,
    })
}

fn selectors(wish: Wish, ago: impl FnOnce(Duration) -> u64) -> Result<Vec<Selector>, BadOrder> {
    let Wish {
        all,
        dialect,
        tag,
        tags,
        model,
        namespace,
        scope,
        upstream,
        key,
        pattern,
        older_than,
        dry_run: _,
        soft: _,
    } = wish;
    let one = [
        all.map(all_of),
        dialect.map(|text| named(text, Selector::Dialect)),
        tag.map(|text| named(text, Selector::Tag)),
        model.map(|text| named(text, Selector::Model)),
        namespace.map(|text| named(text, Selector::Namespace)),
        scope.map(|text| scope_of(&text)),
        upstream.map(|text| named(text, Selector::Upstream)),
        key.map(|text| key_of(&text)),
        pattern.map(|text| named(text, Selector::Pattern)),
        older_than.map(|text| made_before(&text, ago)),
    ];
    let one = one.into_iter().flatten().map(|one| Ok(vec![one?]));
    let mut found = one.chain(tags.map(tagged));
    match (found.next(), found.next()) {
        (Some(found), None) => found,
        (None, _) => Err(BadOrder::new("the body names nothing to purge", HINT)),
        (Some(_), Some(_)) => Err(BadOrder::new(
            "the body names more than one thing to purge",
            HINT,
        )),
    }
}

fn tagged(tags: Vec<String>) -> Result<Vec<Selector>, BadOrder> {
    if !(1..=MAX_TAGS).contains(&tags.len()) {
        let hint = "write `\"tags\": [\"a\", ...]`, at most 16";
        return Err(BadOrder::new("`tags` lists none, or too many", hint));
    }
    let tags = tags.into_iter();
    tags.map(|tag| named(tag, Selector::Tag)).collect()
}

fn all_of(all: bool) -> Result<Selector, BadOrder> {
    all.then_some(Selector::All).ok_or_else(|| {
        BadOrder::new(
            "`all` is not true",
            "write `\"all\": true`, or leave it out",
        )
    })
}

fn named(text: String, selector: fn(String) -> Selector) -> Result<Selector, BadOrder> {
    if text.len() > LONGEST {
        let hint = "names have at most 1024 bytes";
        return Err(BadOrder::new("a name is too long", hint));
    }
    Ok(selector(text))
}

fn scope_of(text: &str) -> Result<Selector, BadOrder> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
    let bytes = bytes.filter(|bytes| bytes.len() <= LONGEST);
    bytes.map(Selector::Scope).ok_or_else(|| {
        let hint = "a scope is given as a dry run shows it, in hexadecimal digits";
        BadOrder::new("`scope` is no scope", hint)
    })
}

fn key_of(text: &str) -> Result<Selector, BadOrder> {
    let key = text.parse::<Key>();
    key.map(Selector::Key).map_err(|_| {
        let hint = "a key is what `X-Cache-Key` says, 64 hexadecimal digits";
        BadOrder::new("`key` is no key", hint)
    })
}

fn made_before(text: &str, ago: impl FnOnce(Duration) -> u64) -> Result<Selector, BadOrder> {
    let age = humantime::parse_duration(text);
    age.map(|age| Selector::MadeBefore(ago(age))).map_err(|_| {
        let hint = "write a duration, such as `90s`, `12h` or `7d`";
        BadOrder::new("`older_than` is no duration", hint)
    })
}

/// Returns what is told of an order that was carried out.
pub fn told(order: &Order, outcome: &Outcome) -> Bytes {
    let is_soft = order.purges.iter().any(|purge| purge.soft);
    let mut told = json!({ "dry_run": order.dry_run, "soft": is_soft });
    let mut tell = |name: &str, value: Value| {
        if let Some(members) = told.as_object_mut() {
            members.insert(name.to_owned(), value);
        }
    };
    if let Some(durable) = outcome.durable {
        tell("durable", durable.into());
        let tier = outcome.tier.map_or("memory", Tier::as_str);
        tell("tier", tier.into());
    }
    if let Some(concerned) = &outcome.concerned {
        tell("entries", concerned.entries.into());
        let samples = concerned.samples.iter().map(sample).collect();
        tell("samples", Value::Array(samples));
    }
    told.to_string().into()
}

fn sample(sample: &Sample) -> Value {
    let Sample {
        key,
        upstream,
        label,
        tags,
    } = sample;
    json!({
        "key": key.to_string(),
        "upstream": upstream,
        "dialect": label.dialect,
        "model": label.model,
        "namespace": label.namespace,
        "tags": tags,
        "scope": hex(&label.scope),
    })
}

fn hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String does not fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

const HINT: &str = "name exactly one of `all`, `dialect`, `tag`, `tags`, `model`, `namespace`, `scope`, `upstream`, `key`, \
    `pattern` and `older_than`, and `dry_run` or `soft` beside it";
/// Longest name, bytes.
const LONGEST: usize = 8 * MAX_NAME;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Order, BadOrder> {
        order(body.as_bytes(), |age| {
            1_000_000 - u64::try_from(age.as_millis()).unwrap()
        })
    }

    #[test]
    fn each_selector_is_read() {
        let key = "ab".repeat(32);
        let table = [
            (r#"{"all": true}"#.to_owned(), Selector::All),
            (r#"{"tag": "t"}"#.to_owned(), Selector::Tag("t".to_owned())),
            (
                r#"{"model": "m"}"#.to_owned(),
                Selector::Model("m".to_owned()),
            ),
            (
                r#"{"dialect": "chat"}"#.to_owned(),
                Selector::Dialect("chat".to_owned()),
            ),
            (
                r#"{"namespace": ""}"#.to_owned(),
                Selector::Namespace(String::new()),
            ),
            (
                r#"{"upstream": "u"}"#.to_owned(),
                Selector::Upstream("u".to_owned()),
            ),
            (
                r#"{"scope": "00fF"}"#.to_owned(),
                Selector::Scope(vec![0, 255]),
            ),
            (
                format!(r#"{{"key": "{key}"}}"#),
                Selector::Key(Key::from_bytes([0xab; 32])),
            ),
            (
                r#"{"pattern": "*/chat/*"}"#.to_owned(),
                Selector::Pattern("*/chat/*".to_owned()),
            ),
            (
                r#"{"older_than": "10s"}"#.to_owned(),
                Selector::MadeBefore(990_000),
            ),
        ];
        for (body, selector) in table {
            let order = read(&body).unwrap();
            assert_eq!(order.purges.len(), 1);
            assert_eq!(order.purges[0].selector, selector, "{body}");
            assert!(!order.dry_run && !order.purges[0].soft);
        }
        let order = read(r#"{"all": true, "soft": true, "dry_run": true}"#).unwrap();
        assert!(order.dry_run && order.purges[0].soft);
    }

    #[test]
    fn a_list_of_tags_is_a_purge_for_each() {
        let order = read(r#"{"tags": ["a", "b"], "soft": true}"#).unwrap();
        let found: Vec<_> = order.purges.iter().map(|purge| &purge.selector).collect();
        let tags = ["a", "b"].map(|tag| Selector::Tag(tag.to_owned()));
        assert_eq!(found, tags.iter().collect::<Vec<_>>());
        assert!(order.purges.iter().all(|purge| purge.soft));
    }

    #[test]
    fn what_is_not_understood_is_refused_with_a_hint() {
        let many = format!(r#"{{"tags": {:?}}}"#, vec!["t"; MAX_TAGS + 1]);
        for body in [
            "",
            "[]",
            "{}",
            r#"{"all": false}"#,
            r#"{"all": true, "tag": "t"}"#,
            r#"{"tags": []}"#,
            r#"{"tags": "t"}"#,
            r#"{"tag": "t", "tags": ["t"]}"#,
            &many,
            r#"{"tag": "a", "tag": "b"}"#,
            r#"{"key": "ab"}"#,
            r#"{"scope": "abc"}"#,
            r#"{"older_than": "soon"}"#,
            r#"{"dry_run": true}"#,
        ] {
            let bad = read(body).unwrap_err().to_string();
            assert!(bad.contains("\nhint: "), "{body}: {bad}");
        }
        assert!(read(&format!(r#"{{"tag": "{}"}}"#, "x".repeat(2_000))).is_err());
    }
}
