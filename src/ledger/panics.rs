//! Faults of Refrain's own that ended a task: counted, and told by their place alone.
//!
//! # Scope
//! What a panic says may quote what it was about, such as a text that was cut in the middle of a letter; so it is in no
//! log. The place in the source is enough to find it.

use std::{
    panic::{self, PanicHookInfo},
    sync::atomic::{AtomicU64, Ordering},
};

/// How many there were: the hook is the process's, and so is the count.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// From now on counts and tells the panics of this process, in place of what Rust prints.
pub fn watch() {
    panic::set_hook(Box::new(note));
}

/// Returns how many panics there have been since [`watch`].
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

fn note(panic: &PanicHookInfo<'_>) {
    COUNT.fetch_add(1, Ordering::Relaxed);
    let place = panic.location().map(ToString::to_string);
    tracing::error!(place, "panicked");
}
