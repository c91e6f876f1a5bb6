//! A call: one parsed request, with every fact that the layers decide by. Pure.
//!
//! # Scope
//! A call *looks* at the client's bytes: [`Payload::Whole`] holds them as they came. The edits there are, LiteLLM's `cache`
//! object cut out of them and a model renamed on the way out where the operator wants that, are byte ranges ([`splice`]).

pub mod address;
pub mod caller;
pub mod callers;
pub mod canon;
pub mod content;
pub mod identity;
pub mod key;
pub mod keying;
pub mod leave;
pub mod plan;
pub mod pointer;
pub mod route;
pub mod rules;
pub mod scope;
mod sieve;
pub mod splice;

use std::{
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, uri::PathAndQuery};
use http_body::Body as _;
use http_body_util::combinators::UnsyncBoxBody;

use crate::{
    call::{
        caller::Caller,
        key::Key,
        leave::Leave,
        plan::Plan,
        route::{Candidate, Route},
        scope::{Breadth, Scope},
    },
    config::Rule,
    dialect::{Dialect, chat::request::Request},
    error::Error,
};

/// One request on its way through the layers: what is [`Fixed`], and what changes on the way.
#[derive(Debug)]
pub struct Call {
    /// Shared by the tries of the call, of which there may be several; the call is read as this.
    pub fixed: Arc<Fixed>,
    /// The client's bytes, LiteLLM's object cut out where that counts.
    pub payload: Payload,
    /// Where it may go.
    pub route: Arc<Route>,
    /// Which candidate of its route it is on its way to; 0 for the primary.
    pub at: usize,
    /// When the first try to make it began, its wait for a place included: what is timed as a whole is timed from then.
    pub since: Option<Instant>,
    /// When the entry was made that the cache found and passed over, if there was one.
    pub passed_over: Option<Instant>,
    /// Whether it keeps to itself: nothing of other calls answers it, as its credential is not proven.
    pub alone: bool,
    /// What of the time that it may wait for the store is spent.
    pub spent: Duration,
    /// How the circuit of the upstream it is on its way to let it through.
    pub leave: Leave,
}

/// What of a call stays as it came, whatever becomes of the call.
#[derive(Debug)]
pub struct Fixed {
    /// The client's `X-Request-Id`, else one of ours.
    pub id: HeaderValue,
    /// As sent.
    pub method: Method,
    /// Path and query, byte for byte as sent; without the address of an upstream.
    pub target: PathAndQuery,
    /// As sent; `upstream::headers` decides what travels on.
    pub headers: HeaderMap,
    /// The family of endpoints, where Refrain knows it.
    pub dialect: Option<Dialect>,
    /// Who asks.
    pub caller: Caller,
    /// What caller and operator allow for this call.
    pub plan: Plan,
    /// What the cache may know it by, or why it may not.
    pub keyed: Result<Arc<Keyed>, Unkeyed>,
    /// What it asks for, where it has no key and its body could be read; see [`Call::asks`].
    pub read: Option<Arc<Request>>,
    /// The operator's rule for it, if there is one.
    pub rule: Option<Arc<Rule>>,
    /// Whether the client asks to switch protocols (`Upgrade`, RFC 9110 §7.8).
    pub upgrade: bool,
}

/// The body of a request.
pub enum Payload {
    /// Read to its end, because the key needs it.
    Whole(Bytes),
    /// Streaming from the client; data and trailers pass one by one.
    Stream(UnsyncBoxBody<Bytes, Error>),
}

/// What identifies a call that can be cached.
#[derive(Debug)]
pub struct Keyed {
    /// Where its entry and its flight are found.
    pub slot: Slot,
    /// Whose entries may answer it, and whom its answer may serve.
    pub scope: Scope,
    /// What it asks for.
    pub request: Arc<Request>,
}

/// Place of an entry: the key, and the delivery that it was asked for in.
///
/// `stream` and `stream_options` are no part of the key. One entry answers plain calls and streams, with and without
/// `include_usage`; whatever else they ask for is part of the place, as it cannot be made of a recording without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// The key of the call.
    pub key: Key,
    /// Fingerprint of what the delivery is beyond a plain answer or a stream; 0 for nothing.
    pub delivery: u64,
}

/// Why a call has no key; it passes through untouched, and nothing is read, stored or joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unkeyed {
    /// `[cache] enabled = false`.
    Disabled,
    /// `X-Cache-Bypass`, or an alias of it.
    Bypass,
    /// A rule says `cache = false`.
    Rule,
    /// Not an endpoint that Refrain caches.
    Endpoint,
    /// The client switches protocols.
    Upgrade,
    /// The body carries a `Content-Encoding`.
    Encoded,
    /// `Range`, `If-Match`, `If-None-Match` and their kin.
    Conditional,
    /// The body is larger than `[key] max_body`.
    TooLarge,
    /// `[limits] buffered` is used up.
    BufferFull,
    /// The upstream keeps the answer (`store: true`): repeating the call has an effect.
    Stateful,
    /// The answer depends on the world: web search and other tools that the upstream runs.
    LiveTools,
    /// The body is one that upstreams may read differently from us.
    Body(canon::Unkeyed),
}

impl Unkeyed {
    /// Every reason that is not the body's own, in the order of the docs.
    pub const ALL: [Self; 11] = [
        Self::Disabled,
        Self::Bypass,
        Self::Rule,
        Self::Endpoint,
        Self::Upgrade,
        Self::Encoded,
        Self::Conditional,
        Self::TooLarge,
        Self::BufferFull,
        Self::Stateful,
        Self::LiveTools,
    ];

    /// Returns the word in `X-Cache-Reason`, log and docs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Bypass => "bypass",
            Self::Rule => "rule",
            Self::Endpoint => "endpoint",
            Self::Upgrade => "upgrade",
            Self::Encoded => "encoded_body",
            Self::Conditional => "conditional",
            Self::TooLarge => "body_too_large",
            Self::BufferFull => "buffer_full",
            Self::Stateful => "stateful",
            Self::LiveTools => "live_tools",
            Self::Body(reason) => reason.as_str(),
        }
    }
}

impl Call {
    /// Returns whether other credentials share its scope.
    pub fn is_wide(&self) -> bool {
        let keyed = self.keyed.as_ref();
        keyed.is_ok_and(|keyed| keyed.scope.breadth() == Breadth::Wider)
    }

    /// Returns whether making it twice does no more than making it once: it only reads, or it is a completion of which it is
    /// known that the upstream does not keep it. Whether it has a key, and why not, says nothing of that.
    pub fn is_repeatable(&self) -> bool {
        let completes = self.dialect.is_some();
        let leaves_nothing = completes && self.asks().is_some_and(|request| !request.stateful);
        !self.upgrade && (leaves_nothing || self.method.is_safe())
    }

    /// Makes a call that is still before all layers.
    pub fn new(fixed: Fixed, payload: Payload, route: Arc<Route>) -> Self {
        Self {
            fixed: Arc::new(fixed),
            payload,
            route,
            at: 0,
            since: None,
            passed_over: None,
            alone: false,
            spent: Duration::ZERO,
            leave: Leave::default(),
        }
    }

    /// Returns the same call once more, sharing its body; `None` where the body is a stream, which can be read only once.
    pub fn again(&self) -> Option<Self> {
        Some(Self {
            fixed: self.fixed.clone(),
            payload: self.payload.again()?,
            route: self.route.clone(),
            at: self.at,
            since: self.since,
            passed_over: self.passed_over,
            alone: self.alone,
            spent: self.spent,
            leave: self.leave.clone(),
        })
    }

    /// Returns what is fixed, for a test to make it another call; there must be no other try of it.
    #[cfg(test)]
    pub(crate) fn fixed_mut(&mut self) -> &mut Fixed {
        Arc::get_mut(&mut self.fixed).expect("the only try")
    }

    /// Returns what the call asks for, where its body could be read, whether it has a key or not.
    pub fn asks(&self) -> Option<&Request> {
        match &self.keyed {
            Ok(keyed) => Some(&keyed.request),
            Err(_) => self.read.as_deref(),
        }
    }

    /// Returns the model asked for, where the call has a key.
    pub fn model(&self) -> Option<&str> {
        self.keyed
            .as_ref()
            .ok()
            .map(|keyed| keyed.request.model.as_str())
    }

    /// Returns the upstream that it is on its way to; `None` past the last candidate.
    pub fn candidate(&self) -> Option<&Candidate> {
        self.route.candidate(self.at)
    }

    /// Returns the model that the upstream it is on its way to will be asked for, where that is known.
    pub fn sent_model(&self) -> Option<&str> {
        self.model_for(self.candidate()?)
    }

    /// Returns whether the upstream it is on its way to will be asked for another model than the primary would be.
    pub fn is_for_another_model(&self) -> bool {
        let primary = self.model_for(self.route.primary());
        self.at != 0 && self.sent_model() != primary
    }

    fn model_for<'a>(&'a self, candidate: &'a Candidate) -> Option<&'a str> {
        let asked = || self.route.model().or(self.model());
        candidate.model.as_deref().or_else(asked)
    }
}

impl Deref for Call {
    type Target = Fixed;

    fn deref(&self) -> &Fixed {
        &self.fixed
    }
}

impl Payload {
    /// Returns whether it can be sent more than once.
    pub fn is_whole(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    /// Returns the same body once more; `None` for a stream, which can be read only once, unless nothing is in it.
    pub fn again(&self) -> Option<Self> {
        self.is_whole().then(|| self.head())
    }

    /// Takes the body to send it. What is here whole can be taken again; of a stream nothing is left.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let rest = self.head();
        std::mem::replace(self, rest)
    }

    /// Returns what of it is here already.
    fn head(&self) -> Self {
        Self::Whole(match self {
            Self::Whole(body) => body.clone(),
            Self::Stream(_) => Bytes::new(),
        })
    }
}

impl std::fmt::Debug for Payload {
    /// Tells the kind and the size, never the content.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(bytes) => write!(f, "Whole({} bytes)", bytes.len()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}
