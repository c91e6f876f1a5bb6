//! One server, and the connection to it, if there is one.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use tokio::time::Instant;

use super::circuit::{Silence, Tries};
use crate::{config::Host, store::redis::trouble::Kind};

/// A server.
#[derive(Debug)]
pub(super) struct Node {
    /// Where it is; `None` for where the operator or the sentinels say.
    pub(super) host: Option<Host>,
    /// What all ask by.
    live: ArcSwapOption<Live>,
    /// What is not let in yet.
    early: ArcSwapOption<Live>,
    tries: Mutex<Tries>,
    /// Whether all could ask once.
    had_one: AtomicBool,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Live {
    to: MultiplexedConnection,
    silence: Silence,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entrance {
    /// Anybody.
    Main,
    /// Who looks over a new connection before anybody else.
    Early,
}

impl Node {
    /// Makes a server that nobody is connected to.
    pub(super) fn new(host: Option<Host>) -> Self {
        Self {
            host,
            live: ArcSwapOption::empty(),
            early: ArcSwapOption::empty(),
            tries: Mutex::default(),
            had_one: AtomicBool::new(false),
        }
    }

    /// Returns the connection for who comes by `entrance`.
    pub(super) fn connection(&self, entrance: Entrance) -> Option<Arc<Live>> {
        let early = match entrance {
            Entrance::Main => None,
            Entrance::Early => self.early.load_full(),
        };
        early.or_else(|| self.live.load_full())
    }

    /// Returns whether all may ask.
    pub(super) fn is_up(&self) -> bool {
        self.live.load().is_some()
    }

    /// Returns whether there is a new connection that is not let in yet.
    pub(super) fn is_new(&self) -> bool {
        self.early.load().is_some()
    }

    /// Returns whether a connection is missing, and due to be tried.
    pub(super) fn is_wanting(&self, now: Instant) -> bool {
        !self.is_up() && !self.is_new() && self.tries().is_due(now)
    }

    /// Returns when a try is due, if a connection is missing.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        (!self.is_up()).then(|| self.tries().due().unwrap_or(now))
    }

    /// Keeps a new connection aside.
    pub(super) fn connected(&self, to: MultiplexedConnection) {
        let live = Live {
            to,
            silence: Silence::default(),
        };
        self.early.store(Some(Arc::new(live)));
    }

    /// Opens the new connection to all; returns whether it came in place of a lost one.
    pub(super) fn let_in(&self, now: Instant) -> bool {
        let new = self.early.swap(None);
        let is_new = new.is_some();
        if is_new {
            self.live.store(new);
            self.tries().succeeded(now);
        }
        is_new && self.had_one.swap(true, Ordering::Relaxed)
    }

    /// Notes that no connection came of a try, or that the new one is no good.
    pub(super) fn failed(&self, kind: Kind, now: Instant, dice: f64) {
        self.early.store(None);
        self.tries().failed(kind, now, dice);
    }

    /// Gives up `lost`, unless another has its place by now; returns whether it had been open to all.
    pub(super) fn give_up(&self, lost: &Arc<Live>, kind: Kind, now: Instant, dice: f64) -> bool {
        let had = |slot: &ArcSwapOption<Live>| {
            let known = slot.compare_and_swap(lost, None);
            known.as_ref().is_some_and(|known| Arc::ptr_eq(known, lost))
        };
        let was_live = had(&self.live);
        if was_live || had(&self.early) {
            self.tries().failed(kind, now, dice);
        }
        was_live
    }

    fn tries(&self) -> MutexGuard<'_, Tries> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// Returns the connection, to be asked once.
    pub(super) fn connection(&self) -> MultiplexedConnection {
        self.to.clone()
    }

    /// Notes a reply, whatever it was; `is_quick` says whether a call would have waited for it.
    pub(super) fn replied(&self, is_quick: bool) {
        if is_quick {
            self.silence.broken();
        }
    }

    /// Notes that no reply came in time; returns whether it is to be given up.
    pub(super) fn was_late(&self) -> bool {
        self.silence.goes_on()
    }
}
