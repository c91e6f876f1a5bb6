//! What can be wrong with Redis.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// A failure of Redis, or of the way to it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}")]
pub struct Trouble {
    /// What kind it is of.
    pub kind: Kind,
    what: String,
}

/// The kinds of failures, as metrics name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There is no connection now.
    Away,
    /// No reply in time.
    Timeout,
    /// The connection broke, or could not be made.
    Io,
    /// The credential was refused, or may not do this.
    Denied,
    /// It has no room for what was to be written.
    Full,
    /// It takes no writes: a replica, or a master that lacks replicas.
    Readonly,
    /// Another type lies under the key, or the reply is not what it has to be.
    Type,
    /// It loads, a part of the cluster is missing, or it refused for another reason.
    Refused,
}

impl Kind {
    /// Every kind, in the order of the docs.
    pub const ALL: [Self; 8] = [
        Self::Away,
        Self::Timeout,
        Self::Io,
        Self::Denied,
        Self::Full,
        Self::Readonly,
        Self::Type,
        Self::Refused,
    ];

    /// Returns the label of the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Timeout => "timeout",
            Self::Io => "io",
            Self::Denied => "denied",
            Self::Full => "full",
            Self::Readonly => "readonly",
            Self::Type => "type",
            Self::Refused => "refused",
        }
    }
}

impl Trouble {
    /// Makes a failure of this kind.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
        }
    }

    /// Names the key that the failure is about, and what helps, where something else lies there than Refrain keeps.
    #[must_use]
    pub(super) fn about(self, key: &str) -> Self {
        let Self { kind, what } = self;
        match kind {
            Kind::Type => Self::new(
                kind,
                format!(
                    "`{key}` is not what Refrain keeps there ({what}); `DEL {key}` has it made anew"
                ),
            ),
            _ => Self { kind, what },
        }
    }
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        Self {
            kind: kind(&error),
            // What Redis says may repeat arguments; its code does not.
            what: match (error.code(), error.kind()) {
                (Some(code), _) => code.to_owned(),
                // That is what the system says.
                (None, ErrorKind::Io) => error.to_string(),
                (None, _) => error.category().to_owned(),
            },
        }
    }
}

fn kind(error: &RedisError) -> Kind {
    if error.is_timeout() {
        return Kind::Timeout;
    }
    match error.kind() {
        ErrorKind::Io => Kind::Io,
        ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm) => {
            Kind::Denied
        }
        ErrorKind::UnexpectedReturnType | ErrorKind::Parse => Kind::Type,
        ErrorKind::Server(ServerErrorKind::ReadOnly) => Kind::Readonly,
        _ => match error.code() {
            Some("OOM") => Kind::Full,
            Some("WRONGTYPE") => Kind::Type,
            Some("NOAUTH" | "WRONGPASS" | "NOPERM") => Kind::Denied,
            Some("READONLY" | "NOREPLICAS" | "MISCONF") => Kind::Readonly,
            _ => Kind::Refused,
        },
    }
}
