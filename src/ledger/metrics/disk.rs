//! What the disk tier has done.

use super::text;
use crate::store::{
    codec::Damage,
    disk::{Counts, Kind},
};

/// Writes what the disk tier has done.
pub(super) fn write(out: &mut String, disk: &Counts) {
    let up = u64::from(disk.up);
    let rows = [
        ("disk_up", "gauge", "Whether the disk store works", up),
        ("disk_entries", "gauge", "Entries on the disk", disk.entries),
        (
            "disk_bytes",
            "gauge",
            "What the entries on the disk take",
            disk.bytes,
        ),
        (
            "disk_written",
            "counter",
            "Entries written to the disk",
            disk.written,
        ),
        (
            "disk_dropped",
            "counter",
            "Entries that were to be written to the disk and were not",
            disk.dropped,
        ),
        (
            "disk_evictions",
            "counter",
            "Entries on the disk that gave way to others",
            disk.evicted,
        ),
        (
            "disk_expirations",
            "counter",
            "Entries on the disk that were deleted because they were over",
            disk.expired,
        ),
        (
            "disk_slow",
            "counter",
            "Look-ups that the disk did not answer in time",
            disk.slow,
        ),
    ];
    text::rows(out, &rows);
    let errors = Kind::ALL.map(Kind::as_str).into_iter().zip(disk.errors);
    let help = "Failures of the disk, by kind";
    text::family(out, "disk_errors", help, "kind", errors);
    let damaged = Damage::ALL.map(Damage::as_str).into_iter();
    let help = "Entries on the disk that did not verify, by what was wrong";
    text::family(
        out,
        "disk_damaged",
        help,
        "reason",
        damaged.zip(disk.damaged),
    );
}
