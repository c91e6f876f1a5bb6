//! A file that is deleted when the disk is full: a deletion needs room, too, and what could not be replaced must not
//! come back.
//!
//! # Scope
//! Best effort: where there is no room for it there is none, and a deletion waits until there is.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{file::with_suffix, trouble::Trouble};

/// The file.
#[derive(Debug)]
pub(super) struct Reserve(PathBuf);

impl Reserve {
    /// Returns the one beside the database at `path`, whether it is there or not.
    pub(super) fn beside(path: &Path) -> Self {
        Self(with_suffix(path, "-reserve"))
    }

    /// Makes the file, if it is not there.
    pub(super) fn make(&self) {
        if fs::metadata(&self.0).is_ok_and(|file| file.len() == SIZE as u64) {
            return;
        }
        if let Err(trouble) = self.fill() {
            tracing::debug!(error = %trouble, "no room kept for deletions");
            self.spend();
        }
    }

    /// Deletes the file.
    pub(super) fn spend(&self) {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::debug!(%error, "room kept for deletions not given back");
            }
            _ => {}
        }
    }

    /// Noise takes its room on a file system that compresses, too.
    fn fill(&self) -> Result<(), Trouble> {
        let mut noise = vec![0; SIZE];
        getrandom::fill(&mut noise).map_err(|error| io::Error::other(error.to_string()))?;
        // What is there is not filled anew but replaced: whatever it is, it is not written to.
        self.spend();
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.0)?;
        Ok(file.write_all(&noise)?)
    }
}

/// Bytes of the file: a deletion writes some ten pages to the log.
const SIZE: usize = 512 << 10;
