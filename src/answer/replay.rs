//! The replay of a finished recording: the recorded bytes, at once.

use bytes::Bytes;

use crate::dialect::usage::Usage;

/// A finished recording on its way to one client.
#[derive(Debug)]
pub struct Replay {
    rest: Option<Bytes>,
    usage: Option<Usage>,
}

impl Replay {
    /// Replays `body`, whose tokens were `usage`.
    pub fn new(body: Bytes, usage: Option<Usage>) -> Self {
        Self {
            rest: Some(body).filter(|body| !body.is_empty()),
            usage,
        }
    }

    /// Returns the bytes, once.
    pub fn take(&mut self) -> Option<Bytes> {
        self.rest.take()
    }

    /// Returns whether everything was handed out.
    pub fn is_done(&self) -> bool {
        self.rest.is_none()
    }

    /// Returns the bytes that are left.
    pub fn remaining(&self) -> u64 {
        self.rest.as_ref().map_or(0, |body| body.len() as u64)
    }

    /// Returns the tokens that the answer once cost.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }
}
