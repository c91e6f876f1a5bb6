//! The database file: made, locked to this process, opened, and moved aside where it is damaged.
//!
//! # Scope
//! A file that is another program's, or of a schema that this Refrain does not know, is left alone. The file is read by
//! system calls and never mapped into memory: a file that is cut off behind our back would end the process (SIGBUS).

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, config::DbConfig, params};

use super::{
    generations, proofs,
    trouble::{Kind, Trouble},
};
use crate::call::{Slot, key::Key, key::Secret};

/// The place of the database. As long as this lives, no other process opens it.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    lock: File,
    /// The database that was opened last.
    opened: Option<Identity>,
}

/// What tells one file from another that has its name: device and inode.
type Identity = (u64, u64);

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
        Ok(Self {
            path: path.to_owned(),
            lock: lock(path)?,
            opened: None,
        })
    }

    /// Returns whether the database that was opened last is still there.
    pub(super) fn is_there(&self) -> bool {
        self.opened == fs::metadata(&self.path).ok().as_ref().map(identity)
    }

    /// Opens the database, which is made if it is not there. `secret` is for a new one; `pages` is the most that it may
    /// ever have.
    pub(super) fn open(&mut self, secret: &Secret, pages: u64) -> Result<Opened, Trouble> {
        self.keep_locked()?;
        let there = fs::metadata(&self.path).ok().as_ref().map(identity);
        if self.opened.is_some() && there.is_some() && there != self.opened {
            // The write-ahead log beside it is ours: to open it would mix the two.
            let what = "another file has been put in the place of the database";
            return Err(Trouble::new(Kind::Foreign, what));
        }
        make_private(&self.path)?;
        self.opened = Some(identity(&fs::metadata(&self.path)?));
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&self.path, flags)?;
        configure(&connection)?;
        recognise(&mut connection, secret)?;
        proofs::create(&connection)?;
        generations::create(&connection)?;
        connection.pragma_update(None, "max_page_count", pages.cast_signed())?;
        let secret = read_secret(&connection)?;
        Ok(Opened { connection, secret })
    }

    /// Locks the place anew where the lock was deleted: another process would see none.
    fn keep_locked(&mut self) -> Result<(), Trouble> {
        let there = fs::metadata(with_suffix(&self.path, ".lock")).ok();
        let ours = identity(&self.lock.metadata()?);
        if there.as_ref().map(identity) != Some(ours) {
            self.lock = lock(&self.path)?;
        }
        Ok(())
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
    pub(super) fn set_aside(&mut self, why: &Trouble) -> Result<(), Trouble> {
        self.opened = None;
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

/// Locks the place of the database at `path` for this process, in a folder that is made if it is not there.
fn lock(path: &Path) -> Result<File, Trouble> {
    let folder = path.parent();
    if let Some(folder) = folder.filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    // Not the database itself: closing any descriptor of that drops SQLite's own locks (fcntl(2), F_SETLK).
    let lock = private()
        .create(true)
        .truncate(false)
        .open(with_suffix(path, ".lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Trouble::new(
            Kind::Locked,
            "another process has the database",
        )),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Makes the database if it is not there, and it and what `SQLite` keeps beside it their owner's alone. A database that is
/// there is not opened for that, for the reason above.
fn make_private(path: &Path) -> io::Result<()> {
    match private().create_new(true).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    for suffix in ["", "-wal", "-shm"] {
        let made = fs::set_permissions(with_suffix(path, suffix), Permissions::from_mode(0o600));
        match made {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Returns how a file is opened that only its owner may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

fn identity(file: &Metadata) -> Identity {
    (file.dev(), file.ino())
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
