//! Counters on the disk: one row for each thing that is counted in a place on a day.
//!
//! # Scope
//! The tables are made where they are missing, as for proofs. The last batch that was added is noted in the same
//! transaction, so that it is added once, whatever became of the reply. Days older than [`KEPT`] are deleted when a new one
//! begins, and the oldest ones where there are too many rows.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::trouble::Trouble;
use crate::store::totals::{Batch, Counts, Day, KEPT, MOST_A_DAY, MOST_READ, Place, Stored, What};

/// Makes the table, if it is not there.
pub(super) fn create(connection: &Connection) -> Result<(), Trouble> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS total (
             day INTEGER NOT NULL, dialect TEXT NOT NULL, model TEXT NOT NULL, namespace TEXT NOT NULL,
             what TEXT NOT NULL, count INTEGER NOT NULL,
             PRIMARY KEY (day, dialect, model, namespace, what)
         ) WITHOUT ROWID",
    )?;
    Ok(())
}

/// Adds a batch, unless it was added before.
pub(super) fn add(transaction: &Transaction<'_>, batch: &Batch) -> Result<(), Trouble> {
    if last(transaction, batch.writer)? >= batch.number {
        return Ok(());
    }
    transaction
        .prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES ('totals', ?1)")?
        .execute([mark(batch.writer, batch.number)])?;
    let mut held = held(transaction, batch.day)?;
    if held == 0 {
        prune(transaction, batch.day)?;
    }
    for row in &batch.rows {
        for (what, count) in row.counts.iter() {
            let place = row.place();
            let is_new = !raise(transaction, batch.day, place, what, count)?;
            if is_new && held < MOST_A_DAY {
                held += 1;
                insert(transaction, batch.day, place, what, count)?;
            } else if is_new {
                let other = Place::other(place.dialect);
                insert(transaction, batch.day, other, what, count)?;
            }
        }
    }
    Ok(())
}

/// Returns what was counted from `first` to `last_day`, the latest first, and which batch of `writer` is the last in it.
pub(super) fn read(
    connection: &Connection,
    first: Day,
    last_day: Day,
    writer: u64,
) -> Result<Stored, Trouble> {
    // Rows and mark of one moment.
    let moment = connection.unchecked_transaction()?;
    let mut stored = Stored {
        last: last(&moment, writer)?,
        ..Stored::default()
    };
    let mut statement = moment.prepare_cached(
        "SELECT day, dialect, model, namespace, what, CAST(count AS INTEGER) FROM total
         WHERE day BETWEEN ?1 AND ?2
         ORDER BY day DESC, dialect DESC, model DESC, namespace DESC, what DESC LIMIT ?3",
    )?;
    let limit = (MOST_READ + 1).cast_signed();
    let mut found = statement.query(params![first.number(), last_day.number(), limit])?;
    let mut read = 0;
    while let Some(row) = found.next()? {
        read += 1;
        stored.is_cut = read > MOST_READ;
        let word: String = row.get(4)?;
        let (Some(day), Some(what)) = (Day::new(row.get(0)?), What::named(&word)) else {
            continue;
        };
        let names: [String; 3] = [row.get(1)?, row.get(2)?, row.get(3)?];
        let [dialect, model, namespace] = names.each_ref().map(String::as_str);
        let count = row.get::<_, i64>(5)?.max(0).cast_unsigned();
        stored.add(day, Place::new(dialect, model, namespace), what, count);
    }
    Ok(stored)
}

/// Adds to a count that is there; returns whether it is.
fn raise(
    transaction: &Transaction<'_>,
    day: Day,
    place: Place<'_>,
    what: What,
    count: u64,
) -> Result<bool, Trouble> {
    let raised = transaction
        .prepare_cached(
            "UPDATE total SET count = min(count + ?6, ?7) WHERE day = ?1 AND dialect = ?2
             AND model = ?3 AND namespace = ?4 AND what = ?5",
        )?
        .execute(params![
            day.number(),
            place.dialect,
            place.model,
            place.namespace,
            what.as_str(),
            count.cast_signed(),
            Counts::MOST.cast_signed()
        ])?;
    Ok(raised > 0)
}

/// Adds to a count that may or may not be there.
fn insert(
    transaction: &Transaction<'_>,
    day: Day,
    place: Place<'_>,
    what: What,
    count: u64,
) -> Result<(), Trouble> {
    transaction
        .prepare_cached(
            "INSERT INTO total (day, dialect, model, namespace, what, count)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET count = min(count + excluded.count, ?7)",
        )?
        .execute(params![
            day.number(),
            place.dialect,
            place.model,
            place.namespace,
            what.as_str(),
            count.cast_signed(),
            Counts::MOST.cast_signed()
        ])?;
    Ok(())
}

/// Returns how many counts `day` has.
fn held(transaction: &Transaction<'_>, day: Day) -> Result<u64, Trouble> {
    let held: i64 = transaction
        .prepare_cached("SELECT count(*) FROM total WHERE day = ?1")?
        .query_row([day.number()], |row| row.get(0))?;
    Ok(held.cast_unsigned())
}

/// Deletes what is too old on `day`, and the oldest of what is too much.
fn prune(transaction: &Transaction<'_>, day: Day) -> Result<(), Trouble> {
    let first = day.back(KEPT - 1).number();
    transaction.execute("DELETE FROM total WHERE day < ?1", [first])?;
    let count = "SELECT count(*) FROM total";
    while transaction.query_row(count, [], |row| row.get::<_, i64>(0))? > MOST_KEPT {
        let oldest = "DELETE FROM total WHERE day = (SELECT min(day) FROM total)";
        transaction.execute(oldest, [])?;
    }
    Ok(())
}

/// Returns the number of the last batch that was added, if it was this writer's; 0 if not: one process has the file, and
/// its batches come in order.
fn last(connection: &Connection, writer: u64) -> Result<u64, Trouble> {
    let noted: Option<Vec<u8>> = connection
        .prepare_cached("SELECT value FROM meta WHERE name = 'totals'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let number = noted.as_deref().and_then(|noted| {
        let (of, number) = noted.split_first_chunk()?;
        (u64::from_be_bytes(*of) == writer).then_some(())?;
        Some(u64::from_be_bytes(number.try_into().ok()?))
    });
    Ok(number.unwrap_or(0))
}

fn mark(writer: u64, number: u64) -> Vec<u8> {
    [writer.to_be_bytes(), number.to_be_bytes()].concat()
}

/// Counts that are kept at all: some 30 MB.
const MOST_KEPT: i64 = 300_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::totals::{OTHER, Row};

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        let meta = "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID";
        connection.execute_batch(meta).unwrap();
        create(&connection).unwrap();
        connection
    }

    fn day(number: i64) -> Day {
        Day::new(number).unwrap()
    }

    fn row(day: Day, model: &str, counted: &[(What, u64)]) -> Row {
        let mut counts = Counts::default();
        for (what, count) in counted {
            counts.add(*what, *count);
        }
        Place::new("chat", model, "").row(day, counts)
    }

    fn batch(number: u64, day: Day, rows: Vec<Row>) -> Batch {
        Batch {
            writer: 7,
            number,
            day,
            rows,
        }
    }

    fn add_to(connection: &mut Connection, batch: &Batch) {
        let transaction = connection.transaction().unwrap();
        add(&transaction, batch).unwrap();
        transaction.commit().unwrap();
    }

    #[test]
    fn batches_add_up_and_each_is_added_once() {
        let mut connection = database();
        let first = batch(
            1,
            day(9),
            vec![row(day(9), "a", &[(What::Hit, 2), (What::Miss, 1)])],
        );
        let second = batch(2, day(9), vec![row(day(9), "a", &[(What::Hit, 5)])]);
        for batch in [&first, &first, &second, &first, &second] {
            add_to(&mut connection, batch);
        }
        let stored = read(&connection, day(9), day(9), 7).unwrap();
        assert_eq!(stored.last, 2);
        assert!(!stored.is_cut);
        assert_eq!(
            stored.rows,
            [row(day(9), "a", &[(What::Hit, 7), (What::Miss, 1)])]
        );
        let others = read(&connection, day(9), day(9), 8).unwrap();
        assert_eq!(others.last, 0, "another process has sent nothing");
        add_to(&mut connection, &Batch { writer: 8, ..first });
        let stored = read(&connection, day(9), day(9), 8).unwrap();
        assert_eq!((stored.last, stored.rows.len()), (1, 1));
        assert_eq!(stored.rows[0].counts.get(What::Hit), 9);
    }

    #[test]
    fn days_are_told_apart_and_kept_so_long() {
        let mut connection = database();
        let days = [1_000, 1_001, 1_000 + i64::from(KEPT)];
        for (number, at) in (1..).zip(days) {
            let row = row(day(at), "a", &[(What::Hit, 1)]);
            add_to(&mut connection, &batch(number, day(at), vec![row]));
        }
        let held = |first, last| {
            let stored = read(&connection, day(first), day(last), 7).unwrap();
            let days = stored.rows.iter().map(|row| row.day.number());
            days.collect::<Vec<_>>()
        };
        assert_eq!(held(0, 9_000), [1_400, 1_001], "the first is too old");
        assert_eq!(held(1_001, 1_399), [1_001]);
    }

    #[test]
    fn names_beyond_the_bound_of_a_day_are_added_to_the_others() {
        let mut connection = database();
        let filled = connection.execute(
            "WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < ?1)
             INSERT INTO total SELECT 9, 'chat', value, '', 'hit', 1 FROM n",
            [MOST_A_DAY.cast_signed()],
        );
        assert_eq!(filled.unwrap() as u64, MOST_A_DAY);
        let known = row(day(9), "77", &[(What::Hit, 1)]);
        let late = [
            row(day(9), "late", &[(What::Hit, 3)]),
            row(day(9), "later", &[(What::Hit, 4)]),
        ];
        add_to(
            &mut connection,
            &batch(1, day(9), [&[known][..], &late].concat()),
        );
        let stored = read(&connection, day(9), day(9), 7).unwrap();
        let of = |model: &str| {
            let row = stored.rows.iter().find(|row| row.model == model);
            row.map(|row| row.counts.calls())
        };
        assert_eq!((of("77"), of("late"), of(OTHER)), (Some(2), None, Some(7)));
    }

    #[test]
    fn what_another_version_counts_is_passed_over() {
        let mut connection = database();
        add_to(
            &mut connection,
            &batch(1, day(9), vec![row(day(9), "a", &[(What::Hit, 1)])]),
        );
        connection
            .execute_batch(
                "INSERT INTO total VALUES (9, 'chat', 'a', '', 'guesses', 1);
                 UPDATE total SET count = 9e99 WHERE what = 'hit';
                 UPDATE meta SET value = x'00' WHERE name = 'totals'",
            )
            .unwrap();
        let stored = read(&connection, day(9), day(9), 7).unwrap();
        assert_eq!((stored.last, stored.rows.len()), (0, 1));
        assert_eq!(stored.rows[0].counts.get(What::Hit), Counts::MOST);
    }
}
