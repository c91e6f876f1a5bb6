//! The outage as an SVG: what warm and cold calls got in each second, and what the upstream had to do.

use std::fmt::Write as _;

/// One second, as it is drawn.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// The phase; its name stands where it begins.
    pub(crate) phase: &'static str,
    /// Whether the circuit let all calls through.
    pub(crate) closed: bool,
    /// Calls that reached the upstream.
    pub(crate) asked: usize,
    /// Words and how many warm calls each came to.
    pub(crate) warm: Vec<(String, usize)>,
    /// The same of cold calls.
    pub(crate) cold: Vec<(String, usize)>,
}

/// A band of the picture.
struct Band<'a> {
    title: &'a str,
    top: usize,
    /// What the whole height stands for.
    most: usize,
}

/// Draws the columns.
pub(crate) fn draw(columns: &[Column]) -> String {
    let width = LEFT + columns.len() * STEP + 20;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    phases(&mut svg, columns);
    let of = |words: fn(&Column) -> &Vec<(String, usize)>| {
        let sum = |column: &Column| words(column).iter().map(|(_, count)| count).sum();
        columns.iter().map(sum).max().unwrap_or(1)
    };
    let warm = Band {
        title: "warm",
        top: 30,
        most: of(|column| &column.warm),
    };
    let cold = Band {
        title: "cold",
        top: 150,
        most: of(|column| &column.cold),
    };
    stacked(&mut svg, &warm, columns, |column| &column.warm);
    stacked(&mut svg, &cold, columns, |column| &column.cold);
    upstream(&mut svg, columns);
    legend(&mut svg);
    svg.push_str("</svg>\n");
    svg
}

/// Names the phases, and marks where each begins.
fn phases(svg: &mut String, columns: &[Column]) {
    let mut before = "";
    for (second, column) in columns.iter().enumerate() {
        if column.phase != before {
            let x = LEFT + second * STEP;
            let _ = writeln!(
                svg,
                "<line x1=\"{x}\" y1=\"8\" x2=\"{x}\" y2=\"390\" stroke=\"#999\" stroke-dasharray=\"3\"/>\n\
                 <text x=\"{}\" y=\"20\">{}</text>",
                x + 4,
                column.phase
            );
            before = column.phase;
        }
    }
}

fn stacked(
    svg: &mut String,
    band: &Band<'_>,
    columns: &[Column],
    words: fn(&Column) -> &Vec<(String, usize)>,
) {
    title(svg, band);
    for (second, column) in columns.iter().enumerate() {
        let mut below = 0;
        for (_, colour) in COLOURS {
            let fits = |(word, _): &&(String, usize)| colour_of(word) == *colour;
            let count: usize = words(column)
                .iter()
                .filter(fits)
                .map(|(_, count)| count)
                .sum();
            if count > 0 {
                bar(svg, band, second, (below, count), colour);
                below += count;
            }
        }
    }
}

fn upstream(svg: &mut String, columns: &[Column]) {
    let most = columns.iter().map(|column| column.asked).max().unwrap_or(1);
    let band = Band {
        title: "upstream calls",
        top: 270,
        most: most.max(1),
    };
    title(svg, &band);
    for (second, column) in columns.iter().enumerate() {
        bar(svg, &band, second, (0, column.asked), "#607d8b");
        if !column.closed {
            let x = LEFT + second * STEP;
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"376\" width=\"{STEP}\" height=\"10\" fill=\"#d32f2f\"/>"
            );
        }
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"385\" text-anchor=\"end\">circuit open</text>",
        LEFT - 6
    );
}

fn title(svg: &mut String, band: &Band<'_>) {
    let (x, y) = (LEFT - 6, band.top + TALL / 2);
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{}</text>\n\
         <text x=\"{x}\" y=\"{}\" text-anchor=\"end\" fill=\"#777\">of {} a second</text>",
        band.title,
        y + 15,
        band.most
    );
}

/// Draws a count upon another in one second.
fn bar(
    svg: &mut String,
    band: &Band<'_>,
    second: usize,
    (below, count): (usize, usize),
    colour: &str,
) {
    let height = |count: usize| count * TALL / band.most;
    let top = band.top + TALL - height(below + count);
    let (x, tall) = (LEFT + second * STEP, height(below + count) - height(below));
    // A single probe is worth seeing.
    let tall = tall.max(usize::from(count > 0) * 2);
    let _ = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{top}\" width=\"{}\" height=\"{tall}\" fill=\"{colour}\"/>",
        STEP - 1
    );
}

fn legend(svg: &mut String) {
    for (place, (name, colour)) in COLOURS.iter().enumerate() {
        let x = LEFT + place * 110;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"400\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"411\">{name}</text>",
            x + 17
        );
    }
}

fn colour_of(word: &str) -> &'static str {
    let known = COLOURS.iter().find(|(name, _)| *name == word);
    known.map_or(ERROR, |(_, colour)| colour)
}

const COLOURS: &[(&str, &str)] = &[
    ("hit", "#2e7d32"),
    ("stale", "#f9a825"),
    ("collapsed", "#00acc1"),
    ("miss", "#1e88e5"),
    ("apology", "#8e24aa"),
    ("error", ERROR),
];
const ERROR: &str = "#d32f2f";
const LEFT: usize = 110;
const STEP: usize = 16;
const TALL: usize = 100;
const HEIGHT: usize = 425;
