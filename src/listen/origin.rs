//! Who may not spend the proxy's own key: web pages of other origins. Pure.
//!
//! Where a call needs no key of its own because the proxy puts one in, whoever reaches the listener spends it. On loopback
//! these are the machine's users, and every web page that their browsers show. A browser tells what a page is: its
//! `Origin` (RFC 6454 §7), and with `Sec-Fetch-Site` (Fetch Metadata) also where no `Origin` is sent. A page that has let
//! its own name point to this machine (DNS rebinding) is of the same origin, but calls the proxy by that name.
//!
//! # Scope
//! Stands only where nobody else does: with `[[caller]]`s the key of a caller is what has to be shown, and without an
//! `api_key` there is nothing to spend.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

/// Stands before the proxy's own key.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Names that the proxy may be called by, beside loopback's; `None` where there is nothing to guard.
    hosts: Option<Vec<String>>,
}

/// Why a call may not spend the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// It calls the proxy by a name that is neither loopback's nor the operator's.
    #[error(
        "the proxy has an API key of its own, and `Host` is neither a loopback name nor listed in `[limits] hosts`"
    )]
    Host,
    /// It comes from a web page of another origin.
    #[error(
        "the proxy has an API key of its own, and the web page's origin is not listed in `[cors] origins`"
    )]
    Origin,
}

impl Guard {
    /// Makes a guard that lets calls pass which name the proxy by loopback or one of `hosts`; `spends` tells whether the
    /// proxy's key is spent without a caller's.
    pub fn new(spends: bool, hosts: &[String]) -> Self {
        Self {
            hosts: spends.then(|| hosts.to_vec()),
        }
    }

    /// Returns why a request may not pass, if it may not; `is_listed` tells whether the operator lets pages of its
    /// origin call.
    pub fn refuses(&self, uri: &Uri, headers: &HeaderMap, is_listed: bool) -> Option<Foreign> {
        let hosts = self.hosts.as_ref()?;
        let sent = headers.get_all(header::HOST).iter();
        let mut names = sent.map(|value| value.to_str().unwrap_or_default());
        let target = uri.authority().map(http::uri::Authority::as_str);
        // Who sends none is no browser; who sends two has to be right about both.
        if !target
            .into_iter()
            .chain(names.by_ref())
            .all(|name| is_known(name, hosts))
        {
            return Some(Foreign::Host);
        }
        let foreign = !is_listed && is_foreign_page(uri, headers);
        foreign.then_some(Foreign::Origin)
    }
}

fn is_known(authority: &str, hosts: &[String]) -> bool {
    let host = host_of(authority).to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    is_loopback(host) || hosts.iter().any(|known| known == host)
}

/// Returns the host without its port, an IPv6 address with its brackets.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Returns whether a name always means the machine that uses it (RFC 6761 §6.3).
fn is_loopback(host: &str) -> bool {
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    host == "localhost"
        || host.ends_with(".localhost")
        || host
            .parse()
            .is_ok_and(|address: Ipv4Addr| address.is_loopback())
        || bracketed.is_some_and(|host| {
            host.parse()
                .is_ok_and(|address: Ipv6Addr| address.is_loopback())
        })
}

fn is_foreign_page(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
    let is_own = |origin: &HeaderValue| {
        let origin = origin.to_str();
        origin.is_ok_and(|origin| is_own(origin, uri, headers))
    };
    !origins.all(is_own) || sites.any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"))
}

/// Returns whether `origin` is that of the request's own address. Which scheme that is, nobody says here: a page at the
/// other scheme's default port of the same host looks the same, and only `Sec-Fetch-Site` tells.
fn is_own(origin: &str, uri: &Uri, headers: &HeaderMap) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let own = uri.authority().map(http::uri::Authority::as_str).or(host);
    let page = origin.split_once("://").map(|(_, page)| page);
    matches!((page, own), (Some(page), Some(own)) if page.eq_ignore_ascii_case(own))
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(target: &str, pairs: &[(&'static str, &'static str)]) -> Option<Foreign> {
        let guard = Guard::new(
            true,
            &["refrain.internal".to_owned(), "10.0.0.7".to_owned()],
        );
        guard.refuses(&target.parse().unwrap(), &headers(pairs), false)
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_proxy_is_called_by_loopback_or_by_a_name_that_the_operator_gave() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "app.localhost:8080",
            "localhost.:8080",
            "127.0.0.1:8080",
            "127.8.9.10",
            "[::1]:8080",
            "[::1]",
            "refrain.internal",
            "Refrain.Internal:443",
            "refrain.internal.",
            "10.0.0.7:8080",
        ] {
            assert_eq!(refused("/v1/models", &[("host", host)]), None, "{host}");
        }
        assert_eq!(refused("/v1/models", &[]), None, "no browser leaves it out");
    }

    #[test]
    fn any_other_name_is_foreign() {
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "notlocalhost",
            "10.0.0.8",
            "128.0.0.1",
            "0.0.0.0:8080",
            "[::]:8080",
            "[fe80::1]",
            "x.refrain.internal",
            "",
        ] {
            assert_eq!(
                refused("/v1/models", &[("host", host)]),
                Some(Foreign::Host),
                "{host}"
            );
        }
        let twice = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(refused("/", &twice), Some(Foreign::Host));
        let target = "http://evil.example/v1/models";
        assert_eq!(refused(target, &[]), Some(Foreign::Host));
        assert_eq!(
            refused(target, &[("host", "localhost")]),
            Some(Foreign::Host)
        );
    }

    #[test]
    fn a_page_of_another_origin_is_foreign_however_the_browser_says_so() {
        let at_home = ("host", "localhost:8080");
        for (header, value) in [
            ("origin", "https://evil.example"),
            ("origin", "http://localhost:3000"),
            ("origin", "http://localhost"),
            ("origin", "http://127.0.0.1:8080"),
            ("origin", "null"),
            ("origin", ""),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            let found = refused("/v1/models", &[at_home, (header, value)]);
            assert_eq!(found, Some(Foreign::Origin), "{header}: {value}");
        }
        for (header, value) in [
            ("origin", "http://localhost:8080"),
            ("origin", "https://LOCALHOST:8080"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "none"),
            ("referer", "https://evil.example/"),
        ] {
            assert_eq!(
                refused("/", &[at_home, (header, value)]),
                None,
                "{header}: {value}"
            );
        }
        let h2 = "http://localhost:8080/v1/models";
        assert_eq!(refused(h2, &[("origin", "http://localhost:8080")]), None);
        assert_eq!(
            refused(h2, &[("origin", "http://localhost")]),
            Some(Foreign::Origin)
        );
    }

    #[test]
    fn a_page_of_the_other_scheme_at_the_same_host_is_foreign() {
        let page = [("host", "localhost"), ("origin", "https://localhost")];
        assert_eq!(refused("/", &page), None, "TLS may end before the proxy");
        let [host, origin] = page;
        for site in ["same-site", "cross-site"] {
            let told = [host, origin, ("sec-fetch-site", site)];
            assert_eq!(refused("/", &told), Some(Foreign::Origin), "{site}");
        }
        let own = [host, origin, ("sec-fetch-site", "same-origin")];
        assert_eq!(refused("/", &own), None);
    }

    #[test]
    fn a_listed_origin_may_call_but_not_by_a_foreign_name() {
        let guard = Guard::new(true, &[]);
        let refuses = |host| {
            let page = headers(&[("host", host), ("origin", "https://app.example")]);
            guard.refuses(&"/".parse().unwrap(), &page, true)
        };
        assert_eq!(refuses("localhost"), None);
        assert_eq!(refuses("app.example"), Some(Foreign::Host));
    }

    #[test]
    fn where_nothing_is_spent_everything_passes() {
        let guard = Guard::new(false, &[]);
        let page = headers(&[("host", "evil.example"), ("origin", "https://evil.example")]);
        assert_eq!(guard.refuses(&"/".parse().unwrap(), &page, false), None);
    }
}
