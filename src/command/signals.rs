//! The two signals that end a command, SIGINT and SIGTERM, and the one that need not: SIGHUP.

use std::future::pending;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;

/// The signals, caught from the moment this exists.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Without it, a SIGHUP ends the process.
    hangup: Option<Signal>,
}

impl Signals {
    /// Catches the signals; before this they end the process.
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hangup: None,
        })
    }

    /// Catches SIGHUP as well: by it other servers are told to reload, and calls are not to be lost to the mistake.
    pub(super) fn outliving_hangups(self) -> Result<Self, Failure> {
        Ok(Self {
            hangup: Some(catch(SignalKind::hangup())?),
            ..self
        })
    }

    /// Waits for either of the two that end a command; a hangup is warned about.
    pub(super) async fn received(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                () = next(self.hangup.as_mut()) => {
                    tracing::warn!("no reload: restart to take up changes");
                }
            }
        }
    }
}

fn catch(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::new(format!("failed to catch signals: {error}")))
}

/// Waits for the next of a signal; for ever where it is not caught.
async fn next(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => pending().await,
    }
}
