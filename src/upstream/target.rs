//! Where a call goes: the path that the client sent, at the place that the operator named. Pure.
//!
//! # Scope
//! `/v1/X` goes to `base_url` + `/X`, any other path to the same host unchanged; path and query arrive exactly as sent.
//! Scheme, host, port and the path of `base_url` are the operator's: a path that could leave it, in whatever spelling
//! an upstream may read as a dot segment, is refused.

use http::{
    Uri,
    uri::{Parts, PathAndQuery},
};

use crate::{
    config::BaseUrl,
    error::{Error, Kind},
};

/// Returns the URI that `target` is sent to.
pub fn uri(base: &BaseUrl, target: &PathAndQuery) -> Result<Uri, Error> {
    check(target.path())?;
    let path_and_query = match under_v1(target.path()) {
        Some(_) if base.path == "/v1" => target.clone(),
        Some(rest) => joined(base, rest, target.query())?,
        None => target.clone(),
    };
    let mut parts = Parts::default();
    parts.scheme = Some(base.scheme.clone());
    parts.authority = Some(base.authority.clone());
    parts.path_and_query = Some(path_and_query);
    Uri::from_parts(parts).map_err(|_| bad_path())
}

/// Returns the path of `target` alone: what may go where the caller's query has no business, since keys stand in some.
pub fn without_query(target: &PathAndQuery) -> Result<PathAndQuery, Error> {
    target.path().parse().map_err(|_| bad_path())
}

/// Returns what follows `/v1`, where `path` lies under it.
fn under_v1(path: &str) -> Option<&str> {
    path.strip_prefix("/v1")
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn joined(base: &BaseUrl, rest: &str, query: Option<&str>) -> Result<PathAndQuery, Error> {
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let path = format!("{}{rest}{query}", base.path);
    let path = if path.starts_with('/') {
        path
    } else {
        format!("/{path}")
    };
    path.parse().map_err(|_| bad_path())
}

/// Refuses a path with a dot segment or a backslash, however it is escaped.
pub fn check(path: &str) -> Result<(), Error> {
    if !path.starts_with('/') {
        return Err(bad_path());
    }
    // Almost every path has neither, and then nothing can be hidden in it.
    if !path.contains(['%', '\\']) && !path.contains("/.") {
        return Ok(());
    }
    let mut path = path.as_bytes().to_vec();
    loop {
        if path.contains(&b'\\') || path.split(|byte| *byte == b'/').any(is_dot_segment) {
            return Err(bad_path());
        }
        // An upstream may decode once more than it should.
        let decoded = decoded(&path);
        if decoded == path {
            return Ok(());
        }
        path = decoded;
    }
}

/// Returns whether a segment is `.` or `..`, path parameters (`..;x`) aside.
fn is_dot_segment(segment: &[u8]) -> bool {
    let name = segment.split(|byte| *byte == b';').next();
    matches!(name, Some(b"." | b".."))
}

/// Decodes each `%XX` once.
fn decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    rest = after;
                }
                _ => out.push(b'%'),
            },
            _ => out.push(*first),
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

fn bad_path() -> Error {
    let message = "the path must be absolute, without dot segments or backslashes in any spelling";
    Error::new(Kind::BadPath, message)
}

#[cfg(test)]
mod tests {
    use http::uri::{Authority, Scheme};

    use super::*;

    fn sent_to(base_path: &str, target: &'static str) -> String {
        let base = BaseUrl {
            scheme: Scheme::HTTPS,
            authority: Authority::from_static("host:1"),
            path: base_path.to_owned(),
        };
        uri(&base, &PathAndQuery::from_static(target))
            .unwrap()
            .to_string()
    }

    #[test]
    fn paths_and_queries_arrive_as_sent() {
        let table = [
            ("/v1", "/v1/models", "https://host:1/v1/models"),
            (
                "/openai/v1",
                "/v1/models?a=b",
                "https://host:1/openai/v1/models?a=b",
            ),
            ("", "/v1/models", "https://host:1/models"),
            ("", "/v1", "https://host:1/"),
            ("/openai/v1", "/v1", "https://host:1/openai/v1"),
            ("/openai/v1", "/v1beta/x", "https://host:1/v1beta/x"),
            ("/openai/v1", "/health", "https://host:1/health"),
            (
                "/v1",
                "/v1/files/a%2Fb?q='x'&y=%27{}|",
                "https://host:1/v1/files/a%2Fb?q='x'&y=%27{}|",
            ),
            ("/v1", "/v1//x/?", "https://host:1/v1//x/?"),
            (
                "/v1",
                "/v1/a.b/..c/.hidden",
                "https://host:1/v1/a.b/..c/.hidden",
            ),
        ];
        for (base, target, expected) in table {
            assert_eq!(sent_to(base, target), expected);
        }
    }

    #[test]
    fn a_query_can_be_left_out_and_nothing_else() {
        for (sent, left) in [
            ("/v1/x?key=a", "/v1/x"),
            ("/v1//x%3F", "/v1//x%3F"),
            ("/?", "/"),
        ] {
            let target = without_query(&PathAndQuery::from_static(sent)).unwrap();
            assert_eq!(target.as_str(), left);
        }
    }

    #[test]
    fn no_spelling_of_a_dot_segment_passes() {
        for path in [
            "/v1/../admin",
            "/v1/..",
            "/v1/./x",
            "/v1/%2e%2e/admin",
            "/v1/.%2E/admin",
            "/v1/%2e%2e%2fadmin",
            "/v1/..%2fadmin",
            "/v1/..%5cadmin",
            "/v1/..\\admin",
            "/v1\\..\\admin",
            "/v1/x%5c..",
            "/v1/%252e%252e/admin",
            "/v1/%25252e%25252e/admin",
            "/v1/..;/admin",
            "/v1/..;x=1/admin",
            "*",
            "",
        ] {
            assert_eq!(check(path).unwrap_err().kind(), Kind::BadPath, "{path}");
        }
    }

    #[test]
    fn a_percent_sign_that_hides_nothing_passes() {
        for path in [
            "/v1/100%",
            "/v1/%zz",
            "/v1/a%2Fb",
            "/v1/%25",
            "/v1/%E2%82%AC",
        ] {
            assert!(check(path).is_ok(), "{path}");
        }
    }
}
