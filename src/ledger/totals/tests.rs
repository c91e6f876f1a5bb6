//! What is counted is taken once, in the right row, and callers' names cannot fill the memory.

use std::thread;

use super::*;
use crate::store::totals::{OTHER, What};

fn day(number: i64) -> Day {
    Day::new(number).unwrap()
}

fn one(what: What) -> Counts {
    let mut counts = Counts::default();
    counts.add(what, 1);
    counts
}

fn place<'a>(model: &'a str, namespace: &'a str) -> Place<'a> {
    Place::new("chat", model, namespace)
}

/// Returns the rows as day, model, namespace and number of calls.
fn told(rows: &[Row]) -> Vec<(u32, &str, &str, u64)> {
    let told = rows.iter().map(|row| {
        let Row {
            day,
            model,
            namespace,
            counts,
            ..
        } = row;
        (day.number(), &**model, &**namespace, counts.calls())
    });
    told.collect()
}

#[test]
fn each_place_has_a_row_a_day_and_is_taken_once() {
    let mut rows = Rows::default();
    for (number, model, namespace) in [(2, "a", ""), (1, "a", ""), (2, "a", "n"), (2, "a", "")] {
        rows.add(day(number), place(model, namespace), &one(What::Hit));
    }
    let taken = rows.take(day(2));
    assert_eq!(
        told(&taken),
        [(1, "a", "", 1), (2, "a", "", 2), (2, "a", "n", 1)]
    );
    assert_eq!(rows.take(day(2)), []);
    rows.add(day(2), place("a", ""), &one(What::Miss));
    assert_eq!(told(&rows.take(day(3))), [(2, "a", "", 1)]);
    assert!(rows.rows.is_empty(), "yesterday's rows are gone");
}

#[test]
fn names_beyond_the_bound_of_a_day_are_counted_together() {
    let mut rows = Rows::default();
    let today = day(7);
    for number in 0..MOST_ROWS + 5 {
        let model = format!("m{number:04}");
        rows.add(today, place(&model, ""), &one(What::Miss));
    }
    rows.add(today, place("m0000", ""), &one(What::Miss));
    rows.add(today, Place::new("other", "x", ""), &one(What::Bypass));
    let taken = rows.take(today);
    assert_eq!(taken.len(), MOST_ROWS + 2);
    let count = |name: &str| {
        let of = taken.iter().filter(|row| row.model == name);
        of.map(|row| row.counts.calls()).collect::<Vec<_>>()
    };
    assert_eq!(count(OTHER), [5, 1], "one row for each dialect");
    assert_eq!(count("m0000"), [2]);
    rows.add(today, place("late", ""), &one(What::Miss));
    assert_eq!(
        told(&rows.take(today)),
        [(7, OTHER, OTHER, 1)],
        "also after they were taken"
    );
    rows.add(day(8), place("late", ""), &one(What::Miss));
    assert_eq!(
        told(&rows.take(day(8))),
        [(8, "late", "", 1)],
        "another day"
    );
}

#[test]
fn old_days_are_forgotten() {
    let mut rows = Rows::default();
    for number in 1..5 {
        rows.add(day(number), place("a", ""), &one(What::Hit));
    }
    rows.forget_before(day(3));
    let left: Vec<_> = rows.iter().map(|row| row.day.number()).collect();
    assert_eq!(left, [3, 4]);
}

#[test]
fn what_many_threads_count_is_all_there() {
    let totals = Totals::default();
    thread::scope(|scope| {
        for _ in 0..2 * SHARDS {
            scope.spawn(|| {
                for _ in 0..100 {
                    totals.count(day(1), place("a", "n"), &one(What::Hit));
                }
            });
        }
    });
    let taken = totals.take(day(1));
    let calls: u64 = taken.iter().map(|row| row.counts.calls()).sum();
    assert_eq!(calls, 200 * SHARDS as u64);
    assert!(totals.take(day(1)).is_empty());
}
