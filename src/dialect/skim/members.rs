//! The members of an object that somebody asks for. Pure.

use super::{Malformed, Skim};

/// The members of an object that are known by name; each may come once.
#[derive(Debug)]
pub(crate) struct Members<'k> {
    known: &'k [&'k str],
    /// Those that came, a bit for each.
    seen: u8,
}

impl<'k> Members<'k> {
    /// Begins to look for at most eight members, by their names.
    pub(crate) fn of(known: &'k [&'k str]) -> Self {
        debug_assert!(known.len() <= 8, "a bit for each");
        Self { known, seen: 0 }
    }

    /// Returns the name of the next member that is known, whose value must be read next; passes over others. `None` past
    /// the last one; an error where a known one comes again.
    pub(crate) fn next(&mut self, skim: &mut Skim<'_>) -> Result<Option<&'k str>, Malformed> {
        while let Some(name) = skim.member()? {
            if let Some((place, known)) = name.among(self.known) {
                let bit = 1 << place;
                let first = self.seen & bit == 0;
                self.seen |= bit;
                return if first {
                    Ok(Some(known))
                } else {
                    Err(Malformed)
                };
            }
            skim.skip()?;
        }
        Ok(None)
    }
}
