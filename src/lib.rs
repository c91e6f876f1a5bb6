//! Refrain: a transparent reverse proxy for LLM APIs that answers what was answered before.

pub mod command;
pub mod config;
pub mod dialect;
pub mod error;
