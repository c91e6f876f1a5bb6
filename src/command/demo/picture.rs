//! The table, and the lines below it.

use std::time::Duration;

use comfy_table::{Cell, CellAlignment, Color, Table, presets::UTF8_FULL_CONDENSED};

use super::{
    Act,
    claim::{spelled, tally},
    script::{AGAIN, FIRST},
    taking::Taking,
};

/// Draws the table of `acts` and says what it shows. Coloured only where standard output is a terminal.
pub(super) fn draw(acts: &[Act]) -> String {
    format!("{}\n\n{}\n{NEXT}", table(acts), summary(acts))
}

/// Makes the table.
pub(super) fn table(acts: &[Act]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "call",
        "X-Cache",
        "reason",
        "first byte",
        "total",
        "upstream calls",
    ]);
    for act in acts {
        table.add_row(row(act));
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Says what the table shows, in its own numbers.
pub(super) fn summary(acts: &[Act]) -> String {
    let calls: usize = acts.iter().map(|act| act.takings.len()).sum();
    let upstream = acts.last().map_or(0, |act| act.upstream);
    let gain = gain(acts).unwrap_or_default();
    format!("{calls} calls, {upstream} of them upstream.{gain}")
}

/// Says how much sooner the same answer came again.
fn gain(acts: &[Act]) -> Option<String> {
    let total = |place: usize| Some(acts.get(place)?.takings.first()?.total);
    let (first, again) = (total(FIRST)?, total(AGAIN)?);
    let times = first.as_secs_f64() / again.max(Duration::from_nanos(1)).as_secs_f64();
    let (first, again) = (spoken(first), spoken(again));
    Some(format!(
        " The same question again took {again} instead of {first}: {times:.0} times faster."
    ))
}

fn row(act: &Act) -> [Cell; 6] {
    let tally = tally(&act.takings);
    [
        Cell::new(act.scene.title),
        coloured(&tally),
        Cell::new(reasons(&act.takings)),
        Cell::new(slowest(&act.takings, |taking| taking.first_byte)),
        Cell::new(slowest(&act.takings, |taking| taking.total)),
        Cell::new(act.upstream),
    ]
}

fn coloured(tally: &[(usize, &str)]) -> Cell {
    let cell = Cell::new(spelled(tally));
    match tally.last() {
        Some((_, "HIT")) => cell.fg(Color::Green),
        Some((_, "COLLAPSED")) => cell.fg(Color::Cyan),
        _ => cell,
    }
}

/// Returns every reason once.
fn reasons(takings: &[Taking]) -> String {
    let mut reasons: Vec<_> = takings
        .iter()
        .map(|taking| taking.reason.as_str())
        .collect();
    reasons.sort_unstable();
    reasons.dedup();
    reasons.join(", ")
}

/// Returns the time of the one call, or the bound that all of several calls kept.
fn slowest(takings: &[Taking], time: impl Fn(&Taking) -> Duration) -> String {
    let slowest = spoken(takings.iter().map(time).max().unwrap_or_default());
    if takings.len() > 1 {
        return format!("≤ {slowest}");
    }
    slowest
}

/// Returns a time with as many digits as matter.
fn spoken(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    let digits = usize::from(millis < 10.0);
    format!("{millis:.digits$} ms")
}

const NEXT: &str = "
Next, with an upstream of your own:
  refrain --upstream https://api.openai.com/v1
  export OPENAI_BASE_URL=http://127.0.0.1:8080/v1
";
