//! What stands between the cache and the upstream.

pub mod coalesce;
pub mod witness;
