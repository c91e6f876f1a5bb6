//! Refrain: a transparent reverse proxy for LLM APIs. An app changes its OpenAI base URL and nothing else; a call that
//! was answered before is answered from the cache, and identical calls under way are joined into one.
//!
//! # The way of a call
//!
//! ```text
//! listen     accept, HTTP/1.1 and h2c, deadlines, drain
//! edge       http::Request -> Call;  Answer | Error -> http::Response. Nothing above this line fails
//! record     one ledger line per call, whoever answered it, including the client that hung up
//! cache      fresh: answered here; stale: kept as fallback; miss: goes on, stored on the way back
//! coalesce   one leader per key goes on; the others read its tape, live
//! witness    notes what the upstream says of each credential
//! breaker    a circuit for each model: while it is open, calls fail at once
//! upstream   the only station that leaves the machine
//! ```
//!
//! The order of the layers is [`stack`]'s and nobody else's. The modules below stand in import order: each may name
//! those above it, none may name those below (`tests/layering.rs`).

pub mod error;

pub mod config;

pub mod dialect;

pub mod call;

pub mod answer;

pub mod store;

pub mod upstream;

pub mod guard;

pub mod cache;

pub mod ledger;

pub mod admin;

pub mod listen;

pub mod stack;

pub mod app;

pub mod command;
