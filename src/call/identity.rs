//! Who a bearer token speaks for, where tokens change and their owner does not (`[[upstream]] identity = "jwt"`). Pure.
//!
//! # Scope
//! The claims of a JWT (RFC 7519) are read and not verified: that is the upstream's business, and only a token that it has
//! been seen to accept may read what an identity's other tokens stored (`cache::proof`). What cannot be read with certainty
//! is no identity, and the whole credential counts. Other credentials of the same call are part of it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, header};
use serde::Deserialize;
use serde_json::Value;

use super::key::{Fingerprint, Secret};
use crate::config::CREDENTIALS;

/// The claims that tell whom a token speaks for; a claim that stands there twice makes the token unreadable.
#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    #[serde(default)]
    aud: Value,
    /// Microsoft's tenant: its issuers are not always one per tenant.
    #[serde(default)]
    tid: Value,
}

/// Returns the fingerprint of whom the bearer token of a request speaks for, if it is a JWT that says so.
pub fn of(headers: &HeaderMap, secret: &Secret) -> Option<Fingerprint> {
    let claims = claims(token(headers)?)?;
    let (audience, tenant) = (claims.aud.to_string(), claims.tid.to_string());
    let mut parts = vec![
        claims.iss.as_bytes(),
        audience.as_bytes(),
        tenant.as_bytes(),
        claims.sub.as_bytes(),
    ];
    let mut others: Vec<_> = headers
        .iter()
        .filter(|(name, _)| *name != header::AUTHORIZATION && CREDENTIALS.contains(&name.as_str()))
        .collect();
    others.sort_by_key(|(name, _)| name.as_str());
    parts.extend(
        others
            .iter()
            .flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]),
    );
    Some(secret.fingerprint("identity", &parts))
}

/// Returns the one bearer token of a request.
fn token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let alone = values.next().is_none() && scheme.eq_ignore_ascii_case("bearer");
    (alone && token.len() <= LONGEST).then_some(token)
}

/// Reads the payload of a signed token in its compact form (RFC 7515 §3.1).
fn claims(token: &str) -> Option<Claims> {
    let mut segments = token.split('.');
    let (_header, payload) = (segments.next()?, segments.next()?);
    let signature = segments.next()?;
    if segments.next().is_some() || signature.is_empty() {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    // Serde would read a list, too, as the members in their order.
    if payload.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    (!claims.iss.is_empty() && !claims.sub.is_empty()).then_some(claims)
}

/// Longest token that is read, bytes.
const LONGEST: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn encoded(payload: &str) -> String {
        let payload = URL_SAFE_NO_PAD.encode(payload);
        format!("eyJhbGciOiJub25lIn0.{payload}.c2ln")
    }

    fn identity(token: &str) -> Option<Fingerprint> {
        identity_with(token, &[])
    }

    fn identity_with(token: &str, others: &[(&'static str, &'static str)]) -> Option<Fingerprint> {
        let mut headers = HeaderMap::new();
        let bearer = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
        headers.append(header::AUTHORIZATION, bearer);
        for (name, value) in others {
            headers.append(*name, HeaderValue::from_static(value));
        }
        of(&headers, &Secret::from_bytes([5; 32]))
    }

    #[test]
    fn the_next_token_of_the_same_owner_is_the_same_identity() {
        let one = r#"{"iss":"i","aud":"a","tid":"t","sub":"s","exp":1}"#;
        let next = r#"{"exp":2,"sub":"s","jti":"x","tid":"t","aud":"a","iss":"i"}"#;
        assert!(identity(&encoded(one)).is_some());
        assert_eq!(identity(&encoded(one)), identity(&encoded(next)));
    }

    #[test]
    fn each_claim_tells_owners_apart() {
        let all = [
            r#"{"iss":"i","aud":"a","tid":"t","sub":"s"}"#,
            r#"{"iss":"j","aud":"a","tid":"t","sub":"s"}"#,
            r#"{"iss":"i","aud":"b","tid":"t","sub":"s"}"#,
            r#"{"iss":"i","aud":["a"],"tid":"t","sub":"s"}"#,
            r#"{"iss":"i","aud":["a","b"],"tid":"t","sub":"s"}"#,
            r#"{"iss":"i","aud":"a","tid":"u","sub":"s"}"#,
            r#"{"iss":"i","aud":"a","sub":"s"}"#,
            r#"{"iss":"i","aud":"a","tid":"t","sub":"r"}"#,
            r#"{"iss":"i","sub":"s"}"#,
        ]
        .map(|payload| identity(&encoded(payload)).unwrap());
        for (i, one) in all.iter().enumerate() {
            for (j, other) in all.iter().enumerate() {
                assert_eq!(one == other, i == j, "{i} and {j}");
            }
        }
    }

    #[test]
    fn another_credential_beside_the_token_counts() {
        let token = encoded(r#"{"iss":"i","sub":"s"}"#);
        let (one, other) = (("x-api-key", "1"), ("x-api-key", "2"));
        assert_ne!(identity(&token), identity_with(&token, &[one]));
        assert_ne!(
            identity_with(&token, &[one]),
            identity_with(&token, &[other])
        );
        assert_eq!(
            identity_with(&token, &[one]),
            identity_with(&token, &[one, ("user-agent", "x")])
        );
    }

    #[test]
    fn what_cannot_be_read_with_certainty_is_no_identity() {
        let good = r#"{"iss":"i","sub":"s"}"#;
        let padded = format!("a.{}==.c", URL_SAFE_NO_PAD.encode(good));
        let long = format!(r#"{{"iss":"i","sub":"{}"}}"#, "s".repeat(LONGEST));
        for token in [
            "sk-1",
            "a.b.c",
            &padded,
            &format!("a.{}", URL_SAFE_NO_PAD.encode(good)),
            &format!("a.{}.", URL_SAFE_NO_PAD.encode(good)),
            &format!("{}.d.e", encoded(good)),
            &encoded(r#"{"iss":"i"}"#),
            &encoded(r#"{"sub":"s"}"#),
            &encoded(r#"{"iss":"","sub":"s"}"#),
            &encoded(r#"{"iss":1,"sub":"s"}"#),
            &encoded(r#"{"iss":"i","iss":"j","sub":"s"}"#),
            &encoded(r#"["i","s"]"#),
            &encoded(&long),
        ] {
            assert_eq!(identity(token), None, "{token}");
        }
        let token = encoded(good);
        let basic = HeaderValue::try_from(format!("Basic {token}")).unwrap();
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, basic)]);
        assert_eq!(of(&headers, &Secret::from_bytes([5; 32])), None);
        let twice = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
        let mut headers = HeaderMap::from_iter([(header::AUTHORIZATION, twice.clone())]);
        headers.append(header::AUTHORIZATION, twice);
        assert_eq!(of(&headers, &Secret::from_bytes([5; 32])), None);
    }
}
