//! Patterns that can match.

use super::{Findings, item_key};
use crate::config::{Glob, problem::Complaint};

/// Returns the patterns of a list; `key` is the setting.
pub(super) fn globs(key: &str, patterns: &[String], findings: &mut Findings) -> Vec<Glob> {
    for (i, pattern) in patterns.iter().enumerate() {
        findings.unless_ok(&item_key(key, i, patterns.len()), check_glob(pattern));
    }
    patterns.iter().map(Glob::new).collect()
}

fn check_glob(pattern: &str) -> Result<(), Complaint> {
    let refused = |what: String, hint: &str| Err(Complaint::new(what, hint));
    if pattern.is_empty() {
        return refused(
            "is empty".to_owned(),
            "write `*` for any text, or leave it out",
        );
    }
    if pattern.len() > LONGEST_GLOB {
        return refused(
            "is too long".to_owned(),
            "a pattern has at most 256 characters",
        );
    }
    if pattern.contains(['[', ']', '{', '}']) {
        return refused(
            format!("`{pattern}` has brackets, which mean nothing in a pattern"),
            "`*` stands for any text and `?` for any character; several patterns are a list",
        );
    }
    Ok(())
}

/// Longest pattern, bytes.
const LONGEST_GLOB: usize = 256;
