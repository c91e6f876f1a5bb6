//! What a purge is about, and its name: the bytes that stand for it in the registry and on the disk.
//!
//! ```text
//! soft u8   kind u8   0 | 1 and the scope, its length (u32) in front   the text
//! ```

use std::fmt;

use crate::{
    call::key::Key,
    config::Glob,
    store::{Entry, Label},
};

/// A purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// What it is about.
    pub selector: Selector,
    /// The scope that it is bound to; `None` for all.
    pub within: Option<Vec<u8>>,
    /// Whether it makes stale instead of dead.
    pub soft: bool,
}

/// What a purge is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Every entry.
    All,
    /// The entries of a dialect.
    Dialect(String),
    /// The entries with a tag.
    Tag(String),
    /// The entries of a model, as it was asked for.
    Model(String),
    /// The entries of a namespace; empty for those without.
    Namespace(String),
    /// The entries of a scope.
    Scope(Vec<u8>),
    /// The entries that an upstream has made.
    Upstream(String),
    /// The entries of a key.
    Key(Key),
    /// The entries whose line `upstream/dialect/model/namespace/tags` is as this pattern says; the tags are separated by
    /// commas.
    Pattern(String),
    /// The entries made before this moment, milliseconds of Unix time.
    MadeBefore(u64),
}

/// What of an entry, or of a flight that is to be one, purges go by.
#[derive(Clone, Copy)]
pub struct Traits<'a> {
    /// Its key.
    pub key: &'a Key,
    /// Who makes it, as far as is known: not to know counts as being concerned.
    pub upstream: Option<&'a [u8]>,
    /// What it can be found by.
    pub label: &'a Label,
    /// Its tags.
    pub tags: &'a [String],
    /// When it was made, milliseconds of Unix time; `None` while it is being made.
    pub made: Option<u64>,
}

/// A selector that has no name to be looked up: it is tried on each entry.
#[derive(Clone, Debug)]
pub(super) enum Predicate {
    Pattern(Glob),
    MadeBefore(u64),
}

impl Selector {
    /// The names of all kinds of selectors, in the order of the docs.
    pub const KINDS: [&'static str; 10] = [
        "all",
        "dialect",
        "tag",
        "model",
        "namespace",
        "scope",
        "upstream",
        "key",
        "pattern",
        "older_than",
    ];

    /// Returns the name of its kind.
    pub fn kind(&self) -> &'static str {
        Self::KINDS
            .get(usize::from(self.number()))
            .copied()
            .unwrap_or_default()
    }

    /// Returns the place of its kind in [`KINDS`](Self::KINDS). Numbers stand on the disk: new kinds come last.
    pub fn number(&self) -> u8 {
        match self {
            Self::All => ALL,
            Self::Dialect(_) => DIALECT,
            Self::Tag(_) => TAG,
            Self::Model(_) => MODEL,
            Self::Namespace(_) => NAMESPACE,
            Self::Scope(_) => SCOPE,
            Self::Upstream(_) => UPSTREAM,
            Self::Key(_) => KEY,
            Self::Pattern(_) => PATTERN,
            Self::MadeBefore(_) => MADE_BEFORE,
        }
    }

    /// Returns whether it has no name to be looked up, and is tried on each entry.
    pub fn is_tried(&self) -> bool {
        matches!(self, Self::Pattern(_) | Self::MadeBefore(_))
    }

    /// Returns the selector as something to be tried, where it has no name to be looked up.
    pub(super) fn predicate(&self) -> Option<Predicate> {
        match self {
            Self::Pattern(pattern) => Some(Predicate::Pattern(Glob::new(pattern.as_str()))),
            Self::MadeBefore(moment) => Some(Predicate::MadeBefore(*moment)),
            _ => None,
        }
    }
}

impl Purge {
    /// Returns whether the purge concerns what has these traits.
    pub fn concerns(&self, traits: &Traits<'_>) -> bool {
        let Traits {
            key,
            upstream,
            label,
            tags,
            ..
        } = traits;
        if self
            .within
            .as_ref()
            .is_some_and(|scope| *scope != label.scope)
        {
            return false;
        }
        match &self.selector {
            Selector::All => true,
            Selector::Dialect(dialect) => *dialect == label.dialect,
            Selector::Tag(tag) => tags.contains(tag),
            Selector::Model(model) => *model == label.model,
            Selector::Namespace(namespace) => *namespace == label.namespace,
            Selector::Scope(scope) => *scope == label.scope,
            Selector::Upstream(name) => upstream.is_none_or(|known| known == name.as_bytes()),
            Selector::Key(wanted) => wanted == *key,
            Selector::Pattern(_) | Selector::MadeBefore(_) => {
                let predicate = self.selector.predicate();
                predicate.is_some_and(|predicate| predicate.concerns(traits))
            }
        }
    }

    /// Returns its name.
    pub(super) fn name(&self) -> Vec<u8> {
        let mut name = Vec::new();
        let within = self.within.as_deref();
        let kind = self.selector.number();
        let mut spell = |text: &[u8]| spell(&mut name, self.soft, kind, within, text);
        match &self.selector {
            Selector::All => spell(b""),
            Selector::Dialect(text)
            | Selector::Tag(text)
            | Selector::Model(text)
            | Selector::Namespace(text)
            | Selector::Upstream(text)
            | Selector::Pattern(text) => spell(text.as_bytes()),
            Selector::Scope(scope) => spell(scope),
            Selector::Key(key) => spell(key.as_bytes()),
            Selector::MadeBefore(moment) => spell(&moment.to_be_bytes()),
        }
        name
    }
}

impl Predicate {
    /// Reads the predicate that a name spells, if it spells one.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        let [_, kind, 0, text @ ..] = name else {
            return None;
        };
        match *kind {
            PATTERN => {
                let pattern = std::str::from_utf8(text).ok()?;
                Some(Self::Pattern(Glob::new(pattern)))
            }
            MADE_BEFORE => Some(Self::MadeBefore(u64::from_be_bytes(text.try_into().ok()?))),
            _ => None,
        }
    }

    /// Returns whether it concerns what has these traits.
    pub(super) fn concerns(&self, traits: &Traits<'_>) -> bool {
        match self {
            Self::Pattern(pattern) => traits
                .upstream
                .is_none_or(|upstream| pattern.matches(&traits.line(upstream))),
            Self::MadeBefore(moment) => traits.made.is_some_and(|made| made < *moment),
        }
    }
}

impl<'a> Traits<'a> {
    /// Returns the traits of an entry that was made at `made`.
    pub fn of(entry: &'a Entry, made: u64) -> Self {
        Self {
            key: &entry.slot.key,
            upstream: Some(entry.upstream.as_bytes()),
            label: &entry.label,
            tags: &entry.tags,
            made: Some(made),
        }
    }

    /// Calls `each` with every name that stands for something of these traits.
    pub(super) fn names(&self, soft: bool, mut each: impl FnMut(&[u8])) {
        let mut name = Vec::with_capacity(128);
        let mut spell = |kind, within: Option<&[u8]>, text: &[u8]| {
            spell(&mut name, soft, kind, within, text);
            each(&name);
        };
        let Label {
            scope,
            dialect,
            model,
            namespace,
        } = self.label;
        for within in [None, Some(scope.as_slice())] {
            spell(ALL, within, b"");
            spell(NAMESPACE, within, namespace.as_bytes());
            for tag in self.tags {
                spell(TAG, within, tag.as_bytes());
            }
        }
        spell(SCOPE, None, scope);
        spell(DIALECT, None, dialect.as_bytes());
        spell(MODEL, None, model.as_bytes());
        spell(KEY, None, self.key.as_bytes());
        if let Some(upstream) = self.upstream {
            spell(UPSTREAM, None, upstream);
        }
    }

    /// Returns the line that patterns go by; never anything of the prompt.
    fn line(&self, upstream: &[u8]) -> String {
        let Label {
            dialect,
            model,
            namespace,
            ..
        } = self.label;
        let upstream = String::from_utf8_lossy(upstream);
        let tags = self.tags.join(",");
        format!("{upstream}/{dialect}/{model}/{namespace}/{tags}")
    }
}

impl fmt::Debug for Traits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Traits({:?})", self.key)
    }
}

/// Returns whether this is a name at all: it begins with whether the purge is soft.
pub fn is_name(name: &[u8]) -> bool {
    matches!(name.first(), Some(0 | 1))
}

/// Returns whether a name is that of a soft purge.
pub(super) fn is_soft(name: &[u8]) -> bool {
    name.first() == Some(&1)
}

/// Returns whether a name is that of a purge which is tried on each entry.
pub(super) fn is_tried(name: &[u8]) -> bool {
    matches!(name.get(1), Some(&(PATTERN | MADE_BEFORE)))
}

/// Returns whether a name is about an upstream, or a pattern, which may name one.
pub(super) fn is_about_upstreams(name: &[u8]) -> bool {
    matches!(name.get(1), Some(&(UPSTREAM | PATTERN)))
}

fn spell(name: &mut Vec<u8>, soft: bool, kind: u8, within: Option<&[u8]>, text: &[u8]) {
    name.clear();
    name.extend([u8::from(soft), kind, u8::from(within.is_some())]);
    if let Some(scope) = within {
        // Scopes are fingerprints or short texts.
        let length = u32::try_from(scope.len()).unwrap_or(u32::MAX);
        name.extend(length.to_be_bytes());
        name.extend(scope);
    }
    name.extend(text);
}

const ALL: u8 = 0;
const DIALECT: u8 = 1;
const TAG: u8 = 2;
const MODEL: u8 = 3;
const NAMESPACE: u8 = 4;
const SCOPE: u8 = 5;
const UPSTREAM: u8 = 6;
const KEY: u8 = 7;
const PATTERN: u8 = 8;
const MADE_BEFORE: u8 = 9;
