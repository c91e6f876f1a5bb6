//! Holds the docs to the code: every word that a client, an operator or a dashboard can meet stands in its list, and no
//! list has a word that does not exist.

use std::{collections::BTreeSet, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use refrain::{
    answer::verdict::{Failure, NotStored, Reason, Tier, Verdict},
    call::{self, canon, scope},
    dialect::chat::request::{Class, Field},
    error::Kind,
    guard::{breaker, circuit::State, coalesce::fleet::Awaited, tally::Tally},
    ledger::{
        clock,
        journal::Cover,
        line::Line,
        metrics::{Metrics, Readings, Upstream},
    },
    store::{codec::Damage, disk, proofs::Event, purge::Selector, redis},
    upstream::headers,
};

const CACHING: &str = include_str!("../docs/caching.md");
const TELEMETRY: &str = include_str!("../docs/telemetry.md");
const DESIGN: &str = include_str!("../docs/design.md");
const MANIFEST: &str = include_str!("../Cargo.toml");

/// Returns the rows of the first table below `heading`, each as its cells, backquotes removed.
fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let section = page.lines().skip_while(|line| *line != heading).skip(1);
    let rows: Vec<_> = section
        .take_while(|line| !line.starts_with('#'))
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().replace('`', "")).collect()
        })
        .collect();
    assert!(!rows.is_empty(), "no table below `{heading}`");
    rows
}

/// Returns the first cells of the table below `heading`.
fn words(page: &str, heading: &str) -> Vec<String> {
    let rows = table(page, heading).into_iter();
    rows.filter_map(|row| row.into_iter().next()).collect()
}

fn line() -> Line<'static> {
    Line {
        timestamp: clock::wall(),
        level: "INFO",
        message: "call",
        id: "req_1",
        caller: "anonymous",
        dialect: "chat",
        model: Some("gpt-4o"),
        method: "POST",
        path: "/v1/chat/completions",
        status: 200,
        verdict: "miss",
        reason: Some("not_found"),
        key: Some("012345678901"),
        rule: Some("rule-1"),
        stored: Some(false),
        not_stored: Some("empty"),
        upstream: Some("openai"),
        retries: Some(1),
        retry_reason: Some("status"),
        error: Some("client_gone"),
        input_tokens: Some(1),
        output_tokens: Some(2),
        bytes: 3,
        ttfb: Some(Duration::from_millis(4)),
        total: Duration::from_millis(5),
    }
}

#[test]
fn every_verdict_is_documented() {
    let verdicts = Verdict::ALL.map(Verdict::header);
    assert_eq!(words(CACHING, "## The verdicts: `X-Cache`"), verdicts);
}

#[test]
fn every_reason_of_a_keyed_call_is_documented() {
    let reasons = Reason::ALL.map(Reason::as_str);
    assert_eq!(words(CACHING, "### Calls with a key"), reasons);
}

#[test]
fn every_reason_for_an_apology_is_documented() {
    let reasons = Failure::ALL.map(Failure::as_str);
    assert_eq!(words(CACHING, "### Apologies"), reasons);
}

#[test]
fn every_reason_for_having_no_key_is_documented() {
    let calls = call::Unkeyed::ALL.map(call::Unkeyed::as_str);
    assert_eq!(words(CACHING, "### Calls without a key"), calls);
    let bodies = canon::Unkeyed::ALL.map(canon::Unkeyed::as_str);
    assert_eq!(words(CACHING, "### Bodies without a key"), bodies);
}

#[test]
fn every_reason_for_not_storing_is_documented() {
    let reasons = NotStored::ALL.map(NotStored::as_str);
    assert_eq!(words(CACHING, "## Why an answer was not stored"), reasons);
}

#[test]
fn every_error_is_documented_with_its_status() {
    let documented: Vec<_> = table(CACHING, "## Errors of Refrain's own")
        .into_iter()
        .filter_map(|row| <[String; 3]>::try_from(row).ok())
        .map(|[code, status, _]| (code, status))
        .collect();
    let errors = Kind::ALL.map(|kind| {
        let status = kind.status().as_str().to_owned();
        (kind.as_str().to_owned(), status)
    });
    assert_eq!(documented, errors);
}

#[test]
fn every_field_left_out_of_the_key_is_documented() {
    let documented: BTreeSet<_> = words(CACHING, "### What is left out").into_iter().collect();
    let left_out = Field::ALL
        .into_iter()
        .filter(|field| field.class() != Class::Keyed);
    let left_out: BTreeSet<_> = left_out.map(|field| field.as_str().to_owned()).collect();
    assert_eq!(documented, left_out);
}

#[test]
fn every_header_that_does_not_count_in_a_shared_scope_is_documented() {
    let prefixes = scope::TELEMETRY_PREFIXES.map(|prefix| format!("{prefix}*"));
    let known = [scope::TELEMETRY.map(str::to_owned).as_slice(), &prefixes].concat();
    assert_eq!(words(CACHING, "### Extensions in a shared scope"), known);
}

#[test]
fn every_header_that_leaves_for_an_upstream_that_stands_in_is_documented() {
    let prefixes = headers::HARMLESS_PREFIXES.map(|prefix| format!("{prefix}*"));
    let known = [headers::HARMLESS.map(str::to_owned).as_slice(), &prefixes].concat();
    assert_eq!(words(CACHING, "## Several upstreams"), known);
}

#[test]
fn what_is_said_to_be_left_out_of_a_replay_is_left_out() {
    for name in words(CACHING, "## What a replayed answer leaves out") {
        let example = name.replace('*', "limit").to_ascii_lowercase();
        let name = HeaderName::try_from(&example).expect("a header name in the table");
        let sent = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("x"))]);
        assert!(!headers::end_to_end(&sent).contains_key(&name), "{example}");
    }
}

#[test]
fn every_field_of_the_call_line_is_documented_in_its_order() {
    let mut json = Vec::new();
    line().write(true, &mut json);
    let json = String::from_utf8(json).expect("a line of text");
    let documented = words(TELEMETRY, "## The call line");
    let mut rest = json.as_str();
    for field in &documented {
        let found = rest.split_once(&format!("\"{field}\":"));
        rest = found.unwrap_or_else(|| panic!("`{field}` in {json}")).1;
    }
    let fields: serde_json::Map<_, _> = serde_json::from_str(&json).expect("a line of JSON");
    assert_eq!(fields.len(), documented.len(), "{json}");
}

#[test]
fn every_metric_is_documented_with_its_type_and_labels() {
    let text = Metrics::new().render(&Readings {
        circuits: vec![breaker::Counts::default()],
        upstreams: vec![Upstream::default()],
        tries: Tally::new(&["a".to_owned(), "b".to_owned()]).counts(),
        ..Readings::default()
    });
    let mut metrics = BTreeSet::new();
    for line in text.lines() {
        let Some((family, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        let suffix = if kind == "counter" { "_total" } else { "" };
        let name = format!("{family}{suffix}");
        let labels = labels(&text, family);
        metrics.insert([name, kind.to_owned(), labels]);
    }
    let documented: BTreeSet<_> = table(TELEMETRY, "## The metrics")
        .into_iter()
        .map(|row| [0, 1, 2].map(|cell| row.get(cell).cloned().unwrap_or_default()))
        .collect();
    assert_eq!(documented, metrics);
}

/// Returns the names of the labels of a family's first sample, separated by commas; a bucket's bound is none.
fn labels(text: &str, family: &str) -> String {
    let sample = text.lines().find(|line| line.starts_with(family));
    let inside = sample.and_then(|line| line.split_once('{')?.1.split_once('}'));
    let names = inside.map_or("", |(inside, _)| inside).split(',');
    let names = names.filter_map(|label| Some(label.split_once('=')?.0));
    names
        .filter(|name| *name != "le")
        .collect::<Vec<_>>()
        .join(", ")
}

#[test]
fn every_value_of_a_label_is_documented() {
    let values = |heading| words(TELEMETRY, heading);
    let verdicts = Verdict::ALL.map(Verdict::as_str);
    assert_eq!(
        values("### Values of `verdict`"),
        [&verdicts[..], &["none"]].concat()
    );
    assert_eq!(
        words(CACHING, "## The tiers: `X-Cache-Tier`"),
        Tier::ALL.map(Tier::as_str)
    );
    let kinds = disk::Kind::ALL.map(disk::Kind::as_str);
    assert_eq!(
        values("### Values of `kind` of `refrain_disk_errors_total`"),
        kinds
    );
    let kinds = redis::Kind::ALL.map(redis::Kind::as_str);
    assert_eq!(
        values("### Values of `kind` of `refrain_redis_errors_total`"),
        kinds
    );
    assert_eq!(
        values("### Values of `kind` of `refrain_purges_total`"),
        Selector::KINDS
    );
    let damages = Damage::ALL.map(Damage::as_str);
    assert_eq!(
        values("### Values of `reason` of `refrain_disk_damaged_total`"),
        damages
    );
    let events = Event::ALL.map(Event::as_str);
    assert_eq!(
        values("### Values of `event` of `refrain_proofs_total`"),
        events
    );
    let outcomes = Awaited::ALL.map(Awaited::as_str);
    assert_eq!(
        values("### Values of `outcome` of `refrain_flights_awaited_total`"),
        outcomes
    );
    let states = State::ALL.map(State::as_str);
    assert_eq!(
        values("### Values of `to` of `refrain_circuit_transitions_total`"),
        states
    );
    let covers = Cover::ALL.map(Cover::as_str);
    assert_eq!(values("### Values of `covers`"), covers);
}

#[test]
fn every_dependency_has_its_reason_in_the_design() {
    let manifest: toml::Table = MANIFEST.parse().expect("a manifest");
    let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
    let dependencies: BTreeSet<_> = dependencies
        .expect("dependencies")
        .keys()
        .cloned()
        .collect();
    let documented: BTreeSet<_> = table(DESIGN, "## Why is each dependency here?")
        .into_iter()
        .filter_map(|row| row.into_iter().next())
        .flat_map(|cell| cell.split(", ").map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert_eq!(documented, dependencies);
}
