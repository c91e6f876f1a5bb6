//! Counts the tries of calls: what came of each, which were repeated, and which upstream took over from which.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::retry::Failure;

/// The counts; clones share them.
#[derive(Clone, Debug)]
pub struct Tally(Arc<[Upstream]>);

/// The counts of one upstream.
#[derive(Debug)]
struct Upstream {
    name: String,
    answered: AtomicU64,
    skipped: AtomicU64,
    failed: PerFailure,
    retried: PerFailure,
    /// Times that each upstream took over, in the configuration's order.
    left_to: Vec<AtomicU64>,
}

type PerFailure = [AtomicU64; Failure::ALL.len()];

/// How often something happened at an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The upstream.
    pub upstream: String,
    /// What happened, in a word from a closed list; or the name of another upstream.
    pub what: String,
    /// Times.
    pub count: u64,
}

/// All counts, as they are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tries, by what came of them: `answered`, a failure's word, or `no_credential` where there was none to be made.
    pub tries: Vec<Count>,
    /// Tries that were repeated at the same upstream, by the failure before.
    pub retries: Vec<Count>,
    /// Calls that another upstream took over, by its name.
    pub failovers: Vec<Count>,
}

impl Tally {
    /// Counts for upstreams of these `names`, in the configuration's order.
    pub fn new(names: &[String]) -> Self {
        let upstream = |name: &String| Upstream {
            name: name.clone(),
            answered: AtomicU64::default(),
            skipped: AtomicU64::default(),
            failed: PerFailure::default(),
            retried: PerFailure::default(),
            left_to: names.iter().map(|_| AtomicU64::default()).collect(),
        };
        Self(names.iter().map(upstream).collect())
    }

    /// Notes what came of a try.
    pub fn tried(&self, upstream: usize, failure: Option<Failure>) {
        let Some(counts) = self.0.get(upstream) else {
            return;
        };
        match failure {
            Some(failure) => add(of(&counts.failed, failure)),
            None => add(Some(&counts.answered)),
        }
    }

    /// Notes that an upstream could not take over, for want of a credential that the call may go there with.
    pub fn skipped(&self, upstream: usize) {
        add(self.0.get(upstream).map(|counts| &counts.skipped));
    }

    /// Notes that a try is repeated after `failure`.
    pub fn retried(&self, upstream: usize, failure: Failure) {
        let counts = self.0.get(upstream);
        add(counts.and_then(|counts| of(&counts.retried, failure)));
    }

    /// Notes that the upstream `to` takes over.
    pub fn left(&self, from: usize, to: usize) {
        add(self.0.get(from).and_then(|counts| counts.left_to.get(to)));
    }

    /// Returns all counts; those of failovers only where there is somebody to take over.
    pub fn counts(&self) -> Counts {
        Counts {
            tries: self.0.iter().flat_map(Upstream::tries).collect(),
            retries: self.0.iter().flat_map(Upstream::retries).collect(),
            failovers: (0..self.0.len())
                .flat_map(|from| self.failovers(from))
                .collect(),
        }
    }

    fn failovers(&self, from: usize) -> Vec<Count> {
        let Some(counts) = self.0.get(from) else {
            return Vec::new();
        };
        let others = self.0.iter().zip(&counts.left_to).enumerate();
        let others = others.filter(|(to, _)| *to != from);
        others
            .map(|(_, (other, times))| counts.count(&other.name, times))
            .collect()
    }
}

impl Upstream {
    fn tries(&self) -> Vec<Count> {
        let ends = [
            ("answered", &self.answered),
            ("no_credential", &self.skipped),
        ];
        ends.into_iter()
            .chain(words().zip(&self.failed))
            .map(|(word, times)| self.count(word, times))
            .collect()
    }

    fn retries(&self) -> Vec<Count> {
        let all = Failure::ALL.into_iter().zip(&self.retried);
        all.filter(|(failure, _)| failure.is_worth_repeating())
            .map(|(failure, times)| self.count(failure.as_str(), times))
            .collect()
    }

    fn count(&self, what: &str, times: &AtomicU64) -> Count {
        Count {
            upstream: self.name.clone(),
            what: what.to_owned(),
            count: times.load(Ordering::Relaxed),
        }
    }
}

fn words() -> impl Iterator<Item = &'static str> {
    Failure::ALL.into_iter().map(Failure::as_str)
}

fn of(counts: &PerFailure, failure: Failure) -> Option<&AtomicU64> {
    let index = Failure::ALL.iter().position(|known| *known == failure);
    index.and_then(|index| counts.get(index))
}

fn add(count: Option<&AtomicU64>) {
    if let Some(count) = count {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happened(counts: Vec<Count>) -> Vec<(String, String, u64)> {
        let moved = counts.into_iter().filter(|count| count.count > 0);
        moved.map(|c| (c.upstream, c.what, c.count)).collect()
    }

    fn line(upstream: &str, what: &str, count: u64) -> (String, String, u64) {
        (upstream.to_owned(), what.to_owned(), count)
    }

    #[test]
    fn everything_is_counted_where_it_happened() {
        let tally = Tally::new(&["a".to_owned(), "b".to_owned()]);
        tally.tried(0, Some(Failure::Status));
        tally.retried(0, Failure::Status);
        tally.tried(0, Some(Failure::Limited));
        tally.left(0, 1);
        tally.tried(1, None);
        tally.skipped(1);
        tally.tried(7, None);
        let counts = tally.counts();
        assert_eq!(
            happened(counts.tries),
            [
                line("a", "status", 1),
                line("a", "limited", 1),
                line("b", "answered", 1),
                line("b", "no_credential", 1)
            ]
        );
        assert_eq!(happened(counts.retries), [line("a", "status", 1)]);
        assert_eq!(happened(counts.failovers), [line("a", "b", 1)]);
    }

    #[test]
    fn the_series_are_there_from_the_start_and_no_more_of_them() {
        let counts = Tally::new(&["a".to_owned(), "b".to_owned()]).counts();
        assert_eq!(counts.tries.len(), 2 * (Failure::ALL.len() + 2));
        assert_eq!(counts.retries.len(), 2 * 4);
        assert_eq!(counts.failovers.len(), 2);
    }
}
