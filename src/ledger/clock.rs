//! The one wall clock. Lifetimes run on the monotonic clock; this one only dates what people read.

use std::time::SystemTime;

/// Returns the time of day.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}
