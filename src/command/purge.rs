//! `refrain purge`: has a running Refrain forget answers, by its admin listener.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Map, Value};

use super::{operator::Operator, print};

/// Have a running Refrain forget answers
#[derive(clap::Args, Clone, Debug)]
#[command(
    group = clap::ArgGroup::new("selector").required(true),
    after_help = "\
Examples:
  refrain purge --tag prices-2024 --dry-run            say what would be purged
  refrain purge --pattern 'openai/*/gpt-4*' --soft     let it be stale instead of gone
  refrain purge --older-than 7d"
)]
pub struct Purge {
    #[command(flatten)]
    operator: Operator,
    /// Purge everything
    #[arg(long, group = "selector")]
    all: bool,
    /// Purge the answers with this tag
    #[arg(long, group = "selector")]
    tag: Option<String>,
    /// Purge the answers of this dialect, such as `chat`
    #[arg(long, group = "selector")]
    dialect: Option<String>,
    /// Purge the answers of this model
    #[arg(long, group = "selector")]
    model: Option<String>,
    /// Purge the answers of this namespace
    #[arg(long, group = "selector", value_name = "NAME")]
    namespace: Option<String>,
    /// Purge the answers of this scope, as a dry run of the API shows it
    #[arg(long, group = "selector", value_name = "HEX")]
    scope: Option<String>,
    /// Purge the answers that this upstream has made
    #[arg(long, group = "selector", value_name = "NAME")]
    upstream: Option<String>,
    /// Purge the answers of this key, as `X-Cache-Key` says it
    #[arg(long, group = "selector", value_name = "HEX")]
    key: Option<String>,
    /// Purge the answers whose line `upstream/dialect/model/namespace/tags` is like this
    #[arg(long, group = "selector")]
    pattern: Option<String>,
    /// Purge the answers made longer ago
    #[arg(long, group = "selector", value_name = "AGE")]
    older_than: Option<String>,
    /// Purge nothing, but say what would be
    #[arg(long)]
    dry_run: bool,
    /// Let answers be stale instead of gone
    #[arg(long)]
    soft: bool,
}

impl Purge {
    /// Purges, and prints what came of it.
    ///
    /// # Errors
    /// When Refrain does not answer, or refuses, and when the configuration is wrong.
    pub async fn run(self) -> anyhow::Result<()> {
        let post = |client: &reqwest::Client, url: &str| client.post(url).json(&self.body());
        let asked = self
            .operator
            .ask("/api/purge", post, TIMEOUT, "nothing purged");
        let told = asked.await?;
        Ok(print(&self.said(&told))?)
    }

    fn body(&self) -> Value {
        let flags = [
            ("all", self.all),
            ("dry_run", self.dry_run),
            ("soft", self.soft),
        ];
        let named = self
            .named()
            .map(|(name, value)| (name.to_owned(), Value::from(value)));
        let flags = flags.into_iter().filter(|(_, is_set)| *is_set);
        let flags = flags.map(|(name, _)| (name.to_owned(), Value::Bool(true)));
        Value::Object(named.chain(flags).collect::<Map<_, _>>())
    }

    /// Returns the selector by its member in the body, and its value; nothing for `--all`.
    fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let named = [
            ("tag", &self.tag),
            ("dialect", &self.dialect),
            ("model", &self.model),
            ("namespace", &self.namespace),
            ("scope", &self.scope),
            ("upstream", &self.upstream),
            ("key", &self.key),
            ("pattern", &self.pattern),
            ("older_than", &self.older_than),
        ];
        let named = named.into_iter();
        named.filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }

    /// Returns what is purged, in words.
    fn what(&self) -> String {
        let Some((name, value)) = self.named().next() else {
            return "everything".to_owned();
        };
        let name = name.replace('_', " ");
        if value.is_empty() {
            return format!("whatever has no {name}");
        }
        format!("whatever has {name} {}", value.escape_debug())
    }

    /// Returns what came of it, in words.
    fn said(&self, told: &Value) -> String {
        let done = match (self.dry_run, self.soft) {
            (true, false) => "would be purged",
            (true, true) => "would be stale",
            (false, false) => "purged",
            (false, true) => "stale",
        };
        let mut text = match told["entries"].as_u64() {
            Some(1) => format!("1 entry {done}\n"),
            Some(entries) => format!("{entries} entries {done}\n"),
            None => {
                let what = self.what();
                format!("{done}: {what}, from now on\nhow many that are, `--dry-run` counts\n")
            }
        };
        let samples = told["samples"].as_array().filter(|_| self.dry_run);
        for sample in samples.into_iter().flatten() {
            // Writing to a String does not fail.
            let _ = writeln!(text, "  {}", line(sample));
        }
        if told["durable"] == false {
            text.push_str(match told["tier"].as_str() {
                Some("redis") => UNTOLD,
                _ => "the disk does not take it: it holds until Refrain ends\n",
            });
        }
        text
    }
}

/// Returns a sample as its key and the line that patterns go by.
fn line(sample: &Value) -> String {
    let word = |name: &str| sample[name].as_str().unwrap_or_default();
    let tags = sample["tags"].as_array().into_iter().flatten();
    let tags: Vec<_> = tags.filter_map(Value::as_str).collect();
    let parts = ["upstream", "dialect", "model", "namespace"].map(word);
    let shown = format!("{}/{}", parts.join("/"), tags.join(","));
    // A tag or namespace is a caller's text, and a terminal obeys more than it shows.
    format!("{}  {}", word("key"), shown.escape_debug())
}

/// Said of a purge that Redis has not.
const UNTOLD: &str = "\
Redis does not take it now: this replica heeds it until it ends; the others go on with these answers
until Redis is back, and are told then
";
/// A count goes through all entries.
const TIMEOUT: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        purge: Purge,
    }

    fn purge(args: &[&str]) -> Option<Purge> {
        let line = Line::try_parse_from([&["purge"], args].concat());
        Some(line.ok()?.purge)
    }

    #[test]
    fn flags_become_the_members_of_the_body() {
        for (args, body) in [
            (&["--all"][..], json!({"all": true})),
            (&["--tag", "a", "--soft"], json!({"tag": "a", "soft": true})),
            (
                &["--older-than", "1d", "--dry-run"],
                json!({"older_than": "1d", "dry_run": true}),
            ),
            (&["--namespace", ""], json!({"namespace": ""})),
            (&["--dialect", "chat"], json!({"dialect": "chat"})),
            (&["--scope", "00ff"], json!({"scope": "00ff"})),
            (&["--upstream", "u"], json!({"upstream": "u"})),
        ] {
            assert_eq!(purge(args).unwrap().body(), body);
        }
        assert!(purge(&[]).is_none(), "nothing is not everything");
        assert!(purge(&["--all", "--key", "ab"]).is_none());
        assert!(purge(&["--dialect", "chat", "--scope", "00"]).is_none());
    }

    #[test]
    fn what_came_of_it_is_told_in_words() {
        let sample = json!({"key": "ab", "upstream": "u", "dialect": "chat", "model": "m\u{1b}", "namespace": "", "tags": ["a", "b"]});
        let dry = purge(&["--all", "--dry-run"]).unwrap();
        let told = dry.said(&json!({"entries": 1, "samples": [sample]}));
        assert_eq!(
            told,
            "1 entry would be purged\n  ab  u/chat/m\\u{1b}//a,b\n"
        );
        let soft = purge(&["--all", "--soft"]).unwrap();
        let told = soft.said(&json!({"durable": false}));
        assert!(
            told.starts_with("stale: everything, from now on\n"),
            "{told}"
        );
        assert!(told.contains("\nthe disk does not take it"), "{told}");
        let told = soft.said(&json!({"durable": false, "tier": "redis"}));
        assert!(told.contains("\nRedis does not take it now"), "{told}");
        assert!(!told.contains("disk"), "{told}");
    }

    #[test]
    fn a_purge_that_counts_nothing_says_what_it_was_about() {
        for (args, told) in [
            (&["--all"][..], "purged: everything, from now on"),
            (&["--tag", "x"], "purged: whatever has tag x, from now on"),
            (
                &["--namespace", ""],
                "purged: whatever has no namespace, from now on",
            ),
            (
                &["--upstream", "a\u{1b}"],
                "purged: whatever has upstream a\\u{1b}, from now on",
            ),
        ] {
            let said = purge(args).unwrap().said(&json!({"durable": true}));
            let lines: Vec<_> = said.lines().collect();
            assert_eq!(lines, [told, "how many that are, `--dry-run` counts"]);
        }
    }
}
