//! What a call asks, and what makes two calls the same. Pure: bytes and facts in, a key or a named refusal out.
//!
//! [`canon`] brings a body into the one form that all its spellings share; [`key`] makes the key of it and of
//! everything else that an answer depends on.

pub mod canon;
pub mod key;
