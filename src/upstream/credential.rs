//! Which credential a call takes to an upstream. Pure.
//!
//! # Scope
//! A caller's credential goes to its upstream unless the proxy has a key of its own for that one; then it stays here,
//! cookies included, and the proxy's goes. The proxy's key goes with no `TRACE`: whatever answers that sends back what it
//! got, the key included (RFC 9110 §9.3.8).

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{self, Entry},
};

use crate::{
    call::callers,
    config::{self, ApiKey, BaseUrl, CREDENTIALS},
    error::{Error, Kind},
};

/// What a call takes to an upstream to be let in there.
#[derive(Clone, Debug)]
pub enum Credential {
    /// What the caller sent.
    Pass,
    /// The proxy's own key, in this header, in place of whatever the caller sent.
    Swap(HeaderName, HeaderValue),
}

impl Credential {
    /// Returns what calls take to `upstream`.
    ///
    /// # Errors
    /// [`Kind::Internal`] for a key that cannot be sent, which the configuration's check refuses.
    pub fn of(upstream: &config::Upstream) -> Result<Self, Error> {
        let Some(key) = &upstream.api_key else {
            return Ok(Self::Pass);
        };
        let (name, value) = if takes_api_key(&upstream.base_url) {
            (API_KEY, key.expose().to_owned())
        } else {
            (header::AUTHORIZATION, bearer(key))
        };
        let mut value = HeaderValue::try_from(value)
            .map_err(|error| Error::with_source(Kind::Internal, "bad upstream key", error))?;
        value.set_sensitive(true);
        Ok(Self::Swap(name, value))
    }

    /// Returns whether a call with `method` takes the proxy's own key.
    pub fn is_own(&self, method: &Method) -> bool {
        matches!(self, Self::Swap(..)) && method != Method::TRACE
    }

    /// Puts it into the `headers` that are to be sent with `method`.
    pub fn put(&self, method: &Method, headers: &mut HeaderMap) {
        let Self::Swap(name, value) = self else {
            return;
        };
        for credential in CREDENTIALS {
            headers.remove(credential);
        }
        drop_key_protocols(headers);
        if self.is_own(method) {
            headers.insert(name, value.clone());
        }
    }
}

/// Takes out the keys that browsers offer as protocols of a WebSocket; the other protocols stay.
fn drop_key_protocols(headers: &mut HeaderMap) {
    let Entry::Occupied(offered) = headers.entry(header::SEC_WEBSOCKET_PROTOCOL) else {
        return;
    };
    let is_key = |protocol: &&[u8]| callers::key_in(protocol).is_some();
    if !offered
        .iter()
        .flat_map(callers::protocols)
        .any(|p| is_key(&p))
    {
        return;
    }
    let values: Vec<_> = offered.remove_entry_mult().1.collect();
    let protocols = values.iter().flat_map(callers::protocols);
    let kept: Vec<_> = protocols.filter(|protocol| !is_key(protocol)).collect();
    if !kept.is_empty()
        && let Ok(value) = HeaderValue::from_bytes(&kept.join(&b", "[..]))
    {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
}

fn bearer(key: &ApiKey) -> String {
    format!("Bearer {}", key.expose())
}

/// Returns whether the upstream is Azure's, which takes keys in a header of its own.
fn takes_api_key(base: &BaseUrl) -> bool {
    let host = base.authority.host().to_ascii_lowercase();
    host.ends_with(".azure.com")
        || host.ends_with(".azure.us")
        || host.ends_with(".azure.cn")
        || base.path.starts_with("/openai/deployments")
}

const API_KEY: HeaderName = HeaderName::from_static("api-key");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn credential(base_url: &str, api_key: &str) -> Credential {
        let text = format!("[[upstream]]\nbase_url = \"{base_url}\"\napi_key = \"{api_key}\"\n");
        let config: Config = text.parse().unwrap();
        Credential::of(config.first_upstream()).unwrap()
    }

    fn sent(credential: &Credential) -> Vec<String> {
        sent_by(&Method::POST, credential)
    }

    fn sent_by(method: &Method, credential: &Credential) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for name in CREDENTIALS {
            headers.append(name, HeaderValue::from_static("theirs"));
            headers.append(name, HeaderValue::from_static("theirs, too"));
        }
        headers.insert("x-mine", HeaderValue::from_static("1"));
        credential.put(method, &mut headers);
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        let mut lines: Vec<_> = headers.iter().map(line).collect();
        lines.sort();
        lines
    }

    #[test]
    fn the_proxys_key_takes_the_place_of_every_credential() {
        let openai = credential("https://api.openai.com/v1", "sk-proxy");
        assert_eq!(
            sent(&openai),
            ["authorization: Bearer sk-proxy", "x-mine: 1"]
        );
        for azure in [
            "https://mine.openai.azure.com/openai/v1",
            "https://MINE.Services.AI.Azure.com/openai/v1",
            "http://localhost:9000/openai/deployments/gpt",
        ] {
            let azure = credential(azure, "az-proxy");
            assert_eq!(sent(&azure), ["api-key: az-proxy", "x-mine: 1"]);
        }
        let lookalike = credential("https://azure.com.example/v1", "sk-proxy");
        assert_eq!(
            sent(&lookalike),
            ["authorization: Bearer sk-proxy", "x-mine: 1"]
        );
    }

    #[test]
    fn no_trace_takes_the_proxys_key_to_where_it_would_be_told() {
        let openai = credential("https://api.openai.com/v1", "sk-proxy");
        assert_eq!(sent_by(&Method::TRACE, &openai), ["x-mine: 1"]);
    }

    #[test]
    fn a_key_that_a_browser_offers_as_a_protocol_stays_here() {
        let openai = credential("https://api.openai.com/v1", "sk-proxy");
        for (offered, kept) in [
            (
                &["realtime, openai-insecure-api-key.theirs, openai-beta.realtime-v1"][..],
                &["realtime, openai-beta.realtime-v1"][..],
            ),
            (
                &["realtime", "openai-insecure-api-key.theirs"],
                &["realtime"],
            ),
            (&["openai-insecure-api-key.theirs"], &[]),
            (&["realtime,v1", "v2"], &["realtime,v1", "v2"]),
        ] {
            let mut headers = HeaderMap::new();
            for value in offered {
                let value = HeaderValue::from_static(value);
                headers.append(header::SEC_WEBSOCKET_PROTOCOL, value);
            }
            openai.put(&Method::GET, &mut headers);
            let sent = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
            assert_eq!(sent.iter().collect::<Vec<_>>(), kept, "{offered:?}");
        }
    }

    #[test]
    fn without_a_key_of_the_proxys_own_the_callers_goes() {
        let pass = credential("https://api.openai.com/v1", "");
        assert_eq!(sent(&pass).len(), 2 * CREDENTIALS.len() + 1);
    }

    #[test]
    fn the_key_is_not_shown() {
        let shown = format!("{:?}", credential("https://api.openai.com/v1", "sk-canary"));
        assert!(!shown.contains("canary"), "{shown}");
    }
}
