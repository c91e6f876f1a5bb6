//! `[coalesce]`: calls that are joined into one.

use std::time::Duration;

/// `[coalesce]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coalesce {
    /// The longest that a call waits for a flight of another replica; `None` for none across replicas.
    pub wait: Option<Duration>,
}
