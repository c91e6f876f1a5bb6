//! Which headers travel: hop-by-hop fields out, steering out, nothing invented. Pure.
//!
//! RFC 9110 §7.6.1: a proxy removes `Connection`, the fields it nominates, and the known hop-by-hop fields, both ways.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Counts how often a call came through Refrain; ends loops.
pub const HOPS: HeaderName = HeaderName::from_static("x-refrain-hops");
/// `X-Request-Id`.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where the first answer's `X-Request-Id` stays on a hit.
pub const ORIGIN_REQUEST_ID: HeaderName = HeaderName::from_static("x-cache-origin-request-id");

/// Most times that a call may come through Refrain.
pub const MAX_HOPS: u8 = 3;

/// Returns the headers that a request takes to the upstream.
///
/// `is_ours` names the headers that steer Refrain, `is_known_by` those that are part of what a call is known by. A keyed call is the cache's to steer: its `Cache-Control` stays
/// here, and it asks for an unencoded answer.
pub fn request(
    headers: &HeaderMap,
    is_ours: impl Fn(&str) -> bool,
    is_known_by: impl Fn(&HeaderName) -> bool,
    keyed: bool,
    upgrade: bool,
) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(headers.len() + 2);
    // What a call is known by must reach the upstream, whatever a client nominates.
    let nominated: Vec<_> = nominated(headers)
        .filter(|name| !is_known_by(name))
        .collect();
    for (name, value) in headers {
        let text = name.as_str();
        let dropped = is_hop_by_hop(text)
            // The upstream gets its own Host, our hop count, and no `Expect`: that handshake ends here.
            || matches!(text, "host" | "expect" | "x-refrain-hops")
            || keyed && matches!(text, "cache-control" | "pragma")
            || nominated.contains(name)
            || is_ours(text);
        if !dropped {
            out.append(name, value.clone());
        }
    }
    if keyed {
        out.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
    }
    if upgrade {
        keep_upgrade(headers, &mut out);
    } else if !keyed && takes_trailers(headers) {
        // TE is a matter of each hop; this one can carry trailers too.
        out.insert(header::TE, HeaderValue::from_static("trailers"));
        out.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    out.insert(HOPS, HeaderValue::from(u16::from(hops(headers)) + 1));
    out
}

/// Removes what belongs to the connection with the upstream from an answer's headers.
pub fn response(headers: &mut HeaderMap, upgrade: bool) {
    let kept = upgrade.then(|| headers.clone());
    let nominated: Vec<_> = nominated(headers).collect();
    for name in &nominated {
        headers.remove(name);
    }
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name.as_str())) {
        let name = name.clone();
        headers.remove(name);
    }
    if let Some(original) = kept {
        keep_upgrade(&original, headers);
    }
}

/// Takes out of the headers that are to be sent whatever may be the caller's own (credentials, accounts, tenants, and what nobody
/// here knows), for an upstream that the caller has not chosen.
pub fn keep_harmless(headers: &mut HeaderMap) {
    let names: Vec<_> = headers.keys().cloned().collect();
    for name in names {
        if !is_harmless(name.as_str()) {
            headers.remove(name);
        }
    }
}

/// Returns whether the header `name`, in lower case, is known not to be the caller's own: an upstream that the caller has not
/// chosen is sent it, too.
pub fn is_harmless(name: &str) -> bool {
    HARMLESS.contains(&name)
        || HARMLESS_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// Returns the headers of an answer that outlive the exchange (DESIGN §5): what a hit or a follower gets.
pub fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        if *name == REQUEST_ID {
            out.append(ORIGIN_REQUEST_ID, value.clone());
        } else if !belongs_to_exchange(name.as_str()) {
            out.append(name, value.clone());
        }
    }
    out
}

/// Returns how often the call has come through Refrain.
pub fn hops(headers: &HeaderMap) -> u8 {
    headers
        .get(HOPS)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// Returns whether the client asks to switch protocols (RFC 9110 §7.8). An offer to go on in HTTP/2 is none: some
/// clients make it with every call, it concerns this connection alone, and it may be ignored.
pub fn asks_upgrade(headers: &HeaderMap) -> bool {
    let offered = headers.get_all(header::UPGRADE).iter();
    let mut protocols = offered.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    protocols.any(|protocol| !protocol.trim_ascii().eq_ignore_ascii_case(b"h2c"))
        && nominated(headers).any(|name| name == header::UPGRADE)
}

fn keep_upgrade(from: &HeaderMap, to: &mut HeaderMap) {
    for value in from.get_all(header::UPGRADE) {
        to.append(header::UPGRADE, value.clone());
    }
    to.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
}

fn takes_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::TE).iter();
    let mut parts = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    parts.any(|part| part.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Returns the fields that `Connection` nominates.
fn nominated(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
}

/// Returns whether a field, by its `name` in lower case, belongs to one connection (RFC 9110 §7.6.1).
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "proxy-authenticate"
            | "proxy-authorization"
    )
}

fn belongs_to_exchange(name: &str) -> bool {
    matches!(
        name,
        "set-cookie"
            | "date"
            | "age"
            | "via"
            | "alt-svc"
            | "strict-transport-security"
            | "openai-processing-ms"
            | "server-timing"
            | "x-cache"
            | "x-cache-reason"
            | "x-cache-key"
            | "x-cache-tier"
            | "x-cache-ttl"
            | "x-upstream"
            | "cache-status"
            | "connection"
            | "trailer"
    ) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

const PREFIXES: [&str; 4] = ["x-ratelimit-", "retry-after", "cf-", "access-control-"];

/// What a call takes to an upstream that its caller has not chosen; in `docs/caching.md`.
pub const HARMLESS: [&str; 15] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "anthropic-beta",
    "anthropic-version",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "openai-beta",
    "te",
    "user-agent",
    "x-client-request-id",
    "x-refrain-hops",
    "x-request-id",
];

/// What the names of more of them begin with; in `docs/caching.md`.
pub const HARMLESS_PREFIXES: [&str; 1] = ["x-stainless-"];

#[cfg(test)]
mod tests;
