//! The families of endpoints that Refrain understands, each in a file or folder of its own. Pure: bytes in, facts out.
//!
//! # Scope
//! A dialect only *looks*: what it does not know it leaves alone, and the bytes that travel are never re-modelled.

pub mod chat;
pub mod envelope;
mod glimpse;
pub mod opening;
mod skim;
pub(crate) mod special;
pub mod sse;
pub mod usage;

use http::{HeaderMap, HeaderValue, Method, header::CONTENT_TYPE};

use self::chat::{
    Unreadable,
    form::Form,
    reply::{Outcome, Watch},
};

/// A family of endpoints whose calls and answers Refrain can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `POST /v1/chat/completions` (OpenAI API reference, "Create chat completion").
    Chat,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 1] = [Self::Chat];

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

    /// Returns an apology of this `text`, as the dialect tells an answer in this `form` with so many `choices`; `created`
    /// is in seconds since the epoch.
    pub fn apology(
        self,
        form: Form,
        choices: Option<u8>,
        text: &str,
        id: &str,
        created: u64,
    ) -> Result<Vec<u8>, Unreadable> {
        match self {
            Self::Chat => chat::apology::apology(form, choices, text, id, created),
        }
    }
}

/// Stands beside an answer's bytes and says at the end what they were.
#[derive(Debug)]
pub enum Listener {
    /// Hears a stream event by event.
    Stream(Box<Watch>),
    /// Looks at a plain answer once, at its end.
    Whole {
        /// Whether its content has to be JSON.
        wants_json: bool,
    },
}

impl Listener {
    /// Makes the listener for an answer with these `headers` to `request`; `limit` is the largest answer that is of
    /// interest, bytes.
    pub fn new(headers: &HeaderMap, request: &chat::request::Request, limit: usize) -> Self {
        let wants_json = request.wants_json;
        if headers.get(CONTENT_TYPE).is_some_and(is_event_stream) {
            Self::Stream(Box::new(Watch::new(wants_json, limit)))
        } else {
            Self::Whole { wants_json }
        }
    }

    /// Hears the next piece.
    pub fn hear(&mut self, piece: &[u8]) {
        match self {
            Self::Stream(watch) => watch.push(piece),
            Self::Whole { .. } => {}
        }
    }

    /// Ends; `whole` is the whole body, for who has not heard the pieces.
    pub fn finish(self, whole: &[u8]) -> Outcome {
        match self {
            Self::Stream(watch) => watch.finish(),
            Self::Whole { wants_json } => Outcome::of_whole(whole, wants_json),
        }
    }
}

/// Returns whether a `Content-Type` is that of server-sent events.
pub fn is_event_stream(content_type: &HeaderValue) -> bool {
    let value = content_type.as_bytes();
    let media_type = value.split(|byte| *byte == b';').next().unwrap_or_default();
    media_type
        .trim_ascii()
        .eq_ignore_ascii_case(b"text/event-stream")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DIALECTS;

    #[test]
    fn rules_can_name_every_dialect() {
        assert_eq!(Dialect::ALL.map(Dialect::as_str), DIALECTS);
    }
}
