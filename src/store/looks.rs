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
    /// The number of the next look-up.
    next: AtomicU64,
    in_time: AtomicU64,
}

/// What is said of a slot by who reads.
pub(super) type Answer<T, E> = Result<Option<Arc<T>>, E>;

/// Who waits for what, with the number of the look-up.
type Waiting<T, E> = HashMap<Slot, (u64, Waiters<T, E>)>;

type Waiters<T, E> = Vec<oneshot::Sender<Answer<T, E>>>;

/// A part in a look-up.
#[derive(Debug)]
pub(super) struct Look<T, E> {
    /// The answer; nothing where whoever was to ask for it has given up.
    pub(super) answer: oneshot::Receiver<Answer<T, E>>,
    /// Whether somebody has to be asked.
    pub(super) is_first: bool,
    /// Tells the look-up from others of the same slot.
    number: u64,
    /// Whether nobody else waits: of those who wait together one speaks for all.
    pub(super) speaks: bool,
}

/// The duty to ask; whoever drops it undone leaves it to the others who wait.
#[derive(Debug)]
pub(super) struct Duty<'a, T, E> {
    looks: &'a Looks<T, E>,
    slot: Slot,
    number: u64,
    is_done: bool,
}

impl<T, E: Clone> Looks<T, E> {
    /// Takes part in the look-up of `slot`.
    pub(super) fn join(&self, slot: Slot) -> Look<T, E> {
        let (reply, answer) = oneshot::channel();
        let mut waiting = self.waiting();
        let (is_first, (number, waiters)) = match waiting.entry(slot) {
            Place::Occupied(place) => (false, place.into_mut()),
            Place::Vacant(place) => {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                (true, place.insert((number, Vec::new())))
            }
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
            number: *number,
            speaks,
        }
    }

    /// Takes on the duty of `look` to ask for `slot`.
    pub(super) fn duty(&self, slot: Slot, look: &Look<T, E>) -> Duty<'_, T, E> {
        Duty {
            looks: self,
            slot,
            number: look.number,
            is_done: false,
        }
    }

    /// Returns whether somebody still waits for `slot`; if not, the look-up is over.
    pub(super) fn are_wanted(&self, slot: &Slot) -> bool {
        let mut waiting = self.waiting();
        let is_wanted = waiting
            .get(slot)
            .is_some_and(|(_, waiters)| waiters.iter().any(|waiter| !waiter.is_closed()));
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
        let looked = self.waiting().remove(slot);
        if let Some((_, waiters)) = looked {
            tell(waiters, answer);
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

    /// Takes out who waits for this look-up of `slot`; nobody where it was forgotten.
    fn take(&self, slot: &Slot, number: u64) -> Waiters<T, E> {
        match self.waiting().entry(*slot) {
            Place::Occupied(place) if place.get().0 == number => place.remove().1,
            Place::Occupied(_) | Place::Vacant(_) => Vec::new(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<T, E>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, E> Default for Looks<T, E> {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            next: AtomicU64::default(),
            in_time: AtomicU64::default(),
        }
    }
}

impl<T, E: Clone> Duty<'_, T, E> {
    /// Gives `answer` to those who wait for it, and to nobody who began to when it was about to be replaced.
    pub(super) fn answer(mut self, answer: &Answer<T, E>) {
        self.is_done = true;
        tell(self.looks.take(&self.slot, self.number), answer);
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
            drop(self.looks.take(&self.slot, self.number));
        }
    }
}

fn tell<T, E: Clone>(waiters: Waiters<T, E>, answer: &Answer<T, E>) {
    for waiter in waiters {
        // Who asked may have given up by now.
        drop(waiter.send(answer.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::key::Key;

    #[test]
    fn what_was_forgotten_answers_nobody_who_asks_behind_that() {
        let looks = Looks::<u8, ()>::default();
        let slot = Slot {
            key: Key::from_bytes([1; 32]),
            delivery: 0,
        };
        let mut first = looks.join(slot);
        let early = looks.duty(slot, &first);
        looks.forget(&slot);
        let mut second = looks.join(slot);
        let late = looks.duty(slot, &second);
        let mut third = looks.join(slot);
        assert!(first.is_first && second.is_first && !third.is_first);
        early.answer(&Ok(Some(Arc::new(1))));
        assert!(first.answer.try_recv().is_err());
        assert!(second.answer.try_recv().is_err());
        late.answer(&Ok(Some(Arc::new(2))));
        for look in [&mut second, &mut third] {
            assert_eq!(look.answer.try_recv(), Ok(Ok(Some(Arc::new(2)))));
        }
        let dropped = looks.join(slot);
        drop(looks.duty(slot, &dropped));
        assert!(looks.join(slot).is_first, "the duty is left to others");
    }
}
