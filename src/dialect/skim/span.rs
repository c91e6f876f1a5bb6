//! Parts of JSON that were taken, as they are written. Pure.

use std::borrow::Cow;

use super::{ESCAPES, HALVES, Malformed, WIDE};

/// A value as it is written, UTF-8 and without blanks around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'a> {
    json: &'a [u8],
    /// What its strings hold: [`ESCAPES`], [`HALVES`].
    notes: u8,
}

/// A string as it is written, quotes and escapes included: to undo them takes longer than all the rest, and few ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quoted<'a> {
    json: &'a [u8],
    escaped: bool,
}

impl<'a> Span<'a> {
    /// Takes JSON that is UTF-8.
    pub(super) fn new(json: &'a [u8], notes: u8) -> Self {
        Self { json, notes }
    }

    /// Returns the value as it is written.
    pub(crate) fn json(self) -> &'a [u8] {
        self.json
    }

    /// Returns whether the value is `null`.
    pub(crate) fn is_null(self) -> bool {
        self.json == b"null"
    }

    /// Returns the string that the value is; an error where it is none, or holds half a surrogate pair.
    pub(crate) fn quoted(self) -> Result<Quoted<'a>, Malformed> {
        if self.json.first() != Some(&b'"') {
            return Err(Malformed);
        }
        Quoted::new(self.json, self.notes)
    }

    /// Returns the unsigned integer that the value is, if it is one that can be told exactly and is written as one.
    pub(crate) fn count(self) -> Option<u64> {
        self.json.iter().try_fold(0_u64, |count, byte| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            count.checked_mul(10)?.checked_add(digit)
        })
    }
}

impl<'a> Quoted<'a> {
    /// Takes a string; an error where it is no text.
    pub(super) fn new(json: &'a [u8], notes: u8) -> Result<Self, Malformed> {
        let quoted = Self {
            json,
            escaped: notes & ESCAPES != 0,
        };
        if notes & (HALVES | WIDE) != 0 {
            quoted.text()?;
        }
        Ok(quoted)
    }

    /// Returns whether the string is `other`.
    pub(crate) fn is(self, other: &str) -> bool {
        if self.escaped {
            return self.text().is_ok_and(|text| text == other);
        }
        self.inner() == other.as_bytes()
    }

    /// Returns which of the names in `known` the string is, and its place there.
    pub(super) fn among<'k>(self, known: &'k [&'k str]) -> Option<(usize, &'k str)> {
        let mut places = known.iter().copied().enumerate();
        if self.escaped {
            return places.find(|(_, name)| self.is(name));
        }
        let inner = self.inner();
        places.find(|(_, name)| name.as_bytes() == inner)
    }

    /// Returns what the string says, copied only where it has escapes.
    pub(crate) fn text(self) -> Result<Cow<'a, str>, Malformed> {
        if self.escaped {
            return serde_json::from_slice(self.json)
                .map(Cow::Owned)
                .map_err(|_| Malformed);
        }
        str::from_utf8(self.inner())
            .map(Cow::Borrowed)
            .map_err(|_| Malformed)
    }

    fn inner(self) -> &'a [u8] {
        match self.json {
            [_, inner @ .., _] => inner,
            _ => &[],
        }
    }
}
