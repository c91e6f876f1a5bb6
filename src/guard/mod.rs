//! What stands between the cache and the upstream.

pub mod apology;
pub mod breaker;
pub mod budget;
pub mod circuit;
pub mod class;
pub mod coalesce;
mod course;
pub mod failover;
pub mod hedge;
pub mod limit;
pub mod pace;
pub mod pause;
pub mod peek;
pub mod retry;
pub mod tally;
#[cfg(test)]
mod trial;
pub mod witness;
