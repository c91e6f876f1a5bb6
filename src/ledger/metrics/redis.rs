//! What was done about entries in Redis.

use super::text;
use crate::store::{codec::Damage, redis::entries::Counts};

/// Writes what was done about entries in Redis.
pub(super) fn write(out: &mut String, redis: &Counts) {
    let rows = [
        (
            "redis_written",
            "counter",
            "Entries written to Redis",
            redis.written,
        ),
        (
            "redis_dropped",
            "counter",
            "Entries that were to be written to Redis and were not",
            redis.dropped,
        ),
        (
            "redis_unanswered",
            "counter",
            "Look-ups that Redis did not answer, or not in time",
            redis.unanswered,
        ),
        (
            "redis_purged",
            "counter",
            "Entries in Redis that were cleared up behind purges",
            redis.purged,
        ),
    ];
    text::rows(out, &rows);
    let damaged = Damage::ALL.map(Damage::as_str).into_iter();
    let help = "Values in Redis that did not verify, by what was wrong";
    let series = damaged.zip(redis.damaged);
    text::family(out, "redis_damaged", help, "reason", series);
}
