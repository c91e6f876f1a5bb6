//! `[store]`: tiers that entries fit into, and what `auto` stands for.

use std::time::Duration;

use super::{Findings, MEMORY_SHARE, OFF, Size, Surroundings, file};
use crate::config::{Disk, Redis, RedisAddress, problem::Complaint, tls::roots};

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

/// Returns the disk tier, if there is to be one. Redis stands in its place.
pub(super) fn disk(
    file: &file::File,
    redis: Option<&Redis>,
    surroundings: &Surroundings,
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
    if redis.is_some() {
        if path != AUTO {
            findings.warn(
                &["store.path", "store.redis"],
                "is not used: with `store.redis` answers are kept there",
                "leave the one or the other out",
            );
        }
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
        AUTO => surroundings.state.as_ref()?.join(DATABASE),
        path => path.into(),
    };
    Some(Disk {
        path,
        max_size: max_size.0,
        budget: budget.0,
    })
}

/// Returns the Redis tier, if there is to be one.
pub(super) fn redis(
    store: &file::Store,
    surroundings: &Surroundings,
    findings: &mut Findings,
) -> Option<Redis> {
    let ca = ca(&store.redis_ca, surroundings, findings);
    if !is_prefix(&store.prefix) {
        findings.add(
            "store.prefix",
            format!("`{}` is no prefix", store.prefix),
            "expected 1 to 64 letters, digits, `:`, `.`, `_`, `-` or `/`",
        );
    }
    let read = RedisAddress::read(store.redis.expose(), &surroundings.env);
    let address = findings.unless_ok("store.redis", read)?;
    if !store.redis_ca.is_empty() && !address.as_ref().is_some_and(|address| address.tls) {
        findings.clash(
            ["store.redis_ca", "store.redis"],
            "means nothing without a `rediss://` in `store.redis`",
            "write `rediss://`, or leave `redis_ca` out",
        );
    }
    if address.is_none() && store.prefix != file::Store::default().prefix {
        findings.warn(
            &["store.prefix"],
            "means nothing without `store.redis`",
            "set `redis`, or leave `prefix` out",
        );
    }
    let address = address?;
    findings.positive(
        "store.budget",
        store.budget,
        "for no Redis, leave `redis` out",
    );
    Some(Redis {
        address,
        prefix: store.prefix.clone(),
        ca,
        budget: store.budget.0,
    })
}

/// Returns how long what is in memory is trusted without Redis.
pub(super) fn trust(store: &file::Store) -> Duration {
    store.trust.on().map_or(Duration::MAX, |span| span.0)
}

/// Returns the certificates that the file at `path` holds, as they stand there.
fn ca(path: &str, surroundings: &Surroundings, findings: &mut Findings) -> Option<Vec<u8>> {
    if path.is_empty() {
        return None;
    }
    let read = surroundings.files.get(path).and_then(|pem| {
        let told = |complaint: Complaint| {
            Complaint::new(format!("`{path}` {}", complaint.what), complaint.hint)
        };
        roots(pem).map_err(told).map(|_| pem.to_vec())
    });
    findings.unless_ok("store.redis_ca", read)
}

/// Returns whether names of keys can begin with `prefix`: nothing in it means anything to Redis, a cluster or a pattern.
fn is_prefix(prefix: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":._-/".contains(&byte);
    (1..=64).contains(&prefix.len()) && prefix.bytes().all(is_plain)
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
