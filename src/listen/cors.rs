//! Cross-origin calls of browser apps, for the origins that the operator lists (Fetch standard, "CORS protocol"). Pure.
//!
//! # Scope
//! For a listed origin Refrain answers preflights itself and says in every answer that the page may read it, whatever the
//! upstream says about that. For any other origin nothing is answered here, and nothing changed but `Vary`. Pages send their
//! credential as a header, which is the app's to do; cookies are never allowed in (`Access-Control-Allow-Credentials`).

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::config;

/// Which pages may call.
#[derive(Clone, Debug)]
pub struct Cors {
    origins: Origins,
}

#[derive(Clone, Debug)]
enum Origins {
    Any,
    Listed(Vec<HeaderValue>),
}

impl Cors {
    /// Takes the origins from the configuration.
    pub fn new(cors: &config::Cors) -> Self {
        let is_any = cors.origins.iter().any(|origin| origin == "*");
        let listed = cors.origins.iter();
        Self {
            origins: if is_any {
                Origins::Any
            } else {
                Origins::Listed(listed.filter_map(|origin| origin.parse().ok()).collect())
            },
        }
    }

    /// Returns what the answer to a request is to allow, where its origin is listed.
    pub fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        match &self.origins {
            Origins::Listed(listed) if listed.is_empty() => None,
            Origins::Listed(listed) => {
                let origin = headers.get(header::ORIGIN)?;
                listed.contains(origin).then(|| origin.clone())
            }
            Origins::Any => headers
                .contains_key(header::ORIGIN)
                .then_some(HeaderValue::from_static("*")),
        }
    }

    /// Lets the page that is `allowed` to, if one is, read an answer with these `headers`; what the upstream says about that
    /// gives way. Whoever may read it, a cache must not give one origin's answer to another: a browser that kept what an
    /// image loaded would refuse it to the app.
    pub fn open(&self, headers: &mut HeaderMap, allowed: Option<HeaderValue>) {
        if matches!(&self.origins, Origins::Listed(listed) if listed.is_empty()) {
            return;
        }
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(allowed) = allowed else { return };
        let of_cors = |name: &&HeaderName| name.as_str().starts_with("access-control-");
        let theirs: Vec<_> = headers.keys().filter(of_cors).cloned().collect();
        for name in theirs {
            headers.remove(name);
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

/// Returns the headers that answer a preflight, where the request is one.
pub fn preflight(method: &Method, headers: &HeaderMap, allowed: &HeaderValue) -> Option<HeaderMap> {
    if method != Method::OPTIONS || !headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let mut answer = HeaderMap::new();
    answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed.clone());
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    if let Some(wanted) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    if headers.contains_key(REQUEST_PRIVATE_NETWORK) {
        answer.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    answer.insert(header::VARY, PREFLIGHT_VARY);
    Some(answer)
}

const REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");

/// Two hours, the longest that Chromium keeps to.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

const PREFLIGHT_VARY: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Headers");

/// Ours by name, for browsers that do not know the asterisk, and with it all others.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "X-Cache, X-Cache-Reason, X-Cache-Key, X-Cache-Tier, X-Cache-TTL, X-Cache-Origin-Request-Id, X-Upstream, X-Request-Id, Age, Cache-Status, Retry-After, *",
);

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn allowed(origins: &[&str], origin: Option<&'static str>) -> Option<HeaderValue> {
        let sent: Vec<_> = origin
            .map(|origin| ("origin", origin))
            .into_iter()
            .collect();
        cors(origins).allowed(&headers(&sent))
    }

    fn cors(origins: &[&str]) -> Cors {
        let origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
        Cors::new(&config::Cors { origins })
    }

    #[test]
    fn an_origin_is_listed_letter_by_letter() {
        let app = "https://app.example";
        assert_eq!(allowed(&[app], Some(app)).unwrap(), app);
        assert_eq!(allowed(&["*"], Some("null")).unwrap(), "*");
        for (origins, origin) in [
            (&[][..], Some(app)),
            (&["*"], None),
            (&[app], None),
            (&[app], Some("https://app.example:8443")),
            (&[app], Some("http://app.example")),
            (&[app], Some("https://app.example.evil.example")),
            (&[app], Some("https://APP.example")),
            (&[app], Some("null")),
        ] {
            assert_eq!(allowed(origins, origin), None, "{origins:?} {origin:?}");
        }
    }

    #[test]
    fn only_a_preflight_is_answered_as_one() {
        let app = HeaderValue::from_static("https://app.example");
        let asks = headers(&[("access-control-request-method", "POST")]);
        assert!(preflight(&Method::OPTIONS, &asks, &app).is_some());
        assert_eq!(preflight(&Method::POST, &asks, &app), None);
        assert_eq!(preflight(&Method::OPTIONS, &headers(&[]), &app), None);
    }

    #[test]
    fn an_upstreams_own_word_on_who_may_read_gives_way() {
        let mut answer = headers(&[
            ("access-control-allow-origin", "https://other.example"),
            ("access-control-allow-origin", "*"),
            ("access-control-allow-credentials", "true"),
            ("access-control-expose-headers", "x-request-id"),
            ("vary", "Accept-Encoding"),
        ]);
        let app = "https://app.example";
        cors(&[app]).open(&mut answer, Some(HeaderValue::from_static(app)));
        let names: Vec<_> = answer.keys().map(HeaderName::as_str).collect();
        assert_eq!(
            answer.get_all("access-control-allow-origin").iter().count(),
            1
        );
        assert!(
            !names.contains(&"access-control-allow-credentials"),
            "{names:?}"
        );
        let vary: Vec<_> = answer.get_all("vary").iter().collect();
        assert_eq!(vary, ["Accept-Encoding", "Origin"]);
    }

    #[test]
    fn an_answer_depends_on_the_origin_also_where_none_may_read_it() {
        for (origins, vary) in [
            (&["https://app.example"][..], Some("Origin")),
            (&["*"], Some("Origin")),
            (&[], None),
        ] {
            let mut answer = headers(&[("access-control-allow-origin", "https://other.example")]);
            cors(origins).open(&mut answer, None);
            let told = answer.get("vary").map(|value| value.to_str().unwrap());
            assert_eq!(told, vary, "{origins:?}");
            assert!(
                answer.contains_key("access-control-allow-origin"),
                "not ours to take"
            );
        }
    }
}
