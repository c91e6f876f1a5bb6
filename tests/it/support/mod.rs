//! What the tests stand on: a scripted upstream, the real binary, and a client that sees every byte.
//!
//! Nothing here sleeps. Whoever waits, waits for an event (a gate, a log line, a byte), and [`within`] turns a wait
//! that would never end into a failure that names what was awaited.

pub(crate) mod client;
pub(crate) mod fault;
pub(crate) mod faulty;
pub(crate) mod house;
pub(crate) mod miser;
pub(crate) mod proxy;
pub(crate) mod redis;
pub(crate) mod tls;
pub(crate) mod upstream;
pub(crate) mod wire;

use std::{
    future::Future,
    io::{self, Write as _},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle, time::timeout};

/// A door that a scripted upstream waits at until the test opens it.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    opened: watch::Sender<bool>,
    reached: watch::Sender<bool>,
}

/// Returns a closed gate.
pub(crate) fn gate() -> Gate {
    Gate {
        opened: watch::Sender::new(false),
        reached: watch::Sender::new(false),
    }
}

impl Gate {
    /// Lets everyone through, from now on.
    pub(crate) fn open(&self) {
        self.opened.send_replace(true);
    }

    /// Waits until somebody stands at the gate (or has gone through).
    pub(crate) async fn reached(&self) {
        let mut reached = self.reached.subscribe();
        within("somebody at the gate", reached.wait_for(|reached| *reached))
            .await
            .expect("the gate holds its own sender");
    }

    /// Waits until the gate is open.
    async fn pass(&self) {
        self.reached.send_replace(true);
        let mut opened = self.opened.subscribe();
        opened
            .wait_for(|opened| *opened)
            .await
            .expect("the gate holds its own sender");
    }
}

/// Awaits `event`, and fails the test, naming `what` was awaited, when it does not come.
pub(crate) async fn within<T>(what: &str, event: impl Future<Output = T>) -> T {
    timeout(DEADLINE, event)
        .await
        .unwrap_or_else(|_| panic!("waited {DEADLINE:?} in vain for {what}"))
}

/// Runs `task` beside the test; it ends with the test's run time.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's run time owns its tasks and drops them at its end"
)]
pub(crate) fn spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(task)
}

/// Says that a test is skipped, and for want of what: past the harness, which keeps to itself what a test prints.
pub(crate) fn skip(want: &str) {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    // Nobody is left to be told if this fails, too.
    let _ = writeln!(io::stderr(), "SKIPPED: {want} ({count} by now)");
}

/// How long a test waits for something that should come at once: only a failure ever takes this long.
const DEADLINE: Duration = Duration::from_secs(120);
