//! Keeps the database within its size, and deletes rows.
//!
//! # Scope
//! What was used least recently gives way, one entry at a time, so that nothing does for which there is room. What is
//! dated ahead of the clock goes first: nobody can tell how old it is, and it would outlive everything.

use std::collections::HashSet;

use rusqlite::{Connection, ToSql, Transaction, params};

use super::{SKEW, file, trouble::Trouble};
use crate::{call::Slot, store::codec};

/// Deletes entries until `max_size` holds, at `now` milliseconds of Unix time; returns their slots. Those of `fresh`, which
/// were just written, are spared as long as there are others. Where there is room, nothing is looked for: that is a third
/// of the writer's work.
pub(super) fn evict(
    transaction: &Transaction<'_>,
    max_size: u64,
    now: u64,
    fresh: &HashSet<Slot>,
) -> Result<Vec<Slot>, Trouble> {
    let ahead = now.saturating_add(codec::millis(SKEW));
    let ahead = i64::try_from(ahead).unwrap_or(i64::MAX);
    let none = HashSet::new();
    let mut evicted = Vec::new();
    if used(transaction)? <= max_size {
        return Ok(evicted);
    }
    for (query, spared) in [(AHEAD, fresh), (LEAST, fresh), (LEAST, &none)] {
        loop {
            let before = evicted.len();
            for (id, slot) in find(transaction, query, params![ahead, SOME])? {
                if used(transaction)? <= max_size {
                    return Ok(evicted);
                }
                if !spared.contains(&slot) {
                    delete(transaction, id)?;
                    evicted.push(slot);
                }
            }
            if evicted.len() == before {
                break;
            }
        }
    }
    Ok(evicted)
}

/// Deletes some of the entries that `query` finds, and returns their slots.
pub(super) fn delete_found(
    transaction: &Transaction<'_>,
    query: &str,
    parameters: &[&dyn ToSql],
) -> Result<Vec<Slot>, Trouble> {
    let found = find(transaction, query, parameters)?;
    for (id, _) in &found {
        delete(transaction, *id)?;
    }
    Ok(found.into_iter().map(|(_, slot)| slot).collect())
}

/// Returns the bytes of the pages that hold something.
pub(super) fn used(connection: &Connection) -> Result<u64, Trouble> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = number("page_count")? - number("freelist_count")?;
    Ok((pages * number("page_size")?).max(0).cast_unsigned())
}

fn find(
    transaction: &Transaction<'_>,
    query: &str,
    parameters: &[&dyn ToSql],
) -> Result<Vec<(i64, Slot)>, Trouble> {
    let mut statement = transaction.prepare_cached(query)?;
    let rows = statement.query_map(parameters, |row| {
        Ok((row.get(0)?, file::slot(row.get(1)?, row.get(2)?)))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn delete(transaction: &Transaction<'_>, id: i64) -> Result<(), Trouble> {
    transaction
        .prepare_cached("DELETE FROM entry WHERE id = ?1")?
        .execute([id])?;
    delete_body(transaction, id)
}

/// Deletes the body of an entry that is deleted itself.
pub(super) fn delete_body(transaction: &Transaction<'_>, id: i64) -> Result<(), Trouble> {
    transaction
        .prepare_cached("DELETE FROM body WHERE id = ?1")?
        .execute([id])?;
    Ok(())
}

const AHEAD: &str = "SELECT id, key, delivery FROM entry WHERE used > ?1 ORDER BY used LIMIT ?2";
const LEAST: &str = "SELECT id, key, delivery FROM entry WHERE used <= ?1 ORDER BY used LIMIT ?2";
/// Entries looked up at once: more than are written in one transaction, so that there is one to give way among them.
const SOME: i64 = 128;
