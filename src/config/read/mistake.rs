//! What was done wrong where settings were written, on its way to the place that it is told with.

use std::fmt;

use serde::de::{Error, Expected, Unexpected};

use super::{
    super::{
        env,
        problem::{Complaint, Place, Problem},
        tree::Entry,
    },
    Reader,
};

/// Why reading stopped.
#[derive(Debug)]
pub(super) enum Mistake {
    /// Not reported yet.
    Fresh(Box<Fresh>),
    /// Reported, and its entry is spoilt.
    Reported,
}

#[derive(Debug)]
pub(super) struct Fresh {
    complaint: Complaint,
    /// Names one of which was probably meant, for a key that is unknown.
    known: Option<(String, &'static [&'static str])>,
    /// Place and key of the value; `None` while it is on its way there.
    spot: Option<(Place, String)>,
}

impl Mistake {
    pub(super) fn complain(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Fresh(Box::new(Fresh {
            complaint: Complaint::new(what, hint),
            known: None,
            spot: None,
        }))
    }

    /// Notes where the mistake was made, unless that is known more exactly.
    pub(super) fn at(mut self, reader: &Reader<'_>) -> Self {
        if let Self::Fresh(fresh) = &mut self {
            fresh
                .spot
                .get_or_insert_with(|| (reader.node.place.clone(), reader.key.clone()));
        }
        self
    }
}

impl Fresh {
    /// Makes a problem of it; `entry` and `key` are those of the nearest named setting.
    pub(super) fn into_problem(self, entry: &Entry, key: String) -> Problem {
        let mut complaint = self.complaint;
        if let Some((field, known)) = self.known {
            complaint.hint = hint_for(&field, known, |name| match entry.place {
                Place::Environment(_) => {
                    let parent = key.strip_suffix(&field).unwrap_or_default();
                    env::name_of(&format!("{parent}{name}"))
                }
                _ => name.to_owned(),
            });
        }
        let (place, key) = self.spot.unwrap_or_else(|| (entry.place.clone(), key));
        Problem {
            place: Some(place),
            key,
            complaint,
        }
    }
}

impl Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::complain(message.to_string(), "")
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_value(found, expected)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Str(text) | Unexpected::Other(text) => format!("`{text}` does not fit"),
            Unexpected::Bool(value) => format!("`{value}` does not fit"),
            Unexpected::Map => "a section does not fit".to_owned(),
            Unexpected::Seq => "a list does not fit".to_owned(),
            other => format!("{other} does not fit"),
        };
        Self::complain(found, format!("expected {expected}"))
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        Self::complain(
            format!("`{found}` does not fit"),
            hint_for(found, expected, str::to_owned),
        )
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::Fresh(Box::new(Fresh {
            complaint: Complaint::new(UNKNOWN, ""),
            known: Some((field.to_owned(), expected)),
            spot: None,
        }))
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh(fresh) => f.write_str(&fresh.complaint.what),
            Self::Reported => f.write_str("reported"),
        }
    }
}

impl std::error::Error for Mistake {}

/// Returns what was probably meant by `found`, else all that is known; `show` spells a name as its reader would.
pub(in crate::config) fn hint_for(
    found: &str,
    known: &[&str],
    show: impl Fn(&str) -> String,
) -> String {
    let likeness = |name: &&&str| match found.strip_prefix(**name) {
        // `redis_url` is rather `redis` than `redis_ca`.
        Some(more) if more.starts_with('_') => 1,
        _ => strsim::damerau_levenshtein(found, name),
    };
    let nearest = known
        .iter()
        .min_by_key(likeness)
        .filter(|name| likeness(name) <= name.len().div_ceil(3));
    if let Some(name) = nearest {
        return format!("did you mean `{}`?", show(name));
    }
    let names: Vec<_> = known
        .iter()
        .map(|name| format!("`{}`", show(name)))
        .collect();
    format!("expected one of {}", names.join(", "))
}

/// What is said of a name that no setting has.
pub(in crate::config) const UNKNOWN: &str = "unknown key";
