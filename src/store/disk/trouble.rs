//! What can be wrong with the disk, in words: the label of a metric, the reason in a warning.

use std::{fmt, io};

use rusqlite::ErrorCode;

/// Why the disk does not do what it should.
#[derive(Debug)]
pub struct Trouble {
    /// What kind of trouble it is.
    pub kind: Kind,
    /// What the system or the database said.
    cause: String,
}

/// A kind of trouble with the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Another process has the file.
    Locked,
    /// The file is another program's, or a later Refrain's.
    Foreign,
    /// The file is an earlier Refrain's.
    Outdated,
    /// The file is damaged.
    Corrupt,
    /// There is no room.
    Full,
    /// It cannot be written to.
    ReadOnly,
    /// Anything else.
    Io,
}

impl Kind {
    /// Every kind, in the order of the docs.
    pub const ALL: [Self; 7] = [
        Self::Locked,
        Self::Foreign,
        Self::Outdated,
        Self::Corrupt,
        Self::Full,
        Self::ReadOnly,
        Self::Io,
    ];

    /// Returns the name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Foreign => "foreign",
            Self::Outdated => "outdated",
            Self::Corrupt => "corrupt",
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::Io => "io",
        }
    }
}

impl Trouble {
    pub(super) fn new(kind: Kind, cause: impl Into<String>) -> Self {
        Self {
            kind,
            cause: cause.into(),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl std::error::Error for Trouble {}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::Full,
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Kind::ReadOnly,
            _ => Kind::Io,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        let kind = match error.sqlite_error_code() {
            // Without a code it is a value of another type than the schema's: a bit has flipped.
            None | Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Kind::Corrupt,
            Some(ErrorCode::DiskFull) => Kind::Full,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Kind::ReadOnly,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Kind::Locked,
            Some(_) => Kind::Io,
        };
        Self::new(kind, error.to_string())
    }
}
