//! Look-ups under way, one for each slot: who asks for what is being read already waits for that.
//!
//! # Scope
//! Knows nothing of who reads. Also tells a store that is busy from one that hangs: whether anything was read in time
//! meanwhile.

use std::{
    collections::{HashMap, hash_map::Entry as Place},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::oneshot;

use crate::call::Slot;

/// The look-ups under way.
#[derive(Debug)]
pub(super) struct Looks<T, E> {
    waiting: Mutex<Waiting<T, E>>,
    in_time: AtomicU64,
}

/// What is said of a slot by who reads.
pub(super) type Answer<T, E> = Result<Option<Arc<T>>, E>;

/// Who waits for what.
type Waiting<T, E> = HashMap<Slot, Vec<oneshot::Sender<Answer<T, E>>>>;

/// A part in a look-up.
#[derive(Debug)]
pub(super) struct Look<T, E> {
    /// The answer; nothing where whoever was to ask for it has given up.
    pub(super) answer: oneshot::Receiver<Answer<T, E>>,
    /// Whether somebody has to be asked.
    pub(super) is_first: bool,
    /// Whether nobody else waits: of those who wait together one speaks for all.
    pub(super) speaks: bool,
}

/// The duty to ask; whoever drops it undone leaves it to the others who wait.
#[derive(Debug)]
pub(super) struct Duty<'a, T, E> {
    looks: &'a Looks<T, E>,
    slot: Slot,
    is_done: bool,
}

impl<T, E: Clone> Looks<T, E> {
    /// Takes part in the look-up of `slot`.
    pub(super) fn join(&self, slot: Slot) -> Look<T, E> {
        let (reply, answer) = oneshot::channel();
        let mut waiting = self.waiting();
        let (is_first, waiters) = match waiting.entry(slot) {
            Place::Occupied(place) => (false, place.into_mut()),
            Place::Vacant(place) => (true, place.insert(Vec::new())),
        };
        // On a store that hangs they would gather.
        if waiters.last().is_some_and(oneshot::Sender::is_closed) {
            waiters.retain(|waiter| !waiter.is_closed());
        }
        let speaks = waiters.is_empty();
        waiters.push(reply);
        Look {
            answer,
            is_first,
            speaks,
        }
    }

    /// Takes on the duty to ask for `slot`.
    pub(super) fn duty(&self, slot: Slot) -> Duty<'_, T, E> {
        Duty {
            looks: self,
            slot,
            is_done: false,
        }
    }

    /// Returns whether somebody still waits for `slot`; if not, the look-up is over.
    pub(super) fn are_wanted(&self, slot: &Slot) -> bool {
        let mut waiting = self.waiting();
        let is_wanted = waiting
            .get(slot)
            .is_some_and(|waiters| waiters.iter().any(|waiter| !waiter.is_closed()));
        if !is_wanted {
            waiting.remove(slot);
        }
        is_wanted
    }

    /// Gives `answer` to all who wait for `slot`; `in_time` tells whether it was read quickly enough.
    pub(super) fn answer(&self, slot: &Slot, answer: &Answer<T, E>, in_time: bool) {
        if in_time && answer.is_ok() {
            self.in_time.fetch_add(1, Ordering::Relaxed);
        }
        let waiters = self.waiting().remove(slot);
        for waiter in waiters.into_iter().flatten() {
            // Who asked may have given up by now.
            drop(waiter.send(answer.clone()));
        }
    }

    /// Returns how many look-ups were answered in time.
    pub(super) fn in_time(&self) -> u64 {
        self.in_time.load(Ordering::Relaxed)
    }
}

impl<T, E> Looks<T, E> {
    /// Lets nobody wait for what is being read of `slot`, which is about to be replaced: who waits asks again.
    pub(super) fn forget(&self, slot: &Slot) {
        drop(self.waiting().remove(slot));
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<T, E>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, E> Default for Looks<T, E> {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            in_time: AtomicU64::default(),
        }
    }
}

impl<T, E> Duty<'_, T, E> {
    /// Notes that somebody was asked.
    pub(super) fn done(mut self) {
        self.is_done = true;
    }
}

impl<T, E> Drop for Duty<'_, T, E> {
    fn drop(&mut self) {
        if !self.is_done {
            self.looks.forget(&self.slot);
        }
    }
}
