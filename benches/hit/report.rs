//! The way of figures to standard output.

use std::{
    fmt::Display,
    io::{self, Write as _},
    time::Duration,
};

/// Writes a paragraph.
pub(crate) fn text(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Writes the heading of a scene.
pub(crate) fn heading(title: &str) -> io::Result<()> {
    text(&format!("\n## {title}\n"))
}

/// Writes a row of cells: the first to the left, the others to the right.
pub(crate) fn row<const N: usize>(name: &str, cells: [impl Display; N]) -> io::Result<()> {
    let cells = cells.map(|cell| format!(" {:>10}", cell.to_string()));
    text(&format!("{name:<44}{}", cells.concat()))
}

/// Returns the middle one, the mean of the two middle ones, or 0 where there is none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |at: usize| values.get(at).copied().unwrap_or_default();
    if values.len() % 2 == 1 {
        at(middle)
    } else {
        f64::midpoint(at(middle.saturating_sub(1)), at(middle))
    }
}

/// Returns the value that `share` (0 to 1) of the sorted `times` do not exceed.
pub(crate) fn quantile(times: &[Duration], share: f64) -> Duration {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index of a list of far fewer than 2^52 times"
    )]
    let rank = (times.len() as f64 * share).ceil() as usize;
    let at = rank.saturating_sub(1);
    times.get(at).copied().unwrap_or_default()
}

/// Returns a time in microseconds.
pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Returns bytes in MiB, to one digit.
pub(crate) fn mebibytes(bytes: u64) -> String {
    // Tenths first: exact for every size that a process can have.
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}
