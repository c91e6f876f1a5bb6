//! How a stream of server-sent events opens: with content, or with an error in its place. Pure.
//!
//! Some upstreams answer 200 and tell of a failure only then, in the first event: `data: {"error": ...}` (OpenAI and its
//! likes), `event: error` (Anthropic), `response.failed`, `{"type": "error"}` (OpenAI's Responses). Before it there may be
//! comments, pings, an announcement, or a chunk that only says who speaks: none of it is content.
//!
//! Whose doing an error is, it tells by a status or by a name. A name that is not known here stays [`Fault::Unknown`]: there
//! are ever more of them for what is wrong with a request, and to take those for the server's would have one caller's bad
//! request pass for an outage.
//!
//! # Scope
//! It looks at no more than [`LIMIT`] bytes, and what it does not know is content. It changes nothing and holds nothing
//! back. What is told after content was is none of its business.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    glimpse::Glimpse,
    sse::{Event, Events},
};

/// Reads the beginning of a stream beside its bytes.
#[derive(Debug)]
pub struct Opening {
    events: Events,
    /// Bytes that it still looks at.
    left: usize,
}

/// What a stream begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Something said, an end mark, or what is unknown here.
    Content,
    /// An error, before anything was said.
    Error(Fault),
}

/// Whose doing an error is, as it tells itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server's, by a name or a status that says so.
    Server,
    /// Nobody's who is known here by name.
    Unknown,
    /// There is no room for whoever holds the key.
    Busy,
    /// The client's: what it asked for is refused.
    Client,
}

/// An event's data, as far as it is read.
#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Glimpse<'a>>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow)]
    response: Option<Response<'a>>,
}

/// A member of a chunk's `choices`.
#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<Glimpse<'a>>,
    #[serde(borrow)]
    delta: Option<BTreeMap<String, Glimpse<'a>>>,
    #[serde(borrow)]
    text: Option<Glimpse<'a>>,
}

/// What a `response.failed` tells.
#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// What an error says of itself, be it a member of its event or the event; numbers may be written as strings.
#[derive(Deserialize)]
struct Complaint<'a> {
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
}

impl Opening {
    /// Begins to read.
    pub fn new() -> Self {
        Self {
            events: Events::with_limit(LIMIT),
            left: LIMIT,
        }
    }

    /// Reads the next piece of the body; returns what the stream begins with, once that is known.
    pub fn hear(&mut self, piece: &[u8]) -> Option<Start> {
        let Self { events, left } = self;
        let mut start = None;
        events.push(piece, &mut |event| {
            if start.is_none() {
                start = of_event(event);
            }
        });
        *left = left.saturating_sub(piece.len());
        start.or((*left == 0 || events.overflowed()).then_some(Start::Content))
    }
}

impl Default for Opening {
    fn default() -> Self {
        Self::new()
    }
}

impl Told<'_> {
    /// Returns what a stream begins with that begins so; `None` where it has not begun yet.
    fn start(&self) -> Option<Start> {
        if let Some(error) = self.error() {
            return Some(Start::Error(Fault::of(error.get().as_bytes())));
        }
        if let Some(Glimpse::Text(kind)) = &self.kind
            && ANNOUNCEMENTS.iter().any(|known| kind.is(known))
        {
            return None;
        }
        let choices = self.choices.as_deref();
        let speaks = choices.is_none_or(|choices| choices.iter().any(Choice::speaks));
        speaks.then_some(Start::Content)
    }

    /// Returns whether the whole event is an error.
    fn is_error(&self) -> bool {
        matches!(&self.kind, Some(Glimpse::Text(kind)) if kind.is("error"))
    }

    fn error(&self) -> Option<&RawValue> {
        let of_choices = self.choices.iter().flatten().map(|choice| choice.error);
        let of_response = self.response.as_ref().map(|response| response.error);
        let errors = [self.error]
            .into_iter()
            .chain(of_choices)
            .chain(of_response);
        errors.flatten().find(|error| is_there(error))
    }
}

impl Choice<'_> {
    fn speaks(&self) -> bool {
        let is_there = |value: &Option<Glimpse<'_>>| value.as_ref().is_some_and(Glimpse::is_there);
        let said = |(name, value): (&String, &Glimpse<'_>)| {
            !["role", "name"].contains(&name.as_str()) && value.is_there()
        };
        is_there(&self.finish_reason)
            || is_there(&self.text)
            || self.delta.iter().flatten().any(said)
    }
}

impl Fault {
    /// Returns whose doing `error` is, as written in an event.
    fn of(error: &[u8]) -> Self {
        let Ok(complaint) = serde_json::from_slice::<Complaint<'_>>(error) else {
            return Self::Unknown;
        };
        let told = [complaint.code, complaint.status, complaint.kind];
        let mut faults = told.into_iter().flatten().filter_map(Self::of_word);
        faults.next().unwrap_or(Self::Unknown)
    }

    /// Reads a status or a name; `None` where it says nothing that is known here.
    fn of_word(word: &RawValue) -> Option<Self> {
        let word = word.get().trim_matches('"');
        if let Ok(status) = word.parse::<u16>() {
            return match status {
                429 => Some(Self::Busy),
                400..=499 | 501 | 505 => Some(Self::Client),
                500..=599 => Some(Self::Server),
                _ => None,
            };
        }
        let is = |known: &[&str]| known.iter().any(|known| word.eq_ignore_ascii_case(known));
        is(&BUSY)
            .then_some(Self::Busy)
            .or(is(&SERVERS).then_some(Self::Server))
            .or(is(&CLIENTS).then_some(Self::Client))
    }
}

fn of_event(event: Event<'_>) -> Option<Start> {
    let told = serde_json::from_slice::<Told<'_>>(event.data).ok();
    if event.name == b"error" || told.as_ref().is_some_and(Told::is_error) {
        let error = told.as_ref().and_then(Told::error);
        let error = error.map_or(event.data, |error| error.get().as_bytes());
        return Some(Start::Error(Fault::of(error)));
    }
    told.map_or(Some(Start::Content), |told| told.start())
}

/// Returns whether an error is one: some servers write `null` or nothing into every chunk.
fn is_there(error: &RawValue) -> bool {
    serde_json::from_str::<Glimpse<'_>>(error.get()).is_ok_and(|error| error.is_there())
}

/// Events that announce content and are none, by their `type`.
const ANNOUNCEMENTS: [&str; 5] = [
    "ping",
    "message_start",
    "response.created",
    "response.queued",
    "response.in_progress",
];

/// What errors are called that say "not now" to whoever holds the key.
const BUSY: [&str; 4] = [
    "rate_limit_error",
    "rate_limit_exceeded",
    "insufficient_quota",
    "too_many_requests",
];

/// What errors are called that the server takes upon itself.
const SERVERS: [&str; 13] = [
    "server_error",
    "internal_server_error",
    "internalservererror",
    "internal_error",
    "internal",
    "api_error",
    "overloaded_error",
    "overloaded",
    "timeout_error",
    "service_unavailable",
    "serviceunavailableerror",
    "unavailable_error",
    "unavailable",
];

/// What errors are called that refuse what was asked for, or who asked.
const CLIENTS: [&str; 23] = [
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "billing_error",
    "request_too_large",
    "badrequesterror",
    "context_length_exceeded",
    "content_policy_violation",
    "invalid_prompt",
    "invalid_api_key",
    "invalid_image",
    "invalid_image_format",
    "invalid_base64_image",
    "invalid_image_url",
    "invalid_image_mode",
    "image_too_large",
    "image_too_small",
    "image_parse_error",
    "image_content_policy_violation",
    "image_file_too_large",
    "unsupported_image_media_type",
    "empty_image_file",
];

/// Bytes of a stream that are looked at, at most.
pub const LIMIT: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROLE: &str = r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
    const CONTENT: &str = r#"data: {"error":null,"choices":[{"delta":{"content":"Hi"}}]}"#;

    fn hear(text: &str) -> Option<Start> {
        Opening::new().hear(text.as_bytes())
    }

    #[test]
    fn an_error_before_any_content_is_found_in_every_dialect() {
        for (error, fault) in [
            (
                r#"data: {"error":{"message":"boom","type":"server_error"}}"#,
                Fault::Server,
            ),
            (r#"data: {"error":"boom"}"#, Fault::Unknown),
            (
                r#"data: {"error":{"code":502,"message":"bad gateway"}}"#,
                Fault::Server,
            ),
            (r#"data: {"error":{"code":"503"}}"#, Fault::Server),
            (
                r#"data: {"choices":[{"delta":{},"error":{"code":500}}]}"#,
                Fault::Server,
            ),
            (
                "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}",
                Fault::Server,
            ),
            ("event: error\ndata: boom", Fault::Unknown),
            (
                r#"data: {"type":"response.failed","response":{"error":{"code":"a_new_word"}}}"#,
                Fault::Unknown,
            ),
            (
                r#"data: {"type":"response.failed","response":{"error":{"code":"server_error"}}}"#,
                Fault::Server,
            ),
            (r#"data: {"error":{"code":429}}"#, Fault::Busy),
            (
                r#"data: {"error":{"type":"insufficient_quota","code":null}}"#,
                Fault::Busy,
            ),
            (
                "event: error\ndata: {\"error\":{\"type\":\"rate_limit_error\"}}",
                Fault::Busy,
            ),
            (
                r#"data: {"error":{"message":"too long","type":"BadRequestError","code":400}}"#,
                Fault::Client,
            ),
            (
                r#"data: {"error":{"type":"invalid_request_error","code":"context_length_exceeded"}}"#,
                Fault::Client,
            ),
        ] {
            for before in ["", ": PROCESSING\n\n", &format!("{ROLE}\n\n")] {
                let start = hear(&format!("{before}{error}\n\n"));
                assert_eq!(start, Some(Start::Error(fault)), "{before}{error}");
            }
        }
    }

    #[test]
    fn an_error_of_the_responses_is_read_with_and_without_the_events_name() {
        for (code, fault) in [
            (r#""server_error""#, Fault::Server),
            (r#""rate_limit_exceeded""#, Fault::Busy),
            (r#""invalid_image_url""#, Fault::Client),
            (r#""a_new_word""#, Fault::Unknown),
            ("null", Fault::Unknown),
        ] {
            let data = format!(r#"data: {{"type":"error","code":{code},"param":null}}"#);
            for before in ["", "event: error\n"] {
                let start = hear(&format!("{before}{data}\n\n"));
                assert_eq!(start, Some(Start::Error(fault)), "{before}{data}");
            }
        }
    }

    #[test]
    fn a_status_in_an_error_is_sorted_like_that_of_an_answer() {
        for (status, fault) in [
            (400, Fault::Client),
            (429, Fault::Busy),
            (500, Fault::Server),
            (501, Fault::Client),
            (505, Fault::Client),
            (529, Fault::Server),
            (200, Fault::Unknown),
        ] {
            let start = hear(&format!("data: {{\"error\":{{\"code\":{status}}}}}\n\n"));
            assert_eq!(start, Some(Start::Error(fault)), "{status}");
        }
    }

    #[test]
    fn what_only_announces_is_not_content() {
        for before in [
            "",
            ": OPENROUTER PROCESSING\n\n",
            ROLE,
            r#"data: {"choices":[],"prompt_filter_results":[]}"#,
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}",
            "event: ping\ndata: {\"type\": \"ping\"}",
            r#"data: {"type":"response.created","response":{"error":null}}"#,
        ] {
            assert_eq!(hear(&format!("{before}\n\n")), None, "{before}");
        }
    }

    #[test]
    fn whatever_says_something_or_is_unknown_is_content() {
        for content in [
            CONTENT,
            "data: [DONE]",
            "data: boom",
            r#"data: {"choices":[{"text":"Hi"}]}"#,
            r#"data: {"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
            r#"data: {"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#,
            r#"data: {"type":"content_block_delta","delta":{"text":"Hi"}}"#,
            r#"data: {"type":"response.output_text.delta","delta":"Hi"}"#,
        ] {
            assert_eq!(
                hear(&format!("{content}\n\n")),
                Some(Start::Content),
                "{content}"
            );
        }
    }

    #[test]
    fn it_stops_looking_in_time() {
        let mut opening = Opening::new();
        let comment = b": still here\n\n";
        let heard = (0..=LIMIT / comment.len()).find_map(|_| opening.hear(comment));
        assert_eq!(heard, Some(Start::Content));
        let long = format!("data: {}", "x".repeat(LIMIT));
        assert_eq!(hear(&long), Some(Start::Content));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_stream_is_cut(cut in 0..200usize) {
            for last in [CONTENT, r#"data: {"error":{"code":500}}"#] {
                let whole = format!(": hello\n\n{ROLE}\n\n{last}\n\n");
                let (first, rest) = whole.as_bytes().split_at(cut.min(whole.len()));
                let mut opening = Opening::new();
                let start = opening.hear(first).or_else(|| opening.hear(rest));
                prop_assert_eq!(start, hear(&whole));
            }
        }

        #[test]
        fn nothing_that_comes_stops_it(pieces in prop::collection::vec(any::<Vec<u8>>(), 0..8)) {
            let mut opening = Opening::new();
            for piece in pieces {
                opening.hear(&piece);
            }
        }
    }
}
