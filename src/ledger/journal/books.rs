//! What was counted and is on its way to the store: numbered batches, and what is yet to be one. Pure.
//!
//! # Invariant
//! What was counted stands in exactly one of these: the totals' shards, `pending`, a sealed batch, the store. A sealed
//! batch is sent as it is until the store has it; so there are sealed ones of one sealing at most, and what comes
//! meanwhile gathers in `pending`, which has the bound of [`Rows`] for each of [`DAYS`] days.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    ledger::totals::Rows,
    store::totals::{Batch, Day, Row, Stored},
};

/// The books of a process.
#[derive(Debug)]
pub(super) struct Books {
    /// Everything that this process has counted, of the last [`DAYS`].
    own: Rows,
    /// What is in no batch yet.
    pending: Rows,
    /// What the store may or may not have, in the order of their numbers.
    sealed: VecDeque<Arc<Batch>>,
    /// The number of the last batch.
    number: u64,
    /// Who sends the batches.
    writer: u64,
    /// Whether there is a store that they go to.
    is_kept: bool,
}

/// Days that a process knows by itself, where no store does.
pub(super) const DAYS: u32 = 31;

impl Books {
    /// Makes empty books of the process that is known as `writer`; `is_kept` tells whether there is a store for them.
    pub(super) fn new(writer: u64, is_kept: bool) -> Self {
        Self {
            own: Rows::default(),
            pending: Rows::default(),
            sealed: VecDeque::new(),
            number: 0,
            writer,
            is_kept,
        }
    }

    /// Takes in what was counted.
    pub(super) fn gather(&mut self, rows: &[Row], today: Day) {
        for row in rows {
            self.own.add(row.day, row.place(), &row.counts);
            if self.is_kept {
                self.pending.add(row.day, row.place(), &row.counts);
            }
        }
        let first = today.back(DAYS - 1);
        self.own.forget_before(first);
        self.pending.forget_before(first);
    }

    /// Makes batches of what is in none, once the store has the earlier ones.
    pub(super) fn seal(&mut self, today: Day) {
        if !self.sealed.is_empty() {
            return;
        }
        let rows = self.pending.take(today);
        // They are sorted by day.
        for of_day in rows.chunk_by(|one, next| one.day == next.day) {
            for rows in of_day.chunks(Batch::MOST) {
                self.number += 1;
                self.sealed.extend(rows.first().map(|first| {
                    Arc::new(Batch {
                        writer: self.writer,
                        number: self.number,
                        day: first.day,
                        rows: rows.to_vec(),
                    })
                }));
            }
        }
    }

    /// Returns the batch that is to be sent next.
    pub(super) fn next(&self) -> Option<Arc<Batch>> {
        self.sealed.front().cloned()
    }

    /// Notes that the store has all batches up to this number.
    pub(super) fn settle(&mut self, number: u64) {
        while self
            .sealed
            .front()
            .is_some_and(|batch| batch.number <= number)
        {
            self.sealed.pop_front();
        }
    }

    /// Returns what is `stored` and what is not yet.
    pub(super) fn with(&self, stored: Stored) -> Vec<Row> {
        let mut rows = stored.rows;
        // The reply to what the store already has may have been lost.
        let sealed = self.sealed.iter();
        let sealed = sealed.filter(|batch| batch.number > stored.last);
        rows.extend(sealed.flat_map(|batch| batch.rows.iter().cloned()));
        rows.extend(self.pending.iter().cloned());
        rows
    }

    /// Returns what this process has counted.
    pub(super) fn own(&self) -> Vec<Row> {
        self.own.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::totals::{Counts, Place, What};

    fn day(number: i64) -> Day {
        Day::new(number).unwrap()
    }

    fn row(number: i64, model: &str, hits: u64) -> Row {
        let mut counts = Counts::default();
        counts.add(What::Hit, hits);
        Place::new("chat", model, "").row(day(number), counts)
    }

    fn hits<'a>(rows: impl IntoIterator<Item = &'a Row>) -> u64 {
        let hits = rows.into_iter().map(|row| row.counts.get(What::Hit));
        hits.sum()
    }

    fn books(rows: &[Row]) -> Books {
        let mut books = Books::new(7, true);
        books.gather(rows, day(50));
        books
    }

    #[test]
    fn a_batch_stays_as_it_is_until_the_store_has_it() {
        let mut books = books(&[row(50, "a", 1)]);
        books.seal(day(50));
        let first = books.next().unwrap();
        books.gather(&[row(50, "a", 2)], day(50));
        books.seal(day(50));
        assert_eq!(books.next().unwrap(), first);
        assert_eq!((first.writer, first.number, hits(&first.rows)), (7, 1, 1));
        books.settle(1);
        assert_eq!(books.next(), None);
        books.seal(day(50));
        let second = books.next().unwrap();
        assert_eq!((second.number, hits(&second.rows)), (2, 2));
    }

    #[test]
    fn a_batch_has_one_day_and_so_many_rows() {
        let models: Vec<_> = (0..=Batch::MOST)
            .map(|number| format!("m{number}"))
            .collect();
        let mut rows: Vec<_> = models.iter().map(|model| row(50, model, 1)).collect();
        rows.push(row(49, "a", 1));
        let mut books = books(&rows);
        books.seal(day(50));
        let sizes = books.sealed.iter();
        let sizes: Vec<_> = sizes
            .map(|batch| (batch.number, batch.day.number(), batch.rows.len()))
            .collect();
        assert_eq!(sizes, [(1, 49, 1), (2, 50, Batch::MOST), (3, 50, 1)]);
        assert_eq!(hits(&books.with(Stored::default())), rows.len() as u64);
        books.settle(2);
        assert_eq!(books.next().unwrap().number, 3);
    }

    #[test]
    fn what_the_store_already_has_is_not_counted_twice() {
        let mut books = books(&[row(49, "a", 1), row(50, "a", 10)]);
        books.seal(day(50));
        books.gather(&[row(50, "a", 100)], day(50));
        let stored = |hits, last| Stored {
            rows: vec![row(50, "a", hits)],
            last,
            is_cut: false,
        };
        for (hits_stored, last, expected, why) in [
            (1_000, 0, 1_111, "nothing has arrived"),
            (1_001, 1, 1_111, "the first batch has"),
            (1_011, 2, 1_111, "both have, and the replies were lost"),
        ] {
            let rows = books.with(stored(hits_stored, last));
            assert_eq!(hits(&rows), expected, "{why}");
        }
    }

    #[test]
    fn without_a_store_nothing_waits_for_one() {
        let mut books = Books::new(7, false);
        books.gather(&[row(50, "a", 3)], day(50));
        books.seal(day(50));
        assert_eq!(books.next(), None);
        assert_eq!(hits(&books.own()), 3);
    }

    #[test]
    fn a_store_that_stays_away_does_not_fill_the_memory() {
        let mut books = Books::new(7, true);
        for number in 1..100 {
            books.gather(&[row(number, "a", 1)], day(number));
            books.seal(day(number));
        }
        assert_eq!(books.own().len(), DAYS as usize);
        assert_eq!(books.sealed.len(), 1);
        assert_eq!(books.pending.iter().count(), DAYS as usize);
    }
}
