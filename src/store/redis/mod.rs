//! The Redis tier: entries and facts that replicas share, in Redis, Valkey, behind Sentinel or in a cluster.
//!
//! # Scope
//! Redis is semi-trusted: it may be down, slow, empty, or wrong, and none of that fails a call or answers one
//! wrongly. Who wants something from it goes by [`link`], which waits at most as long as it is told and fails at once
//! while Redis is away. Names of keys are `layout`'s. Entries are `entries`': written by `writer` from the `queue`, looked
//! through by `walk`, cleared up by `sweep`. What replicas agree on beside entries is [`sync`]'s; [`lease`] says whose turn it is to go upstream.

pub mod channel;
pub mod entries;
mod generations;
pub mod layout;
pub mod lease;
pub mod link;
pub mod message;
mod page;
mod proofs;
mod queue;
mod script;
mod secret;
mod sweep;
pub mod sync;
mod totals;
pub mod trouble;
mod value;
mod walk;
mod writer;

pub use self::{
    channel::{Channel, Ears, Heard},
    entries::{Options, Redis, Unanswered},
    link::{Early, Link, Master, Survey, hash_slot},
    totals::Totals,
    trouble::{Kind, Trouble},
    walk::Among,
};
