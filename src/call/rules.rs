//! The operator's rules: the first that a call matches is the call's. Pure.
//!
//! # Scope
//! Says which rule a call has, not what becomes of it: `keying` and `plan` obey. A call that has no key for a reason of
//! its head or its body is matched with what is known of it; what is not known does not match.

use std::sync::Arc;

use http::HeaderMap;

use super::caller::Caller;
use crate::{
    config::{self, Glob, Match, Rule},
    dialect::{Dialect, chat::request::Request},
};

/// The rules, in the operator's order.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<Arc<Rule>>);

/// What rules can ask about a call.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The path as sent, without the query.
    pub path: &'a str,
    /// The dialect, if any.
    pub dialect: Option<Dialect>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// Who asks.
    pub caller: &'a Caller,
    /// The caller's own key space; empty for none.
    pub namespace: &'a str,
    /// What the body asks for, where it has been read.
    pub request: Option<&'a Request>,
}

impl Rules {
    /// Takes over the operator's rules.
    pub fn new(rules: &[Rule]) -> Self {
        Self(rules.iter().cloned().map(Arc::new).collect())
    }

    /// Returns the first rule that a call matches.
    pub fn first(&self, facts: &Facts<'_>) -> Option<&Arc<Rule>> {
        self.0.iter().find(|rule| matches(&rule.when, facts))
    }
}

/// Decides whether a call is all that is stated. Taking the type apart by name makes a new condition fail to compile
/// until it is asked.
fn matches(when: &Match, facts: &Facts<'_>) -> bool {
    let Match {
        model,
        path,
        dialect,
        namespace,
        headers,
        caller,
        min_temperature,
        max_temperature,
        tools,
    } = when;
    any(path, facts.path)
        && any(namespace, facts.namespace)
        && is_dialect(dialect, facts.dialect)
        && headers.iter().all(|(name, globs)| {
            let mut values = facts.headers.get_all(name).iter();
            values.any(|value| str::from_utf8(value.as_bytes()).is_ok_and(|text| any(globs, text)))
        })
        && (model.is_empty() || facts.request.is_some_and(|asked| any(model, &asked.model)))
        && tools.is_none_or(|tools| facts.request.is_some_and(|asked| asked.tools == tools))
        && is_within(*min_temperature, *max_temperature, facts.request)
        && (caller.is_empty() || any(caller, &facts.caller.to_string()))
}

/// Returns whether one of the patterns fits; where none is stated, anything does.
fn any(globs: &[Glob], text: &str) -> bool {
    globs.is_empty() || globs.iter().any(|glob| glob.matches(text))
}

fn is_dialect(names: &[String], dialect: Option<Dialect>) -> bool {
    names.is_empty() || dialect.is_some_and(|dialect| names.iter().any(|n| n == dialect.as_str()))
}

fn is_within(
    least: Option<config::Temperature>,
    greatest: Option<config::Temperature>,
    request: Option<&Request>,
) -> bool {
    if least.is_none() && greatest.is_none() {
        return true;
    }
    let stated = request.and_then(|asked| asked.temperature);
    stated.is_some_and(|stated| {
        least.is_none_or(|least| stated >= least)
            && greatest.is_none_or(|greatest| stated <= greatest)
    })
}

#[cfg(test)]
mod tests;
