//! Whose entries may be shared with whom, as the operator writes it: `credential`, `shared`, `header:NAME`,
//! `body:/json/pointer`.
//!
//! # Scope
//! Refuses what cannot name a tenant: headers that are credentials, the connection's or Refrain's own, and the parts of a
//! body that say what is asked.

use std::{fmt, str::FromStr};

use http::HeaderName;

use super::{CREDENTIALS, check::keyable_header, problem::Complaint, read::hint_for};

/// Whose entries may be shared with a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The caller's own, known by its credential.
    Credential,
    /// Everybody's.
    Shared,
    /// Those of callers that send the same value in this header.
    Header(HeaderName),
    /// Those of callers that have the same value at this place of the body.
    Body(Pointer),
}

/// A place in a JSON text (RFC 6901), never the whole of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

impl Pointer {
    /// Returns the names and indices on the way, unescaped; at least one, at most eight.
    pub fn steps(&self) -> &[String] {
        &self.0
    }
}

impl FromStr for Scope {
    type Err = Complaint;

    fn from_str(text: &str) -> Result<Self, Complaint> {
        match text.split_once(':') {
            Some(("header", name)) => header(name).map(Self::Header),
            Some(("body", pointer)) => pointer.parse().map(Self::Body),
            None if text == "credential" => Ok(Self::Credential),
            None if text == "shared" => Ok(Self::Shared),
            _ => Err(Complaint::new(
                format!("`{text}` is no scope"),
                hint_for(text, &FORMS, str::to_owned),
            )),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential => f.write_str("credential"),
            Self::Shared => f.write_str("shared"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Body(pointer) => write!(f, "body:{pointer}"),
        }
    }
}

impl FromStr for Pointer {
    type Err = Complaint;

    fn from_str(text: &str) -> Result<Self, Complaint> {
        let refused = |what: &str, hint: &str| Err(Complaint::new(what, hint));
        let Some(rest) = text.strip_prefix('/') else {
            return refused(
                &format!("`{text}` is no place in a body"),
                "write a JSON pointer, such as `body:/user` or `body:/metadata/tenant`",
            );
        };
        let steps: Option<Vec<_>> = rest.split('/').map(unescaped).collect();
        let Some(steps) = steps else {
            return refused(
                &format!("`{text}` has a `~` that escapes nothing"),
                "write `~0` for `~` and `~1` for `/` (RFC 6901)",
            );
        };
        if steps.len() > DEEPEST {
            return refused(
                &format!("`{text}` is too deep"),
                "name a place at most 8 levels down",
            );
        }
        if let [only] = steps.as_slice()
            && WHAT_IS_ASKED.contains(&only.as_str())
        {
            return refused(
                &format!("`{text}` says what is asked and not who asks"),
                "name what tells tenants apart, such as `body:/user`",
            );
        }
        Ok(Self(steps))
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.0 {
            write!(f, "/{}", step.replace('~', "~0").replace('/', "~1"))?;
        }
        Ok(())
    }
}

fn header(name: &str) -> Result<HeaderName, Complaint> {
    if CREDENTIALS.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(Complaint::new(
            format!("`{name}` is a credential"),
            "write `credential`, which takes all credentials of a call together",
        ));
    }
    keyable_header(name)
}

/// Reads one step of a pointer (RFC 6901 §4).
fn unescaped(step: &str) -> Option<String> {
    let mut parts = step.split('~');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        plain.push(match part.as_bytes().first()? {
            b'0' => '~',
            b'1' => '/',
            _ => return None,
        });
        plain.push_str(part.get(1..)?);
    }
    Some(plain)
}

/// Most steps of a pointer.
const DEEPEST: usize = 8;

const FORMS: [&str; 4] = ["credential", "shared", "header:NAME", "body:/json/pointer"];

/// Fields that say what is asked.
const WHAT_IS_ASKED: [&str; 4] = ["messages", "model", "stream", "stream_options"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_scope_is_read_and_shown_again() {
        for (text, shown) in [
            ("credential", "credential"),
            ("shared", "shared"),
            ("header:X-Tenant", "header:x-tenant"),
            ("body:/user", "body:/user"),
            ("body:/metadata/a~1b~0c", "body:/metadata/a~1b~0c"),
            ("body:/messages/0/name", "body:/messages/0/name"),
        ] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), shown, "{text}");
        }
        let pointer: Pointer = "/metadata/a~1b~0c/~01".parse().unwrap();
        assert_eq!(pointer.steps(), ["metadata", "a/b~c", "~1"]);
    }

    #[test]
    fn what_cannot_name_a_tenant_is_refused() {
        for (text, what) in [
            ("", "`` is no scope"),
            ("sharde", "`sharde` is no scope"),
            ("Shared", "`Shared` is no scope"),
            ("header", "`header` is no scope"),
            ("cookie:session", "`cookie:session` is no scope"),
            ("header:", "`` is no header name"),
            ("header:x tenant", "`x tenant` is no header name"),
            ("header:Authorization", "`Authorization` is a credential"),
            ("header:cookie", "`cookie` is a credential"),
            (
                "header:host",
                "`host` belongs to the connection and not to the call",
            ),
            (
                "header:X-Cache-Namespace",
                "`x-cache-namespace` is an instruction to Refrain and never part of a key",
            ),
            ("body:", "`` is no place in a body"),
            ("body:user", "`user` is no place in a body"),
            ("body:/a~2", "`/a~2` has a `~` that escapes nothing"),
            ("body:/a~", "`/a~` has a `~` that escapes nothing"),
            (
                "body:/1/2/3/4/5/6/7/8/9",
                "`/1/2/3/4/5/6/7/8/9` is too deep",
            ),
            (
                "body:/model",
                "`/model` says what is asked and not who asks",
            ),
        ] {
            assert_eq!(text.parse::<Scope>().unwrap_err().what, what, "{text}");
        }
    }
}
