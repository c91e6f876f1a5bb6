//! Gives up on an upstream that fails, for a while: one circuit for each model that it is asked for.
//!
//! # How a call is judged
//! As soon as it is certain: an error and a 4xx or 5xx at the head, anything else at the end of the body. A stream that
//! breaks, that idles away its time, or that begins with an error of the server's, has failed, whatever its status was. One that its
//! reader leaves says nothing. The permit travels with the body until then, so that a probe is one until it has ended.
//!
//! # What is under way when it trips
//! A call carries its [`Leave`](crate::call::leave::Leave) down, so that one that waits below, for a place or to be made a
//! second time, can see whether it may still be made, and a probe is never made twice.
//!
//! # Scope
//! What counts is [`class`](super::class)'s to say, what follows from it [`circuit`](super::circuit)'s. While a circuit is open
//! a call fails at once, without touching the upstream; who else may answer it is decided above.

mod circuits;
mod judged;

use std::{
    future::{Future, ready},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::Instant;
use tower::{Layer, Service};

use self::circuits::Admission;
pub use self::circuits::{Circuits, Counts, Options, Trouble};
use crate::{
    answer::{Answer, Body},
    call::Call,
    dialect::is_event_stream,
    error::{Error, Kind},
    guard::class::Class,
};

/// The layer.
#[derive(Clone, Debug)]
pub struct BreakerLayer {
    circuits: Circuits,
}

/// The service.
#[derive(Clone, Debug)]
pub struct Breaker<S> {
    inner: S,
    circuits: Circuits,
}

impl BreakerLayer {
    /// Makes a layer around the way to the upstream whose `circuits` these are.
    pub fn new(circuits: Circuits) -> Self {
        Self { circuits }
    }
}

impl<S> Layer<S> for BreakerLayer {
    type Service = Breaker<S>;

    fn layer(&self, inner: S) -> Breaker<S> {
        Breaker {
            inner,
            circuits: self.circuits.clone(),
        }
    }
}

impl<S> Service<Call> for Breaker<S>
where
    S: Service<Call, Response = Answer, Error = Error>,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let admission = match self.circuits.admit(call.sent_model(), Instant::now()) {
            Ok(admission) => admission,
            Err(refusal) => return Box::pin(ready(Err(refusal))),
        };
        call.leave = admission.leave();
        let answering = self.inner.call(call);
        Box::pin(async move {
            match answering.await {
                Ok(answer) => Ok(judged(answer, admission)),
                // It waited below until its leave was gone.
                Err(error) if error.kind() == Kind::Unavailable => Err(admission.lapse()),
                Err(error) => {
                    admission.settle_error(&error);
                    Err(error)
                }
            }
        })
    }
}

/// Judges an answer by its head, if that is enough, else by the end of its body.
fn judged(mut answer: Answer, admission: Admission) -> Answer {
    let class = Class::of_status(answer.head.status);
    if class != Class::Success {
        let busy = class == Class::Busy;
        admission.settle(class, Some(if busy { "busy" } else { "server_error" }));
        return answer;
    }
    answer.body = match answer.body {
        Body::Stream(content) => {
            let content_type = answer.head.headers.get(http::header::CONTENT_TYPE);
            let is_stream = content_type.is_some_and(is_event_stream);
            judged::follow(content, admission, is_stream)
        }
        // Nobody here sees how it ends.
        body @ (Body::Tunnel(_) | Body::Tape(_) | Body::Replay(_)) => {
            admission.settle(class, None);
            body
        }
    };
    answer
}

#[cfg(test)]
mod tests;
