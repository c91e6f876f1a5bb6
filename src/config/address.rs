//! Host and port as people write them: what may be listened on, what may be called.
//!
//! Nothing is resolved here; a name that exists nowhere is found out when it is used.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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

/// Returns whether two addresses to listen on are known to take the same place. Two names that only a name server can
/// tell apart are not.
pub(super) fn collide(one: &str, other: &str) -> bool {
    let (Some((host, port)), Some((other, others))) = (parts(one), parts(other)) else {
        return false;
    };
    if port == 0 || port != others {
        return false;
    }
    match (known(&host), known(&other)) {
        (Some(some), Some(more)) => some
            .iter()
            .any(|one| more.iter().any(|other| overlap(*one, *other))),
        _ => host == other,
    }
}

/// Returns whether a call of `target` is known to arrive at `listen` of this machine. Of every interface only loopback is
/// known to be this machine's.
pub(super) fn leads_to(listen: &str, target: &str) -> bool {
    let takes_all = |text: &str| {
        let address = text.parse::<SocketAddr>();
        address.is_ok_and(|address| address.ip().is_unspecified())
    };
    collide(listen, target) && (!takes_all(listen) || takes_all(target) || is_loopback(target))
}

/// Returns host and port of an address to listen on, the host as all its spellings are compared.
fn parts(text: &str) -> Option<(String, u16)> {
    match text.parse::<SocketAddr>() {
        // Of an address of one link the link is a part.
        Ok(SocketAddr::V6(local)) if local.scope_id() != 0 => {
            let host = format!("{}%{}", local.ip(), local.scope_id());
            return Some((host, local.port()));
        }
        Ok(address) => return Some((address.ip().to_canonical().to_string(), address.port())),
        Err(_) => {}
    }
    let port = port_of(text).ok()??;
    let (host, _) = text.rsplit_once(':')?;
    let host = host.strip_suffix('.').unwrap_or(host);
    Some((host.to_ascii_lowercase(), port))
}

/// Returns the addresses of a host that nobody has to be asked for (RFC 6761 §6.3).
fn known(host: &str) -> Option<Vec<IpAddr>> {
    if host == "localhost" || host.ends_with(".localhost") {
        return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    host.parse().ok().map(|address| vec![address])
}

/// Returns whether two addresses cannot be listened on at one port. Whether `[::]` takes those of IPv4, too, is up to
/// the system.
fn overlap(one: IpAddr, other: IpAddr) -> bool {
    let takes_all = one.is_unspecified() || other.is_unspecified();
    one == other || (takes_all && one.is_ipv4() == other.is_ipv4())
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
    fn a_target_leads_here_where_it_is_known_to() {
        for (listen, target, expected) in [
            ("127.0.0.1:8080", "localhost:8080", true),
            ("127.0.0.1:8080", "127.0.0.1:8000", false),
            ("10.0.0.7:8080", "10.0.0.7:8080", true),
            ("refrain.internal:80", "Refrain.Internal:80", true),
            ("0.0.0.0:8080", "127.0.0.1:8080", true),
            ("0.0.0.0:8080", "0.0.0.0:8080", true),
            ("0.0.0.0:8080", "10.0.0.7:8080", false),
            ("0.0.0.0:8080", "api.example:8080", false),
            ("[::1]:8080", "[::1]:8080", true),
        ] {
            assert_eq!(leads_to(listen, target), expected, "{listen} {target}");
        }
    }

    #[test]
    fn two_listeners_collide_where_that_is_known_without_a_name_server() {
        for (one, other, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("localhost:80", "127.0.0.1:80", true),
            ("localhost:80", "[::1]:80", true),
            ("LocalHost.:80", "localhost:80", true),
            ("a.localhost:80", "127.0.0.1:80", true),
            ("localhost:80", "127.0.0.2:80", false),
            ("localhost:80", "0.0.0.0:80", true),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("[::]:80", "[::1]:80", true),
            ("[::]:80", "127.0.0.1:80", false),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
            ("[::1]:80", "[0:0:0:0:0:0:0:1]:80", true),
            ("[fe80::1%2]:80", "[fe80::1%2]:80", true),
            ("[fe80::1%2]:80", "[fe80::1%3]:80", false),
            ("Refrain.svc:80", "refrain.svc.:80", true),
            ("a.svc:80", "b.svc:80", false),
            ("a.svc:80", "127.0.0.1:80", false),
            ("nonsense", "nonsense", false),
        ] {
            assert_eq!(collide(one, other), expected, "{one} {other}");
            assert_eq!(collide(other, one), expected, "{other} {one}");
        }
    }

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
