//! One file per subcommand, and what they share.

pub mod demo;
pub mod failure;
pub mod health;
pub mod mock;

mod client;
mod signals;

use std::io::Write;

use failure::Failure;

/// Writes to standard output; a reader that went away is a failure, not a panic.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::new(format!("failed to write to standard output: {error}")))
}
