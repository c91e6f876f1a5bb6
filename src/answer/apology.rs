//! The apology: what a caller gets where no upstream answered and no entry could stand in. Pure.
//!
//! # Scope
//! Decides who is given one ([`Wanted::by`]), and makes the answer: never for a program that would take the words for
//! something else, for JSON, for tool calls, for sound. What it may stand in for is [`Failure`]'s.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::{
    answer::{
        Answer, Asked, Body, Head,
        replay::Replay,
        verdict::{Failure, Reason, Served, Verdict},
    },
    call::{Call, key::Key},
    config::{Fallback, FallbackMode},
    dialect::{Dialect, chat::form::Form},
};

/// What an apology to one call has to be like.
#[derive(Clone, Debug)]
pub struct Wanted {
    dialect: Dialect,
    form: Form,
    choices: Option<u8>,
    text: Arc<str>,
    key: Option<Key>,
}

impl Wanted {
    /// Decides what an apology to `call` would be like: as its rule says, else as `fallback` does. `None` where it is to
    /// hear the error itself, because it says so, the operator does, or nobody knows what form its program can read.
    pub fn by(call: &Call, fallback: &Fallback) -> Option<Self> {
        let (dialect, asks) = (call.dialect?, call.asks()?);
        if !call.plan.apology || asks.shaped || asks.tools {
            return None;
        }
        let Fallback { mode, text } = match &call.rule {
            Some(rule) => rule.fallback.over(fallback),
            None => fallback.clone(),
        };
        (mode == FallbackMode::Apology).then(|| Self {
            dialect,
            form: asks.form(),
            choices: asks.choices,
            text,
            key: call.keyed.as_ref().ok().map(|keyed| keyed.slot.key),
        })
    }

    /// Returns the dialect that it is told in.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Makes the apology for this `failure` of call `id`; `None` where the text cannot be told in the call's form, as it
    /// could only if it were enormous.
    pub fn answer(&self, failure: Failure, id: &str, now: SystemTime) -> Option<Answer> {
        let id = format!("chatcmpl-{id}");
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH);
        let created = since_epoch.unwrap_or(Duration::ZERO).as_secs();
        let told = self
            .dialect
            .apology(self.form, self.choices, &self.text, &id, created);
        let mut served =
            Served::from_upstream(Verdict::Fallback, Reason::Failed(failure), self.key);
        served.upstream = Some(NAME);
        Some(Answer {
            head: Head {
                status: StatusCode::OK,
                headers: self.headers(),
                framed: true,
                upstream: NAME,
                asked: Asked::default(),
                timing: None,
            },
            body: Body::Replay(Replay::new(told.ok()?.into(), None)),
            served,
        })
    }

    fn headers(&self) -> HeaderMap {
        let content_type = HeaderValue::from_static(self.form.content_type());
        HeaderMap::from_iter([
            (header::CONTENT_TYPE, content_type),
            // Nobody on the way to the client is to keep it either: another Refrain, say.
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ])
    }
}

/// What `X-Upstream` says of an answer that no upstream made.
const NAME: HeaderValue = HeaderValue::from_static("graceful_fallback");
