//! `[[upstream]]` as it is written.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Unexpected, Visitor},
};

use super::{
    super::{
        ApiKey, HttpVersion, Identity,
        units::{Count, Off, Span},
    },
    MINUTE, seconds, words,
};

/// `[[upstream]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default, expecting = "a section, `[[upstream]]`")]
pub(in crate::config) struct Upstream {
    pub(in crate::config) name: String,
    pub(in crate::config) base_url: String,
    pub(in crate::config) api_key: ApiKey,
    pub(in crate::config) models: Vec<String>,
    pub(in crate::config) rename: BTreeMap<String, String>,
    pub(in crate::config) priority: Count,
    pub(in crate::config) weight: Count,
    pub(in crate::config) headers: Headers,
    pub(in crate::config) http: HttpVersion,
    pub(in crate::config) tls: Tls,
    pub(in crate::config) pool_idle: Span,
    pub(in crate::config) pool_max_idle: Count,
    pub(in crate::config) keepalive: Off<Span>,
    pub(in crate::config) timeouts: Timeouts,
    pub(in crate::config) max_concurrent: Off<Count>,
    pub(in crate::config) max_wait: Span,
    pub(in crate::config) hedge: Switch,
    pub(in crate::config) proof: String,
    pub(in crate::config) identity: Identity,
}

/// `headers` of `[[upstream]]`: secrets by name, none of which is repeated in a complaint.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize))]
#[cfg_attr(test, serde(transparent))]
pub(in crate::config) struct Headers(pub(in crate::config) BTreeMap<String, ApiKey>);

/// `tls` of `[[upstream]]`: paths of PEM files, empty for none.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a table such as `{ ca = \"/etc/refrain/ca.pem\" }`"
)]
pub(in crate::config) struct Tls {
    pub(in crate::config) ca: String,
    pub(in crate::config) cert: String,
    pub(in crate::config) key: String,
}

/// `timeouts` of `[[upstream]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a table such as `{ connect = \"5s\" }`"
)]
pub(in crate::config) struct Timeouts {
    pub(in crate::config) connect: Off<Span>,
    pub(in crate::config) first_byte: Off<Span>,
    pub(in crate::config) idle: Off<Span>,
    pub(in crate::config) total: Off<Span>,
}

/// Something that is done or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "lowercase", expecting = "`off` or `on`")]
pub(in crate::config) enum Switch {
    Off,
    On,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            name: "openai".to_owned(),
            base_url: "https://api.openai.com/v1".to_owned(),
            api_key: ApiKey::none(),
            models: words(&["*"]),
            rename: BTreeMap::new(),
            priority: Count(0),
            weight: Count(1),
            headers: Headers::default(),
            http: HttpVersion::Http1,
            tls: Tls::default(),
            pool_idle: seconds(15),
            pool_max_idle: Count(1024),
            keepalive: Off::At(seconds(30)),
            timeouts: Timeouts::default(),
            max_concurrent: Off::Off,
            max_wait: seconds(1),
            hedge: Switch::Off,
            proof: "auto".to_owned(),
            identity: Identity::Off,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Off::At(seconds(5)),
            first_byte: Off::At(seconds(10 * MINUTE)),
            idle: Off::At(seconds(5 * MINUTE)),
            total: Off::Off,
        }
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;

        impl<'de> Visitor<'de> for Reading {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table such as `{ x-team = \"research\" }`")
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<Headers, E> {
                Err(E::invalid_type(Unexpected::Other("\"...\""), &self))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut headers = BTreeMap::new();
                while let Some((name, value)) = map.next_entry()? {
                    headers.insert(name, value);
                }
                Ok(Headers(headers))
            }
        }

        deserializer.deserialize_map(Reading)
    }
}
