//! `[[rule]]` as it is written. `None` is what a rule does not say.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

use super::super::{
    FallbackMode,
    rule::Temperature,
    units::{Off, Span},
};

/// `[[rule]]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default, expecting = "a section, `[[rule]]`")]
pub(in crate::config) struct Rule {
    pub(in crate::config) name: String,
    #[serde(rename = "match")]
    pub(in crate::config) when: Match,
    pub(in crate::config) cache: Option<bool>,
    pub(in crate::config) scope: Option<String>,
    pub(in crate::config) ttl: Option<Span>,
    pub(in crate::config) tags: Vec<String>,
    pub(in crate::config) stale_while_revalidate: Option<Off<Span>>,
    pub(in crate::config) stale_if_error: Option<Off<Span>>,
    pub(in crate::config) timeouts: Timers,
    pub(in crate::config) fallback: RuleFallback,
}

/// `match` of `[[rule]]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a table such as `{ model = \"gpt-4*\" }`"
)]
pub(in crate::config) struct Match {
    pub(in crate::config) model: Vec<String>,
    pub(in crate::config) path: Vec<String>,
    pub(in crate::config) dialect: Vec<String>,
    pub(in crate::config) namespace: Vec<String>,
    pub(in crate::config) header: BTreeMap<String, Vec<String>>,
    pub(in crate::config) caller: Vec<String>,
    pub(in crate::config) min_temperature: Option<Temperature>,
    pub(in crate::config) max_temperature: Option<Temperature>,
    pub(in crate::config) tools: Option<bool>,
}

/// `timeouts` of `[[rule]]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a table such as `{ first_byte = \"30s\" }`"
)]
pub(in crate::config) struct Timers {
    pub(in crate::config) connect: Option<Off<Span>>,
    pub(in crate::config) first_byte: Option<Off<Span>>,
    pub(in crate::config) idle: Option<Off<Span>>,
    pub(in crate::config) total: Option<Off<Span>>,
}

/// `fallback` of `[[rule]]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a table such as `{ mode = \"error\" }`"
)]
pub(in crate::config) struct RuleFallback {
    pub(in crate::config) mode: Option<FallbackMode>,
    pub(in crate::config) text: Option<String>,
}

impl<'de> Deserialize<'de> for Temperature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;

        impl Visitor<'_> for Reading {
            type Value = Temperature;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number such as `0.7`")
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Temperature, E> {
                let read = Temperature::parse(&number.to_string());
                read.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Float(number), &self))
            }
        }

        deserializer.deserialize_f64(Reading)
    }
}

#[cfg(test)]
impl serde::Serialize for Temperature {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
