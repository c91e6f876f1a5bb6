//! Identical calls under way are joined into one: the first leads, the others read its tape.
//!
//! # Joining
//! A call joins the flight of its slot unless it asked for a refresh; it gets what is there at once and the rest as it
//! comes. Entries have one place for all forms of an answer, flights one for each form: a call looks for a flight of its
//! own form first, then for one whose recording will have what it is entitled to ([`Form::joins`]), and leads its own
//! beside the others where there is none. Following in another form is `follow`'s, what becomes of the members' wishes
//! `wishes`'. A call that comes after a purge of what a flight will bring does not join it. A refresh leads a flight of its own,
//! which replaces the
//! slot's in every form. A leader that hangs up leaves a flight that goes on while anybody reads it; one that fails inside
//! Refrain leaves followers that go on by themselves.
//!
//! # Scope
//! Slots hold the scope, so members of a flight are one caller; in a wider scope, callers who may share. There a refusal of
//! the leader's credential is the leader's alone, and a call that keeps to itself (`cache::proof`) follows nobody and is followed by nobody, nor does
//! it take the place of a flight under way: it gives way to one. A call without a key passes.

pub mod fleet;
mod follow;
mod landing;
mod ticket;
mod wishes;

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use http_body_util::BodyExt;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};

pub use self::wishes::Wishes;
use self::{
    fleet::{Errand, Fleet, Hold, Leave},
    landing::Landing,
    ticket::Ticket,
    wishes::Wishing,
};
use crate::{
    answer::{
        Answer, Body, Head,
        retold::Retold,
        tape::{Keep, Reader, Recording, Sent, Source, Tape, Tapes},
        verdict::{NotStored, Reason, Served, Verdict},
    },
    call::{Call, Keyed, Slot, key::Key, plan::Plan},
    dialect::{Listener, chat::form::Form},
    error::{Error, Kind},
    store::{
        Entry, Label, Unlent,
        generations::{Standing, Traits},
        tiered::Tiered,
    },
};

/// The calls under way; clones share them.
#[derive(Clone)]
pub struct Flights(Arc<Inner>);

/// Decides about a complete answer and, if it is good, makes an entry of it.
pub type Judge = Arc<dyn Fn(Flown<'_>) -> Result<Entry, NotStored> + Send + Sync>;

/// Decides whether an entry may answer a call.
pub type Fits = fn(&Entry, &Plan, Instant) -> bool;

/// A flight whose tape is complete.
#[derive(Debug)]
pub struct Flown<'a> {
    /// Where it belongs.
    pub slot: Slot,
    /// The form that was asked for.
    pub form: Form,
    /// What the entry can be found by.
    pub label: &'a Label,
    /// What the members want together.
    pub wishes: &'a Wishes,
    /// The answer.
    pub recording: Recording<'a>,
    /// When it was complete.
    pub now: Instant,
}

struct Inner {
    tapes: Tapes,
    store: Tiered,
    judge: Judge,
    fits: Fits,
    /// The other replicas, where there may be any.
    fleet: Option<Fleet>,
    under_way: Mutex<Board>,
    number: AtomicU64,
    led: AtomicU64,
    joined: AtomicU64,
}

/// The flights under way, by place and form.
type Board = HashMap<(Slot, Form), Flight>;

#[derive(Clone, Debug)]
struct Flight {
    number: u64,
    form: Form,
    hops: u8,
    /// Whether its call keeps to itself. What the caller may not have, say a failover, must not be denied to others by it.
    alone: bool,
    tape: Tape,
    wishes: Arc<Mutex<Wishing>>,
    /// Its recording in other forms; its entry shares them.
    retold: Retold,
    of: Arc<Origin>,
}

/// What purges know a flight by.
#[derive(Debug)]
struct Origin {
    slot: Slot,
    label: Label,
    /// The last purge before it began.
    seen: u64,
}

/// The layer.
#[derive(Clone, Debug)]
pub struct CoalesceLayer {
    flights: Flights,
}

/// The service.
#[derive(Clone, Debug)]
pub struct Coalesce<S> {
    inner: S,
    flights: Flights,
}

/// How a call takes part in a flight.
enum Part {
    /// It is the first, or a refresh.
    Leads(Reader),
    /// It reads along in this flight.
    Follows(Reader, Flight),
    /// The flight has landed since the cache was asked.
    Landed(Arc<Entry>),
}

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flights({} under way)", self.under_way())
    }
}

impl Flights {
    /// Makes an empty board; complete answers that pass `judge` go to `store`. Before a flight goes upstream, the `fleet`
    /// is asked.
    pub fn new(
        tapes: Tapes,
        store: Tiered,
        judge: Judge,
        fits: Fits,
        fleet: Option<Fleet>,
    ) -> Self {
        Self(Arc::new(Inner {
            tapes,
            store,
            judge,
            fits,
            fleet,
            under_way: Mutex::default(),
            number: AtomicU64::new(0),
            led: AtomicU64::new(0),
            joined: AtomicU64::new(0),
        }))
    }

    /// Returns how many flights are under way.
    pub fn under_way(&self) -> u64 {
        self.board().len() as u64
    }

    /// Returns how many flights were led since the start, and how many calls joined one.
    pub fn counts(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.0.led), load(&self.0.joined))
    }

    /// Returns what waits for flights of other replicas came to.
    pub fn awaited(&self) -> fleet::Counts {
        let counts = self.0.fleet.as_ref().map(Fleet::counts);
        counts.unwrap_or_default()
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        lock(&self.0.under_way)
    }

    /// Returns whether an answer with this key is on its way for calls of `scope`.
    pub fn carries(&self, key: &Key, scope: &[u8]) -> bool {
        let board = self.board();
        let mut flights = board.values();
        flights.any(|flight| flight.of.slot.key == *key && flight.of.label.scope == scope)
    }

    /// Returns whether a purge concerns what `flight` will bring, tags of `call` included: it comes later and does not
    /// join.
    fn is_outdated(&self, flight: &Flight, call: &Ticket) -> bool {
        let generations = self.0.store.generations();
        if flight.of.seen == generations.epoch() {
            return false;
        }
        let Origin { slot, label, seen } = &*flight.of;
        let tags = lock(&flight.wishes).tags_with(&call.plan.tags);
        let traits = Traits {
            key: &slot.key,
            upstream: None,
            label,
            tags: &tags,
            made: None,
        };
        generations.since(&traits, *seen) != Standing::Alive
    }

    /// Finds the call's part: in a flight of its slot, or at the head of a new one over `source`.
    fn take_part(&self, call: &mut Ticket, source: impl FnOnce(&Ticket, Hold) -> Source) -> Part {
        loop {
            let mut board = self.board();
            let Some(flight) = call.flight(&board).cloned() else {
                return self.board_or_lead(&mut board, call, source);
            };
            // A landing flight holds its tape and wants the board: never hold the board and want the tape.
            drop(board);
            if !self.is_outdated(&flight, call)
                && lock(&flight.wishes).wish(&call.plan, flight.form, call.form())
                && let Some(reader) = flight.tape.join(call.plan.store)
            {
                self.0.joined.fetch_add(1, Ordering::Relaxed);
                return Part::Follows(reader, flight);
            }
            call.apart.push(flight.number);
        }
    }

    /// There is no flight to join: there may be one that has just landed, else the call leads.
    fn board_or_lead(
        &self,
        board: &mut Board,
        call: &Ticket,
        source: impl FnOnce(&Ticket, Hold) -> Source,
    ) -> Part {
        // An entry is put before its flight is taken off the board, so one of the two is always seen.
        if !call.plan.refresh
            && !call.alone
            && let Some(entry) = self.0.store.get(&call.keyed.slot)
            && call
                .passed_over
                .is_none_or(|old| entry.made.into_std() > old)
            && entry.lends_to(call.form())
            && (self.0.fits)(&entry, &call.plan, Instant::now())
        {
            self.0.joined.fetch_add(1, Ordering::Relaxed);
            return Part::Landed(entry);
        }
        let (slot, form) = (call.keyed.slot, call.form());
        let number = self.0.number.fetch_add(1, Ordering::Relaxed);
        let mut wishes = Wishing::default();
        wishes.wish(&call.plan, form, form);
        let (wishes, retold) = (Arc::new(Mutex::new(wishes)), Retold::default());
        let of = Arc::new(Origin {
            slot,
            label: call.label(),
            seen: self.0.store.generations().epoch(),
        });
        let hold = Hold::default();
        let landing = Landing {
            flights: self.clone(),
            of: of.clone(),
            form,
            number,
            began: Instant::now(),
            replaces: call.replaces(),
            hold: hold.clone(),
        };
        let keep = keep(landing, wishes.clone(), retold.clone());
        let (tape, reader) =
            self.0
                .tapes
                .record(source(call, hold), call.sent.clone(), keep, call.plan.store);
        let flight = Flight {
            number,
            form,
            hops: call.hops,
            alone: call.alone,
            tape,
            wishes,
            retold,
            of,
        };
        if call.plan.refresh && !call.alone {
            // No form of the answer is newer than the one that was asked for anew.
            for other in Form::ALL {
                board.remove(&(slot, other));
            }
        }
        // Whoever keeps to itself takes nobody's place.
        if !call.alone || !board.contains_key(&(slot, form)) {
            board.insert((slot, form), flight);
        }
        Part::Leads(reader)
    }
}

/// What happens when a flight's tape is complete, or is certain not to be stored: then its lease ends as that says. However the
/// tape ends, the flight is taken off the board, and its lease ends, when its keeper is gone.
fn keep(landing: Landing, wishes: Arc<Mutex<Wishing>>, retold: Retold) -> Keep {
    Box::new(move |recorded: Result<Recording<'_>, NotStored>| {
        let kept = recorded.and_then(|recording| store(&landing, recording, &wishes, retold));
        landing.hold.end(fleet::end(kept));
        kept
    })
}

/// Has what a flight has brought judged, and stored if it is good.
fn store(
    landing: &Landing,
    recording: Recording<'_>,
    wishes: &Mutex<Wishing>,
    retold: Retold,
) -> Result<(), NotStored> {
    let mut wishes = lock(wishes);
    let wishes = wishes.grant(|asked| serves(&recording, &retold, landing.form, asked));
    let flown = Flown {
        slot: landing.of.slot,
        form: landing.form,
        label: &landing.of.label,
        wishes,
        recording,
        now: Instant::now(),
    };
    let entry = (landing.flights.0.judge)(flown)?;
    landing.land(Entry { retold, ..entry })
}

/// Returns whether a recording answers a call that asked for another form. A large one is told later, so of that it is
/// assumed that it can be.
fn serves(recording: &Recording<'_>, retold: &Retold, flown: Form, asked: Form) -> bool {
    let has_usage = recording.outcome.usage.is_some();
    let is_told = || retold.at_once(&recording.body, flown, asked);
    flown.lends(has_usage, asked) && is_told().is_none_or(|telling| telling.is_ok())
}

impl Flight {
    /// Returns whether a call may join. One that has come through Refrain more often than the flight may be the
    /// flight's own, on its way round a loop: it would wait for itself.
    fn takes(&self, call: &Ticket) -> bool {
        !call.plan.refresh && !call.alone && !self.alone && self.hops >= call.hops
    }
}

impl CoalesceLayer {
    /// Makes a layer over `flights`.
    pub fn new(flights: Flights) -> Self {
        Self { flights }
    }
}

impl<S> Layer<S> for CoalesceLayer {
    type Service = Coalesce<S>;

    fn layer(&self, inner: S) -> Coalesce<S> {
        Coalesce {
            inner,
            flights: self.flights.clone(),
        }
    }
}

impl<S> Service<Call> for Coalesce<S>
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
        let inner = self.inner.clone();
        match call.keyed.clone() {
            Err(_) => Box::pin(inner.oneshot(call)),
            Ok(keyed) => Box::pin(fly(self.flights.clone(), inner, call, keyed)),
        }
    }
}

/// A call that may still go upstream: whoever goes, takes it.
struct Ready<S> {
    call: Arc<Mutex<Option<(S, Call)>>>,
    sent: Sent,
}

impl<S> Ready<S> {
    fn new(service: S, call: Call, sent: Sent) -> Self {
        Self {
            call: Arc::new(Mutex::new(Some((service, call)))),
            sent,
        }
    }

    fn take(&self) -> Option<(S, Call)> {
        self.sent.note();
        lock(&self.call).take()
    }

    fn has_gone(&self) -> bool {
        lock(&self.call).is_none()
    }
}

impl<S> Clone for Ready<S> {
    fn clone(&self) -> Self {
        Self {
            call: self.call.clone(),
            sent: self.sent.clone(),
        }
    }
}

/// Has a call answered by a flight of others, or its own. An `async fn` would keep what it is given twice.
fn fly<S>(
    flights: Flights,
    inner: S,
    call: Call,
    keyed: Arc<Keyed>,
) -> impl Future<Output = Result<Answer, Error>> + Send
where
    S: Service<Call, Response = Answer, Error = Error> + Send + 'static,
    S::Future: Send,
{
    let mut ticket = Ticket::of(&call, keyed);
    let (spent, mut asks) = (call.spent, flights.0.fleet.is_some());
    let ready = Ready::new(inner, call, ticket.sent.clone());
    async move {
        let key = ticket.keyed.slot.key;
        let store = &flights.0.store;
        loop {
            let part = flights.take_part(&mut ticket, |ticket, hold| {
                let errand = asks.then(|| Errand::of(ticket, flights.0.fits, spent));
                let errand = errand.flatten().map(Box::new);
                source(flights.clone(), ready.clone(), errand, hold)
            });
            match part {
                Part::Leads(mut reader) => match reader.head().await {
                    Ok(head) => return Ok(led(&head, reader, &ticket)),
                    // It has come another way. If it is gone again by now, the call goes without asking once more.
                    Err(_) if !ready.has_gone() => asks = false,
                    Err(error) => return Err(error),
                },
                Part::Follows(reader, flight) => {
                    // Boxed, as is all that few calls wait for.
                    match Box::pin(follow::follow(reader, &flight, &ticket, store)).await {
                        Ok(Some(answer)) => return Ok(answer),
                        Ok(None) => ticket.apart.push(flight.number),
                        // The leader's own misfortune; nothing was sent to this client yet.
                        Err(error) if error.kind() == Kind::Internal => {}
                        Err(error) => return Err(error),
                    }
                }
                Part::Landed(entry) => {
                    match Box::pin(landed(store, &entry, ticket.form(), key)).await {
                        Ok(answer) => return Ok(answer),
                        Err(_) => ticket.passed_over = Some(entry.made.into_std()),
                    }
                }
            }
        }
    }
}

/// Starts the upstream call of a flight, unless another replica's brings the answer.
fn source<S>(flights: Flights, ready: Ready<S>, errand: Option<Box<Errand>>, hold: Hold) -> Source
where
    S: Service<Call, Response = Answer, Error = Error> + Send + 'static,
    S::Future: Send,
{
    Box::pin(async move {
        let Inner {
            tapes,
            store,
            fleet,
            led,
            ..
        } = &*flights.0;
        if let (Some(fleet), Some(errand)) = (fleet, &errand) {
            match Box::pin(fleet.ask(errand, store)).await {
                Leave::Go(lease) => hold.keep(lease),
                Leave::Landed => return Ok(None),
            }
        }
        let (inner, call) = ready.take().ok_or_else(|| fault("a call led twice"))?;
        led.fetch_add(1, Ordering::Relaxed);
        let keyed = call.keyed.clone();
        let answer = inner.oneshot(call).await;
        hold.judge(answer.as_ref().map(|answer| answer.head.status).ok());
        let answer = answer?;
        let keyed = keyed.map_err(|_| fault("a call without a key led a flight"))?;
        let listener = Listener::new(&answer.head.headers, &keyed.request, tapes.max_entry());
        Ok(Some((answer.head, answer.body.boxed_unsync(), listener)))
    })
}

fn fault(message: &str) -> Error {
    Error::new(Kind::Internal, message)
}

fn led(head: &Head, reader: Reader, ticket: &Ticket) -> Answer {
    if let Some(timing) = head.timing.as_ref().filter(|_| ticket.waited.is_so()) {
        timing.note_waited();
    }
    let key = ticket.keyed.slot.key;
    Answer {
        head: head.clone(),
        body: Body::Tape(reader),
        served: Served {
            upstream: Some(head.upstream.clone()),
            ..Served::from_upstream(Verdict::Miss, Reason::NotFound, Some(key))
        },
    }
}

async fn landed(store: &Tiered, entry: &Entry, asked: Form, key: Key) -> Result<Answer, Unlent> {
    let (head, replay) = store.tell(entry, asked).await?;
    Ok(Answer {
        head,
        body: Body::Replay(replay),
        served: Served {
            upstream: Some(entry.upstream.clone()),
            ..Served::from_upstream(Verdict::Collapsed, Reason::NotFound, Some(key))
        },
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
