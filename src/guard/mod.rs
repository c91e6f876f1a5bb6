//! What stands between the cache and the upstream.

pub mod breaker;
pub mod circuit;
pub mod class;
pub mod coalesce;
pub mod hedge;
pub mod limit;
pub mod pace;
#[cfg(test)]
mod trial;
pub mod witness;
