//! What every call takes to an upstream, whatever its client sent. Pure.

use http::{HeaderMap, Method};

use crate::config::Headers;

/// Puts the upstream's own `constant` headers into the `headers` that are to be sent with `method`, in place of those of
/// the same name. No secret goes with a `TRACE`: whatever answers that tells it (RFC 9110 §9.3.8).
pub fn put(constant: &Headers, method: &Method, headers: &mut HeaderMap) {
    for (name, value) in constant.iter() {
        if method == Method::TRACE && value.is_sensitive() {
            headers.remove(name);
        } else {
            headers.insert(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn sent(method: &Method) -> HeaderMap {
        let mut secret = HeaderValue::from_static("ours");
        secret.set_sensitive(true);
        let constant = [
            (HeaderName::from_static("x-token"), secret),
            (
                HeaderName::from_static("x-team"),
                HeaderValue::from_static("ours"),
            ),
        ];
        let mut headers = HeaderMap::new();
        for name in ["x-token", "x-team", "x-mine"] {
            headers.append(name, HeaderValue::from_static("theirs"));
            headers.append(name, HeaderValue::from_static("theirs, too"));
        }
        put(&constant.into_iter().collect(), method, &mut headers);
        headers
    }

    #[test]
    fn the_upstreams_own_take_the_place_of_the_clients() {
        let headers = sent(&Method::POST);
        for name in ["x-token", "x-team"] {
            let values: Vec<_> = headers.get_all(name).iter().collect();
            assert_eq!(values, ["ours"], "{name}");
        }
        assert_eq!(headers.get_all("x-mine").iter().count(), 2);
    }

    #[test]
    fn no_trace_takes_a_secret_to_where_it_would_be_told() {
        let headers = sent(&Method::TRACE);
        assert_eq!(headers.get("x-token"), None);
        assert_eq!(headers.get("x-team").unwrap(), "ours");
    }
}
