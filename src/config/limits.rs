//! `[limits]` and `[cors]`: what clients may cost, and which web pages are clients.

use std::{num::NonZeroU32, time::Duration};

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request bodies held for keying, all calls together, bytes.
    pub buffered: u64,
    /// For the head of a request to arrive.
    pub header: Duration,
    /// Between two pieces of a request's body.
    pub body: Duration,
    /// Between two calls on a connection.
    pub idle: Duration,
    /// For a client that does not read to make room again.
    pub write: Duration,
    /// Connections of clients at a time, on all listeners together; `None` = any number.
    pub connections: Option<NonZeroU32>,
    /// For running calls to end after SIGTERM.
    pub drain: Duration,
    /// How much of that calls are still accepted for, readiness failing already.
    pub min_drain: Duration,
    /// Names that the proxy may be called by, beside loopback's, where its own key would be spent; in lower case, no
    /// dot at the end.
    pub hosts: Vec<String>,
}

/// `[cors]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// Origins of the pages that may call, as browsers send them; `*` alone for all.
    pub origins: Vec<String>,
}
