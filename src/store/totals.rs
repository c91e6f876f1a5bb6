//! Counters that last: what is counted of calls, by day, dialect, model and namespace. Pure.
//!
//! # Scope
//! What the ledger counts with and a store keeps. A batch has a number, and a store takes each of a writer's batches at
//! most once, so that one whose reply was lost can be sent again. Models and namespaces are callers' texts: their length
//! is bounded here, their number where they are counted and once more where they are kept.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use crate::{answer::verdict::Verdict, config::MAX_NAME};

/// A day in UTC, as days after 1970 began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(u32);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Calls with this verdict, as are the next.
    Hit,
    /// See [`Verdict::Miss`].
    Miss,
    /// See [`Verdict::Stale`].
    Stale,
    /// See [`Verdict::Collapsed`].
    Collapsed,
    /// See [`Verdict::Bypass`].
    Bypass,
    /// See [`Verdict::Fallback`].
    Fallback,
    /// Calls that got no answer.
    None,
    /// Calls that failed, whatever their verdict.
    Errors,
    /// Tokens of prompts that an upstream read.
    SpentInput,
    /// Tokens of completions that an upstream wrote.
    SpentOutput,
    /// Tokens of prompts that no upstream had to read.
    SavedInput,
    /// Tokens of completions that no upstream had to write.
    SavedOutput,
}

/// How much of each there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; What::ALL.len()]);

/// What calls are told apart by, within a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place<'a> {
    /// Name of the dialect, or `other`.
    pub dialect: &'a str,
    /// The model asked for; empty where that is not known.
    pub model: &'a str,
    /// The caller's own key space; empty for none.
    pub namespace: &'a str,
}

/// What was counted in one place on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The day.
    pub day: Day,
    /// Name of the dialect, or `other`.
    pub dialect: String,
    /// The model asked for; empty where that is not known.
    pub model: String,
    /// The caller's own key space; empty for none.
    pub namespace: String,
    /// How much.
    pub counts: Counts,
}

/// What a store adds to what it has, all of it or nothing, and once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Who sends it: a random number for each process.
    pub writer: u64,
    /// Its number, from 1; a writer's numbers grow, and it sends them in order.
    pub number: u64,
    /// The day of all its rows.
    pub day: Day,
    /// At most [`Batch::MOST`].
    pub rows: Vec<Row>,
}

/// What a store has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The rows; a place may have several.
    pub rows: Vec<Row>,
    /// The last batch of the asking writer that is in them; 0 for none.
    pub last: u64,
    /// Whether there is more than was read.
    pub is_cut: bool,
}

impl Day {
    /// Returns the day of `time`; what is before 1970 is its first day.
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        let days = since.unwrap_or_default().as_secs() / SECONDS;
        Self(u32::try_from(days).unwrap_or(LAST).min(LAST))
    }

    /// Returns the day with this [`number`](Self::number); `None` where there is none.
    pub fn new(number: i64) -> Option<Self> {
        let number = u32::try_from(number).ok()?;
        (number <= LAST).then_some(Self(number))
    }

    /// Returns how many days after 1970 began it is.
    pub fn number(self) -> u32 {
        self.0
    }

    /// Returns the day so many `days` before.
    #[must_use]
    pub fn back(self, days: u32) -> Self {
        Self(self.0.saturating_sub(days))
    }

    /// Returns every day from this one to `last`.
    pub fn to(self, last: Self) -> impl DoubleEndedIterator<Item = Self> {
        (self.0..=last.0).map(Self)
    }
}

impl fmt::Display for Day {
    /// Writes the date, as `2026-11-21`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begins = Duration::from_secs(u64::from(self.0) * SECONDS);
        let date = humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + begins).to_string();
        f.write_str(date.split('T').next().unwrap_or_default())
    }
}

impl What {
    /// Everything, in the order of the docs.
    pub const ALL: [Self; 12] = [
        Self::Hit,
        Self::Miss,
        Self::Stale,
        Self::Collapsed,
        Self::Bypass,
        Self::Fallback,
        Self::None,
        Self::Errors,
        Self::SpentInput,
        Self::SpentOutput,
        Self::SavedInput,
        Self::SavedOutput,
    ];

    /// Returns what a call with this verdict is counted as.
    pub fn of(verdict: Option<Verdict>) -> Self {
        match verdict {
            Some(Verdict::Hit) => Self::Hit,
            Some(Verdict::Miss) => Self::Miss,
            Some(Verdict::Stale) => Self::Stale,
            Some(Verdict::Collapsed) => Self::Collapsed,
            Some(Verdict::Bypass) => Self::Bypass,
            Some(Verdict::Fallback) => Self::Fallback,
            None => Self::None,
        }
    }

    /// Returns the word that stores keep it under.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Collapsed => "collapsed",
            Self::Bypass => "bypass",
            Self::Fallback => "fallback",
            Self::None => "none",
            Self::Errors => "errors",
            Self::SpentInput => "spent_input",
            Self::SpentOutput => "spent_output",
            Self::SavedInput => "saved_input",
            Self::SavedOutput => "saved_output",
        }
    }

    /// Returns what is kept under `word`; `None` for what another version counts.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|what| what.as_str() == word)
    }
}

impl Counts {
    /// The most that is counted of anything: nobody has that much, and half of what a signed 64-bit number holds.
    pub const MOST: u64 = 1 << 61;

    /// Adds `amount`; nothing overflows.
    pub fn add(&mut self, what: What, amount: u64) {
        if let Some(count) = self.0.get_mut(what as usize) {
            *count = count.saturating_add(amount).min(Self::MOST);
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (what, amount) in other.iter() {
            self.add(what, amount);
        }
    }

    /// Returns how much there is of `what`.
    pub fn get(&self, what: What) -> u64 {
        self.0.get(what as usize).copied().unwrap_or_default()
    }

    /// Returns how many calls there are.
    pub fn calls(&self) -> u64 {
        let verdicts = Verdict::ALL.map(Some).into_iter().chain([None]);
        verdicts.map(|verdict| self.get(What::of(verdict))).sum()
    }

    /// Returns which part of the calls that a cache can answer took no call of the upstream; `None` without such calls.
    pub fn hit_ratio(&self) -> Option<f64> {
        let saved = [What::Hit, What::Stale, What::Collapsed];
        let saved: u64 = saved.into_iter().map(|what| self.get(what)).sum();
        let all = saved + self.get(What::Miss);
        #[expect(clippy::cast_precision_loss, reason = "a ratio is read to two digits")]
        (all > 0).then(|| saved as f64 / all as f64)
    }

    /// Returns whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }

    /// Returns what was counted.
    pub fn iter(&self) -> impl Iterator<Item = (What, u64)> {
        let all = What::ALL.into_iter().zip(self.0);
        all.filter(|(_, count)| *count > 0)
    }
}

impl<'a> Place<'a> {
    /// Returns where a caller's texts are counted: those that are too long to be names, under [`OTHER`].
    pub fn new(dialect: &'a str, model: &'a str, namespace: &'a str) -> Self {
        let name = |text: &'a str| {
            if text.len() > MAX_NAME { OTHER } else { text }
        };
        Self {
            dialect,
            model: name(model),
            namespace: name(namespace),
        }
    }

    /// Returns where calls of this dialect are counted for which there is no place of their own.
    pub fn other(dialect: &'a str) -> Self {
        Self::new(dialect, OTHER, OTHER)
    }

    /// Returns the row of this place.
    pub fn row(self, day: Day, counts: Counts) -> Row {
        Row {
            day,
            dialect: self.dialect.to_owned(),
            model: self.model.to_owned(),
            namespace: self.namespace.to_owned(),
            counts,
        }
    }
}

impl Row {
    /// Returns its place.
    pub fn place(&self) -> Place<'_> {
        Place {
            dialect: &self.dialect,
            model: &self.model,
            namespace: &self.namespace,
        }
    }
}

impl Batch {
    /// Rows of a batch: at most 192 counts, which keep Redis busy for less than a millisecond (3.6 µs each, measured).
    pub const MOST: usize = 16;
}

impl Stored {
    /// Adds a count to the row of its place, if that was the last one, or to a new row.
    pub fn add(&mut self, day: Day, place: Place<'_>, what: What, count: u64) {
        let last = self.rows.last_mut();
        let last = last.filter(|row| row.day == day && row.place() == place);
        if let Some(row) = last {
            row.counts.add(what, count);
        } else {
            let mut counts = Counts::default();
            counts.add(what, count);
            self.rows.push(place.row(day, counts));
        }
    }

    /// Adds what was stored of another day.
    pub fn append(&mut self, day: Self) {
        self.rows.extend(day.rows);
        self.last = self.last.max(day.last);
        self.is_cut |= day.is_cut;
    }
}

/// Stands for whatever has no place of its own.
pub const OTHER: &str = "other";

/// Days that are kept.
pub const KEPT: u32 = 400;

/// Counters that a store keeps of one day; what is beyond is counted under [`OTHER`].
pub const MOST_A_DAY: u64 = 12_000;

/// Counters that a store reads at once; where there are more, those of the earliest days are left out.
pub const MOST_READ: u64 = 100_000;

/// Seconds of a day.
const SECONDS: u64 = 86_400;
/// The last day of the year 9999: later ones cannot be written as dates.
const LAST: u32 = 2_932_896;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_utcs_and_reads_as_a_date() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (time, date) in [
            (at(0), "1970-01-01"),
            (at(86_399), "1970-01-01"),
            (at(86_400), "1970-01-02"),
            (at(1_795_219_200), "2026-11-21"),
            (
                SystemTime::UNIX_EPOCH - Duration::from_secs(9),
                "1970-01-01",
            ),
            (at(u64::from(LAST) * SECONDS), "9999-12-31"),
            (at(u64::from(LAST) * SECONDS * 9), "9999-12-31"),
        ] {
            assert_eq!(Day::of(time).to_string(), date);
        }
        assert_eq!(Day::new(-1), None);
        assert_eq!(Day::new(i64::from(LAST) + 1), None);
        let day = Day::of(at(1_795_219_200));
        assert_eq!(Day::new(i64::from(day.number())), Some(day));
        assert_eq!(day.back(20).to_string(), "2026-11-01");
        assert_eq!(day.back(2).to(day).count(), 3);
    }

    #[test]
    fn everything_that_is_counted_has_a_word_and_a_place_of_its_own() {
        for (index, what) in What::ALL.into_iter().enumerate() {
            assert_eq!(what as usize, index);
            assert_eq!(What::named(what.as_str()), Some(what));
        }
        for verdict in Verdict::ALL {
            assert_eq!(What::of(Some(verdict)).as_str(), verdict.as_str());
        }
        assert_eq!(What::named("guesses"), None);
    }

    #[test]
    fn counts_add_up_and_never_overflow() {
        let mut counts = Counts::default();
        assert!(counts.is_empty() && counts.hit_ratio().is_none());
        for (what, amount) in [
            (What::Hit, 2),
            (What::Miss, 1),
            (What::None, 5),
            (What::Bypass, 1),
            (What::Errors, 3),
            (What::SavedInput, u64::MAX),
        ] {
            counts.add(what, amount);
        }
        let twice = counts.clone();
        counts.merge(&twice);
        assert_eq!(counts.calls(), 18);
        assert_eq!(counts.get(What::Errors), 6);
        assert_eq!(counts.get(What::SavedInput), Counts::MOST);
        assert!((counts.hit_ratio().unwrap() - 2.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_text_too_long_for_a_name_is_counted_among_the_others() {
        let long = "m".repeat(MAX_NAME + 1);
        let place = Place::new("chat", &long, &long[1..]);
        assert_eq!((place.model, place.namespace), (OTHER, &long[1..]));
    }
}
