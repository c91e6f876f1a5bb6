//! The README's promises, one file each, held by the real binary between a scripted upstream and a client that sees
//! every byte.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod support;

mod admin;
mod check;
mod circuit;
mod coalesce;
mod connections;
mod constant;
mod disk;
mod drain;
mod failover;
mod fallback;
mod faults;
mod health;
mod hedge;
mod hit;
mod joins;
mod json;
mod limit;
mod modes;
mod origin;
mod overload;
mod patience;
mod proof;
mod purge;
mod redis;
mod rehearsal;
mod routes;
mod rules;
mod scope;
mod shutdown;
mod stale;
mod stand_in;
mod stats;
mod steer;
mod storable;
mod stream;
mod timeouts;
mod tls;
mod transparent;
