//! How many clients may be connected at a time.
//!
//! # Scope
//! Beyond the limit nobody is refused: accepting pauses, and who comes waits in the system's queue until another has gone.
//! Those who are connected do not notice.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The connections of all listeners together; clones share them.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Inner>);

/// One connection, until it is dropped.
#[derive(Debug)]
pub struct Connected {
    _place: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Inner {
    most: usize,
    free: Arc<Semaphore>,
    pauses: AtomicU64,
}

impl Connections {
    /// Lets so many in at a time; `None` for any number.
    pub fn new(most: Option<NonZeroU32>) -> Self {
        let most = most.and_then(|most| usize::try_from(most.get()).ok());
        let most = most.map_or(Semaphore::MAX_PERMITS, |most| {
            most.min(Semaphore::MAX_PERMITS)
        });
        Self(Arc::new(Inner {
            most,
            free: Arc::new(Semaphore::new(most)),
            pauses: AtomicU64::new(0),
        }))
    }

    /// Returns how many there are.
    pub fn open(&self) -> u64 {
        let free = self.0.free.available_permits();
        self.0.most.saturating_sub(free) as u64
    }

    /// Returns how often accepting had to pause.
    pub fn pauses(&self) -> u64 {
        self.0.pauses.load(Ordering::Relaxed)
    }

    /// Lets one more in, if there is room.
    fn try_enter(&self) -> Option<Connected> {
        let place = self.0.free.clone().try_acquire_owned().ok()?;
        Some(Connected {
            _place: Some(place),
        })
    }

    /// Lets one more in, as soon as there is room.
    pub async fn enter(&self) -> Connected {
        if let Some(connected) = self.try_enter() {
            return connected;
        }
        let pauses = self.0.pauses.fetch_add(1, Ordering::Relaxed) + 1;
        // At the limit one pause follows the other; the operator is told ever more rarely.
        if pauses.is_power_of_two() {
            tracing::warn!(
                connections = self.0.most,
                pauses,
                "accepting pauses: as many connections as there may be"
            );
        }
        Connected {
            // It fails only where the semaphore is closed, and nobody closes it.
            _place: self.0.free.clone().acquire_owned().await.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn whoever_comes_beyond_the_limit_waits_until_another_has_gone() {
        let connections = Connections::new(NonZeroU32::new(2));
        let first = connections.enter().now_or_never().expect("room");
        let _second = connections.try_enter().expect("room");
        assert!(connections.try_enter().is_none());
        let mut third = Box::pin(connections.enter());
        assert!(third.as_mut().now_or_never().is_none());
        assert_eq!((connections.open(), connections.pauses()), (2, 1));
        drop(first);
        assert!(third.as_mut().now_or_never().is_some());
        assert_eq!((connections.open(), connections.pauses()), (1, 1));
    }

    #[test]
    fn without_a_limit_there_is_always_room() {
        let connections = Connections::new(None);
        let held: Vec<_> = (0..1_000).map(|_| connections.try_enter()).collect();
        assert!(held.iter().all(Option::is_some));
        assert_eq!((connections.open(), connections.pauses()), (1_000, 0));
    }
}
