//! A double of Redis, for tests of leases: a map that does what the scripts do, and can fail or keep silent.

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout};

use super::{APART, APART_FOR, Asked, Asking, Claim, Holder, LEASE, Leases, Release, Wire};
use crate::{
    answer::tasks::Tasks,
    call::Slot,
    store::redis::trouble::{Kind, Trouble},
};

/// What all replicas of a test share; clones do.
#[derive(Clone, Default)]
pub(crate) struct Scripted(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    leases: HashMap<Slot, (Vec<u8>, Instant)>,
    marks: HashMap<Slot, Vec<u8>>,
    behind: Vec<Release>,
    listening: Vec<Leases>,
    asks: usize,
    fails: Option<Kind>,
}

impl Scripted {
    /// Returns the leases of one more replica.
    pub(crate) fn replica(&self) -> Leases {
        let leases = Leases::new(Box::new(self.clone()), Tasks::default());
        self.state().listening.push(leases.clone());
        leases
    }

    /// Has nobody hear of the end of flights any more.
    pub(crate) fn deafen(&self) {
        self.state().listening.clear();
    }

    /// Has everything fail from now on; a time-out takes its time.
    pub(crate) fn fail(&self, kind: Kind) {
        self.state().fails = Some(kind);
    }

    /// Has everything work again.
    pub(crate) fn heal(&self) {
        self.state().fails = None;
    }

    /// Says that an entry with this mark lies at `slot`.
    pub(crate) fn lay(&self, slot: Slot, mark: &str) {
        self.state().marks.insert(slot, mark.as_bytes().to_vec());
    }

    /// Ends the lease of `slot` as time would.
    pub(crate) fn expire(&self, slot: &Slot) {
        self.state().leases.remove(slot);
    }

    /// Writes what waits to be written; returns how many leases have waited for that.
    pub(crate) fn write(&self) -> usize {
        let behind = std::mem::take(&mut self.state().behind);
        for release in &behind {
            self.end(release);
        }
        behind.len()
    }

    /// Returns how often a lease was asked for.
    pub(crate) fn asks(&self) -> usize {
        self.state().asks
    }

    /// Returns who holds the lease of `slot`.
    pub(crate) fn holder(&self, slot: &Slot) -> Holder {
        Holder::read(&self.state().value(slot))
    }

    fn end(&self, release: &Release) {
        let listening = {
            let mut state = self.state();
            if state.value(&release.slot) == release.claim.as_bytes() {
                state.leases.remove(&release.slot);
                if release.apart {
                    let until = Instant::now() + APART_FOR;
                    state.leases.insert(release.slot, (APART.to_vec(), until));
                }
            }
            state.listening.clone()
        };
        for leases in listening {
            leases.ended(&release.slot);
        }
    }

    async fn fail_if_told(&self, patience: Duration) -> Result<(), Trouble> {
        let fails = self.state().fails;
        match fails {
            None => Ok(()),
            Some(Kind::Timeout) => {
                let _ = timeout(patience, pending::<()>()).await;
                Err(Trouble::new(Kind::Timeout, "scripted"))
            }
            Some(kind) => Err(Trouble::new(kind, "scripted")),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn value(&self, slot: &Slot) -> Vec<u8> {
        let lease = self.leases.get(slot);
        let lease = lease.filter(|(_, until)| Instant::now() < *until);
        lease.map(|(value, _)| value.clone()).unwrap_or_default()
    }

    fn ask(&mut self, asking: &Asking<'_>) -> Asked {
        self.asks += 1;
        let mark = self.marks.get(asking.slot).cloned().unwrap_or_default();
        let is_news = !mark.is_empty() && asking.known.is_some_and(|known| known != mark);
        let value = self.value(asking.slot);
        let taken = !is_news && asking.claim.is_some() && value.is_empty();
        if let Some(claim) = asking.claim.filter(|_| taken) {
            let lease = (claim.as_bytes().to_vec(), Instant::now() + LEASE);
            self.leases.insert(*asking.slot, lease);
        }
        Asked {
            mark,
            holder: if is_news {
                Holder::Nobody
            } else {
                Holder::read(&value)
            },
            taken,
        }
    }
}

impl Wire for Scripted {
    fn ask<'a>(
        &'a self,
        asking: Asking<'a>,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Asked, Trouble>> {
        Box::pin(async move {
            // What is asked for is done, whether the answer comes or not.
            let asked = self.state().ask(&asking);
            self.fail_if_told(patience).await?;
            Ok(asked)
        })
    }

    fn renew<'a>(
        &'a self,
        slot: &'a Slot,
        claim: &'a Claim,
        patience: Duration,
    ) -> BoxFuture<'a, Result<bool, Trouble>> {
        Box::pin(async move {
            self.fail_if_told(patience).await?;
            let mut state = self.state();
            if state.value(slot) != claim.as_bytes() {
                return Ok(false);
            }
            let lease = (claim.as_bytes().to_vec(), Instant::now() + LEASE);
            state.leases.insert(*slot, lease);
            Ok(true)
        })
    }

    fn release<'a>(
        &'a self,
        release: &'a Release,
        patience: Duration,
    ) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(async move {
            self.fail_if_told(patience).await?;
            self.end(release);
            Ok(())
        })
    }

    fn release_behind_entry(&self, release: &Release) {
        self.state().behind.push(*release);
    }
}
