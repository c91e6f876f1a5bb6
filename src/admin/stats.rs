//! `GET /api/stats`: what its query says, and what is told back.
//!
//! # Scope
//! Only the form: what was counted is the journal's to say.

use axum::extract::rejection::QueryRejection;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    ledger::journal::Told,
    store::totals::{Counts, KEPT, What},
};

/// The query, member by member.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Wish {
    days: u32,
}

impl Default for Wish {
    fn default() -> Self {
        Self { days: 7 }
    }
}

/// Returns how many days are asked for, or what is wrong with the query and the remedy.
pub(super) fn days(query: Result<Wish, QueryRejection>) -> Result<u32, String> {
    let days = query.ok().map(|wish| wish.days);
    let days = days.filter(|days| (1..=KEPT).contains(days));
    days.ok_or_else(|| {
        format!("the query is none\nhint: it may be `days=N`, with N from 1 to {KEPT}")
    })
}

/// Returns the body of the answer.
pub(super) fn told(told: &Told) -> Bytes {
    let report = &told.report;
    let by_day = report.by_day.iter();
    let by_day = by_day.map(|(day, counts)| named("day", &day.to_string(), counts));
    let body = json!({
        "days": told.days,
        "since": report.by_day.first().map(|(day, _)| day.to_string()),
        "started": humantime::format_rfc3339_seconds(told.began).to_string(),
        "covers": told.covers.as_str(),
        "complete": told.complete,
        "total": members(&report.total),
        "by_day": by_day.collect::<Vec<_>>(),
        "by_dialect": list("dialect", &report.by_dialect),
        "by_model": list("model", &report.by_model),
        "by_namespace": list("namespace", &report.by_namespace),
    });
    body.to_string().into()
}

fn list(name: &str, sums: &[(String, Counts)]) -> Vec<Value> {
    let all = sums.iter();
    all.map(|(value, counts)| named(name, value, counts))
        .collect()
}

fn named(name: &str, value: &str, counts: &Counts) -> Value {
    let mut members = members(counts);
    members.insert(name.to_owned(), value.into());
    Value::Object(members)
}

fn members(counts: &Counts) -> Map<String, Value> {
    let tokens = |input, output| json!({"input": counts.get(input), "output": counts.get(output)});
    let mut members = Map::from_iter([
        ("calls".to_owned(), counts.calls().into()),
        ("hit_ratio".to_owned(), counts.hit_ratio().into()),
        (
            "spent_tokens".to_owned(),
            tokens(What::SpentInput, What::SpentOutput),
        ),
        (
            "saved_tokens".to_owned(),
            tokens(What::SavedInput, What::SavedOutput),
        ),
    ]);
    let tokens = [
        What::SpentInput,
        What::SpentOutput,
        What::SavedInput,
        What::SavedOutput,
    ];
    let calls = What::ALL.into_iter().filter(|what| !tokens.contains(what));
    members.extend(calls.map(|what| (what.as_str().to_owned(), counts.get(what).into())));
    members
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use axum::{extract::Query, http::Uri};

    use super::*;
    use crate::{
        ledger::{journal::Cover, report::Report},
        store::totals::{Day, Place},
    };

    #[test]
    fn a_query_names_a_number_of_days_or_nothing() {
        for (query, expected) in [
            ("", Some(7)),
            ("?days=1", Some(1)),
            ("?days=400", Some(400)),
            ("?days=0", None),
            ("?days=401", None),
            ("?days=-1", None),
            ("?days=", None),
            ("?day=1", None),
            ("?days=1&days=2", None),
        ] {
            let uri: Uri = format!("/api/stats{query}").parse().unwrap();
            let wish = Query::try_from_uri(&uri).map(|Query(wish)| wish);
            assert_eq!(days(wish).ok(), expected, "{query}");
        }
    }

    #[test]
    fn everything_that_was_counted_is_told() {
        let mut counts = Counts::default();
        for (number, what) in (1..).zip(What::ALL) {
            counts.add(what, number);
        }
        let day = Day::new(20_000).unwrap();
        let rows = [Place::new("chat", "m", "n").row(day, counts)];
        let body = super::told(&Told {
            report: Report::of(rows.iter()),
            days: 7,
            began: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
            covers: Cover::Replicas,
            complete: false,
        });
        let told: Value = serde_json::from_slice(&body).unwrap();
        let total = json!({
            "calls": 28, "hit": 1, "miss": 2, "stale": 3, "collapsed": 4, "bypass": 5, "fallback": 6, "none": 7,
            "errors": 8, "hit_ratio": 0.8,
            "spent_tokens": {"input": 9, "output": 10}, "saved_tokens": {"input": 11, "output": 12},
        });
        let with = |name: &str, value: &str| {
            let mut total = total.clone();
            total[name] = value.into();
            [total]
        };
        let expected = json!({
            "days": 7, "since": "2024-10-04", "started": "1970-01-01T00:00:01Z", "covers": "replicas",
            "complete": false, "total": total,
            "by_day": with("day", "2024-10-04"), "by_dialect": with("dialect", "chat"),
            "by_model": with("model", "m"), "by_namespace": with("namespace", "n"),
        });
        assert_eq!(told, expected);
    }
}
