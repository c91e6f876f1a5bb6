//! How an upstream is asked whether a credential still holds: `[[upstream]] proof`.

use std::str::FromStr;

use http::uri::PathAndQuery;

use super::problem::Complaint;

/// How an upstream is asked whether a credential still holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// By its list of models, where that turns out to be closed to a random key; else by the next call.
    #[default]
    Auto,
    /// By its list of models, which the operator knows to be closed.
    Models,
    /// By the next call itself.
    Call,
    /// By a GET of this path, which the operator knows to be closed; it is mapped as a client's path.
    Path(PathAndQuery),
    /// Not at all: every credential counts as proven.
    Off,
}

impl FromStr for Proof {
    type Err = Complaint;

    fn from_str(text: &str) -> Result<Self, Complaint> {
        match text {
            "auto" => Ok(Self::Auto),
            "models" => Ok(Self::Models),
            "call" => Ok(Self::Call),
            "off" => Ok(Self::Off),
            _ => path(text).map(Self::Path).ok_or_else(|| {
                let what = format!("`{text}` is no way to ask for a proof");
                Complaint::new(
                    what,
                    "expected `auto`, `models`, `call`, `off`, or a path such as `GET /v1/me`",
                )
            }),
        }
    }
}

/// Reads `GET /path`.
fn path(text: &str) -> Option<PathAndQuery> {
    let path = text.strip_prefix("GET ")?;
    path.starts_with('/').then(|| path.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_has_its_word() {
        let me = PathAndQuery::from_static("/v1/me?x=1");
        for (text, proof) in [
            ("auto", Proof::Auto),
            ("models", Proof::Models),
            ("call", Proof::Call),
            ("off", Proof::Off),
            ("GET /v1/me?x=1", Proof::Path(me)),
        ] {
            assert_eq!(text.parse(), Ok(proof));
        }
    }

    #[test]
    fn what_is_none_of_them_is_refused() {
        for text in [
            "",
            "Auto",
            "/v1/me",
            "GET",
            "GET v1",
            "POST /v1/me",
            "GET /a b",
        ] {
            assert!(text.parse::<Proof>().is_err(), "{text}");
        }
    }
}
