//! The Redis tier: entries and facts that replicas share, in Redis, Valkey, behind Sentinel or in a cluster.
//!
//! # Scope
//! Redis is semi-trusted: it may be down, slow, empty, or wrong, and none of that fails a call or answers one
//! wrongly. Who wants something from it goes by [`link`], which waits at most as long as it is told and fails at once
//! while Redis is away. Names of keys are `layout`'s.

pub mod layout;
pub mod link;
mod totals;
pub mod trouble;

pub use self::{
    layout::Layout,
    link::Link,
    totals::Totals,
    trouble::{Kind, Trouble},
};
