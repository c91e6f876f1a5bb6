//! The database file: made, locked to this process, opened, and moved aside where it is damaged.
//!
//! # Scope
//! A file that is another program's, or a later version's, is left alone: neither its bytes nor its mode is changed. Moved
//! aside is what is ours, or has our default name and is no database at all. The file is read by system calls and never mapped into memory: a file that is cut off behind our back would end the process (SIGBUS).

use std::{
    ffi::{OsStr, OsString},
    fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError},
    io::{self, Read as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, config::DbConfig, params};

use super::{
    generations, proofs,
    sight::{APPLICATION, HEAD, Sight, sight},
    totals,
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
        if self.opened.is_none() {
            self.inspect()?;
        }
        make(&self.path)?;
        self.opened = Some(identity(&fs::metadata(&self.path)?));
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&self.path, flags)?;
        configure(&connection)?;
        recognise(&mut connection, secret)?;
        keep_private(&self.path)?;
        proofs::create(&connection)?;
        generations::create(&connection)?;
        totals::create(&connection)?;
        connection.pragma_update(None, "max_page_count", pages.cast_signed())?;
        let secret = read_secret(&connection)?;
        Ok(Opened { connection, secret })
    }

    /// Looks at what is there, and refuses what is not ours. Not while we have it open: closing any descriptor of it would
    /// drop `SQLite`'s locks.
    fn inspect(&self) -> Result<(), Trouble> {
        let foreign = |what| Err(Trouble::new(Kind::Foreign, what));
        let head = match fs::metadata(&self.path) {
            Ok(there) if !there.is_file() => return foreign("it is no file"),
            Ok(_) => head(&self.path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let is_ours = self.path.file_name() == Some(OsStr::new(DEFAULT));
        match sight(&head) {
            Sight::Empty | Sight::Ours => Ok(()),
            Sight::Foreign => foreign("the file is a database of another program"),
            Sight::Rubbish if is_ours => {
                Err(Trouble::new(Kind::Corrupt, "the file is no database"))
            }
            Sight::Rubbish => foreign("the file is no database"),
        }
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

    /// Moves a damaged database aside, or an earlier version's, beside those of before: an operator may want to look at it.
    /// Connections to it go on reading what they have open.
    pub(super) fn set_aside(&mut self, why: &Trouble) -> Result<(), Trouble> {
        let is_outdated = why.kind == Kind::Outdated;
        let aside = self.free_name(if is_outdated { ".outdated" } else { ".damaged" })?;
        fs::rename(&self.path, &aside)?;
        self.opened = None;
        for suffix in ["-wal", "-shm"] {
            let moved = fs::rename(with_suffix(&self.path, suffix), with_suffix(&aside, suffix));
            match moved {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        let aside = aside.display();
        if is_outdated {
            tracing::warn!(error = %why, %aside, "outdated database moved aside");
        } else {
            tracing::warn!(error = %why, %aside, "damaged database moved aside");
        }
        Ok(())
    }

    /// Returns a name with `suffix` that no file has. Where there are too many, somebody has to look at them first.
    fn free_name(&self, suffix: &str) -> Result<PathBuf, Trouble> {
        let plain = with_suffix(&self.path, suffix);
        let numbered = (2..=ASIDE).map(|number| with_suffix(&plain, &format!(".{number}")));
        let mut names = std::iter::once(plain.clone()).chain(numbered);
        let is_free = |name: &PathBuf| fs::symlink_metadata(name).is_err();
        names.find(is_free).ok_or_else(|| {
            let what = format!(
                "too many files were moved aside: look at `{}*`",
                plain.display()
            );
            Trouble::new(Kind::Corrupt, what)
        })
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

/// Makes the database if it is not there. One that is there is not opened for that, for the reason above.
fn make(path: &Path) -> io::Result<()> {
    match private().create_new(true).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Makes a database that is ours, and what `SQLite` keeps beside it, their owner's alone.
fn keep_private(path: &Path) -> io::Result<()> {
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

/// Returns the first bytes of a file, or all of a shorter one.
fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    File::open(path)?.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Returns the path of what lies beside the database, by what follows its name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Sets what every connection needs.
fn configure(connection: &Connection) -> Result<(), Trouble> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(32);
    // Else a cached statement is parsed anew at every use: its values are cleared in between, and others might call for
    // another plan (`sqlite3_clear_bindings`).
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
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
    let application = i64::from(APPLICATION);
    // The mark may be all that was written before a crash.
    let empty = tables == 0 && (known == (0, 0) || known == (application, 0));
    if !empty && known.0 != application {
        let what = "the file is a database of another program";
        return Err(Trouble::new(Kind::Foreign, what));
    }
    if !empty && known.1 > SCHEMA {
        let what =
            "the file is a later version's: start that, or name another file as `[store] path`";
        return Err(Trouble::new(Kind::Foreign, what));
    }
    if !empty && known.1 < SCHEMA {
        let what = "the file is an earlier version's";
        return Err(Trouble::new(Kind::Outdated, what));
    }
    if empty {
        // Only before the first table.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        // Before there is a log: whoever looks at the file alone is to see whose it is.
        connection.pragma_update(None, "application_id", APPLICATION)?;
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
/// The name of the file where nobody names another.
const DEFAULT: &str = "refrain.db";
/// Files of one kind that are moved aside: each may be as large as the store.
const ASIDE: u32 = 9;
/// To be raised with every change of the tables.
const SCHEMA: i64 = 2;
/// How long a connection waits for another of ours.
const BUSY: Duration = Duration::from_secs(1);
/// Bytes that the write-ahead log keeps after a checkpoint.
const LOG: i64 = 16 << 20;
