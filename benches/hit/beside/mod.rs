//! Everything side by side in one alternating run: direct calls, the bare server, nginx, Refrain from memory and from
//! disk; then misses beside a bare pass-through. What was wanted stands beside what was found.

mod hits;
mod misses;
mod nginx;
mod seed;

use anyhow::Result;

use crate::report;

/// Measures hits of one key and of many, then misses.
pub(crate) async fn play() -> Result<()> {
    report::heading("hits, side by side")?;
    crate::hits::about()?;
    for keys in [1, 10_000] {
        hits::compare(keys).await?;
    }
    report::heading("misses, side by side")?;
    misses::compare(true).await
}

/// Measures misses alone, as [`play`] does, but with an empty disk only.
pub(crate) async fn paced() -> Result<()> {
    report::heading("misses, side by side")?;
    misses::compare(false).await
}

/// What a figure was wanted to be.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    AtLeast(f64),
    AtMost(f64),
    /// It is only told.
    Nothing,
}

impl Wanted {
    /// Writes a figure, and whether it is what was wanted.
    fn write(self, name: &str, figure: f64, digits: usize) -> Result<()> {
        let (bound, met) = match self {
            Self::AtLeast(least) => (format!("at least {least:.digits$}"), figure >= least),
            Self::AtMost(most) => (format!("at most {most:.digits$}"), figure <= most),
            Self::Nothing => (String::new(), true),
        };
        let verdict = match self {
            Self::Nothing => String::new(),
            _ if met => format!("  wanted: {bound}; met"),
            _ => format!("  wanted: {bound}; MISSED"),
        };
        Ok(report::text(&format!(
            "{name:<58} {figure:>7.digits$}{verdict}"
        ))?)
    }
}
