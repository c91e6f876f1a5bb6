//! Who waits for the end of a flight elsewhere, and is told of it.
//!
//! # Scope
//! What is told here is only a hint to look: news can be lost, repeated or forged. A waiter that finds no room is told
//! nothing and looks by itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::call::Slot;

/// Those who wait; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiters(Arc<Mutex<HashMap<Slot, watch::Sender<()>>>>);

/// One who waits for the end of flights for one place.
#[derive(Debug)]
pub struct Waiter {
    all: Waiters,
    slot: Slot,
    /// `None` where there was no room, and at the end.
    told: Option<watch::Receiver<()>>,
}

impl Waiters {
    /// Lets one more wait. Whatever ends from now on, it is told.
    pub(super) fn wait(&self, slot: Slot) -> Waiter {
        let mut all = self.lock();
        let has_room = all.len() < MOST || all.contains_key(&slot);
        let told = has_room.then(|| all.entry(slot).or_default().subscribe());
        Waiter {
            all: self.clone(),
            slot,
            told,
        }
    }

    /// Tells those who wait that a flight for `slot` has ended.
    pub(super) fn tell(&self, slot: &Slot) {
        if let Some(waiting) = self.lock().get(slot) {
            waiting.send_replace(());
        }
    }

    /// Has everybody look: news may have been lost.
    pub(super) fn tell_all(&self) {
        for waiting in self.lock().values() {
            waiting.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Slot, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Waits until a flight is said to have ended since the last time.
    pub async fn told(&mut self) {
        let told = match &mut self.told {
            Some(told) => told.changed().await.is_ok(),
            None => false,
        };
        if !told {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        drop(self.told.take());
        let is_last = |waiting: &watch::Sender<()>| waiting.receiver_count() == 0;
        if all.get(&self.slot).is_some_and(is_last) {
            all.remove(&self.slot);
        }
    }
}

/// Places that are waited for at a time.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::call::key::Key;

    fn slot(number: u16) -> Slot {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&number.to_be_bytes());
        Slot {
            key: Key::from_bytes(key),
            delivery: 0,
        }
    }

    #[test]
    fn who_began_to_wait_before_the_end_is_told_of_it_and_nobody_else() {
        let waiters = Waiters::default();
        let mut first = waiters.wait(slot(1));
        let mut other = waiters.wait(slot(2));
        waiters.tell(&slot(1));
        let mut late = waiters.wait(slot(1));
        assert!(first.told().now_or_never().is_some());
        assert!(first.told().now_or_never().is_none(), "told once");
        assert!(late.told().now_or_never().is_none());
        assert!(other.told().now_or_never().is_none());
        waiters.tell_all();
        for waiter in [&mut first, &mut late, &mut other] {
            assert!(waiter.told().now_or_never().is_some());
        }
    }

    #[test]
    fn a_place_is_forgotten_with_its_last_waiter() {
        let waiters = Waiters::default();
        let (first, second) = (waiters.wait(slot(1)), waiters.wait(slot(1)));
        drop(first);
        assert_eq!(waiters.lock().len(), 1);
        drop(second);
        assert!(waiters.lock().is_empty());
    }

    #[test]
    fn who_finds_no_room_waits_untold() {
        let waiters = Waiters::default();
        let most = u16::try_from(MOST).unwrap();
        let all: Vec<_> = (0..most).map(|number| waiters.wait(slot(number))).collect();
        let mut beyond = waiters.wait(slot(most));
        waiters.tell(&slot(most));
        waiters.tell_all();
        assert!(beyond.told().now_or_never().is_none());
        assert_eq!(waiters.lock().len(), all.len());
    }
}
