//! The database file: made, locked to this process, opened, and moved aside where it is damaged.
//!
//! # Scope
//! A file that is another program's, or of a schema that this Refrain does not know, is left alone. The file is read by
//! system calls and never mapped into memory: a file that is cut off behind our back would end the process (SIGBUS).

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, config::DbConfig, params};

use super::{
    generations,
    trouble::{Kind, Trouble},
};
use crate::call::{Slot, key::Key, key::Secret};

/// The place of the database. As long as this lives, no other process opens it.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    _lock: File,
}

/// An open database.
#[derive(Debug)]
pub(super) struct Opened {
    /// For the one writer.
    pub(super) connection: Connection,
    /// What keys are made with.
    pub(super) secret: Secret,
}

impl Place {
    /// Takes the place at `path` for this process.
    pub(super) fn take(path: &Path) -> Result<Self, Trouble> {
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
        }
        // Not the database itself: closing any descriptor of that drops SQLite's own locks (fcntl(2), F_SETLK).
        let lock = private(&with_suffix(path, ".lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(Trouble::new(
                Kind::Locked,
                "another process has the database",
            )),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// Opens the database, which is made if it is not there. `secret` is for a new one; `pages` is the most that it may
    /// ever have.
    pub(super) fn open(&self, secret: &Secret, pages: u64) -> Result<Opened, Trouble> {
        let file = private(&self.path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        drop(file);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&self.path, flags)?;
        configure(&connection)?;
        recognise(&mut connection, secret)?;
        generations::create(&connection)?;
        connection.pragma_update(None, "max_page_count", pages.cast_signed())?;
        let secret = read_secret(&connection)?;
        Ok(Opened { connection, secret })
    }

    /// Opens one more connection, which only reads.
    pub(super) fn reader(path: &Path) -> Result<Connection, Trouble> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        configure(&connection)?;
        Ok(connection)
    }

    /// Moves a damaged database aside, in place of an earlier one: an operator may want to look at it. Connections to it
    /// go on reading what they have open.
    pub(super) fn set_aside(&self, why: &Trouble) -> Result<(), Trouble> {
        let aside = with_suffix(&self.path, ".damaged");
        fs::rename(&self.path, &aside)?;
        for suffix in ["-wal", "-shm"] {
            let moved = fs::rename(with_suffix(&self.path, suffix), with_suffix(&aside, suffix));
            match moved {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        tracing::warn!(error = %why, aside = %aside.display(), "damaged database moved aside");
        Ok(())
    }
}

impl Opened {
    /// Calls `each` with every slot that the database holds.
    pub(super) fn slots(&self, mut each: impl FnMut(&Slot)) -> Result<(), Trouble> {
        let mut statement = self.connection.prepare("SELECT key, delivery FROM entry")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            each(&slot(row.get(0)?, row.get(1)?));
        }
        Ok(())
    }
}

/// Returns the slot of a row.
pub(super) fn slot(key: [u8; 32], delivery: i64) -> Slot {
    Slot {
        key: Key::from_bytes(key),
        delivery: delivery.cast_unsigned(),
    }
}

/// Opens a file that only its owner may read, and makes it if it is not there.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Sets what every connection needs.
fn configure(connection: &Connection) -> Result<(), Trouble> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(32);
    // Of a database that was moved aside, the write-ahead log's name belongs to its successor.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(())
}

/// Makes sure that the database is one of ours; an empty one is made ours.
fn recognise(connection: &mut Connection, secret: &Secret) -> Result<(), Trouble> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let tables = "SELECT count(*) FROM sqlite_schema";
    let tables: i64 = connection.query_row(tables, [], |row| row.get(0))?;
    let known = (number("application_id")?, number("user_version")?);
    let empty = tables == 0 && known == (0, 0);
    if !empty && known.0 != APPLICATION {
        let what = "the file is a database of another program";
        return Err(Trouble::new(Kind::Foreign, what));
    }
    if !empty && known.1 != SCHEMA {
        let what = "the file is of another version of Refrain";
        return Err(Trouble::new(Kind::Foreign, what));
    }
    if empty {
        // Only before the first table.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A crash of the process loses nothing, a loss of power perhaps the last commits: this is a cache.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "journal_size_limit", LOG)?;
    if empty {
        create(connection, secret)?;
    }
    Ok(())
}

fn create(connection: &mut Connection, secret: &Secret) -> Result<(), Trouble> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute(
        "INSERT INTO meta (name, value) VALUES ('secret', ?1)",
        params![secret.expose()],
    )?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", SCHEMA)?;
    transaction.commit()?;
    Ok(())
}

fn read_secret(connection: &Connection) -> Result<Secret, Trouble> {
    let query = "SELECT value FROM meta WHERE name = 'secret'";
    let bytes: [u8; 32] = connection.query_row(query, [], |row| row.get(0))?;
    Ok(Secret::from_bytes(bytes))
}

/// The body lies in a table of its own: whoever goes through the entries does not page through their bodies.
const TABLES: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE entry (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL,
        delivery INTEGER NOT NULL,
        expires INTEGER NOT NULL,
        used INTEGER NOT NULL,
        softened INTEGER NOT NULL,
        card BLOB NOT NULL,
        UNIQUE (key, delivery)
    );
    CREATE INDEX entry_expires ON entry (expires);
    CREATE INDEX entry_used ON entry (used);
    CREATE TABLE body (id INTEGER PRIMARY KEY, envelope BLOB NOT NULL);
";
/// "RFRN": marks a database as ours.
const APPLICATION: i64 = 0x5246_524e;
/// To be raised with every change of the tables.
const SCHEMA: i64 = 2;
/// How long a connection waits for another of ours.
const BUSY: Duration = Duration::from_secs(1);
/// Bytes that the write-ahead log keeps after a checkpoint.
const LOG: i64 = 16 << 20;
