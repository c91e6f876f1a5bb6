//! The leaf of the stack: the only station that leaves the machine.
//!
//! It sends a call as it came, through hyper's client: path, query and body travel byte for byte, redirects are passed
//! on, nothing is decompressed, nothing invented. It tells a failed connection from a time-out from a broken answer,
//! and runs the four timers: connect, first byte, idle, total.
//!
//! # Scope
//! One try, and one more at once where the connection had been used before and died before it brought a byte: that says
//! nothing of the upstream, which closes idle connections when it likes. What to do about a failure is decided above. Where a
//! call stands in for its primary at another origin, nothing goes there that is the caller's own: no credential, no header
//! that is not known to be harmless, no query. A model that the upstream knows by another name is renamed in the bytes of
//! the body, and nowhere else.

mod client;
pub mod connect;
pub mod constant;
pub mod credential;
pub mod flow;
pub mod headers;
mod payload;
pub mod refusals;
mod reuse;
pub mod target;
pub mod tls;

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::{Either, select};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use tokio::time::Instant;
use tower::Service;

use self::{
    client::{Content, HttpClient, client, longest_connect},
    connect::TimedOut,
    credential::Credential,
    flow::{Deadline, Flow, Progress, Upload},
    refusals::Refusals,
};
use crate::{
    answer::{Answer, Asked, Body, Head, Timing, verdict::Served},
    call::{Call, Payload, Unkeyed, plan::Policy, route::Candidate, scope::Breadth},
    config::{self, HttpVersion, Rule, Timeouts},
    error::{Error, Kind},
};

/// The way to one upstream.
#[derive(Clone, Debug)]
pub struct Upstream(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: config::Upstream,
    name: HeaderValue,
    credential: Credential,
    refusals: Refusals,
    policy: Arc<Policy>,
    /// What the connector itself waits for a connection, at most.
    connect: Option<Duration>,
    client: HttpClient,
    /// Protocol switches need HTTP/1.1, whatever else is spoken.
    switching: HttpClient,
}

impl Upstream {
    /// Prepares the way to `config`'s upstream; connects to nothing yet. `rules` are those that a call may be under.
    pub fn new(
        config: &config::Upstream,
        rules: &[Rule],
        policy: Arc<Policy>,
    ) -> Result<Self, Error> {
        let connect = longest_connect(&config.timeouts, rules);
        let name = HeaderValue::from_str(&config.name)
            .map_err(|error| Error::with_source(Kind::Internal, "bad upstream name", error))?;
        Ok(Self(Arc::new(Inner {
            name,
            credential: Credential::of(config)?,
            refusals: Refusals::default(),
            policy,
            connect,
            client: client(config, config.http, connect)?,
            switching: client(config, HttpVersion::Http1, connect)?,
            config: config.clone(),
        })))
    }
}

impl Service<Call> for Upstream {
    type Response = Answer;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        Box::pin(self.0.clone().send(call))
    }
}

impl Inner {
    /// Makes a call. An `async fn` would keep it twice.
    fn send(self: Arc<Self>, mut call: Call) -> impl Future<Output = Result<Answer, Error>> + Send {
        let started = call.since.map_or_else(Instant::now, Instant::from_std);
        async move {
            let rule = call.rule.as_ref().map(|rule| rule.timeouts);
            let timeouts = rule.unwrap_or_default().over(self.config.timeouts);
            let now = Instant::now();
            let total = timeouts.total;
            let deadline = total.map(|total| Deadline::new(started, total, now));
            if deadline.is_some_and(|deadline| deadline.is_over(now)) {
                return Err(self.too_late());
            }
            let unkeyed = call.keyed.as_ref().err().copied();
            let upgrade = call.upgrade;
            let with_own_key = self.credential.is_own(&call.method);
            let asked = self.asked(&call);
            let client = if upgrade {
                &self.switching
            } else {
                &self.client
            };
            let repeatable = call.is_repeatable() && call.payload.is_whole();
            let progress = Progress::default();
            let request = self.request(&mut call, &progress)?;
            let exchange = self.exchange(client, request, &progress, timeouts, deadline);
            let response = match exchange.await {
                Err(lost) if lost.died_idle && repeatable => {
                    let request = self.request(&mut call, &progress)?;
                    let again = self.exchange(client, request, &progress, timeouts, deadline);
                    // In a box of its own, so that the many calls that do without have no room for it to move.
                    Box::pin(again).await
                }
                response => response,
            };
            let response = response.map_err(|lost| lost.error)?;
            if with_own_key {
                self.refusals.note(response.status(), &self.config.name);
            }
            let timing = Arc::new(Timing::default());
            timing.note(started.elapsed());
            let content = |body: Incoming| {
                let (idle, held) = (timeouts.idle, progress.client());
                Flow::new(body, idle, deadline, held, started, timing.clone()).boxed_unsync()
            };
            let mut answer = self.answer(response, content, unkeyed, upgrade, timing.clone());
            answer.head.asked = asked;
            Ok(answer)
        }
    }

    /// Returns whose answer it will be to `call`, and to what.
    fn asked(&self, call: &Call) -> Asked {
        Asked {
            by_caller: call.at == 0 && matches!(self.credential, Credential::Pass),
            other_model: call.is_for_another_model(),
            withheld: self.withholds(call),
        }
    }

    /// Returns whether this upstream is not sent something that the key of `call` covers, beside the caller's credential.
    fn withholds(&self, call: &Call) -> bool {
        let elsewhere = call.candidate().is_some_and(|there| there.elsewhere);
        let breadth = breadth(call);
        let counts = |name| is_tenant(call, name) || self.policy.is_keyed(name, breadth);
        let names = || call.headers.keys();
        elsewhere
            && (call.target.query().is_some()
                || names().any(|name| counts(name) && !headers::is_harmless(name.as_str())))
    }

    /// Sends a request and waits for the head of its answer. The request is handed over before, so that the future has no room for it.
    fn exchange<'a>(
        &'a self,
        client: &HttpClient,
        mut request: Request<Content>,
        progress: &'a Progress,
        timeouts: Timeouts,
        deadline: Option<Deadline>,
    ) -> impl Future<Output = Result<Response<Incoming>, Lost>> + Send + 'a {
        let connection = timeouts
            .connect
            .filter(|_| timeouts.connect != self.connect)
            .map(|limit| (limit, capture_connection(&mut request)));
        let head = client.request(request);
        async move {
            let mut head = pin!(head);
            if let Some((limit, connection)) = connection
                && let Some(early) = Box::pin(connected(head.as_mut(), connection, limit, deadline))
                    .await
                    .map_err(|timer| self.not_connected(timer))?
            {
                return early.map_err(|error| self.lost(error));
            }
            match first_byte(head, progress, timeouts.first_byte, deadline).await {
                Ok(response) => response.map_err(|error| self.lost(error)),
                Err(error) => Err(self.timed_out(&error).into()),
            }
        }
    }

    /// Makes a request of `call`, taking its body.
    fn request(&self, call: &mut Call, progress: &Progress) -> Result<Request<Content>, Error> {
        let hops = headers::hops(&call.headers);
        if hops >= headers::MAX_HOPS {
            let message = format!("the call came through Refrain {hops} times already");
            return Err(Error::new(Kind::Loop, message));
        }
        let candidate = call.candidate().cloned().ok_or_else(nowhere)?;
        let Candidate {
            model, elsewhere, ..
        } = candidate;
        let uri = if elsewhere {
            target::uri(&self.config.base_url, &target::without_query(&call.target)?)?
        } else {
            target::uri(&self.config.base_url, &call.target)?
        };
        let breadth = breadth(call);
        let mut headers = headers::request(
            &call.headers,
            |name| self.policy.is_ours(name),
            |name| is_tenant(call, name) || self.policy.is_known_by(name, breadth),
            call.keyed.is_ok(),
            call.upgrade,
        );
        if elsewhere {
            headers::keep_harmless(&mut headers);
        }
        self.credential.put(&call.method, &mut headers);
        constant::put(&self.config.headers, &call.method, &mut headers);
        let payload = match model {
            Some(model) => payload::renamed(&call.payload.take(), &model)?,
            None => call.payload.take(),
        };
        payload::measure(&mut headers, &payload);
        let body = match payload {
            Payload::Whole(bytes) => Full::new(bytes)
                .map_err(|never| match never {})
                .boxed_unsync(),
            Payload::Stream(stream) => Upload::new(stream, progress.clone()).boxed_unsync(),
        };
        let mut request = Request::new(body);
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        if self.config.http == HttpVersion::Http2 && !call.upgrade {
            *request.version_mut() = Version::HTTP_2;
            request.headers_mut().remove(header::CONNECTION);
        }
        Ok(request)
    }

    fn answer(
        &self,
        mut response: Response<Incoming>,
        content: impl FnOnce(Incoming) -> Content,
        unkeyed: Option<Unkeyed>,
        upgrade: bool,
        timing: Arc<Timing>,
    ) -> Answer {
        let switched = upgrade && response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let tunnel = switched.then(|| hyper::upgrade::on(&mut response));
        let framed = is_framed(&response);
        let (mut parts, body) = response.into_parts();
        headers::response(&mut parts.headers, switched);
        Answer {
            head: Head {
                status: parts.status,
                headers: parts.headers,
                framed,
                upstream: self.name.clone(),
                asked: Asked::default(),
                timing: Some(timing),
            },
            body: tunnel.map_or_else(|| Body::Stream(content(body)), Body::Tunnel),
            served: Served {
                upstream: Some(self.name.clone()),
                // A keyed call's verdict is the cache's to give.
                ..Served::bypass(unkeyed.unwrap_or(Unkeyed::Endpoint))
            },
        }
    }

    fn lost(&self, error: hyper_util::client::legacy::Error) -> Lost {
        Lost {
            died_idle: reuse::died_idle(&error),
            error: self.failure(error),
        }
    }

    fn failure(&self, error: hyper_util::client::legacy::Error) -> Error {
        let name = &self.config.name;
        if let Some(client_fault) = find::<Error>(&error) {
            // The client's own body failed while it was sent.
            return client_fault.clone();
        }
        if let Some(timer) = find::<TimedOut>(&error) {
            return self.not_connected(*timer);
        }
        if let Some(fault) = tls::fault(&error) {
            let message = format!("no connection to upstream `{name}`: {fault}");
            return Error::with_source(Kind::Unreachable, message, error);
        }
        if error.is_connect() {
            let message = format!("no connection to upstream `{name}`");
            return Error::with_source(Kind::Unreachable, message, error);
        }
        let message = format!("upstream `{name}` broke off before its answer");
        Error::with_source(Kind::Broken, message, error)
    }

    fn not_connected(&self, TimedOut(after): TimedOut) -> Error {
        let name = &self.config.name;
        let message = format!("no connection to upstream `{name}` within {after:?}");
        Error::new(Kind::Timeout, message)
    }

    /// The upstream had no part in it: the call has waited, for a place most of all.
    fn too_late(&self) -> Error {
        let name = &self.config.name;
        let message =
            format!("the call's time (total) was over before upstream `{name}` was asked");
        Error::new(Kind::Busy, message)
    }

    fn timed_out(&self, elapsed: &Elapsed) -> Error {
        let name = &self.config.name;
        let Elapsed {
            timer,
            after,
            by_client,
            over,
        } = elapsed;
        if *by_client {
            let message = format!("the request's body came too slowly for {after:?} ({timer})");
            return Error::new(Kind::SlowRequest, message);
        }
        let message = format!("upstream `{name}` did not answer within {after:?} ({timer})");
        let error = Error::new(Kind::Timeout, message);
        match over {
            Some(deadline) => deadline.excuses(error),
            None => error,
        }
    }
}

/// Returns how wide the scope of a call is; one without a key shares with nobody.
fn breadth(call: &Call) -> Breadth {
    let keyed = call.keyed.as_ref();
    keyed.map_or(Breadth::Credential, |keyed| keyed.scope.breadth())
}

/// Returns whether the header `name` names the tenant by the call's rule.
fn is_tenant(call: &Call, name: &HeaderName) -> bool {
    let rule = call.rule.as_ref();
    rule.and_then(|rule| rule.tenant()) == Some(name)
}

fn nowhere() -> Error {
    Error::new(Kind::Internal, "the call is past its last candidate")
}

/// Why there is no answer.
struct Lost {
    error: Error,
    /// Whether the connection had been used before, and died before it brought anything.
    died_idle: bool,
}

impl From<Error> for Lost {
    fn from(error: Error) -> Self {
        Self {
            error,
            died_idle: false,
        }
    }
}

/// A timer that ran out.
#[derive(Debug)]
struct Elapsed {
    timer: &'static str,
    /// What it was set to.
    after: Duration,
    /// Whether that is the client's doing, which sent slowly.
    by_client: bool,
    /// The whole call's, if it was that.
    over: Option<Deadline>,
}

/// Drives a request until it has a connection, for at most `limit`; returns its answer if that has come already, and nothing
/// either where the time for the whole call is over.
async fn connected<F: Future>(
    head: Pin<&mut F>,
    mut connection: CaptureConnection,
    limit: Duration,
    deadline: Option<Deadline>,
) -> Result<Option<F::Output>, TimedOut> {
    let until = Instant::now() + limit;
    let until = deadline.map_or(until, |deadline| deadline.at.min(until));
    let established = pin!(connection.wait_for_connection_metadata());
    match tokio::time::timeout_at(until, select(head, established)).await {
        Ok(Either::Left((answer, _))) => Ok(Some(answer)),
        Ok(Either::Right(_)) => Ok(None),
        Err(_) if deadline.is_some_and(|deadline| deadline.is_over(Instant::now())) => Ok(None),
        Err(_) => Err(TimedOut(limit)),
    }
}

/// Waits for the head of an answer. The first-byte timer starts anew with every piece of the request that is sent, and does
/// not run while the client owes one: neither a long nor a stalled upload is taken for a slow upstream.
async fn first_byte<F: Future>(
    mut head: Pin<&mut F>,
    progress: &Progress,
    limit: Option<Duration>,
    deadline: Option<Deadline>,
) -> Result<F::Output, Elapsed> {
    loop {
        let patience = limit.map(|limit| progress.last() + limit);
        let stop = deadline.map(|deadline| deadline.at);
        let until = [patience, stop].into_iter().flatten().min();
        let Some(until) = until else {
            return Ok(head.await);
        };
        if let Ok(answer) = tokio::time::timeout_at(until, head.as_mut()).await {
            return Ok(answer);
        }
        let now = Instant::now();
        if let Some(deadline) = deadline.filter(|deadline| deadline.is_over(now)) {
            return Err(Elapsed {
                timer: "total",
                after: deadline.total,
                by_client: progress.client().is_to_blame(deadline.total, now),
                over: Some(deadline),
            });
        }
        if let Some(limit) = limit
            && now >= progress.last() + limit
        {
            return Err(Elapsed {
                timer: "first_byte",
                after: limit,
                by_client: false,
                over: None,
            });
        }
    }
}

/// Returns whether a body ends by its own framing rather than by the connection's end (RFC 9112 §6.3).
fn is_framed(response: &Response<Incoming>) -> bool {
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
    bodiless.contains(&response.status())
        || response.version() >= Version::HTTP_2
        || response.headers().contains_key(header::CONTENT_LENGTH)
        || response.headers().contains_key(header::TRANSFER_ENCODING)
}

/// Looks for a cause of type `E` behind `error`.
fn find<'a, E: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a E> {
    std::iter::successors(Some(error), |error| error.source())
        .find_map(|error| error.downcast_ref::<E>())
}

#[cfg(test)]
mod tests;
