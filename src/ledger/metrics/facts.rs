//! What happened to what replicas agree on.

use super::text;
use crate::store::redis::sync::Counts;

/// Writes what happened to what replicas agree on.
pub(super) fn write(out: &mut String, facts: &Counts) {
    let rows = [
        (
            "redis_trusted",
            "gauge",
            "Whether no purge of another replica can have been missed",
            u64::from(facts.trusted),
        ),
        (
            "redis_purge_reads",
            "counter",
            "How often all purges were read from Redis",
            facts.reads,
        ),
        (
            "redis_purges_unfit",
            "counter",
            "Purges of other replicas that found no room: all was purged that was made before",
            facts.unfit,
        ),
        (
            "redis_secrets",
            "counter",
            "How often another key secret was adopted from Redis",
            facts.secrets,
        ),
    ];
    text::rows(out, &rows);
}
