use super::*;

fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

fn lines(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    lines
}

#[test]
fn hop_by_hop_and_nominated_fields_stay_and_everything_else_travels() {
    let headers = map(&[
        ("connection", "close, x-mine"),
        ("x-mine", "1"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("proxy-authorization", "secret"),
        ("te", "gzip"),
        ("host", "localhost"),
        ("expect", "100-continue"),
        ("accept-encoding", "br"),
        ("cache-control", "no-cache"),
        ("x-unknown", "a"),
        ("x-unknown", "b"),
    ]);
    assert_eq!(
        lines(&request(&headers, |_| false, |_| false, false, false)),
        [
            "accept-encoding: br",
            "cache-control: no-cache",
            "x-refrain-hops: 1",
            "x-unknown: a",
            "x-unknown: b"
        ]
    );
}

#[test]
fn a_keyed_call_keeps_its_cache_control_here_and_asks_for_plain_bytes() {
    let headers = map(&[
        ("accept-encoding", "br"),
        ("cache-control", "max-age=5"),
        ("pragma", "no-cache"),
        ("x-cache-ttl", "5"),
    ]);
    let sent = request(
        &headers,
        |name| name.starts_with("x-cache-"),
        |_| false,
        true,
        false,
    );
    assert_eq!(
        lines(&sent),
        ["accept-encoding: identity", "x-refrain-hops: 1"]
    );
}

#[test]
fn a_client_cannot_nominate_away_what_its_call_is_known_by() {
    let headers = map(&[
        ("connection", "authorization, x-mine"),
        ("authorization", "Bearer a"),
        ("x-mine", "1"),
    ]);
    let known_by = |name: &HeaderName| *name == header::AUTHORIZATION;
    assert_eq!(
        lines(&request(&headers, |_| false, known_by, false, false)),
        ["authorization: Bearer a", "x-refrain-hops: 1"]
    );
}

#[test]
fn an_offer_to_go_on_in_http2_is_no_upgrade() {
    let headers = map(&[
        ("connection", "Upgrade, HTTP2-Settings"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
    ]);
    assert!(!asks_upgrade(&headers));
    let sent = request(&headers, |_| false, |_| false, false, false);
    assert_eq!(lines(&sent), ["x-refrain-hops: 1"]);
}

#[test]
fn an_upgrade_keeps_its_two_fields_both_ways() {
    let headers = map(&[
        ("connection", "Upgrade, keep-alive"),
        ("upgrade", "websocket"),
    ]);
    assert!(asks_upgrade(&headers));
    assert!(!asks_upgrade(&map(&[("upgrade", "websocket")])));
    let sent = request(&headers, |_| false, |_| false, false, true);
    assert_eq!(
        lines(&sent),
        [
            "connection: upgrade",
            "upgrade: websocket",
            "x-refrain-hops: 1"
        ]
    );
    let mut answer = headers.clone();
    response(&mut answer, true);
    assert_eq!(
        lines(&answer),
        ["connection: upgrade", "upgrade: websocket"]
    );
}

#[test]
fn elsewhere_goes_only_what_is_known_to_be_nobodys() {
    let mut headers = map(&[
        ("authorization", "Bearer a"),
        ("cookie", "a"),
        ("x-api-key", "a"),
        ("openai-organization", "a"),
        ("openai-project", "a"),
        ("x-goog-user-project", "a"),
        ("x-unknown", "a"),
        ("x-request-id", "r"),
        ("content-type", "application/json"),
        ("x-stainless-lang", "python"),
        ("openai-beta", "x"),
    ]);
    keep_harmless(&mut headers);
    assert_eq!(
        lines(&headers),
        [
            "content-type: application/json",
            "openai-beta: x",
            "x-request-id: r",
            "x-stainless-lang: python"
        ]
    );
}

#[test]
fn trailers_are_asked_for_where_the_client_takes_them() {
    let sent = request(
        &map(&[("te", "gzip, Trailers")]),
        |_| false,
        |_| false,
        false,
        false,
    );
    assert_eq!(
        lines(&sent),
        ["connection: te", "te: trailers", "x-refrain-hops: 1"]
    );
}

#[test]
fn hops_are_counted_and_garbage_counts_as_none() {
    assert_eq!(hops(&map(&[("x-refrain-hops", "2")])), 2);
    assert_eq!(hops(&map(&[("x-refrain-hops", "many")])), 0);
    let sent = request(
        &map(&[("x-refrain-hops", "2")]),
        |_| false,
        |_| false,
        false,
        false,
    );
    assert_eq!(lines(&sent), ["x-refrain-hops: 3"]);
}

#[test]
fn what_belongs_to_one_exchange_is_not_replayed() {
    let headers = map(&[
        ("content-type", "application/json"),
        ("openai-version", "2020-10-01"),
        ("x-request-id", "req_1"),
        ("set-cookie", "__cf_bm=1"),
        ("date", "now"),
        ("age", "1"),
        ("via", "x"),
        ("alt-svc", "x"),
        ("strict-transport-security", "x"),
        ("x-ratelimit-remaining-tokens", "1"),
        ("retry-after", "1"),
        ("retry-after-ms", "1"),
        ("openai-processing-ms", "1"),
        ("cf-ray", "1"),
        ("server-timing", "x"),
        ("access-control-allow-origin", "*"),
    ]);
    assert_eq!(
        lines(&end_to_end(&headers)),
        [
            "content-type: application/json",
            "openai-version: 2020-10-01",
            "x-cache-origin-request-id: req_1"
        ]
    );
}
