//! Whether a complete answer becomes an entry (DESIGN §9). Pure: every "no" has its name.

use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode, header};

use crate::{answer::verdict::NotStored, call::content, dialect::chat::reply::Outcome};

/// What is known of a complete answer.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its length, bytes.
    pub length: u64,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// Whether it was made for another model than the key covers.
    pub other_model: bool,
    /// Whether it was made without something that the key covers.
    pub withheld: bool,
    /// What its body was.
    pub outcome: &'a Outcome,
    /// The least lifetime that the flight's members ask for; `None` where nobody wants it stored.
    pub lifetime: Option<Duration>,
}

/// What the operator allows.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Largest body, bytes.
    pub max_entry: u64,
    /// Finish reasons with which an answer is stored.
    pub finish_reasons: Vec<String>,
}

/// Decides whether an answer is stored, and for how long.
pub fn storable(facts: &Facts<'_>, rules: &Rules) -> Result<Duration, NotStored> {
    let lifetime = facts.lifetime.ok_or(NotStored::NoStore)?;
    if !facts.status.is_success() {
        return Err(NotStored::Status);
    }
    if facts.other_model {
        return Err(NotStored::OtherModel);
    }
    if facts.withheld {
        return Err(NotStored::Withheld);
    }
    if forbids(facts.headers) {
        return Err(NotStored::Forbidden);
    }
    if content::is_encoded(facts.headers) {
        return Err(NotStored::Encoded);
    }
    if facts.length > rules.max_entry {
        return Err(NotStored::TooLarge);
    }
    if facts.length == 0 {
        return Err(NotStored::Empty);
    }
    if is_event_stream(facts.headers) != facts.stream {
        return Err(NotStored::OtherMode);
    }
    by_body(facts.outcome, rules)?;
    if lifetime.is_zero() {
        return Err(NotStored::NoLifetime);
    }
    Ok(lifetime)
}

/// Decides by what the body was.
fn by_body(outcome: &Outcome, rules: &Rules) -> Result<(), NotStored> {
    let is_kept = |reason: &String| rules.finish_reasons.contains(reason);
    if outcome.error {
        Err(NotStored::Error)
    } else if !outcome.readable {
        Err(NotStored::Unreadable)
    } else if !outcome.ended {
        Err(NotStored::Incomplete)
    } else if outcome.empty {
        Err(NotStored::Empty)
    } else if !outcome.all_finished {
        Err(NotStored::Incomplete)
    } else if !outcome.finish.iter().all(is_kept) {
        Err(NotStored::FinishReason)
    } else if outcome.invalid_output {
        Err(NotStored::InvalidOutput)
    } else {
        Ok(())
    }
}

/// Returns whether the upstream forbids a shared cache to keep the answer (RFC 9111 §5.2.2). `no-cache` is no such
/// prohibition here: many servers put it on every stream.
fn forbids(headers: &HeaderMap) -> bool {
    let has = |name: HeaderName, words: &[&str]| {
        let values = headers.get_all(name).iter();
        let mut parts = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        parts.any(|part| {
            let name = part.split(|byte| *byte == b'=').next().unwrap_or_default();
            let name = name.trim_ascii();
            words
                .iter()
                .any(|word| name.eq_ignore_ascii_case(word.as_bytes()))
        })
    };
    has(header::CACHE_CONTROL, &["no-store", "private"]) || has(header::VARY, &["*"])
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(crate::dialect::is_event_stream)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http::HeaderValue;

    use super::*;

    fn good() -> Outcome {
        Outcome {
            ended: true,
            finish: BTreeSet::from(["stop".to_owned()]),
            all_finished: true,
            empty: false,
            error: false,
            invalid_output: false,
            usage: None,
            model: None,
            readable: true,
        }
    }

    fn rules() -> Rules {
        Rules {
            max_entry: 1_000,
            finish_reasons: vec!["stop".to_owned(), "tool_calls".to_owned()],
        }
    }

    fn json() -> HeaderMap {
        HeaderMap::from_iter([(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        )])
    }

    fn with(name: HeaderName, value: &'static str) -> HeaderMap {
        let mut headers = json();
        headers.append(name, HeaderValue::from_static(value));
        headers
    }

    fn facts<'a>(headers: &'a HeaderMap, outcome: &'a Outcome) -> Facts<'a> {
        Facts {
            status: StatusCode::OK,
            headers,
            length: 100,
            stream: false,
            other_model: false,
            withheld: false,
            outcome,
            lifetime: Some(Duration::from_secs(60)),
        }
    }

    #[test]
    fn a_good_answer_is_stored_for_the_lifetime_asked_for() {
        let (headers, outcome) = (json(), good());
        let verdict = storable(&facts(&headers, &outcome), &rules());
        assert_eq!(verdict, Ok(Duration::from_secs(60)));
    }

    #[test]
    fn every_no_has_its_name() {
        type Change = fn(&mut Outcome);
        let table: &[(Change, NotStored)] = &[
            (|o| o.error = true, NotStored::Error),
            (|o| o.readable = false, NotStored::Unreadable),
            (|o| o.ended = false, NotStored::Incomplete),
            (|o| o.all_finished = false, NotStored::Incomplete),
            (|o| o.empty = true, NotStored::Empty),
            (
                |o| o.finish = BTreeSet::from(["stop".into(), "length".into()]),
                NotStored::FinishReason,
            ),
            (
                |o| o.finish = BTreeSet::from(["content_filter".into()]),
                NotStored::FinishReason,
            ),
            (|o| o.invalid_output = true, NotStored::InvalidOutput),
        ];
        for (change, reason) in table {
            let mut outcome = good();
            change(&mut outcome);
            let headers = json();
            assert_eq!(storable(&facts(&headers, &outcome), &rules()), Err(*reason));
        }
    }

    #[test]
    fn the_head_has_its_say() {
        let outcome = good();
        let table = [
            (
                with(header::CACHE_CONTROL, "max-age=5, No-Store"),
                Some(NotStored::Forbidden),
            ),
            (
                with(header::CACHE_CONTROL, "private=\"x\""),
                Some(NotStored::Forbidden),
            ),
            (with(header::CACHE_CONTROL, "no-cache"), None),
            (with(header::VARY, "accept, *"), Some(NotStored::Forbidden)),
            (with(header::VARY, "origin"), None),
            (
                with(header::CONTENT_ENCODING, "gzip"),
                Some(NotStored::Encoded),
            ),
            (with(header::CONTENT_ENCODING, "identity"), None),
        ];
        for (headers, reason) in table {
            let verdict = storable(&facts(&headers, &outcome), &rules());
            assert_eq!(verdict.err(), reason, "{headers:?}");
        }
    }

    #[test]
    fn status_mode_size_and_wish_have_their_say() {
        let (headers, outcome) = (json(), good());
        let fine = facts(&headers, &outcome);
        let verdict = |facts: Facts<'_>| storable(&facts, &rules()).unwrap_err();
        let status = |status| Facts { status, ..fine };
        assert_eq!(verdict(status(StatusCode::NOT_FOUND)), NotStored::Status);
        assert_eq!(verdict(status(StatusCode::FOUND)), NotStored::Status);
        assert_eq!(
            verdict(Facts {
                stream: true,
                ..fine
            }),
            NotStored::OtherMode
        );
        assert_eq!(
            verdict(Facts {
                length: 1_001,
                ..fine
            }),
            NotStored::TooLarge
        );
        assert_eq!(verdict(Facts { length: 0, ..fine }), NotStored::Empty);
        assert_eq!(
            verdict(Facts {
                lifetime: None,
                ..fine
            }),
            NotStored::NoStore
        );
        assert_eq!(
            verdict(Facts {
                other_model: true,
                ..fine
            }),
            NotStored::OtherModel
        );
        assert_eq!(
            verdict(Facts {
                withheld: true,
                ..fine
            }),
            NotStored::Withheld
        );
        let none = Some(Duration::ZERO);
        assert_eq!(
            verdict(Facts {
                lifetime: none,
                ..fine
            }),
            NotStored::NoLifetime
        );
    }
}
