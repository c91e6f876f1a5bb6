//! What has to hold at the end, and whether it did.

use anyhow::Result;

use crate::report;

/// The checks of a run so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checks {
    failed: usize,
}

impl Checks {
    /// Prints whether `what` holds, with what was `found`.
    pub(crate) fn check(&mut self, what: &str, holds: bool, found: &str) -> Result<()> {
        let word = if holds { "ok    " } else { "FAILED" };
        if !holds {
            self.failed += 1;
        }
        report::text(&format!("{word} {what}: {found}"))?;
        Ok(())
    }

    /// Returns whether all of them held.
    pub(crate) fn held(self) -> bool {
        self.failed == 0
    }
}
