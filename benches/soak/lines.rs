//! The log of a run, read at its end: how many lines each call has, and whether anything panicked.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
};

use anyhow::Result;

/// What a log holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    /// How many lines each call has, by its number.
    per_call: Vec<u8>,
    /// All lines about calls.
    pub(crate) calls: u64,
    /// What was said of a panic.
    pub(crate) panics: Vec<String>,
}

impl Lines {
    /// Reads a log.
    pub(crate) fn read(log: &Path) -> Result<Self> {
        let mut lines = Self::default();
        for line in BufReader::new(fs::File::open(log)?).lines() {
            lines.add(&line?);
        }
        Ok(lines)
    }

    /// Returns how many lines call `id` has.
    pub(crate) fn of(&self, id: u64) -> u8 {
        let index = usize::try_from(id).unwrap_or(usize::MAX);
        self.per_call.get(index).copied().unwrap_or(0)
    }

    fn add(&mut self, line: &str) {
        if line.contains("panicked") {
            self.panics.push(line.to_owned());
        }
        if !line.contains("\"message\":\"call\"") {
            return;
        }
        self.calls += 1;
        let id = line.split_once("\"call.id\":\"soak-");
        let id = id.and_then(|(_, rest)| rest.split('"').next()?.parse::<usize>().ok());
        let Some(id) = id else { return };
        if self.per_call.len() <= id {
            self.per_call.resize(id + 1, 0);
        }
        if let Some(count) = self.per_call.get_mut(id) {
            *count = count.saturating_add(1);
        }
    }
}
