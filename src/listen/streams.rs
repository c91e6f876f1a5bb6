//! The streams of HTTP/2 connections, each a task of ours: a client that takes nothing of one for the write deadline has
//! it reset.
//!
//! hyper waits for room without asking the body for more, so nothing that a body does could end the wait. But hyper has
//! its streams run by whom we name, and a stream that is dropped before its end is reset (RFC 9113 §5.4.2). The other
//! streams of the connection go on.

use std::{future::Future, sync::Arc, time::Duration};

use hyper::rt::Executor;

use super::departing::{self, Gate};
use crate::answer::tasks::Tasks;

/// Runs the streams of connections; clones share the owner of their tasks.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    tasks: Tasks,
    patience: Duration,
}

impl Streams {
    /// Has `tasks` own the streams, whose clients may take nothing for `patience`.
    pub(super) fn new(tasks: Tasks, patience: Duration) -> Self {
        Self { tasks, patience }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let gate = Arc::<Gate>::default();
        let patience = self.patience;
        self.tasks
            .spawn(departing::through(gate.clone(), async move {
                tokio::select! {
                    // First, so that an answer that leaves at once costs no timer.
                    biased;
                    () = stream => {}
                    () = gate.stalled(patience) => {}
                }
            }));
    }
}
