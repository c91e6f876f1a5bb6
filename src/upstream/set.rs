//! All upstreams, as one station.

use std::{
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tower::{Service, ServiceExt};

use crate::{
    answer::Answer,
    call::Call,
    error::{Error, Kind},
};

/// The ways to all upstreams, in the configuration's order: a call goes to the candidate that it is on its way to.
#[derive(Debug)]
pub struct Upstreams<S>(Arc<[S]>);

impl<S> Upstreams<S> {
    /// Takes the ways to all upstreams, in the configuration's order.
    pub fn new(upstreams: Vec<S>) -> Self {
        Self(upstreams.into())
    }
}

impl<S> Clone for Upstreams<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> Service<Call> for Upstreams<S>
where
    S: Service<Call, Response = Answer, Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Answer;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let candidate = call.candidate();
        match candidate.and_then(|candidate| self.0.get(candidate.upstream)) {
            Some(upstream) => Box::pin(upstream.clone().oneshot(call)),
            None => Box::pin(ready(Err(nowhere()))),
        }
    }
}

pub(super) fn nowhere() -> Error {
    Error::new(Kind::Internal, "the call is past its last candidate")
}
