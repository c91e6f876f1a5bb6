//! The `base_url` of an upstream: exactly what an SDK would be given.
//!
//! # Scope
//! Only URLs that mean one thing are taken: no credentials, query or fragment, and a path in normal form, because every
//! call's path is appended to it and the result must neither leave it nor be rewritten on the way.

use std::{fmt, str::FromStr};

use http::uri::{Authority, PathAndQuery, Scheme};

use super::{address, problem::Complaint};

/// A parsed `base_url`: origin and path, no query, no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Host and port.
    pub authority: Authority,
    /// The path without its trailing slash; `/v1` where the URL has none.
    pub path: String,
}

impl BaseUrl {
    /// Returns host and port, the scheme's where none is written.
    pub(super) fn address(&self) -> String {
        let default = if self.scheme == Scheme::HTTPS {
            443
        } else {
            80
        };
        let port = self.authority.port_u16().unwrap_or(default);
        format!("{}:{port}", self.authority.host())
    }
}

impl FromStr for BaseUrl {
    type Err = Complaint;

    fn from_str(text: &str) -> Result<Self, Complaint> {
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Complaint::new(
                "holds a blank or a character outside of ASCII",
                "percent-encode the path, write the host in its `xn--` form",
            ));
        }
        let (scheme, rest) = split_scheme(text)?;
        if let Some(at) = rest.find(['?', '#']) {
            let part = if rest.get(at..).is_some_and(|part| part.starts_with('?')) {
                "query"
            } else {
                "fragment"
            };
            return Err(Complaint::new(
                format!("has a {part}"),
                "leave it out: every call brings its own query, which is passed on",
            ));
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Ok(Self {
            scheme,
            authority: check_authority(authority)?,
            path: check_path(path)?,
        })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)
    }
}

fn split_scheme(text: &str) -> Result<(Scheme, &str), Complaint> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(Complaint::new(
            "has no scheme",
            "write it in full, such as `https://api.openai.com/v1`",
        ));
    };
    if scheme.eq_ignore_ascii_case("https") {
        Ok((Scheme::HTTPS, rest))
    } else if scheme.eq_ignore_ascii_case("http") {
        Ok((Scheme::HTTP, rest))
    } else {
        Err(Complaint::new(
            format!("has the scheme `{scheme}`"),
            "expected `http` or `https`",
        ))
    }
}

/// Checks host and port. What stands here is not repeated in the complaint: it may hold a password.
fn check_authority(text: &str) -> Result<Authority, Complaint> {
    if text.contains('@') {
        return Err(Complaint::new(
            "holds credentials",
            "leave `user:password@` out: callers send their own credential, which is passed on",
        ));
    }
    let named = address::port_of(text).is_ok_and(|port| port != Some(0));
    text.parse().ok().filter(|_| named).ok_or_else(|| {
        Complaint::new(
            "names no host that could be called",
            "expected `host` or `host:port` after the scheme",
        )
    })
}

fn check_path(text: &str) -> Result<String, Complaint> {
    let path = text.strip_suffix('/').unwrap_or(text);
    if path.is_empty() {
        return Ok("/v1".to_owned());
    }
    if !path.split('/').skip(1).all(is_plain_segment) || path.parse::<PathAndQuery>().is_err() {
        return Err(Complaint::new(
            format!("has the path `{path}`, which is not in normal form"),
            "leave out `//`, `\\`, `.` and `..` in any spelling, and write `%` as `%25`",
        ));
    }
    if let Some(base) = path.strip_suffix("/chat/completions") {
        return Err(Complaint::new(
            "is the URL of one endpoint",
            format!("end it with `{base}`: give what an SDK would be given as its base URL"),
        ));
    }
    Ok(path.to_owned())
}

/// Returns whether no client, proxy or server would read `segment` as anything but itself.
fn is_plain_segment(segment: &str) -> bool {
    let dots = segment.to_ascii_lowercase().replace("%2e", ".");
    let escapes_are_whole = segment
        .split('%')
        .skip(1)
        .all(|rest| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2);
    !matches!(dots.as_str(), "" | "." | "..") && !segment.contains('\\') && escapes_are_whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_read_as_an_sdk_would_read_it() {
        for (text, shown) in [
            ("https://api.openai.com/v1", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
            ("HTTPS://api.openai.com", "https://api.openai.com/v1"),
            ("http://localhost:11434/", "http://localhost:11434/v1"),
            ("http://[::1]:8000/api/v3", "http://[::1]:8000/api/v3"),
            (
                "https://a-b.example/openai/deployments/gpt%204o",
                "https://a-b.example/openai/deployments/gpt%204o",
            ),
            ("http://10.0.0.7/v1...", "http://10.0.0.7/v1..."),
        ] {
            assert_eq!(
                text.parse::<BaseUrl>().unwrap().to_string(),
                shown,
                "{text}"
            );
        }
    }

    #[test]
    fn a_base_url_that_could_mean_two_things_is_refused() {
        for (text, what) in [
            ("", "has no scheme"),
            ("api.openai.com/v1", "has no scheme"),
            ("ws://host/v1", "has the scheme `ws`"),
            (
                "https://host/v1 ",
                "holds a blank or a character outside of ASCII",
            ),
            (
                "https://h\u{f6}st/v1",
                "holds a blank or a character outside of ASCII",
            ),
            ("https://user:secret@host/v1", "holds credentials"),
            ("https://host/v1?api-version=1", "has a query"),
            ("https://host?", "has a query"),
            ("https://host/v1#top", "has a fragment"),
            ("https://", "names no host that could be called"),
            ("https:///v1", "names no host that could be called"),
            ("https://host:/v1", "names no host that could be called"),
            ("https://host:0/v1", "names no host that could be called"),
            (
                "https://host:99999/v1",
                "names no host that could be called",
            ),
            ("https://1.2.3/v1", "names no host that could be called"),
            (
                "https://host\\evil/v1",
                "names no host that could be called",
            ),
            (
                "https://host/v1/../x",
                "has the path `/v1/../x`, which is not in normal form",
            ),
            (
                "https://host/v1/%2E%2e",
                "has the path `/v1/%2E%2e`, which is not in normal form",
            ),
            (
                "https://host/./v1",
                "has the path `/./v1`, which is not in normal form",
            ),
            (
                "https://host//v1",
                "has the path `//v1`, which is not in normal form",
            ),
            (
                "https://host/v1//",
                "has the path `/v1/`, which is not in normal form",
            ),
            (
                "https://host/v1\\x",
                "has the path `/v1\\x`, which is not in normal form",
            ),
            (
                "https://host/100%",
                "has the path `/100%`, which is not in normal form",
            ),
            (
                "https://host/v1/chat/completions",
                "is the URL of one endpoint",
            ),
        ] {
            assert_eq!(text.parse::<BaseUrl>().unwrap_err().what, what, "{text}");
        }
    }

    #[test]
    fn a_password_in_a_base_url_is_not_repeated() {
        for text in [
            "https://user:hunter2@host/v1",
            "https://user:hunter2@/v1",
            "https://user:hunter2@host:0",
        ] {
            let complaint = text.parse::<BaseUrl>().unwrap_err();
            assert!(
                !format!("{complaint:?}").contains("hunter2"),
                "{complaint:?}"
            );
        }
    }
}
