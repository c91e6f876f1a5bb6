//! The last of the ways to survive an upstream: a caller whom nobody answered is given an apology that it can read.
//!
//! # Scope
//! [`class`](super::class) says what a failure is, [`answer::apology`](crate::answer::apology) who is given an apology for it;
//! the layer obeys, says so in the log, and tells who hears the error itself when to try again. Nothing takes the place of a
//! 4xx, which is the caller's to hear. It stands above the cache: what it makes is never stored, and a stale entry goes
//! first. What has begun to flow is out of its reach.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use futures_util::future::Either;
use http::HeaderValue;
use tower::{Layer, Service};

use crate::{
    answer::{Answer, Eventual, Timing, apology::Wanted, verdict::Failure},
    call::Call,
    config::Fallback,
    error::{Error, Tries},
    guard::class::Class,
};

/// What the layer goes by.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What callers get, unless their rule says otherwise.
    pub fallback: Fallback,
    /// When a failed call is worth another try, where nobody below knows better.
    pub retry_after: Duration,
    /// Tells the time.
    pub clock: fn() -> SystemTime,
}

/// The layer.
#[derive(Clone, Debug)]
pub struct ApologyLayer {
    terms: Arc<Terms>,
}

/// The service.
#[derive(Clone, Debug)]
pub struct Apology<S> {
    inner: S,
    terms: Arc<Terms>,
}

/// What is kept of a call for the case that it fails.
struct Asked {
    id: HeaderValue,
    wanted: Option<Wanted>,
}

impl ApologyLayer {
    /// Makes a layer that goes by `terms`.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms: Arc::new(terms),
        }
    }
}

impl<S> Layer<S> for ApologyLayer {
    type Service = Apology<S>;

    fn layer(&self, inner: S) -> Apology<S> {
        Apology {
            inner,
            terms: self.terms.clone(),
        }
    }
}

impl<S> Service<Call> for Apology<S>
where
    S: Service<Call, Response = Answer, Error = Error, Future = Eventual>,
{
    type Response = Answer;
    type Error = Error;
    type Future = Eventual;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Eventual {
        let asked = Asked {
            id: call.id.clone(),
            wanted: Wanted::by(&call, &self.terms.fallback),
        };
        match self.inner.call(call) {
            // No upstream was asked for what is there at once.
            Either::Left(there) => Either::Left(there),
            Either::Right(answering) => {
                let terms = self.terms.clone();
                Either::Right(Box::pin(
                    async move { asked.settle(answering.await, &terms) },
                ))
            }
        }
    }
}

impl Asked {
    /// Puts an apology in the place of a failure, where one is wanted.
    fn settle(self, result: Result<Answer, Error>, terms: &Terms) -> Result<Answer, Error> {
        let Some(failure) = failure(&result) else {
            return result;
        };
        match self.apology(failure, &result, (terms.clock)()) {
            Some(apology) => Ok(apology),
            None => result.map_err(|error| worth_another_try(error, terms.retry_after)),
        }
    }

    fn apology(
        &self,
        failure: Failure,
        result: &Result<Answer, Error>,
        now: SystemTime,
    ) -> Option<Answer> {
        let wanted = self.wanted.as_ref()?;
        let id = self.id.to_str().unwrap_or_default();
        let mut apology = wanted.answer(failure, id, now)?;
        let head = result.as_ref().ok().map(|answer| &answer.head);
        // The upstream was asked, in vain, and that took its time.
        apology.head.timing = match result {
            Ok(answer) => answer.head.timing.clone(),
            Err(error) => error.tries().map(after),
        };
        tracing::warn!(
            call.id = id,
            dialect = wanted.dialect().as_str(),
            reason = failure.as_str(),
            http.response.status_code = head.map(|head| head.status.as_u16()),
            error = result.as_ref().err().map(tracing::field::display),
            "apology served"
        );
        Some(apology)
    }
}

/// Returns what an apology may stand in for, if `result` is such a failure.
fn failure(result: &Result<Answer, Error>) -> Option<Failure> {
    match result {
        Ok(answer) => {
            let class = Class::of_status(answer.head.status);
            (class == Class::Failure).then_some(Failure::Status)
        }
        Err(error) => Failure::of(error.kind()),
    }
}

/// Returns what is told of the time that nobody answered in: the tries.
fn after(tries: Tries) -> Arc<Timing> {
    let timing = Timing::default();
    timing.note_failed(tries);
    Arc::new(timing)
}

fn worth_another_try(error: Error, after: Duration) -> Error {
    match error.retry_after() {
        Some(_) => error,
        None => error.with_retry_after(after),
    }
}

#[cfg(test)]
mod tests;
