//! Adds up what was counted: in all, by day, by dialect, by model and by namespace. Pure.

use std::collections::BTreeMap;

use crate::store::totals::{Counts, Day, OTHER, Row};

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// All of it.
    pub total: Counts,
    /// By day, in order; only those on which anything was counted.
    pub by_day: Vec<(Day, Counts)>,
    /// By dialect, those with the most calls first.
    pub by_dialect: Vec<(String, Counts)>,
    /// By model, those with the most calls first; what is beyond [`TOP`] is added to [`OTHER`].
    pub by_model: Vec<(String, Counts)>,
    /// By namespace, like models.
    pub by_namespace: Vec<(String, Counts)>,
}

/// Models and namespaces that are told one by one.
pub const TOP: usize = 50;

impl Report {
    /// Adds up `rows`.
    pub fn of<'a>(rows: impl Iterator<Item = &'a Row> + Clone) -> Self {
        let mut total = Counts::default();
        for row in rows.clone() {
            total.merge(&row.counts);
        }
        Self {
            total,
            by_day: sums(rows.clone(), |row| row.day).into_iter().collect(),
            by_dialect: ranked(sums(rows.clone(), |row| &*row.dialect)),
            by_model: ranked(sums(rows.clone(), |row| &*row.model)),
            by_namespace: ranked(sums(rows, |row| &*row.namespace)),
        }
    }
}

fn sums<'a, K: Ord>(
    rows: impl Iterator<Item = &'a Row>,
    name: impl Fn(&'a Row) -> K,
) -> BTreeMap<K, Counts> {
    let mut sums = BTreeMap::<K, Counts>::new();
    for row in rows {
        sums.entry(name(row)).or_default().merge(&row.counts);
    }
    sums
}

/// Returns the sums with the most calls first, and those beyond the bound added to the others.
fn ranked(sums: BTreeMap<&str, Counts>) -> Vec<(String, Counts)> {
    let mut sums: Vec<_> = sums
        .into_iter()
        .map(|(name, counts)| (name.to_owned(), counts))
        .collect();
    // Equals stay in the order of their names.
    sums.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.calls()));
    let rest = sums.split_off(sums.len().min(TOP));
    if rest.is_empty() {
        return sums;
    }
    let mut others = Counts::default();
    for (_, counts) in &rest {
        others.merge(counts);
    }
    match sums.iter_mut().find(|(name, _)| name == OTHER) {
        Some((_, counts)) => counts.merge(&others),
        None => sums.push((OTHER.to_owned(), others)),
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::totals::{Place, What};

    fn row(day: i64, model: &str, namespace: &str, calls: u64) -> Row {
        let mut counts = Counts::default();
        counts.add(What::Hit, calls);
        Place::new("chat", model, namespace).row(Day::new(day).unwrap(), counts)
    }

    fn told(sums: &[(String, Counts)]) -> Vec<(&str, u64)> {
        let told = sums.iter();
        told.map(|(name, counts)| (name.as_str(), counts.calls()))
            .collect()
    }

    #[test]
    fn rows_are_added_up_in_every_way() {
        let rows = [
            row(2, "a", "", 1),
            row(1, "b", "n", 5),
            row(2, "b", "", 2),
            row(2, "a", "", 1),
        ];
        let report = Report::of(rows.iter());
        assert_eq!(report.total.calls(), 9);
        let days = report.by_day.iter();
        let days: Vec<_> = days
            .map(|(day, counts)| (day.number(), counts.calls()))
            .collect();
        assert_eq!(days, [(1, 5), (2, 4)]);
        assert_eq!(told(&report.by_dialect), [("chat", 9)]);
        assert_eq!(told(&report.by_model), [("b", 7), ("a", 2)]);
        assert_eq!(told(&report.by_namespace), [("n", 5), ("", 4)]);
    }

    #[test]
    fn the_small_ones_are_told_together_and_nothing_is_left_out() {
        let name = |number: usize| format!("m{number:03}");
        let mut rows: Vec<_> = (0..TOP + 3)
            .map(|number| row(1, &name(number), "", 2))
            .collect();
        let beyond = Report::of(rows.iter()).by_model;
        assert_eq!(beyond.len(), TOP + 1);
        assert_eq!(told(&beyond).last(), Some(&(OTHER, 6)));
        rows.push(row(1, OTHER, "", 9));
        let models = Report::of(rows.iter()).by_model;
        assert_eq!(models.len(), TOP);
        assert_eq!(told(&models).first(), Some(&(OTHER, 9 + 2 * 4)));
        let all: u64 = models.iter().map(|(_, counts)| counts.calls()).sum();
        assert_eq!(all, rows.iter().map(|row| row.counts.calls()).sum::<u64>());
    }
}
