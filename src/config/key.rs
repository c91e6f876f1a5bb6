//! `[key]`: what the key of a call is made of.

use super::ApiKey;

/// `[key]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The operator's own version; changing it starts an empty key space.
    pub version: String,
    /// What keys are made with; `None` for what the store keeps.
    pub secret: Option<ApiKey>,
    /// Fields that are keyed although they are on the dialect's ignore list.
    pub keep: Vec<String>,
    /// Whether a field at OpenAI's documented default equals its absence.
    pub fold_openai_defaults: bool,
    /// Largest body that is keyed, bytes.
    pub max_body: u64,
}

/// The fields that `[key] keep` may name: those that the chat dialect leaves out of the key although an operator may
/// want them in. `stream` and `stream_options` are not among them, since one entry serves both modes.
pub const KEEPABLE: [&str; 5] = [
    "user",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
];

/// Largest body that can be keyed at all, bytes: places in its canonical form, which may be longer, fit in 32 bits.
pub const MAX_BODY: u64 = 1 << 28;
