//! What leases are asked of.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{Claim, Holder};
use crate::{call::Slot, store::redis::trouble::Trouble};

/// What leases are asked of: Redis, or the script of a test.
pub trait Wire: Send + Sync {
    /// Asks for a lease.
    fn ask<'a>(
        &'a self,
        asking: Asking<'a>,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Asked, Trouble>>;

    /// Has a lease live on; returns whether it is still held.
    fn renew<'a>(
        &'a self,
        slot: &'a Slot,
        claim: &'a Claim,
        patience: Duration,
    ) -> BoxFuture<'a, Result<bool, Trouble>>;

    /// Gives a lease back, and tells everybody.
    fn release<'a>(
        &'a self,
        release: &'a Release,
        patience: Duration,
    ) -> BoxFuture<'a, Result<(), Trouble>>;

    /// Has a lease given back once the entry is written that was put before, or is not going to be.
    fn release_behind_entry(&self, release: &Release);
}

/// A question for a lease.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// The place.
    pub slot: &'a Slot,
    /// What to take it with; `None` only looks.
    pub claim: Option<&'a Claim>,
    /// The mark of the entry that is known and of no use, empty for none. Any other is told before the lease is taken. `None`
    /// is for whom no entry is of use.
    pub known: Option<&'a [u8]>,
}

/// The answer to an [`Asking`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What tells the entry that lies there from others; empty for none.
    pub mark: Vec<u8>,
    /// Who holds the lease. Not told where an entry is news.
    pub holder: Holder,
    /// Whether it was taken.
    pub taken: bool,
}

/// A lease that is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// The place.
    pub slot: Slot,
    /// What it was taken with.
    pub claim: Claim,
    /// Whether nobody is to wait for the next flight.
    pub apart: bool,
}
