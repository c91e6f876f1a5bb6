//! Host and port as people write them: what may be listened on, what may be called.
//!
//! Nothing is resolved here; a name that exists nowhere is found out when it is used.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::problem::Complaint;

/// This is no host, or what follows it is no port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Checks an address to listen on, `host:port`.
pub(super) fn check_listen(text: &str) -> Result<(), Complaint> {
    let complete = text.parse::<SocketAddr>().is_ok() || matches!(port_of(text), Ok(Some(_)));
    if complete {
        return Ok(());
    }
    let bare_port = text
        .strip_prefix("*:")
        .or_else(|| text.strip_prefix(':'))
        .and_then(parse_port);
    let hint = if let Some(port) = bare_port {
        format!(
            "write `0.0.0.0:{port}` for every interface, `127.0.0.1:{port}` for this machine only"
        )
    } else if let Some(port) = parse_port(text) {
        format!("write `127.0.0.1:{port}`")
    } else if text.parse::<Ipv6Addr>().is_ok() {
        format!("write `[{text}]:8080`")
    } else {
        "write host and port, such as `127.0.0.1:8080` or `[::1]:8080`".to_owned()
    };
    Err(Complaint::new(
        format!("`{text}` is no address to listen on"),
        hint,
    ))
}

/// Returns the port of `host` or `host:port`, `None` where it names none.
pub(super) fn port_of(text: &str) -> Result<Option<u16>, Malformed> {
    let rest = after_host(text).ok_or(Malformed)?;
    match rest.strip_prefix(':') {
        Some(port) => parse_port(port).map(Some).ok_or(Malformed),
        None if rest.is_empty() => Ok(None),
        None => Err(Malformed),
    }
}

/// Returns whether an address to listen on can be reached from this machine alone.
pub(super) fn is_loopback(text: &str) -> bool {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    host.eq_ignore_ascii_case("localhost")
}

/// Returns what follows the host, if there is one.
fn after_host(text: &str) -> Option<&str> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']')?;
        return address.parse::<Ipv6Addr>().is_ok().then_some(rest);
    }
    let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
    is_host(host).then_some(rest)
}

/// Returns whether `host` is a name, or an IPv4 address where it looks like one.
fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or_default();
    if !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()) {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Reads a port; `u16::from_str` alone would take `+80`.
fn parse_port(text: &str) -> Option<u16> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_to_listen_on_has_a_host_and_a_port() {
        for address in [
            "127.0.0.1:8080",
            "0.0.0.0:0",
            "[::]:8080",
            "[fe80::1%2]:80",
            "localhost:8080",
            "refrain_1.svc.local.:80",
        ] {
            assert_eq!(check_listen(address), Ok(()), "{address}");
        }
        for (address, hint) in [
            (
                ":8080",
                "write `0.0.0.0:8080` for every interface, `127.0.0.1:8080` for this machine only",
            ),
            (
                "*:8080",
                "write `0.0.0.0:8080` for every interface, `127.0.0.1:8080` for this machine only",
            ),
            ("8080", "write `127.0.0.1:8080`"),
            ("::1", "write `[::1]:8080`"),
            (
                "",
                "write host and port, such as `127.0.0.1:8080` or `[::1]:8080`",
            ),
            (
                "localhost",
                "write host and port, such as `127.0.0.1:8080` or `[::1]:8080`",
            ),
            (
                "localhost:",
                "write host and port, such as `127.0.0.1:8080` or `[::1]:8080`",
            ),
            (
                "localhost:+80",
                "write host and port, such as `127.0.0.1:8080` or `[::1]:8080`",
            ),
            (
                "localhost:65536",
                "write host and port, such as `127.0.0.1:8080` or `[::1]:8080`",
            ),
            (
                "300.0.0.1:80",
                "write host and port, such as `127.0.0.1:8080` or `[::1]:8080`",
            ),
            (
                "http://localhost:80",
                "write host and port, such as `127.0.0.1:8080` or `[::1]:8080`",
            ),
            (
                "a b:80",
                "write host and port, such as `127.0.0.1:8080` or `[::1]:8080`",
            ),
        ] {
            assert_eq!(check_listen(address).unwrap_err().hint, hint, "{address}");
        }
    }
}
