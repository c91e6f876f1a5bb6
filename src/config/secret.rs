//! Secrets of the configuration, written out or taken from the environment: `"${OPENAI_API_KEY}"`.
//!
//! # Scope
//! A secret is shown by nothing: not by `Debug`, not in a complaint about it.

use std::{ffi::OsString, fmt};

use serde::Deserialize;

use super::problem::Complaint;

/// The key that the proxy itself has for an upstream. It is shown nowhere, `Debug` included.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(transparent)]
pub struct ApiKey(String);

/// The environment, for secrets that are taken from it. It is shown nowhere.
#[derive(Clone, Default)]
pub(super) struct Environment(Vec<(OsString, OsString)>);

impl ApiKey {
    /// What stands in the file where there is none.
    pub(super) fn none() -> Self {
        Self(String::new())
    }

    /// Returns the key that is written as `text`.
    pub(super) fn written(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Returns the key, to be sent to its upstream and nowhere else: at least one character, all of visible ASCII.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the key that is meant: `${NAME}` stands for a variable, nothing for none.
    pub(super) fn resolved(self, env: &Environment) -> Result<Option<Self>, Complaint> {
        let key = match variable(&self.0) {
            Some(name) if !may_be_variable(name) => return Err(no_variable()),
            Some(name) => env.get(name)?,
            None => self.0,
        };
        if key.is_empty() {
            return Ok(None);
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) || key.contains("${") {
            return Err(Complaint::new(
                "is no key that could be sent in a header",
                "expected visible ASCII without blanks, or `${NAME}` alone for a variable of the environment",
            ));
        }
        Ok(Some(Self(key)))
    }
}

impl Environment {
    /// Takes the environment, whole.
    pub(super) fn of(variables: &[(OsString, OsString)]) -> Self {
        Self(variables.to_vec())
    }

    /// Returns `text` with every `${NAME}` in it replaced, and whether there was one.
    pub(super) fn fill(&self, text: &str) -> Result<(String, bool), Complaint> {
        let (mut filled, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            let named = after
                .split_once('}')
                .filter(|(name, _)| may_be_variable(name));
            let (name, behind) = named.ok_or_else(no_variable)?;
            filled.push_str(before);
            filled.push_str(&self.get(name)?);
            rest = behind;
        }
        filled.push_str(rest);
        Ok((filled, rest.len() < text.len()))
    }

    fn get(&self, name: &str) -> Result<String, Complaint> {
        let found = self.0.iter().find(|(known, _)| known == name);
        let value = found.and_then(|(_, value)| value.to_str());
        value
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
            .ok_or_else(|| {
                Complaint::new(
                    format!("the environment has no variable `{name}`, or an empty one"),
                    "set it in the environment that this command runs in",
                )
            })
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment(..)")
    }
}

fn no_variable() -> Complaint {
    Complaint::new(
        "is no variable of the environment",
        "write `${NAME}`, a name of letters, digits and `_`, and `}` behind it; what is written out holds no `${`",
    )
}

/// Returns whether `name` may be repeated: what cannot be a variable may be the key itself.
fn may_be_variable(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn variable(text: &str) -> Option<&str> {
    text.strip_prefix("${")?.strip_suffix('}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Result<Option<String>, Complaint> {
        let env = Environment::of(&[
            ("KEY".into(), "sk-canary".into()),
            ("EMPTY".into(), "".into()),
            ("LINES".into(), "sk-canary\n".into()),
        ]);
        let key = ApiKey(text.to_owned()).resolved(&env)?;
        Ok(key.map(|key| key.expose().to_owned()))
    }

    #[test]
    fn a_key_is_written_out_or_taken_from_the_environment() {
        assert_eq!(resolved("sk-1"), Ok(Some("sk-1".to_owned())));
        assert_eq!(resolved("${KEY}"), Ok(Some("sk-canary".to_owned())));
        assert_eq!(resolved(""), Ok(None));
    }

    #[test]
    fn a_key_that_could_not_be_sent_is_refused() {
        for text in [
            "${NONE}",
            "${EMPTY}",
            "${LINES}",
            "${sk-canary}",
            "sk 1",
            "a${KEY}",
            "${KEY}b",
            "sk-\u{e9}",
        ] {
            let complaint = resolved(text).unwrap_err();
            assert!(!format!("{complaint:?}").contains("canary"), "{text}");
        }
    }

    #[test]
    fn a_text_is_filled_from_the_environment() {
        let env = Environment::of(&[("A".into(), "1".into()), ("B".into(), "${A}".into())]);
        for (text, filled) in [
            ("plain $ {A}", Some(("plain $ {A}", false))),
            ("Bearer ${A}", Some(("Bearer 1", true))),
            ("${A}-${B}}", Some(("1-${A}}", true))),
            ("${A", None),
            ("${NONE}", None),
            ("${sk-canary}", None),
        ] {
            let result = env.fill(text);
            if let Err(complaint) = &result {
                assert!(!format!("{complaint:?}").contains("canary"), "{text}");
            }
            let expected = filled.map(|(text, is_secret)| (text.to_owned(), is_secret));
            assert_eq!(result.ok(), expected, "{text}");
        }
    }

    #[test]
    fn neither_key_nor_environment_is_shown() {
        let env = Environment::of(&[("KEY".into(), "sk-canary".into())]);
        let key = ApiKey("sk-canary".to_owned());
        assert!(!format!("{env:?} {key:?}").contains("canary"));
    }
}
