//! What stands between the cache and the upstream.

pub mod coalesce;
pub mod hedge;
pub mod limit;
pub mod pace;
#[cfg(test)]
mod trial;
pub mod witness;
