//! What stands between the cache and the upstream.

pub mod budget;
pub mod coalesce;
mod course;
pub mod failover;
pub mod pause;
pub mod peek;
pub mod retry;
pub mod tally;
pub mod witness;
