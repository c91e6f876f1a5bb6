//! `[limits]`: times that are times, and bounds that let something through.

use super::{Findings, Size, access, file, upstream::at_least_one};
use crate::config::Limits;

/// Checks what clients may cost; `max_body` is the largest body that is keyed.
pub(super) fn limits(limits: file::Limits, max_body: Size, findings: &mut Findings) -> Limits {
    for (key, span) in [
        ("limits.header", limits.header),
        ("limits.body", limits.body),
        ("limits.idle", limits.idle),
        ("limits.write", limits.write),
    ] {
        findings.positive(key, span, "write how long a client may take, such as `10s`");
    }
    if limits.buffered < max_body {
        findings.clash(
            ["limits.buffered", "key.max_body"],
            format!(
                "`limits.buffered` ({}) is less than `key.max_body` ({max_body})",
                limits.buffered
            ),
            "raise the one or lower the other, else the largest bodies could never be keyed",
        );
    }
    check_drain(&limits, findings);
    Limits {
        buffered: limits.buffered.0,
        header: limits.header.0,
        body: limits.body.0,
        idle: limits.idle.0,
        write: limits.write.0,
        connections: at_least_one("limits.connections", limits.connections, findings),
        drain: limits.drain.0,
        min_drain: limits.min_drain.0,
        hosts: access::hosts(limits.hosts, findings),
    }
}

/// Warns where calls would be accepted until there is no time left to end them in.
fn check_drain(limits: &file::Limits, findings: &mut Findings) {
    let file::Limits {
        drain, min_drain, ..
    } = limits;
    if !min_drain.0.is_zero() && min_drain >= drain {
        findings.warn(
            &["limits.min_drain", "limits.drain"],
            format!("`min_drain` ({min_drain}) leaves nothing of `drain` ({drain}) for the last calls to end in"),
            "raise `drain` or lower `min_drain`",
        );
    }
}
