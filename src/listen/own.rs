//! What callers may do here themselves: purge what they may see.
//!
//! ```text
//! DELETE /_refrain/cache/KEY     204, or 404 where that is no entry of the caller's
//! POST   /_refrain/purge         {"tags": ["a"]} | {"tag": "a"} | {"namespace": "n"} | {"all": true}, and "dry_run"
//! ```
//!
//! # Scope
//! A caller's own scope and nothing beyond it; where its calls are answered from entries that others share, it is refused.
//! Within it, whatever is asked for: the scope is an equality filter, and a key of another's
//! is as unknown as one that never was. A credential that its upstream has not accepted has nothing here, and starts no work.

use bytes::Bytes;
use http::{Method, StatusCode, request};
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    arriving::Arriving,
    incoming::{Budget, Read},
};
use crate::{
    admin::purge,
    call::{
        caller::Caller,
        content,
        key::{Fingerprint, Key},
        keying::Keying,
        scope::Scope,
    },
    config::{self, MAX_NAME, MAX_TAGS},
    error::{Error, Kind},
    guard::coalesce::Flights,
    store::{
        proofs::{Known, Proofs},
        purge::{Order, Purge, Purger, Refused, Selector},
    },
};

/// What callers may do here themselves.
#[derive(Clone, Debug)]
pub struct Own {
    /// Purges entries.
    pub purger: Purger,
    /// What is on its way.
    pub flights: Flights,
    /// Whether the operator lets callers purge.
    pub may_purge: bool,
    /// What the upstreams have said of credentials.
    pub proofs: Proofs,
    /// The upstreams one of which has to have accepted a credential; none where it need not be one's.
    pub judges: Vec<usize>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The status.
    pub status: StatusCode,
    /// JSON, or nothing.
    pub body: Bytes,
}

/// The body of a caller's purge.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
struct Wish {
    all: Option<bool>,
    namespace: Option<String>,
    tag: Option<String>,
    tags: Option<Vec<String>>,
    dry_run: bool,
}

/// Why a caller purges nothing.
#[derive(Clone, Copy)]
enum Barred {
    /// No upstream has vouched for it.
    Unproven,
    /// It is answered from entries that are not its alone.
    Shared,
}

impl Barred {
    fn message(self) -> &'static str {
        match self {
            Self::Unproven => {
                "the upstream has not accepted this credential, so nothing here is its own\nhint: make a call with it first"
            }
            Self::Shared => "entries that callers share are the operator's to purge",
        }
    }
}

impl Own {
    /// Answers a request to a path below `/_refrain/`.
    pub async fn answer(
        &self,
        request: &request::Parts,
        body: Arriving,
        caller: &Caller,
        keying: &Keying,
        budget: &Budget,
    ) -> Result<Said, Error> {
        let path = request.uri.path();
        if path == "/_refrain/purge" && request.method == Method::POST {
            self.may_purge()?;
            let scope = self.scope(caller, request, keying);
            let scope = scope.map_err(|why| Error::new(Kind::Forbidden, why.message()))?;
            return self.purge(request, body, scope.as_bytes(), budget).await;
        }
        let key = path.strip_prefix("/_refrain/cache/");
        if let Some(key) = key
            && request.method == Method::DELETE
        {
            self.may_purge()?;
            let scope = self.scope(caller, request, keying);
            let scope = scope.map_err(|why| match why {
                Barred::Unproven => unknown(),
                Barred::Shared => Error::new(Kind::Forbidden, why.message()),
            })?;
            return self.delete(key, scope.as_bytes()).await;
        }
        let message = format!("nothing lives at `{path}`");
        Err(Error::new(Kind::NotFound, message))
    }

    fn may_purge(&self) -> Result<(), Error> {
        let message = "`[cache] allow` does not let callers purge";
        self.may_purge
            .then_some(())
            .ok_or_else(|| Error::new(Kind::Forbidden, message))
    }

    /// Returns the scope that a caller may purge in: its own, as far as it is proven. Where several credentials share
    /// entries, that is only whoever the proxy itself knows; anybody else has the narrowest scope there is, or none where
    /// its calls go by another. What a rule says about single calls does not count, nor does a value in their bodies.
    fn scope(
        &self,
        caller: &Caller,
        request: &request::Parts,
        keying: &Keying,
    ) -> Result<Scope, Barred> {
        let scope = |wanted| keying.scope(wanted, caller, &request.headers, b"{}");
        let usual = scope(None);
        let Some(credential) = caller.credential() else {
            return Ok(usual);
        };
        if !self.is_proven(credential) {
            return Err(Barred::Unproven);
        }
        let narrowest = scope(Some(&config::Scope::Credential));
        (usual == narrowest).then_some(usual).ok_or(Barred::Shared)
    }

    fn is_proven(&self, credential: &Fingerprint) -> bool {
        let now = Instant::now();
        let accepts = |upstream: &usize| {
            let subject = self.proofs.credential(*upstream, credential);
            matches!(self.proofs.known(&subject, now), Known::Proven(_))
        };
        self.judges.is_empty() || self.judges.iter().any(accepts)
    }

    async fn delete(&self, key: &str, scope: &[u8]) -> Result<Said, Error> {
        let key: Key = key.parse().map_err(|_| unknown())?;
        if self.flights.carries(&key, scope) {
            self.purger.delete_unseen(key).await.map_err(refused)?;
        } else {
            let deleted = self.purger.delete(key, scope).await.map_err(refused)?;
            deleted.ok_or_else(unknown)?;
        }
        Ok(Said {
            status: StatusCode::NO_CONTENT,
            body: Bytes::new(),
        })
    }

    async fn purge(
        &self,
        request: &request::Parts,
        body: Arriving,
        scope: &[u8],
        budget: &Budget,
    ) -> Result<Said, Error> {
        // A page on another origin cannot say so without being asked about first.
        if !content::is_json(&request.headers) {
            let message =
                "the content is not said to be JSON\nhint: send `Content-Type: application/json`";
            return Err(Error::new(Kind::BadRequest, message));
        }
        let Read::Whole(body) = budget.read(body, LARGEST).await? else {
            return Err(Error::new(Kind::BadRequest, "the body is too large"));
        };
        let order = order(body.as_ref(), scope)
            .map_err(|bad| Error::new(Kind::BadRequest, bad.to_string()))?;
        let outcome = self.purger.run(&order).await.map_err(refused)?;
        Ok(Said {
            status: StatusCode::OK,
            body: purge::told(&order, &outcome),
        })
    }
}

fn unknown() -> Error {
    Error::new(Kind::NotFound, "no entry has this key")
}

/// Reads what a caller wants purged within `scope`.
fn order(body: &[u8], scope: &[u8]) -> Result<Order, purge::BadOrder> {
    let bad = |what: String| Err(purge::BadOrder::new(what, HINT));
    let wish: Wish = match serde_json::from_slice(body) {
        Ok(wish) => wish,
        Err(error) => return bad(format!("the body cannot be read: {error}")),
    };
    let tags = match (wish.tag, wish.tags) {
        (Some(_), Some(_)) => return bad(UNCLEAR.to_owned()),
        (one, many) => one.map(|tag| vec![tag]).or(many),
    };
    let selectors = match (wish.all, wish.namespace, tags) {
        (Some(true), None, None) => vec![Selector::All],
        (None, Some(namespace), None) if namespace.len() <= MAX_NAME => {
            vec![Selector::Namespace(namespace)]
        }
        (None, None, Some(tags)) if (1..=MAX_TAGS).contains(&tags.len()) => {
            if tags
                .iter()
                .any(|tag| tag.is_empty() || tag.len() > MAX_NAME)
            {
                return bad("a tag has 1 to 128 bytes".to_owned());
            }
            tags.into_iter().map(Selector::Tag).collect()
        }
        _ => return bad(UNCLEAR.to_owned()),
    };
    let purge = |selector| Purge {
        selector,
        within: Some(scope.to_vec()),
        soft: false,
    };
    Ok(Order {
        purges: selectors.into_iter().map(purge).collect(),
        dry_run: wish.dry_run,
    })
}

fn refused(why: Refused) -> Error {
    let kind = match why {
        Refused::Full | Refused::Busy => Kind::Busy,
        Refused::Random => Kind::Internal,
    };
    Error::new(kind, why.to_string())
}

const UNCLEAR: &str = "the body does not name one thing to purge";
const HINT: &str = "name exactly one of `\"all\": true`, `\"namespace\": \"NAME\"`, `\"tag\": \"a\"` and `\"tags\": [\"a\", ...]` (at \
    most 16), and `\"dry_run\": true` beside it";
/// Largest body, bytes.
const LARGEST: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_asked_for_stays_within_the_scope() {
        for (body, count) in [
            (r#"{"all": true}"#, 1),
            (r#"{"namespace": "n"}"#, 1),
            (r#"{"namespace": "", "dry_run": true}"#, 1),
            (r#"{"tags": ["a", "b"]}"#, 2),
            (r#"{"tag": "a"}"#, 1),
        ] {
            let order = order(body.as_bytes(), b"mine").unwrap();
            assert_eq!(order.purges.len(), count, "{body}");
            for purge in order.purges {
                assert_eq!(purge.within.as_deref(), Some(&b"mine"[..]), "{body}");
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let many = format!(r#"{{"tags": {:?}}}"#, vec!["t"; 17]);
        let long = format!(r#"{{"tags": ["{}"]}}"#, "x".repeat(129));
        for body in [
            "",
            "{}",
            r#"{"all": false}"#,
            r#"{"all": true, "namespace": "n"}"#,
            r#"{"tags": []}"#,
            r#"{"tags": [""]}"#,
            r#"{"tag": ""}"#,
            r#"{"tag": "a", "tags": ["b"]}"#,
            r#"{"tag": "a", "all": true}"#,
            r#"{"scope": "another"}"#,
            r#"{"soft": true, "all": true}"#,
            &many,
            &long,
        ] {
            assert!(order(body.as_bytes(), b"mine").is_err(), "{body}");
        }
    }
}
