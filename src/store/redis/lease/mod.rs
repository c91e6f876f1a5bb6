//! Leases: of all replicas, the one that holds the lease of a place is on its way upstream for it.
//!
//! A lease is taken by one round trip, which also tells whether an entry lies there by now; it is renewed as long as it is
//! held, and given back when it ends, however that comes about. Behind an entry it is given back only once that is written.
//!
//! # Scope
//! A lease is a courtesy and no lock: who does not get one, or loses it, may go upstream all the same. So nothing here
//! fails a call, and whoever writes to Redis can at worst have calls wait for as long as they would wait for a flight. Whom
//! to wait for, and how long, is `guard::coalesce`'s to decide.

mod claim;
mod lua;
mod waiters;
mod wire;

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{claim::RANDOM, waiters::Waiters};
pub use self::{
    claim::{APART, Claim, Holder},
    lua::Scripts,
    waiters::Waiter,
    wire::{Asked, Asking, Release, Wire},
};
use super::{
    channel::{Ears, Heard},
    message::Message,
    trouble::{Kind, Trouble},
};
use crate::{answer::tasks::Tasks, call::Slot, dialect::chat::form::Form};

/// The leases of all replicas, as this one sees them; clones share them.
#[derive(Clone)]
pub struct Leases(Arc<Inner>);

struct Inner {
    wire: Box<dyn Wire>,
    waiters: Waiters,
    tasks: Tasks,
}

/// A lease, or what may become one. Dropping it gives it back.
#[derive(Debug)]
pub struct Lease {
    leases: Leases,
    slot: Slot,
    claim: Claim,
    stage: Stage,
}

/// What a lease has come to.
#[derive(Debug)]
enum Stage {
    /// It is not held.
    Open,
    /// It was asked for, and may be held: no answer came.
    Unknown,
    /// It is held, and renewed until this is dropped.
    Held { _renewing: DropGuard },
}

/// How a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The entry is on its way: the lease ends behind it.
    Written,
    /// The flight brought nothing, for a reason of its own: another may lead.
    Again,
    /// What the flight brought answers no other call: nobody is to wait for the next one.
    Apart,
}

impl Leases {
    /// Makes leases that are asked for by `wire`; those who renew them and give them back belong to `tasks`.
    pub fn new(wire: Box<dyn Wire>, tasks: Tasks) -> Self {
        Self(Arc::new(Inner {
            wire,
            waiters: Waiters::default(),
            tasks,
        }))
    }

    /// Returns a lease to be asked for; `None` where the system has no random bytes.
    pub fn lease(&self, slot: Slot, form: Form, hops: u8) -> Option<Lease> {
        let mut random = [0; RANDOM];
        getrandom::fill(&mut random).ok()?;
        Some(Lease {
            leases: self.clone(),
            slot,
            claim: Claim::new(form, hops, random),
            stage: Stage::Open,
        })
    }

    /// Looks at the lease of `slot` without taking it. `known` is the mark of an entry that is of no use, `None` for any.
    pub async fn look(
        &self,
        slot: &Slot,
        known: Option<&[u8]>,
        patience: Duration,
    ) -> Result<Asked, Trouble> {
        let asking = Asking {
            slot,
            claim: None,
            known,
        };
        self.0.wire.ask(asking, patience).await
    }

    /// Lets the caller hear of flights for `slot` that end from now on.
    pub fn wait(&self, slot: Slot) -> Waiter {
        self.0.waiters.wait(slot)
    }

    /// Hears of the ends of flights, as long as there is a channel.
    pub async fn listen(self, mut ears: Ears) {
        while let Some(heard) = ears.next().await {
            match heard {
                Heard::Message(Message::Done(slot)) => self.ended(&slot),
                // An end may have been missed.
                Heard::Back => self.0.waiters.tell_all(),
                Heard::Message(_) | Heard::Lost => {}
            }
        }
    }

    /// Hears that a flight for `slot` has ended somewhere.
    pub fn ended(&self, slot: &Slot) {
        self.0.waiters.tell(slot);
    }

    /// Gives a lease back, behind its entry if there is one. What fails ends by itself, when its time is over.
    fn give_back(&self, release: Release, end: End) {
        if end == End::Written {
            return self.0.wire.release_behind_entry(&release);
        }
        let leases = self.clone();
        self.0.tasks.spawn(async move {
            let _ = leases.0.wire.release(&release, PATIENCE).await;
        });
    }
}

impl Lease {
    /// Takes the lease, unless it is held, or an entry lies there that is not `known`: the mark of one that is of no use,
    /// `None` for any.
    pub async fn take(
        &mut self,
        known: Option<&[u8]>,
        patience: Duration,
    ) -> Result<Asked, Trouble> {
        self.stage = Stage::Unknown;
        let asking = Asking {
            slot: &self.slot,
            claim: Some(&self.claim),
            known,
        };
        let asked = self.leases.0.wire.ask(asking, patience).await;
        self.stage = match &asked {
            Ok(asked) if asked.taken => self.renewed(),
            Err(trouble) if trouble.kind != Kind::Away => Stage::Unknown,
            Ok(_) | Err(_) => Stage::Open,
        };
        asked
    }

    /// Ends the lease.
    pub fn end(mut self, end: End) {
        self.give_back(end);
    }

    fn give_back(&mut self, end: End) {
        if matches!(self.stage, Stage::Open) {
            return;
        }
        self.stage = Stage::Open;
        let release = Release {
            slot: self.slot,
            claim: self.claim,
            apart: end == End::Apart,
        };
        self.leases.give_back(release, end);
    }

    fn renewed(&self) -> Stage {
        let over = CancellationToken::new();
        let (leases, slot, claim) = (self.leases.clone(), self.slot, self.claim);
        let stop = over.clone();
        self.leases.0.tasks.spawn(async move {
            stop.run_until_cancelled(leases.renew(slot, claim)).await;
        });
        Stage::Held {
            _renewing: over.drop_guard(),
        }
    }
}

impl Leases {
    /// Renews a lease until it is lost. What fails is tried again; if that is too late, others go upstream, too.
    async fn renew(self, slot: Slot, claim: Claim) {
        let mut is_held = true;
        while is_held {
            sleep(RENEW).await;
            let renewed = self.0.wire.renew(&slot, &claim, PATIENCE).await;
            is_held = renewed.unwrap_or(true);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.give_back(End::Again);
    }
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leases")
    }
}

/// How long a lease lives that is not renewed: as long as others wait for a replica that is gone.
pub const LEASE: Duration = Duration::from_secs(10);
/// How long nobody is to wait after a flight that ended [`End::Apart`]: longer than the longest pause between two looks.
pub const APART_FOR: Duration = Duration::from_secs(1);
/// Between two renewals.
const RENEW: Duration = Duration::from_secs(3);
/// For a renewal, and for giving back: nobody waits for them.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
pub(crate) mod double;
#[cfg(test)]
mod tests;
