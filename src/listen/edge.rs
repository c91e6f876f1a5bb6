//! The edge: an HTTP request becomes a call, an answer or an error becomes an HTTP response. Nothing above this line
//! fails.
//!
//! # Scope
//! How a request is read stands in `reading`, what Refrain itself says in `response`. An upstream's own error is an answer and
//! passes byte for byte.

mod reading;
mod response;

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header, request,
    uri::PathAndQuery,
};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;

use self::response::{content_type, of_error, ours, response, unrecorded};
use super::{
    Answering,
    arriving::Arriving,
    breaking::Way,
    cors::{self, Cors},
    ids::Ids,
    incoming::Budget,
    origin::{Foreign, Guard},
    outgoing::Outgoing,
    own::{Own, Said},
    socket::OnLine,
};
use crate::{
    admin::{self, Readiness},
    answer::{Body, tasks::Tasks},
    call::{
        address,
        caller::{Caller, Last},
        callers::Callers,
        keying::Keying,
        plan::Policy,
    },
    dialect::Dialect,
    error::{Error, Kind},
    ledger::{Arrival, Facts, Ledger, Recorded},
    upstream::headers::REQUEST_ID,
};

/// The edge; clones share everything.
///
/// What is counted for every call, such as the clones of something shared, costs more the more threads do so in one
/// place: so each connection has an edge of its own, [`Edge::of_connection`].
#[derive(Debug)]
pub struct Edge<S>(Arc<Inner<S>>);

/// What the edge works with.
#[derive(Debug)]
pub struct Parts<S> {
    /// The layers below.
    pub stack: S,
    /// Where requests to Refrain itself are written down, too.
    pub ledger: Ledger,
    /// What callers may do here themselves.
    pub own: Own,
    /// From requests to keys.
    pub keying: Keying,
    /// Who is let in.
    pub callers: Callers,
    /// What web pages may not do.
    pub guard: Guard,
    /// Which web pages may call.
    pub cors: Cors,
    /// From headers to plans.
    pub policy: Arc<Policy>,
    /// What request bodies may hold.
    pub budget: Budget,
    /// How long a client may pause in the middle of a body.
    pub pause: Duration,
    /// Owner of the tunnels.
    pub tasks: Tasks,
    /// Whether calls should be sent here.
    pub readiness: Readiness,
}

#[derive(Debug)]
struct Inner<S> {
    parts: Arc<Parts<S>>,
    ids: Arc<Ids>,
    /// The layers below, for one call after the other.
    stack: Mutex<S>,
    last: Mutex<Last>,
}

impl<S> Clone for Edge<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Answering> Edge<S> {
    /// Makes the edge.
    pub fn new(parts: Parts<S>) -> Result<Self, Error> {
        let stack = Mutex::new(parts.stack.clone());
        Ok(Self(Arc::new(Inner {
            parts: Arc::new(parts),
            ids: Arc::new(Ids::new()?),
            stack,
            last: Mutex::default(),
        })))
    }

    /// Returns an edge for the calls of one connection.
    #[must_use]
    pub fn of_connection(&self) -> Self {
        let Inner { parts, ids, .. } = &*self.0;
        Self(Arc::new(Inner {
            parts: parts.clone(),
            ids: ids.clone(),
            stack: Mutex::new(parts.stack.clone()),
            last: Mutex::default(),
        }))
    }

    /// Answers one request. A panic on the way is one call's internal error.
    ///
    /// The future moves into the connection, and each move copies all of it: what is large in it stands there once.
    pub async fn handle(self, request: Request<Incoming>, line: OnLine) -> Response<Outgoing> {
        let Parts { cors, guard, .. } = &*self.0.parts;
        let (mut head, body) = request.into_parts();
        let allowed = cors.allowed(&head.headers);
        let foreign = guard.refuses(&head.uri, &head.headers, allowed.is_some());
        if foreign.is_none()
            && let Some(origin) = &allowed
            && let Some(headers) = cors::preflight(&head.method, &head.headers, origin)
        {
            let body = ours(Bytes::new());
            return unrecorded(StatusCode::NO_CONTENT, headers, body, line, head.version);
        }
        let mut response = self.0.reply(&mut head, body, foreign, line).await;
        cors.open(response.headers_mut(), allowed);
        response
    }
}

impl<S: Answering> Inner<S> {
    async fn reply(
        &self,
        head: &mut request::Parts,
        body: Incoming,
        foreign: Option<Foreign>,
        line: OnLine,
    ) -> Response<Outgoing> {
        let started = Instant::now();
        if foreign.is_none()
            && let Some((status, headers, body)) = self.probe(head.uri.path())
        {
            return unrecorded(status, headers, body, line, head.version);
        }
        let facts = Arc::new(self.facts(head, started));
        if facts.target.path().starts_with("/_refrain/") {
            // In a box, so that calls do without the room for it.
            return Box::pin(self.own(head, body, facts, foreign, line)).await;
        }
        let answering = AssertUnwindSafe(self.answer(head, body, &facts, foreign));
        let recorded = if let Ok(recorded) = answering.catch_unwind().await {
            recorded
        } else {
            let error = Error::new(Kind::Internal, "the call failed inside Refrain");
            self.refuse(facts, error).await
        };
        self.respond(recorded, line, head)
    }

    fn facts(&self, head: &request::Parts, started: Instant) -> Facts {
        let target = head.uri.path_and_query().cloned();
        let target = target.unwrap_or_else(|| PathAndQuery::from_static("*"));
        Facts {
            id: self.ids.of(&head.headers),
            method: head.method.clone(),
            caller: self.caller(&head.headers),
            dialect: Dialect::of(&head.method, address::path_of(target.path())),
            target,
            started,
        }
    }

    fn caller(&self, headers: &HeaderMap) -> Caller {
        let Parts {
            callers, keying, ..
        } = &*self.parts;
        match self.last.try_lock() {
            Ok(mut last) => callers.identify(headers, keying.secret(), &mut last),
            Err(_) => callers.identify(headers, keying.secret(), &mut Last::default()),
        }
    }

    async fn answer(
        &self,
        head: &mut request::Parts,
        body: Incoming,
        facts: &Arc<Facts>,
        foreign: Option<Foreign>,
    ) -> Recorded {
        let call = match self.admit(facts, foreign) {
            Ok(()) => self.call(head, body, facts).await,
            Err(error) => Err(error),
        };
        let facts = facts.clone();
        self.pass(Arrival { facts, call }).await
    }

    /// Refuses who may not call at all.
    fn admit(&self, facts: &Facts, foreign: Option<Foreign>) -> Result<(), Error> {
        if let Some(foreign) = foreign {
            return Err(Error::new(Kind::Forbidden, foreign.to_string()));
        }
        if !self.parts.callers.admit(&facts.caller) {
            let message = "no caller of this proxy has the API key that was sent, or none was sent";
            return Err(Error::new(Kind::Unauthorized, message));
        }
        Ok(())
    }

    /// Passes a request on. No `async fn`: what arrives is large, and would be copied into its future and out again.
    fn pass(&self, arrival: Arrival) -> impl Future<Output = Recorded> + use<S> {
        let passing = match self.stack.try_lock() {
            Ok(mut stack) => stack.call(arrival),
            // Another stream of the connection has it just now.
            Err(_) => self.parts.stack.clone().call(arrival),
        };
        passing.map(|Ok(recorded)| recorded)
    }

    fn refuse(&self, facts: Arc<Facts>, error: Error) -> impl Future<Output = Recorded> + use<S> {
        let call = Err(error);
        self.pass(Arrival { facts, call })
    }

    /// Answers a request to Refrain itself, other than a probe: it is no call, but it is written down like one.
    async fn own(
        &self,
        head: &mut request::Parts,
        body: Incoming,
        facts: Arc<Facts>,
        foreign: Option<Foreign>,
        line: OnLine,
    ) -> Response<Outgoing> {
        let version = head.version;
        let body = Arriving::new(body, self.parts.pause);
        let doing = async {
            self.admit(&facts, foreign)?;
            let Parts {
                own,
                keying,
                budget,
                ..
            } = &*self.parts;
            own.answer(head, body, &facts.caller, keying, budget).await
        };
        let done = AssertUnwindSafe(doing).catch_unwind().await;
        let inside = |_| {
            Err(Error::new(
                Kind::Internal,
                "the request failed inside Refrain",
            ))
        };
        match done.unwrap_or_else(inside) {
            Err(error) => {
                let recorded = self.refuse(facts, error).await;
                self.respond(recorded, line, head)
            }
            Ok(Said { status, body }) => {
                let mut headers = content_type("application/json");
                if body.is_empty() {
                    headers.clear();
                }
                headers.insert(REQUEST_ID, facts.id.clone());
                let record = self.parts.ledger.of_ours(facts, status);
                let body = ours(body);
                let way = Way::of(version, &headers, &body);
                response(status, headers, Outgoing::new(body, record, line, way))
            }
        }
    }

    /// Returns what lives at `path` of Refrain's own, for load balancers; probes are no calls and leave no line.
    fn probe(&self, path: &str) -> Option<(StatusCode, HeaderMap, Body)> {
        let (status, text) = match path {
            "/_refrain/healthz" => admin::healthz(),
            "/_refrain/readyz" => self.parts.readiness.readyz(),
            _ => return None,
        };
        let body = ours(Bytes::from_static(text.as_bytes()));
        Some((status, content_type("text/plain; charset=utf-8"), body))
    }

    /// Makes a response of what goes back to a request with this `head`.
    fn respond(
        &self,
        recorded: Recorded,
        line: OnLine,
        head: &mut request::Parts,
    ) -> Response<Outgoing> {
        let version = head.version;
        let Recorded { result, record } = recorded;
        let (status, mut headers, body) = match result {
            Ok(answer) => {
                let mut headers = answer.head.headers;
                answer.served.write(&mut headers);
                (answer.head.status, headers, answer.body)
            }
            Err(error) => of_error(&error, version),
        };
        headers
            .entry(REQUEST_ID)
            .or_insert_with(|| record.id().clone());
        if let Body::Tunnel(upstream) = &body
            && let Some(client) = head.extensions.remove::<OnUpgrade>()
        {
            self.connect(client, upstream.clone(), line.line().begin());
        } else if version < Version::HTTP_2 && self.parts.readiness.is_draining() {
            // Told so, a client makes its next call on a connection to somebody who stays.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let way = Way::of(version, &headers, &body);
        response(status, headers, Outgoing::new(body, record, line, way))
    }
}

impl<S> Inner<S> {
    /// Connects the two sides of a switched protocol until either ends. So long its call is under way on `line`: the
    /// connection is no HTTP any more, but still the client's, with all its deadlines.
    fn connect(&self, client: OnUpgrade, upstream: OnUpgrade, line: OnLine) {
        self.parts.tasks.spawn(async move {
            let _under_way = line;
            let Ok((client, upstream)) = futures_util::future::try_join(client, upstream).await
            else {
                return;
            };
            let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
            // Either side may go at any time; there is nobody left to tell.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
        });
    }
}

#[cfg(test)]
mod tests;
