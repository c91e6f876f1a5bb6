//! All upstreams, as one station.

use std::{
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use super::Upstream;
use crate::{
    answer::Answer,
    call::Call,
    error::{Error, Kind},
};

/// The ways to all upstreams, in the configuration's order: a call goes to the candidate that it is on its way to.
#[derive(Clone, Debug)]
pub struct Upstreams(Arc<[Upstream]>);

impl Upstreams {
    /// Takes the ways to all upstreams, in the configuration's order.
    pub fn new(upstreams: Vec<Upstream>) -> Self {
        Self(upstreams.into())
    }
}

impl Service<Call> for Upstreams {
    type Response = Answer;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let candidate = call.candidate();
        match candidate.and_then(|candidate| self.0.get(candidate.upstream)) {
            Some(upstream) => upstream.clone().call(call),
            None => Box::pin(ready(Err(nowhere()))),
        }
    }
}

pub(super) fn nowhere() -> Error {
    Error::new(Kind::Internal, "the call is past its last candidate")
}
