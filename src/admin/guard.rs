//! Who may use `/api`: whoever has the token; without one, whoever is on this machine and is no foreign web page.
//!
//! # Scope
//! A browser on the operator's machine reaches loopback, too. So without a token the `Host` has to be a loopback name (a page
//! that had its own name resolved to 127.0.0.1 brings its own), the `Origin` has to be absent or ours, and what
//! is sent has to be called JSON, which a page cannot send elsewhere without being asked about first.

use http::{HeaderMap, StatusCode, Uri, header};

use crate::config::Token;

/// Who may use `/api`.
#[derive(Debug)]
pub struct Guard {
    /// What the operator proves to be the operator by.
    pub token: Option<Token>,
    /// Whether only this machine reaches the listener.
    pub is_loopback: bool,
}

/// Why a request may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// There is no token, and others than this machine reach the listener.
    Closed,
    /// The token is missing or another one.
    Token,
    /// The `Host` is no loopback name.
    Host,
    /// A web page of another origin asks.
    Origin,
}

impl Guard {
    /// Decides whether a request with these headers may pass.
    pub fn admits(&self, headers: &HeaderMap) -> Result<(), Stopped> {
        if let Some(token) = &self.token {
            let is_it = bearer(headers).is_some_and(|presented| token.is(presented));
            return is_it.then_some(()).ok_or(Stopped::Token);
        }
        if !self.is_loopback {
            return Err(Stopped::Closed);
        }
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let Some(host) = host.filter(|host| is_loopback(host)) else {
            return Err(Stopped::Host);
        };
        let own = format!("http://{host}");
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let is_own = origins.all(|origin| origin.as_bytes().eq_ignore_ascii_case(own.as_bytes()));
        is_own.then_some(()).ok_or(Stopped::Origin)
    }
}

impl Stopped {
    /// Returns the status.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::Closed | Self::Host | Self::Origin => StatusCode::FORBIDDEN,
        }
    }

    /// Returns what is wrong, and the remedy.
    pub fn message(self) -> &'static str {
        match self {
            Self::Closed => {
                "/api is closed: the admin listener is not on loopback and has no token\nhint: set \
                 `[admin] token` (REFRAIN_ADMIN__TOKEN), or listen on 127.0.0.1"
            }
            Self::Token => {
                "the token is missing or wrong\nhint: send `Authorization: Bearer` and what `[admin] token` says"
            }
            Self::Host => {
                "the `Host` is not a name of this machine\nhint: ask 127.0.0.1 or localhost, or set `[admin] token`"
            }
            Self::Origin => "a page of another origin may not do this",
        }
    }
}

/// Returns the credential of `Authorization: Bearer` (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, credential) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then_some(credential.trim_ascii())
}

/// Returns whether a `Host` names this machine, whatever the port.
fn is_loopback(host: &str) -> bool {
    let Ok(uri) = host.parse::<Uri>() else {
        return false;
    };
    let Some(host) = uri.host().filter(|_| uri.path().len() <= 1) else {
        return false;
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = bare.trim_end_matches('.').to_ascii_lowercase();
    bare.parse::<std::net::IpAddr>().map_or_else(
        |_| name == "localhost" || name.ends_with(".localhost"),
        |address| address.is_loopback(),
    )
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::config::Config;

    const TOKEN: &str = "0123456789abcdef";

    fn guard(token: bool, is_loopback: bool) -> Guard {
        let text = if token { TOKEN } else { "" };
        let config: Config = format!("[admin]\ntoken = \"{text}\"").parse().unwrap();
        Guard {
            token: config.admin.token,
            is_loopback,
        }
    }

    #[test]
    fn who_may_pass() {
        use Stopped::{Closed, Host, Origin, Token};
        type Row = (
            bool,
            bool,
            &'static [(&'static str, &'static str)],
            Result<(), Stopped>,
        );
        let table: &[Row] = &[
            (false, true, &[("host", "127.0.0.1:8081")], Ok(())),
            (false, true, &[("host", "localhost:8081")], Ok(())),
            (false, true, &[("host", "LOCALHOST")], Ok(())),
            (false, true, &[("host", "[::1]:8081")], Ok(())),
            (false, true, &[("host", "app.localhost:1")], Ok(())),
            (false, true, &[], Err(Host)),
            (false, true, &[("host", "evil.example:8081")], Err(Host)),
            (
                false,
                true,
                &[("host", "127.0.0.1.evil.example")],
                Err(Host),
            ),
            (
                false,
                true,
                &[("host", "localhost.evil.example")],
                Err(Host),
            ),
            (false, true, &[("host", "10.0.0.1:8081")], Err(Host)),
            (false, true, &[("host", "user@127.0.0.1/x")], Err(Host)),
            (
                false,
                true,
                &[("host", "localhost:1"), ("origin", "http://localhost:1")],
                Ok(()),
            ),
            (
                false,
                true,
                &[("host", "localhost:1"), ("origin", "http://localhost:2")],
                Err(Origin),
            ),
            (
                false,
                true,
                &[("host", "localhost:1"), ("origin", "https://evil.example")],
                Err(Origin),
            ),
            (
                false,
                true,
                &[("host", "localhost:1"), ("origin", "null")],
                Err(Origin),
            ),
            (false, false, &[("host", "127.0.0.1:8081")], Err(Closed)),
            (true, true, &[("host", "127.0.0.1:8081")], Err(Token)),
            (
                true,
                false,
                &[("authorization", "Bearer 0123456789abcde")],
                Err(Token),
            ),
            (
                true,
                false,
                &[("authorization", "Basic 0123456789abcdef")],
                Err(Token),
            ),
            (true, false, &[("authorization", "Bearer")], Err(Token)),
            (
                true,
                false,
                &[("authorization", "bearer 0123456789abcdef")],
                Ok(()),
            ),
            (
                true,
                true,
                &[
                    ("host", "refrain.example"),
                    ("origin", "https://elsewhere.example"),
                    ("authorization", "Bearer 0123456789abcdef"),
                ],
                Ok(()),
            ),
        ];
        for (number, (token, is_loopback, headers, expected)) in table.iter().enumerate() {
            let headers = headers.iter().map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            });
            let headers = headers.collect();
            let admitted = guard(*token, *is_loopback).admits(&headers);
            assert_eq!(admitted, *expected, "row {number}");
        }
    }
}
