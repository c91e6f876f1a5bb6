//! Notes what an upstream's answers say of the credentials that calls came with.
//!
//! # Scope
//! It sees what really left for the upstream, and changes nothing. Only calls of a known dialect say something: any other
//! path may be open to all, or may want another kind of key. A 2xx accepts the credential (and for it the model, where the
//! call has a key), a 401 refuses it, a 403 refuses it the model. In which scope the call was made says nothing of that.
//! What is said to another key than the caller's, the proxy's own or at an upstream that stood in, says nothing of that.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::StatusCode;
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::{
    answer::Answer,
    call::Call,
    error::Error,
    store::proofs::{Proofs, Subject},
};

/// The layer.
#[derive(Clone, Debug)]
pub struct WitnessLayer {
    proofs: Proofs,
}

/// The service.
#[derive(Clone, Debug)]
pub struct Witness<S> {
    inner: S,
    proofs: Proofs,
}

/// Whom an answer is about.
#[derive(Clone, Copy, Debug)]
struct About {
    credential: Subject,
    model: Option<Subject>,
}

impl WitnessLayer {
    /// Makes a layer that tells `proofs`.
    pub fn new(proofs: Proofs) -> Self {
        Self { proofs }
    }
}

impl<S> Layer<S> for WitnessLayer {
    type Service = Witness<S>;

    fn layer(&self, inner: S) -> Witness<S> {
        Witness {
            inner,
            proofs: self.proofs.clone(),
        }
    }
}

impl<S> Service<Call> for Witness<S>
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

    fn call(&mut self, call: Call) -> Self::Future {
        let about = self.about(&call);
        let answering = self.inner.call(call);
        let Some(about) = about else {
            return Box::pin(answering);
        };
        let proofs = self.proofs.clone();
        Box::pin(async move {
            let answer = answering.await?;
            if answer.head.asked.by_caller {
                note(&proofs, about, answer.head.status);
            }
            Ok(answer)
        })
    }
}

impl<S> Witness<S> {
    fn about(&self, call: &Call) -> Option<About> {
        let primary = call.route.primary();
        call.dialect.filter(|_| !primary.own_key)?;
        let (credential, at) = (call.caller.credential()?, primary.upstream);
        let model = call.model();
        Some(About {
            credential: self.proofs.credential(at, credential),
            model: model.map(|model| self.proofs.model(at, credential, model)),
        })
    }
}

fn note(proofs: &Proofs, about: About, status: StatusCode) {
    let now = Instant::now();
    match status {
        _ if status.is_success() => {
            proofs.accept(about.credential, now);
            if let Some(model) = about.model {
                proofs.accept(model, now);
            }
        }
        StatusCode::UNAUTHORIZED => proofs.refuse(about.credential, now),
        StatusCode::FORBIDDEN => {
            if let Some(model) = about.model {
                proofs.refuse(model, now);
            }
        }
        _ => {}
    }
}
