//! A probe: whom it is about, the call that it is, and what the answer says.
//!
//! # Scope
//! It carries the caller's own credential headers and nothing else of the call: the proof is of them. A status tells; nothing
//! is read out of a body.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, uri::PathAndQuery};
use tower::{Service, ServiceExt};

use crate::{
    answer::Answer,
    call::{Call, Fixed, Payload, Unkeyed, caller::Caller, key::Hex, plan::Plan, route::Route},
    config::CREDENTIALS,
    error::Error,
    store::proofs::{Standing, Subject},
};

/// Which credential headers a request has, as bits in the order of [`CREDENTIALS`].
pub(super) type Shape = u16;

/// A probe to be sent.
pub(super) struct Ask {
    pub(super) subject: Subject,
    pub(super) standing: Arc<Standing>,
    pub(super) shape: Shape,
    pub(super) credentials: HeaderMap,
    pub(super) caller: Caller,
    /// To the upstream that is asked, and no other.
    pub(super) route: Arc<Route>,
    pub(super) plan: Plan,
}

/// What came of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Accepted,
    Refused,
    /// The route says nothing of credentials.
    Nothing,
    /// The upstream could not be asked.
    InVain,
}

impl Ask {
    pub(super) fn of(call: &Call, subject: Subject, standing: Arc<Standing>) -> Self {
        let mut credentials = HeaderMap::new();
        // Credentials and nothing else: the proof is of them.
        for (name, value) in &call.headers {
            if CREDENTIALS.contains(&name.as_str()) {
                credentials.append(name, value.clone());
            }
        }
        Self {
            subject,
            standing,
            shape: shape(&call.headers),
            credentials,
            caller: call.caller.clone(),
            route: Arc::new(Route::to(call.route.primary().upstream, false)),
            plan: call.plan.clone(),
        }
    }

    /// Returns the upstream that is asked.
    pub(super) fn upstream(&self) -> usize {
        self.route.primary().upstream
    }

    /// Makes the call that asks at `path`.
    pub(super) fn call(&self, path: &PathAndQuery, credentials: HeaderMap) -> Call {
        Call::new(
            Fixed {
                id: HeaderValue::from_static("proof"),
                method: Method::GET,
                target: path.clone(),
                headers: credentials,
                dialect: None,
                caller: self.caller.clone(),
                plan: self.plan.clone(),
                keyed: Err(Unkeyed::Endpoint),
                rule: None,
                read: None,
                upgrade: false,
            },
            Payload::Whole(Bytes::new()),
            self.route.clone(),
        )
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ask({})", self.caller)
    }
}

/// Returns the status of the answer to `call`, if there is one.
pub(super) async fn status<S>(inner: S, call: Call) -> Option<StatusCode>
where
    S: Service<Call, Response = Answer, Error = Error>,
{
    let answer = inner.oneshot(call).await;
    answer.ok().map(|answer| answer.head.status)
}

/// Reads what a status says of the credential that it was given to.
pub(super) fn said(status: Option<StatusCode>) -> Said {
    match status {
        Some(status) if status.is_success() => Said::Accepted,
        Some(StatusCode::UNAUTHORIZED) => Said::Refused,
        None | Some(StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) => Said::InVain,
        Some(status) if status.is_server_error() => Said::InVain,
        Some(_) => Said::Nothing,
    }
}

pub(super) fn shape(headers: &HeaderMap) -> Shape {
    let bits = CREDENTIALS.iter().enumerate();
    bits.filter(|(_, name)| headers.contains_key(**name))
        .fold(NO_CREDENTIAL, |shape, (bit, _)| shape | 1 << bit)
}

/// Returns the headers with a random key in place of each credential; `None` where the system has no random bytes.
pub(super) fn random(credentials: &HeaderMap) -> Option<HeaderMap> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    let key = Hex::<32>::of(&bytes);
    let mut random = HeaderMap::new();
    for name in credentials.keys() {
        let value = if name == header::AUTHORIZATION {
            format!("Bearer sk-{}", key.as_str())
        } else {
            key.as_str().to_owned()
        };
        random.insert(name, HeaderValue::try_from(value).ok()?);
    }
    Some(random)
}

/// Nobody said who asks.
pub(super) const NO_CREDENTIAL: Shape = 0;
