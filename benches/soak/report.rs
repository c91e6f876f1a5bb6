//! The way of figures to standard output.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

/// Writes a line.
pub(crate) fn text(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Writes a row of cells, each nine wide.
pub(crate) fn row<const N: usize>(cells: [&dyn Display; N]) -> io::Result<()> {
    let cells = cells.map(|cell| format!("{:>9}", cell.to_string()));
    text(&cells.join(" "))
}

/// Returns bytes in MiB, to one digit.
#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 bytes")]
pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

/// Returns the middle one of some numbers, or 0 where there are none.
pub(crate) fn median(mut numbers: Vec<u64>) -> u64 {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied().unwrap_or(0)
}
