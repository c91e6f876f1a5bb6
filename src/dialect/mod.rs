//! The families of endpoints that Refrain understands, each in a file or folder of its own. Pure: bytes in, facts out.
//!
//! # Scope
//! A dialect only *looks*: what it does not know it leaves alone, and the bytes that travel are never re-modelled.

pub mod chat;
pub mod envelope;
mod glimpse;
pub mod sse;
pub mod usage;

use http::Method;

/// A family of endpoints whose calls and answers Refrain can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `POST /v1/chat/completions` (OpenAI API reference, "Create chat completion").
    Chat,
}

impl Dialect {
    /// Returns the dialect that `method` and `path` (as sent, without the query) belong to.
    pub fn of(method: &Method, path: &str) -> Option<Self> {
        (method == Method::POST && path == "/v1/chat/completions").then_some(Self::Chat)
    }

    /// Returns the name in log lines and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
        }
    }
}
