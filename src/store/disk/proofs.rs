//! Proofs on the disk: one row for each, no credential among them.
//!
//! # Scope
//! The table is made where it is missing: a database without it is one of an earlier build, and one with it is still read
//! by that. How many rows there are is the registry's bound; what is beyond it is deleted at the start.

use std::time::Duration;

use rusqlite::{Connection, Transaction, params};

use super::trouble::Trouble;
use crate::store::{codec, proofs::MOST};

/// What is kept of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// What it is about.
    pub subject: [u8; 32],
    /// How long ago it was accepted or refused.
    pub age: Duration,
    /// Whether it was refused.
    pub ended: bool,
}

/// What is to be written about a subject: when, in milliseconds of Unix time, and whether it was refused; nothing to
/// have it deleted.
pub(super) type Line = Option<(u64, bool)>;

/// Makes the table, if it is not there.
pub(super) fn create(connection: &Connection) -> Result<(), Trouble> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS proof (subject BLOB PRIMARY KEY, at INTEGER NOT NULL, ended INTEGER NOT NULL)
         WITHOUT ROWID",
    )?;
    Ok(())
}

/// Returns the youngest proofs at `now`, in milliseconds of Unix time, and deletes the others.
pub(super) fn load(connection: &Connection, now: u64) -> Result<Vec<Proof>, Trouble> {
    let most = i64::try_from(MOST).unwrap_or(i64::MAX);
    connection.execute(
        "DELETE FROM proof WHERE subject NOT IN (SELECT subject FROM proof ORDER BY at DESC LIMIT ?1)",
        [most],
    )?;
    let mut statement = connection.prepare("SELECT subject, at, ended FROM proof")?;
    let rows = statement.query_map([], |row| {
        let at: i64 = row.get(1)?;
        Ok(Proof {
            subject: row.get(0)?,
            // A clock that was set back makes no proof younger than new.
            age: Duration::from_millis(now.saturating_sub(at.max(0).cast_unsigned())),
            ended: row.get(2)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Writes or deletes one proof.
pub(super) fn apply(
    transaction: &Transaction<'_>,
    subject: &[u8; 32],
    line: Line,
) -> Result<(), Trouble> {
    match line {
        Some((at, ended)) => transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO proof (subject, at, ended) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![subject, time(at), ended])?,
        None => transaction
            .prepare_cached("DELETE FROM proof WHERE subject = ?1")?
            .execute([subject])?,
    };
    Ok(())
}

fn time(at: u64) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}

/// Returns when a proof of this age was given, at `now`; both in milliseconds of Unix time.
pub(super) fn dated(proof: &Proof, now: u64) -> (u64, bool) {
    (now.saturating_sub(codec::millis(proof.age)), proof.ended)
}
