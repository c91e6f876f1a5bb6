//! `refrain stats`: shows what a running Refrain has counted, by its admin listener.

use std::{fmt::Write as _, time::Duration};

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde_json::Value;

use super::{operator::Operator, print};

/// Show what was counted: calls, hits, tokens spent and saved
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  refrain stats                    the last seven days
  refrain stats --days 1 --json    today, for another program")]
pub struct Stats {
    #[command(flatten)]
    operator: Operator,
    /// Show so many days, today included
    #[arg(long, value_name = "N", default_value_t = 7)]
    days: u32,
    /// Print what `GET /api/stats` tells, as it is
    #[arg(long)]
    json: bool,
}

impl Stats {
    /// Prints what was counted.
    ///
    /// # Errors
    /// When Refrain does not answer, or refuses, and when the configuration is wrong.
    pub async fn run(self) -> anyhow::Result<()> {
        let path = format!("/api/stats?days={}", self.days);
        let get = |client: &reqwest::Client, url: &str| client.get(url);
        let told = self
            .operator
            .ask(&path, get, TIMEOUT, "no counters")
            .await?;
        if self.json {
            return Ok(print(&format!("{told}\n"))?);
        }
        Ok(print(&said(&told))?)
    }
}

/// Returns what was counted, in tables.
fn said(told: &Value) -> String {
    let groups = ["day", "dialect", "model", "namespace"];
    let mut text = String::new();
    for group in groups {
        let rows = told[format!("by_{group}")].as_array().into_iter().flatten();
        let mut table = table(group);
        for row in rows {
            table.add_row(cells(&name(&row[group]), row));
        }
        if group == "day" {
            table.add_row(cells("all", &told["total"]));
        }
        aligned(&mut table);
        // Writing to a String does not fail.
        let _ = writeln!(text, "{table}\n");
    }
    text.push_str(&scope(told));
    text
}

/// Says what the counters cover.
fn scope(told: &Value) -> String {
    let started = told["started"].as_str().unwrap_or_default();
    let mut line = match told["covers"].as_str() {
        Some("replicas") => "counted by all replicas".to_owned(),
        Some("database") => "counted with this database".to_owned(),
        _ => format!("counted by this process since {}", started.escape_debug()),
    };
    if told["complete"] == false {
        line.push_str("; not all: the store does not tell more now");
    }
    line + "\n"
}

fn table(group: &str) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        group,
        "calls",
        "hit ratio",
        "hit",
        "stale",
        "collapsed",
        "miss",
        "bypass",
        "fallback",
        "none",
        "errors",
        "tokens spent",
        "tokens saved",
    ]);
    table
}

fn aligned(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

fn cells(name: &str, row: &Value) -> Vec<String> {
    let ratio = row["hit_ratio"].as_f64();
    let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0));
    let words = [
        "hit",
        "stale",
        "collapsed",
        "miss",
        "bypass",
        "fallback",
        "none",
        "errors",
    ];
    let numbers = words.map(|word| number(&row[word]).to_string());
    let tokens = ["spent_tokens", "saved_tokens"].map(|tokens| {
        let tokens = &row[tokens];
        let sum = number(&tokens["input"]).saturating_add(number(&tokens["output"]));
        sum.to_string()
    });
    let first = [name.to_owned(), number(&row["calls"]).to_string(), ratio];
    first.into_iter().chain(numbers).chain(tokens).collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// Returns a name as a terminal may show it: it is a caller's text, and a terminal obeys more than it shows.
fn name(value: &Value) -> String {
    match value.as_str().unwrap_or_default() {
        "" => "-".to_owned(),
        name => name.escape_debug().to_string(),
    }
}

/// The store may be slow to tell.
const TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told() -> Value {
        let counts = json!({
            "calls": 30, "hit": 6, "stale": 1, "collapsed": 2, "miss": 3, "bypass": 4, "fallback": 5, "none": 9,
            "errors": 8, "hit_ratio": 0.75, "spent_tokens": {"input": 10, "output": 1},
            "saved_tokens": {"input": 20, "output": 2},
        });
        let named = |name: &str, value: &str| {
            let mut counts = counts.clone();
            counts[name] = value.into();
            json!([counts])
        };
        json!({
            "days": 7, "since": "2026-11-21", "started": "2026-11-21T11:00:00Z", "covers": "process",
            "complete": true, "total": counts, "by_day": named("day", "2026-11-21"),
            "by_dialect": named("dialect", "chat"), "by_model": named("model", "m\u{1b}"),
            "by_namespace": named("namespace", ""),
        })
    }

    #[test]
    fn what_was_counted_is_shown_in_tables() {
        let text = said(&told());
        let row = |name: &str| {
            let row = text.lines().find(|line| line.contains(name));
            let row = row.unwrap_or_else(|| panic!("{name} in {text}"));
            let cells = row.split(['│', '┆']).map(str::trim);
            cells.filter(|cell| !cell.is_empty()).collect::<Vec<_>>()
        };
        let numbers = [
            "30", "75.0 %", "6", "1", "2", "3", "4", "5", "9", "8", "11", "22",
        ];
        for name in ["2026-11-21", "all", "chat", "m\\u{1b}", "-"] {
            assert_eq!(row(&format!("│ {name} "))[1..], numbers, "{name}");
        }
        assert!(text.ends_with("counted by this process since 2026-11-21T11:00:00Z\n"));
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut told = told();
        for (covers, complete, expected) in [
            ("replicas", true, "counted by all replicas\n"),
            ("database", true, "counted with this database\n"),
            (
                "replicas",
                false,
                "counted by all replicas; not all: the store does not tell more now\n",
            ),
        ] {
            told["covers"] = covers.into();
            told["complete"] = complete.into();
            assert!(said(&told).ends_with(expected), "{covers}");
        }
        let nothing = said(&json!({}));
        assert!(nothing.contains("│ all "), "{nothing}");
    }
}
