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
            what: match error.code() {
                Some(code) => said(code, error.detail().unwrap_or_default()),
                None => unsaid(&error),
            },
        }
    }
}

/// Returns what Redis said, as far as it repeats no arguments, which may be secrets: the code always; the text where it is
/// about a right or a credential, or one that is known.
fn said(code: &str, text: &str) -> String {
    let text: String = match code {
        "NOPERM" | "NOAUTH" | "WRONGPASS" => {
            let shown = text.chars().filter(|char| !char.is_control());
            shown.take(LONGEST).collect()
        }
        _ => {
            let known = HARMLESS.iter().find(|known| text.starts_with(**known));
            known.copied().unwrap_or_default().to_owned()
        }
    };
    format!("{code} {text}").trim_end().to_owned()
}

/// Returns what went wrong where Redis itself said nothing.
fn unsaid(error: &RedisError) -> String {
    match error.kind() {
        // That is what the system says.
        ErrorKind::Io => error.to_string(),
        ErrorKind::AuthenticationFailed => {
            "it refuses user or password, or asks for none".to_owned()
        }
        ErrorKind::Parse => "what answers there speaks as no Redis does".to_owned(),
        _ => error.category().to_owned(),
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
            Some("ERR") => within_script(error.detail().unwrap_or_default()),
            _ => Kind::Refused,
        },
    }
}

/// Returns the kind of an error that a script has met: before version 7, Redis wraps it in one of its own.
fn within_script(text: &str) -> Kind {
    let is = |code: &&str| text.contains(&format!(" -{code} "));
    if is(&"OOM") {
        Kind::Full
    } else if ["READONLY", "NOREPLICAS", "MISCONF"].iter().any(is) {
        Kind::Readonly
    } else {
        Kind::Refused
    }
}

/// Longest text that is repeated, characters.
const LONGEST: usize = 160;
/// Beginnings of what else Redis says that help the operator and repeat nothing.
const HARMLESS: [&str; 4] = [
    "DB index is out of range",
    "SELECT is not allowed in cluster mode",
    "This instance has cluster support disabled",
    "unknown command",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn told(reply: &str) -> (Kind, String) {
        let reply = redis::parse_redis_value(format!("{reply}\r\n").as_bytes());
        let error = reply.and_then(redis::Value::extract_error).unwrap_err();
        let trouble = Trouble::from(error);
        (trouble.kind, trouble.to_string())
    }

    #[test]
    fn what_redis_says_of_a_right_is_repeated() {
        for said in [
            "NOPERM this user has no permissions to run the 'evalsha' command",
            "NOPERM No permissions to access a key",
            "NOAUTH Authentication required.",
            "WRONGPASS invalid username-password pair or user is disabled.",
        ] {
            assert_eq!(told(&format!("-{said}")), (Kind::Denied, said.to_owned()));
        }
        let (_, long) = told(&format!("-NOPERM {}", "x".repeat(10_000)));
        assert_eq!(long.len(), "NOPERM ".len() + LONGEST);
    }

    #[test]
    fn what_may_repeat_arguments_is_not_repeated() {
        for (reply, said) in [
            ("-ERR unknown command 'canary'", "ERR unknown command"),
            ("-ERR canary is no number", "ERR"),
            ("-WRONGTYPE canary", "WRONGTYPE"),
            ("-CANARY canary", "CANARY"),
            (
                "-ERR DB index is out of range",
                "ERR DB index is out of range",
            ),
        ] {
            assert_eq!(told(reply).1, said, "{reply}");
        }
    }

    #[test]
    fn what_a_script_met_is_told_from_the_script_also_before_version_7() {
        let wrapped = |error: &str| {
            let script = "Error running script (call to f_5a): @user_script:1: @user_script: 1:";
            told(&format!("-ERR {script} -{error}")).0
        };
        let full = "OOM command not allowed when used memory > 'maxmemory'.";
        assert_eq!(wrapped(full), Kind::Full);
        let replica = "READONLY You can't write against a read only replica.";
        assert_eq!(wrapped(replica), Kind::Readonly);
        assert_eq!(wrapped("ERR wrong number of arguments"), Kind::Refused);
    }

    #[test]
    fn what_is_no_redis_is_told_as_such() {
        let (kind, said) = told("HTTP/1.1 400 Bad Request");
        assert_eq!(kind, Kind::Type);
        assert!(said.contains("as no Redis does"), "{said}");
    }
}
