//! The ledger: one line and one count per call, whoever answered it, including the client that hung up.
//!
//! # Scope
//! The ledger writes down. Nothing is decided here, and nothing waits for it.

pub mod clock;
mod date;
pub mod journal;
pub mod line;
pub mod log;
pub mod metrics;
mod object;
pub mod panics;
pub mod refresh;
pub mod report;
pub mod totals;

use std::{
    cell::RefCell,
    convert::Infallible,
    future::{Future, Ready, ready},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use futures_util::{FutureExt, future::Either};
use http::{HeaderValue, Method, StatusCode, uri::PathAndQuery};
use tower::{Layer, Service};

use self::{
    line::Line,
    log::Log,
    metrics::{Ended, Metrics},
    totals::Totals,
};
use crate::{
    answer::{
        Answer, Body, Eventual, Timing,
        tape::Summary,
        verdict::{Reason, Served, Verdict},
    },
    call::{Call, Keyed, caller::Caller, key::Hex},
    config::Rule,
    dialect::{Dialect, chat::request::Request, usage::Usage},
    error::{Error, Kind, Tries},
    store::totals::{Counts, Day, Place, What},
};

/// Where calls are written down; clones share it.
#[derive(Clone, Debug)]
pub struct Ledger(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    log: Log,
    metrics: Metrics,
    totals: Totals,
    /// Whether calls are being cut off: what ends now has not been left by its client.
    cuts: AtomicBool,
}

/// A request at the edge: a call, or why it is none.
#[derive(Debug)]
pub struct Arrival {
    /// What is known of it in any case.
    pub facts: Arc<Facts>,
    /// The call.
    pub call: Result<Call, Error>,
}

/// What is known of a request from its head.
#[derive(Debug)]
pub struct Facts {
    /// The request id.
    pub id: HeaderValue,
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: PathAndQuery,
    /// Who asks.
    pub caller: Caller,
    /// The dialect, if any.
    pub dialect: Option<Dialect>,
    /// When it arrived.
    pub started: Instant,
}

/// What goes back, and the record of it that is still open.
#[derive(Debug)]
pub struct Recorded {
    /// What goes back.
    pub result: Result<Answer, Error>,
    /// Written when it is dropped. It is large, and moves from hand to hand.
    pub record: Box<Record>,
}

/// The record of one call. It is written when it is dropped; by then, what was not noted has not happened.
#[derive(Debug)]
pub struct Record {
    ledger: Ledger,
    facts: Arc<Facts>,
    keyed: Option<Arc<Keyed>>,
    /// What the call asks for, where it has no key.
    read: Option<Arc<Request>>,
    namespace: String,
    rule: Option<Arc<Rule>>,
    status: Option<StatusCode>,
    served: Option<Served>,
    timing: Option<Arc<Timing>>,
    summary: Option<Summary>,
    usage: Option<Usage>,
    error: Option<&'static str>,
    tries: Option<Tries>,
    first_byte: Option<Instant>,
    bytes: u64,
    complete: bool,
}

/// The layer.
#[derive(Clone, Debug)]
pub struct RecordLayer {
    ledger: Ledger,
}

/// The service. It does not fail: an error is what goes back.
#[derive(Clone, Debug)]
pub struct Recorder<S> {
    inner: S,
    ledger: Ledger,
}

/// What is recorded at once, or in its time; what is there needs no box.
pub type Recording = Either<Ready<Opened>, Pin<Box<dyn Future<Output = Opened> + Send>>>;

/// What goes back beside its record: nothing fails here.
type Opened = Result<Recorded, Infallible>;

thread_local! {
    /// A line while it is written: the next one finds the room ready, and near.
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that room is kept for; an everyday line takes 650.
const KEPT: usize = 4 << 10;

/// What went wrong where a client hung up.
const GONE: &str = "client_gone";

/// Status of a call whose client hung up before there was one (nginx's word for it).
const CLIENT_GONE: u16 = 499;

impl Ledger {
    /// Makes a ledger that writes to `log` and counts in `metrics`.
    pub fn new(log: Log, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            log,
            metrics,
            totals: Totals::default(),
            cuts: AtomicBool::new(false),
        }))
    }

    /// Returns the counters that last.
    pub fn totals(&self) -> &Totals {
        &self.0.totals
    }

    /// Returns the metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Returns the log.
    pub fn log(&self) -> &Log {
        &self.0.log
    }

    /// Notes that from now on calls are cut off: the time to drain is over.
    pub fn cuts_off(&self) {
        self.0.cuts.store(true, Ordering::Relaxed);
    }

    /// Adds a line to the log.
    fn add(&self, line: &Line<'_>) {
        TEXT.with_borrow_mut(|text| {
            line.write(self.log().is_json(), text);
            self.log().add(text);
            text.clear();
            text.shrink_to(KEPT);
        });
    }

    /// Opens the record of a request to Refrain itself, which is answered with `status`.
    pub fn of_ours(&self, facts: Arc<Facts>, status: StatusCode) -> Box<Record> {
        let mut record = self.open(facts, None);
        record.status = Some(status);
        record
    }

    /// Opens the record of what arrived: a call, or `None` where it is none.
    fn open(&self, facts: Arc<Facts>, call: Option<&Call>) -> Box<Record> {
        self.metrics().begun();
        Box::new(Record {
            ledger: self.clone(),
            facts,
            keyed: call.and_then(|call| call.keyed.as_ref().ok().cloned()),
            read: call.and_then(|call| call.read.clone()),
            // Most have none, which takes no room.
            namespace: call.map_or_else(String::new, |call| call.plan.namespace.clone()),
            rule: call.and_then(|call| call.rule.clone()),
            status: None,
            served: None,
            timing: None,
            summary: None,
            usage: None,
            error: None,
            tries: None,
            first_byte: None,
            bytes: 0,
            complete: false,
        })
    }
}

impl RecordLayer {
    /// Makes a layer over `ledger`.
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger }
    }
}

impl<S> Layer<S> for RecordLayer {
    type Service = Recorder<S>;

    fn layer(&self, inner: S) -> Recorder<S> {
        Recorder {
            inner,
            ledger: self.ledger.clone(),
        }
    }
}

impl<S> Service<Arrival> for Recorder<S>
where
    S: Service<Call, Response = Answer, Error = Error, Future = Eventual>,
{
    type Response = Recorded;
    type Error = Infallible;
    type Future = Recording;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // From the cache upwards a service is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, arrival: Arrival) -> Self::Future {
        let record = self.ledger.open(arrival.facts, arrival.call.as_ref().ok());
        // Caught here, where the record is: one call, one line, also for a fault of our own.
        let answering = match arrival.call {
            Ok(call) => {
                let begin = AssertUnwindSafe(|| self.inner.call(call));
                std::panic::catch_unwind(begin)
                    .unwrap_or_else(|_| Either::Left(ready(Err(fault()))))
            }
            Err(error) => Either::Left(ready(Err(error))),
        };
        match answering {
            Either::Left(there) => Either::Left(ready(Ok(record.of(there.into_inner())))),
            Either::Right(answering) => Either::Right(Box::pin(async move {
                let caught = AssertUnwindSafe(answering).catch_unwind().await;
                Ok(record.of(caught.unwrap_or_else(|_| Err(fault()))))
            })),
        }
    }
}

impl Record {
    /// Returns the id of the call.
    pub fn id(&self) -> &HeaderValue {
        &self.facts.id
    }

    /// Notes what goes back, and puts the record beside it.
    fn of(mut self: Box<Self>, result: Result<Answer, Error>) -> Recorded {
        match &result {
            Ok(answer) => self.answered(answer),
            Err(error) => self.refused(error),
        }
        let record = self;
        Recorded { result, record }
    }

    fn answered(&mut self, answer: &Answer) {
        self.status = Some(answer.head.status);
        self.served = Some(answer.served.clone());
        self.timing.clone_from(&answer.head.timing);
    }

    fn refused(&mut self, error: &Error) {
        self.status = Some(error.kind().status());
        self.error = Some(error.kind().as_str());
        self.tries = error.tries();
        if error.kind().is_upstream() || error.kind() == Kind::Internal {
            tracing::debug!(call.id = ?self.facts.id, error = %error, "call failed");
        }
    }

    /// Notes a piece of the body on its way.
    pub fn piece(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.first_byte.is_none() {
            self.first_byte = Some(Instant::now());
        }
    }

    /// Notes that the body ended as it should.
    pub fn complete(&mut self, body: &Body) {
        self.complete = true;
        self.seen(body);
    }

    /// Notes that the body broke.
    pub fn broken(&mut self, error: &Error, body: &Body) {
        tracing::debug!(call.id = ?self.facts.id, error = %error, "answer broke off");
        self.error = Some(error.kind().as_str());
        self.seen(body);
    }

    /// Notes that the client takes no more; `cut` tells whether its connection was cut because it did not read.
    pub fn left(&mut self, body: &Body, cut: bool) {
        if self.complete || self.error.is_some() {
            return;
        }
        self.seen(body);
        let let_go = matches!(body, Body::Tape(reader) if reader.is_let_go());
        if cut || let_go {
            self.error = Some(Kind::Stalled.as_str());
        }
    }

    fn seen(&mut self, body: &Body) {
        match body {
            Body::Tape(reader) => {
                self.summary = reader.summary();
                self.usage = self.summary.and_then(|summary| summary.usage);
            }
            Body::Replay(replay) => self.usage = replay.usage(),
            Body::Stream(_) | Body::Tunnel(_) => {}
        }
    }

    /// Returns what went wrong, if anything did.
    fn error(&self) -> Option<&'static str> {
        if std::thread::panicking() {
            return Some(Kind::Internal.as_str());
        }
        let broken_off = || {
            if self.ledger.0.cuts.load(Ordering::Relaxed) {
                "cut_off"
            } else {
                GONE
            }
        };
        self.error.or_else(|| (!self.complete).then(broken_off))
    }

    fn verdict(&self) -> Option<Verdict> {
        self.served.as_ref().map(|served| served.verdict)
    }

    fn count(&self, now: Instant) {
        let metrics = self.ledger.metrics();
        let total = now - self.facts.started;
        let upstream = self.timing.as_ref().map(|timing| timing.total());
        metrics.ended(&Ended {
            dialect: self.facts.dialect,
            verdict: self.verdict(),
            status: self.status.unwrap_or_else(client_gone),
            ttfb: self.first_byte.map(|first| first - self.facts.started),
            upstream: upstream.filter(|upstream| !upstream.is_zero()),
            overhead: self.overhead(total),
            bytes: self.bytes,
        });
        if let (Some(Verdict::Hit | Verdict::Stale | Verdict::Collapsed), Some(usage)) =
            (self.verdict(), self.usage)
        {
            metrics.saved(usage.input_tokens, usage.output_tokens);
        }
        let reason = self.served.as_ref().and_then(|served| served.reason);
        if let Some(Reason::Failed(failure)) = reason {
            metrics.apologised(failure);
        }
    }

    /// Adds the call to the counters that last.
    fn add_up(&self, date: SystemTime) {
        let mut counts = Counts::default();
        counts.add(What::of(self.verdict()), 1);
        counts.add(What::Errors, u64::from(self.has_failed()));
        if let Some(usage) = self.usage {
            let (input, output) = match self.verdict() {
                Some(Verdict::Hit | Verdict::Stale | Verdict::Collapsed) => {
                    (What::SavedInput, What::SavedOutput)
                }
                _ => (What::SpentInput, What::SpentOutput),
            };
            counts.add(input, usage.input_tokens);
            counts.add(output, usage.output_tokens);
        }
        let asked = self.keyed.as_deref().map(|keyed| &*keyed.request);
        let asked = asked.or(self.read.as_deref());
        let place = Place::new(
            self.dialect(),
            asked.map_or("", |request| &request.model),
            &self.namespace,
        );
        let totals = self.ledger.totals();
        totals.count(Day::of(date), place, &counts);
    }

    /// Returns whether the call failed, by whosever fault but its client's leaving.
    fn has_failed(&self) -> bool {
        let is_error = self.error().is_some_and(|error| error != GONE);
        is_error || self.status.is_some_and(|status| status.is_server_error())
    }

    fn dialect(&self) -> &'static str {
        self.facts.dialect.map_or("other", Dialect::as_str)
    }

    /// Returns what Refrain itself took of a call's time, where that can be told apart: who followed another call, and
    /// who got no answer, waited for an upstream that was not this call's to measure, as did who went after another
    /// replica's call.
    fn overhead(&self, total: Duration) -> Option<Duration> {
        match (self.verdict()?, self.served.as_ref()?.reason) {
            (Verdict::Hit, _)
            | (Verdict::Stale, Some(Reason::MaxStale | Reason::StaleWhileRevalidate)) => {
                Some(total)
            }
            (Verdict::Miss | Verdict::Bypass, _) => {
                let timing = self.timing.as_ref()?;
                (!timing.has_waited()).then(|| total.saturating_sub(timing.total()))
            }
            (Verdict::Stale | Verdict::Collapsed | Verdict::Fallback, _) => None,
        }
    }

    fn write(&self, now: Instant, date: SystemTime) {
        let keyed = self.keyed.as_deref();
        let key = keyed.map(|keyed| keyed.slot.key.short());
        let caller = self.facts.caller.shown();
        let served = self.served.as_ref();
        let led = served.filter(|served| served.verdict == Verdict::Miss);
        let of_answer = self.timing.as_ref().and_then(|timing| timing.failed());
        let failed = of_answer.or(self.tries);
        let kept = led.and(self.summary).map(|summary| summary.kept);
        let line = Line {
            timestamp: date,
            level: "INFO",
            message: "call",
            id: self.facts.id.to_str().unwrap_or_default(),
            caller: caller.as_str(),
            dialect: self.dialect(),
            model: keyed.map(|keyed| keyed.request.model.as_str()),
            method: self.facts.method.as_str(),
            path: self.facts.target.path(),
            status: self.status.unwrap_or_else(client_gone).as_u16(),
            verdict: self.verdict().map_or("none", Verdict::as_str),
            reason: served.and_then(|served| Some(served.reason?.as_str())),
            key: key.as_ref().map(Hex::as_str),
            rule: self.rule.as_ref().map(|rule| rule.name.as_str()),
            stored: kept.map(|kept| kept.is_ok()),
            not_stored: kept.and_then(|kept| Some(kept.err()?.as_str())),
            upstream: served.and_then(|served| served.upstream.as_ref()?.to_str().ok()),
            retries: failed.map(|failed| failed.count),
            retry_reason: failed.map(|failed| failed.why),
            error: self.error(),
            input_tokens: self.usage.map(|usage| usage.input_tokens),
            output_tokens: self.usage.map(|usage| usage.output_tokens),
            bytes: self.bytes,
            ttfb: self.first_byte.map(|first| first - self.facts.started),
            total: now - self.facts.started,
        };
        self.ledger.add(&line);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let (now, date) = (Instant::now(), clock::wall());
        self.count(now);
        self.add_up(date);
        if tracing::enabled!(tracing::Level::INFO) {
            self.write(now, date);
        }
    }
}

fn fault() -> Error {
    Error::new(Kind::Internal, "the call failed inside Refrain")
}

fn client_gone() -> StatusCode {
    StatusCode::from_u16(CLIENT_GONE).unwrap_or(StatusCode::BAD_REQUEST)
}
