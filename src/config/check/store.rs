//! `[store]`: tiers that entries fit into, and what `auto` stands for.

use std::path::PathBuf;

use super::{Findings, MEMORY_SHARE, OFF, Size, file};
use crate::config::Disk;

/// Returns the bound of the memory tier, after checking that entries fit into it.
///
/// In a small container `auto` comes out small, too; then `max_entry` is lowered with it instead of being a problem,
/// since neither was anybody's mistake.
pub(super) fn memory(file: &file::File, container: Option<u64>, findings: &mut Findings) -> u64 {
    let written = file.store.memory.given();
    let memory = written.unwrap_or(AUTO_MEMORY);
    if memory < LEAST_MEMORY {
        findings.add(
            "store.memory",
            format!("{memory} is too little"),
            "expected at least 1MiB, or `auto`",
        );
    } else if file.cache.max_entry.0 > memory.0 / MEMORY_SHARE {
        findings.clash(
            ["cache.max_entry", "store.memory"],
            format!(
                "`cache.max_entry` ({}) is more than a quarter of `store.memory` ({memory})",
                file.cache.max_entry
            ),
            "lower the one or raise the other",
        );
    }
    if file.cache.max_entry.0 == 0 {
        findings.add(
            "cache.max_entry",
            "is zero, so nothing would be stored",
            "for that, write `enabled = false`",
        );
    }
    written.map_or_else(|| auto_memory(container), |memory| memory.0)
}

/// Returns the disk tier, if there is to be one.
pub(super) fn disk(
    file: &file::File,
    state: Option<PathBuf>,
    findings: &mut Findings,
) -> Option<Disk> {
    let file::Store {
        path,
        max_size,
        budget,
        ..
    } = &file.store;
    if path.is_empty() || path.ends_with('/') {
        findings.add(
            "store.path",
            format!("`{path}` is no file"),
            "name a file, such as `/var/lib/refrain/refrain.db`, or write `auto` or `off`",
        );
    }
    if path == OFF {
        return None;
    }
    findings.positive(
        "store.budget",
        *budget,
        "for no disk, write `path = \"off\"`",
    );
    if file.cache.max_entry.0 > max_size.0 / DISK_SHARE {
        findings.clash(
            ["store.max_size", "cache.max_entry"],
            format!(
                "`store.max_size` ({max_size}) is less than four times `cache.max_entry` ({})",
                file.cache.max_entry
            ),
            "raise the one or lower the other; for no disk, write `path = \"off\"`",
        );
    }
    let path = match path.as_str() {
        AUTO => state?.join(DATABASE),
        path => path.into(),
    };
    Some(Disk {
        path,
        max_size: max_size.0,
        budget: budget.0,
    })
}

/// Returns the bound of the memory tier that `auto` stands for: 256 MiB, at most 40 % of the container's limit.
fn auto_memory(container: Option<u64>) -> u64 {
    let share = container.map_or(u64::MAX, |limit| limit / 5 * 2);
    AUTO_MEMORY.0.min(share).max(LEAST_MEMORY.0)
}

/// Leaves the place of the disk to Refrain.
const AUTO: &str = "auto";

/// Name of the database in the state directory.
const DATABASE: &str = "refrain.db";

/// An entry takes at most one part in this many of the disk.
const DISK_SHARE: u64 = 4;

const AUTO_MEMORY: Size = Size(256 << 20);

const LEAST_MEMORY: Size = Size(1 << 20);
