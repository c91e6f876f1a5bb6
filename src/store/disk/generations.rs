//! Purges on the disk: one row for each name that was purged and is not yet forgotten.
//!
//! # Scope
//! Which those are is the registry's decision (`store::generations`). A row that was deleted too late purges more than it
//! has to, never less.

use rusqlite::{Connection, Transaction, params};

use super::trouble::Trouble;
use crate::store::generations::Row;

/// Makes the table, if it is not there.
pub(super) fn create(connection: &Connection) -> Result<(), Trouble> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS generation (name BLOB PRIMARY KEY, value INTEGER NOT NULL, at INTEGER NOT NULL)
         WITHOUT ROWID",
    )?;
    Ok(())
}

/// Returns all purges.
pub(super) fn load(connection: &Connection) -> Result<Vec<Row>, Trouble> {
    let mut statement = connection.prepare("SELECT name, value, at FROM generation ORDER BY at")?;
    let rows = statement.query_map([], |row| {
        Ok(Row {
            name: row.get(0)?,
            value: row.get::<_, i64>(1)?.cast_unsigned(),
            at: row.get::<_, i64>(2)?.max(0).cast_unsigned(),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Writes purges, in place of earlier ones of the same name.
pub(super) fn write(transaction: &Transaction<'_>, purges: &[Row]) -> Result<(), Trouble> {
    let mut insert = transaction.prepare_cached(
        "INSERT OR REPLACE INTO generation (name, value, at) VALUES (?1, ?2, ?3)",
    )?;
    for Row { name, value, at } in purges {
        let at = i64::try_from(*at).unwrap_or(i64::MAX);
        insert.execute(params![name, value.cast_signed(), at])?;
    }
    Ok(())
}

/// Deletes purges, unless a later one of the same name has taken their place.
pub(super) fn delete(transaction: &Transaction<'_>, purges: &[Row]) -> Result<(), Trouble> {
    let mut delete =
        transaction.prepare_cached("DELETE FROM generation WHERE name = ?1 AND value = ?2")?;
    for Row { name, value, .. } in purges {
        delete.execute(params![name, value.cast_signed()])?;
    }
    Ok(())
}
