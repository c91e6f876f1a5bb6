//! Refrain: a transparent reverse proxy for LLM APIs that answers what was answered before.

pub mod call;
pub mod config;
pub mod dialect;
pub mod error;
