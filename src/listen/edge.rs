//! The edge: an HTTP request becomes a call, an answer or an error becomes an HTTP response. Nothing above this line
//! fails.
//!
//! # Scope
//! The only place that makes HTTP of an [`Error`]. An upstream's own error is an answer and passes byte for byte.

use std::{
    mem,
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
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{
    Answering,
    arriving::Arriving,
    breaking::Way,
    cors::{self, Cors},
    ids::Ids,
    incoming::{self, Budget, Held, Read},
    origin::{Foreign, Guard},
    outgoing::Outgoing,
    own::{Own, Said},
    socket::OnLine,
};
use crate::{
    admin::{self, Readiness},
    answer::{Body, replay::Replay, tasks::Tasks},
    call::{
        Call, Payload, Unkeyed,
        address::{self, Addressed},
        caller::{Caller, Last},
        callers::Callers,
        keying::{self, Admitted, Identity, Keying},
        leave::Leave,
        plan::{Plan, Policy},
    },
    dialect::{Dialect, envelope::error_body},
    error::{Error, Kind},
    ledger::{Arrival, Facts, Ledger, Recorded},
    upstream::headers::{self, REQUEST_ID},
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
            return self.own(head, body, facts, foreign, line).await;
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

    /// Makes a call of a request: reads its plan, and its body where that may be keyed.
    async fn call(
        &self,
        head: &mut request::Parts,
        body: Incoming,
        facts: &Facts,
    ) -> Result<Call, Error> {
        let body = Arriving::new(body, self.parts.pause);
        let plan = self.parts.policy.plan(&head.headers);
        let mut plan = plan.map_err(|bad| Error::new(Kind::BadHeader, bad.to_string()))?;
        let upgrade = headers::asks_upgrade(&head.headers);
        let (target, addressed) = self.target(&facts.target)?;
        let asked = keying::Head {
            method: &facts.method,
            target: &target,
            addressed,
            headers: &head.headers,
            dialect: facts.dialect,
            upgrade,
        };
        let Parts { keying, policy, .. } = &*self.parts;
        let (payload, identity) = match keying.admits(&asked, &plan) {
            Ok(admitted) => self.read(body, &asked, admitted, facts, &mut plan).await?,
            Err(why) if keying.goes_by_model(&asked) => {
                self.read_for_model(body, &asked, facts, &plan, why).await?
            }
            Err(why) => {
                let identity = keying.unkeyed(&asked, None, &facts.caller, &plan, why)?;
                (incoming::stream(body), identity)
            }
        };
        let Identity {
            keyed,
            read,
            rule,
            route,
        } = identity;
        if let Some(rule) = &rule {
            policy.obey(rule, &mut plan);
        }
        Ok(Call {
            id: facts.id.clone(),
            method: facts.method.clone(),
            target,
            headers: Arc::new(mem::take(&mut head.headers)),
            payload,
            dialect: facts.dialect,
            caller: facts.caller.clone(),
            plan,
            keyed,
            read,
            rule,
            route,
            at: 0,
            since: None,
            passed_over: None,
            alone: false,
            spent: Duration::ZERO,
            upgrade,
            leave: Leave::default(),
        })
    }

    async fn read(
        &self,
        body: Arriving,
        head: &keying::Head<'_>,
        admitted: Admitted,
        facts: &Facts,
        plan: &mut Plan,
    ) -> Result<(Payload, Identity), Error> {
        let keying = &self.parts.keying;
        let max = keying.max_body();
        Ok(match self.parts.budget.read(body, max).await? {
            Read::Whole(mut whole) => {
                let size = whole.as_ref().len();
                let identity = apart(size, || self.key(&mut whole, head, admitted, facts, plan))?;
                (whole.into_payload(), identity)
            }
            Read::Partly(payload, why) => {
                let why = admitted.unkeyed.unwrap_or(why);
                let identity = keying.unkeyed(head, None, &facts.caller, plan, why)?;
                (payload, identity)
            }
        })
    }

    /// Reads the body of a call without a key, for the model that it goes by; one that is too large goes as if it named
    /// none.
    async fn read_for_model(
        &self,
        body: Arriving,
        head: &keying::Head<'_>,
        facts: &Facts,
        plan: &Plan,
        why: Unkeyed,
    ) -> Result<(Payload, Identity), Error> {
        let keying = &self.parts.keying;
        let unkeyed = |body: Option<&[u8]>| keying.unkeyed(head, body, &facts.caller, plan, why);
        Ok(
            match self.parts.budget.read(body, keying.max_body()).await? {
                Read::Whole(whole) => {
                    let body = whole.as_ref();
                    let identity = apart(body.len(), || unkeyed(Some(body)))?;
                    (whole.into_payload(), identity)
                }
                Read::Partly(payload, _) => (payload, unkeyed(None)?),
            },
        )
    }

    /// Takes the address of an upstream off a target.
    fn target(&self, sent: &PathAndQuery) -> Result<(PathAndQuery, Option<usize>), Error> {
        Ok(match Addressed::of(sent)? {
            None => (sent.clone(), None),
            Some(Addressed { name, target }) => {
                let upstream = self.parts.keying.routes().find(name)?;
                (target, Some(upstream))
            }
        })
    }

    /// Keys a body. LiteLLM's object goes out of it and into the plan, unless what is left cannot be read, or has no key
    /// whatever it says: that body travels as it came.
    fn key(
        &self,
        whole: &mut Held,
        head: &keying::Head<'_>,
        admitted: Admitted,
        facts: &Facts,
        plan: &mut Plan,
    ) -> Result<Identity, Error> {
        let Parts { keying, policy, .. } = &*self.parts;
        let key = |body: &[u8], plan: &Plan| keying.key(head, admitted, body, &facts.caller, plan);
        let steered = match admitted.unkeyed {
            None => policy.steered(plan, head.headers, whole.as_ref()),
            Some(_) => None,
        };
        let Some(steered) = steered else {
            return key(whole.as_ref(), plan);
        };
        let identity = key(&steered.body, &steered.plan)?;
        if !matches!(identity.keyed, Err(Unkeyed::Body(_))) {
            *plan = steered.plan;
            whole.replace(steered.body);
        }
        Ok(identity)
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

/// Does `work` on a body of `size` bytes; what takes long does not keep other calls of the same thread waiting.
fn apart<T>(size: usize, work: impl FnOnce() -> T) -> T {
    // The runtime is asked only where it matters: that counts one more handle, in a place that all threads share.
    let has_others = || Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if size > LONG && has_others() {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

/// From so many bytes on, keying takes longer than handing a thread's other calls to another one.
const LONG: usize = 256 << 10;

/// Sends what is no call and leaves no line.
fn unrecorded(
    status: StatusCode,
    headers: HeaderMap,
    body: Body,
    line: OnLine,
    version: Version,
) -> Response<Outgoing> {
    let way = Way::of(version, &headers, &body);
    response(status, headers, Outgoing::unrecorded(body, line, way))
}

fn response(status: StatusCode, headers: HeaderMap, body: Outgoing) -> Response<Outgoing> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Makes the response of an error: OpenAI's envelope.
fn of_error(error: &Error, version: Version) -> (StatusCode, HeaderMap, Body) {
    let kind = error.kind();
    let mut headers = content_type("application/json");
    if kind == Kind::SlowRequest && version < Version::HTTP_2 {
        // The rest of its body would be read as the next request (RFC 9110 §15.5.9).
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if kind == Kind::Unauthorized {
        // A 401 says how to do better (RFC 9110 §11.6.1).
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(after) = error.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
    }
    let body = error_body(error.message(), kind.as_str(), None);
    (kind.status(), headers, ours(body))
}

/// Returns `wait` in whole seconds, as `Retry-After` has them (RFC 9110 §10.2.3): never less, and never none.
fn whole_seconds(wait: Duration) -> u64 {
    let more = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(more).max(1)
}

fn ours(body: Bytes) -> Body {
    Body::Replay(Replay::new(body, None))
}

fn content_type(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))])
}

#[cfg(test)]
mod tests;
