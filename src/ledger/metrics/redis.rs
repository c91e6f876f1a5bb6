//! What was done with Redis, and about the entries there.

use super::{facts, text};
use crate::store::{
    codec::Damage,
    redis::{Kind, entries, link, sync},
};

/// What was done with Redis; nothing where there is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// By the link.
    pub link: link::Counts,
    /// Whether news of other replicas are heard.
    pub hearing: bool,
    /// About entries.
    pub entries: entries::Counts,
    /// About what replicas agree on.
    pub facts: sync::Counts,
}

/// Writes what was done with Redis.
pub(super) fn write(out: &mut String, counts: &Counts) {
    let Counts {
        link,
        hearing,
        entries,
        facts: agreed,
    } = counts;
    let rows = [
        (
            "redis_up",
            "gauge",
            "Whether Redis can be asked",
            u64::from(link.up),
        ),
        (
            "redis_hearing",
            "gauge",
            "Whether news of other replicas are heard",
            u64::from(*hearing),
        ),
        (
            "redis_asks",
            "counter",
            "Commands that were sent to Redis",
            link.asks,
        ),
        (
            "redis_reconnects",
            "counter",
            "Connections to Redis made in place of a lost one",
            link.reconnects,
        ),
        (
            "redis_written",
            "counter",
            "Entries written to Redis",
            entries.written,
        ),
        (
            "redis_dropped",
            "counter",
            "Entries that were to be written to Redis and were not",
            entries.dropped,
        ),
        (
            "redis_unanswered",
            "counter",
            "Look-ups that Redis did not answer, or not in time",
            entries.unanswered,
        ),
        (
            "redis_purged",
            "counter",
            "Entries in Redis that were cleared up behind purges",
            entries.purged,
        ),
    ];
    text::rows(out, &rows);
    facts::write(out, agreed);
    let help = "How long was waited for replies of Redis, all asks together";
    text::seconds(out, "redis_ask_seconds", help, link.took);
    let errors = Kind::ALL.map(Kind::as_str).into_iter().zip(link.troubles);
    let help = "Commands to Redis that failed, by kind";
    text::family(out, "redis_errors", help, "kind", errors);
    let out_of_room = [
        ("deletion", entries.crowded_out.deletions),
        ("release", entries.crowded_out.followers),
        ("proof", agreed.proofs_dropped),
    ];
    let help =
        "What was to be sent to Redis beside entries and found no room to wait, by what it was";
    text::family(
        out,
        "redis_crowded_out",
        help,
        "what",
        out_of_room.into_iter(),
    );
    let damaged = Damage::ALL.map(Damage::as_str).into_iter();
    let help = "Values in Redis that did not verify, by what was wrong";
    let series = damaged.zip(entries.damaged);
    text::family(out, "redis_damaged", help, "reason", series);
}
