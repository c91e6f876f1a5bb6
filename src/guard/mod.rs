//! What stands between the cache and the upstream.

pub mod budget;
pub mod coalesce;
pub mod pause;
pub mod retry;
pub mod witness;
