//! The one error of the crate: opaque, cheap to clone (followers get the leader's), sorted by [`Kind`]. Pure.
//!
//! # Scope
//! An `Error` is something Refrain itself has to answer for. What an upstream answers, 4xx and 5xx included, is an
//! answer and never becomes an `Error`.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use http::StatusCode;

/// What went wrong on the way of a call.
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
    retry_after: Option<Duration>,
    blames_nobody: bool,
    tries: Option<Tries>,
}

/// Tries of a call that failed before the one whose outcome is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries {
    /// How many.
    pub count: u32,
    /// How the last of them failed, in a word from a closed list.
    pub why: &'static str,
}

/// The kinds of failure; each has one status, one name, one entry in `docs/caching.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A request header of ours has a value that cannot be read.
    BadHeader,
    /// A body that Refrain has to read cannot be read.
    BadRequest,
    /// The path would leave the upstream's `base_url`, or cannot be sent.
    BadPath,
    /// The client's body ended before its announced end.
    IncompleteRequest,
    /// The client paused for too long in the middle of its body, or sent it too slowly.
    SlowRequest,
    /// The credential is none of the proxy's own callers'.
    Unauthorized,
    /// A foreign web page, or a foreign name for this proxy, where its own key would be spent; or what the operator does
    /// not let callers do.
    Forbidden,
    /// Nothing lives at this path of Refrain's own, or no upstream has this name.
    NotFound,
    /// No upstream serves the model.
    ModelNotFound,
    /// `only-if-cached`, and nothing servable is cached.
    NotCached,
    /// Refrain has too much of this to do already.
    Busy,
    /// The call came through Refrain too often.
    Loop,
    /// No connection to the upstream: refused, DNS, TLS.
    Unreachable,
    /// One of the upstream's timers ran out.
    Timeout,
    /// The upstream broke off before its answer was whole.
    Broken,
    /// The upstream has failed too often and is not called for a while.
    Unavailable,
    /// This client did not read for too long, or too slowly, and was cut off.
    Stalled,
    /// A fault of Refrain's own.
    Internal,
}

struct Inner {
    kind: Kind,
    message: String,
    source: Option<Cause>,
}

type Cause = Box<dyn StdError + Send + Sync>;

impl Kind {
    /// Every kind, for tables and tests.
    pub const ALL: [Self; 18] = [
        Self::BadHeader,
        Self::BadRequest,
        Self::BadPath,
        Self::IncompleteRequest,
        Self::SlowRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::ModelNotFound,
        Self::NotCached,
        Self::Busy,
        Self::Loop,
        Self::Unreachable,
        Self::Timeout,
        Self::Broken,
        Self::Unavailable,
        Self::Stalled,
        Self::Internal,
    ];

    /// Returns the HTTP status that this kind is answered with.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadHeader | Self::BadRequest | Self::BadPath | Self::IncompleteRequest => {
                StatusCode::BAD_REQUEST
            }
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Busy | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotFound | Self::ModelNotFound => StatusCode::NOT_FOUND,
            Self::NotCached | Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::Unreachable | Self::Broken => StatusCode::BAD_GATEWAY,
            Self::SlowRequest | Self::Stalled => StatusCode::REQUEST_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the name used as `error.code`, metric label and log field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadHeader => "bad_header",
            Self::BadRequest => "bad_request",
            Self::BadPath => "bad_path",
            Self::IncompleteRequest => "incomplete_request",
            Self::SlowRequest => "request_timeout",
            Self::Unauthorized => "invalid_api_key",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::ModelNotFound => "model_not_found",
            Self::NotCached => "not_cached",
            Self::Busy => "busy",
            Self::Loop => "loop",
            Self::Unreachable => "upstream_unreachable",
            Self::Timeout => "upstream_timeout",
            Self::Broken => "upstream_broken",
            Self::Unavailable => "upstream_unavailable",
            Self::Stalled => "client_stalled",
            Self::Internal => "internal",
        }
    }

    /// Returns whether the upstream is the one that failed.
    pub fn is_upstream(self) -> bool {
        matches!(
            self,
            Self::Unreachable | Self::Timeout | Self::Broken | Self::Unavailable
        )
    }
}

impl Error {
    /// Makes an error; `message` is lower case, without a full stop and without secrets.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self::of(kind, message.into(), None)
    }

    /// Makes an error that keeps its cause.
    pub fn with_source(kind: Kind, message: impl Into<String>, source: impl Into<Cause>) -> Self {
        Self::of(kind, message.into(), Some(source.into()))
    }

    /// Says when the same call is worth another try.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// Says that it tells nothing of the upstream, whatever its kind: there was too little time left to be answered in.
    #[must_use]
    pub fn blaming_nobody(mut self) -> Self {
        self.blames_nobody = true;
        self
    }

    /// Says how many tries had failed before the one that it tells of.
    #[must_use]
    pub fn after(mut self, tries: Tries) -> Self {
        self.tries = Some(tries);
        self
    }

    fn of(kind: Kind, message: String, source: Option<Cause>) -> Self {
        Self {
            inner: Arc::new(Inner {
                kind,
                message,
                source,
            }),
            retry_after: None,
            blames_nobody: false,
            tries: None,
        }
    }

    /// Returns the kind.
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// Returns the message without its causes: what the client is told.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// Returns when the same call is worth another try, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Returns the tries that had failed before, if any had.
    pub fn tries(&self) -> Option<Tries> {
        self.tries
    }

    /// Returns whether it tells nothing of the upstream.
    pub fn blames_nobody(&self) -> bool {
        self.blames_nobody
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)?;
        let mut source = self.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({}: {self})", self.inner.kind.as_str())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner
            .source
            .as_ref()
            .map(|source| &**source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_and_an_error_status() {
        let mut names: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            assert!(kind.status().as_u16() >= 400, "{kind:?}");
        }
    }

    #[test]
    fn the_message_tells_the_causes_but_the_client_is_told_only_the_message() {
        let cause = std::io::Error::other("connection refused");
        let error = Error::with_source(Kind::Unreachable, "no connection to `openai`", cause);
        assert_eq!(
            error.to_string(),
            "no connection to `openai`: connection refused"
        );
        assert_eq!(error.message(), "no connection to `openai`");
        assert_eq!(error.clone().kind(), Kind::Unreachable);
    }

    #[test]
    fn a_clone_says_when_to_try_again_and_the_one_it_was_made_of_need_not() {
        let error = Error::new(Kind::Unavailable, "`openai` is not called for a while");
        let after = Duration::from_secs(4);
        let clone = error.clone().with_retry_after(after);
        assert_eq!(clone.clone().retry_after(), Some(after));
        assert_eq!(error.retry_after(), None);
    }
}
