//! What is wrong with a configuration, where it was written and what would be allowed.

use std::{error::Error, fmt, sync::Arc};

/// Everything that is wrong with a configuration: never empty, in the order in which a reader would look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it was written; `None` for a value that nobody wrote.
    pub place: Option<Place>,
    /// The setting, such as `cache.ttl`; empty where it concerns no setting.
    pub key: String,
    /// What is wrong.
    pub complaint: Complaint,
}

/// What is wrong with a value, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// What is wrong: lower case, no full stop, no secrets.
    pub what: String,
    /// What is allowed or meant; empty where `what` says it all.
    pub hint: String,
}

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A file as a whole.
    File(Arc<str>),
    /// A place in a file.
    Line {
        /// Path of the file, as it was given.
        file: Arc<str>,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag of the command line, such as `--upstream`.
    Flag(&'static str),
}

/// Something that can be done and can hardly be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(Problem);

impl Warning {
    /// Makes a warning of what is not wrong enough to be refused.
    pub(super) fn of(problem: Problem) -> Self {
        Self(problem)
    }

    /// Returns the setting, such as `cache.scope`.
    pub fn key(&self) -> &str {
        &self.0.key
    }

    /// Returns what is doubtful, and what to do about it.
    pub fn complaint(&self) -> &Complaint {
        &self.0.complaint
    }
}

impl Problems {
    /// Sorts `problems` by place.
    pub(super) fn of(mut problems: Vec<Problem>) -> Self {
        problems.sort();
        Self(problems)
    }

    /// Iterates over the problems, file first, then environment, then flags.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl Complaint {
    /// Makes a complaint.
    pub(super) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            hint: hint.into(),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("error: ")?;
        self.tell(f)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("warning: ")?;
        self.0.tell(f)
    }
}

impl Problem {
    fn tell(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.complaint.what)?;
        if !self.complaint.hint.is_empty() {
            write!(f, "\n  hint: {}", self.complaint.hint)?;
        }
        Ok(())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => f.write_str(file),
            Self::Line { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

impl Error for Problems {}
