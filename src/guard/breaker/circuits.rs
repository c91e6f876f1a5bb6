//! The circuits of one upstream, by model.
//!
//! # Scope
//! Their number is bounded. A model that finds no room, or whose name is too long to be one, shares a circuit with
//! others like it, and so do calls whose model is not known. Room is made only of circuits that know nothing, so nobody can
//! push out another's by asking for models that there are not.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    call::leave::{Flow, Leave},
    error::{Error, Kind},
    guard::{
        circuit::{Circuit, Permit, Refused, State, Terms},
        class::Class,
    },
};

/// The circuits of one upstream; clones share them.
#[derive(Clone, Debug)]
pub struct Circuits(Arc<Inner>);

/// What the circuits of an upstream go by.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the upstream.
    pub upstream: String,
    /// When to give up and when to try again.
    pub terms: Terms,
    /// Whether calls are made with the proxy's own key: then a 429 is said to all of them.
    pub own_key: bool,
}

/// What the circuits of an upstream have done.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Name of the upstream.
    pub upstream: String,
    /// The worst state of any of them.
    pub state: State,
    /// How often one has become so, as in [`State::ALL`].
    pub turns: [u64; State::ALL.len()],
    /// Calls that were refused.
    pub refused: u64,
}

/// A circuit that lets not every call through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Name of the upstream.
    pub upstream: String,
    /// The model; `None` for calls whose model is not known.
    pub model: Option<String>,
    /// Open or half-open.
    pub state: State,
}

#[derive(Debug)]
struct Inner {
    options: Options,
    board: Mutex<Board>,
    /// Of calls whose model is not known.
    nameless: Arc<Named>,
    /// Of models that found no room.
    rest: Arc<Named>,
    turns: [AtomicU64; State::ALL.len()],
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Board {
    circuits: HashMap<Box<str>, Arc<Named>>,
    /// When room was last looked for.
    cleared: Option<Instant>,
}

/// A circuit and whose it is.
#[derive(Debug)]
struct Named {
    model: Option<Box<str>>,
    circuit: Mutex<Circuit>,
    /// Whether it is closed, for the calls that are on their way.
    flow: Flow,
}

/// Leave to call; dropped, it says that nothing came of it.
#[derive(Debug)]
pub(super) struct Admission {
    circuits: Circuits,
    of: Arc<Named>,
    /// Until it is settled.
    permit: Option<Permit>,
}

impl Circuits {
    /// Makes them, none open.
    pub fn new(options: Options) -> Self {
        let now = Instant::now();
        let named = |model: Option<&str>| Arc::new(Named::new(model, options.terms, now));
        Self(Arc::new(Inner {
            nameless: named(None),
            rest: named(Some(REST)),
            board: Mutex::default(),
            turns: Default::default(),
            refused: AtomicU64::new(0),
            options,
        }))
    }

    /// Returns what they have done so far.
    pub fn counts(&self) -> Counts {
        let now = Instant::now();
        let states = self.all().into_iter().map(|named| named.state_at(now));
        Counts {
            upstream: self.0.options.upstream.clone(),
            state: states.max().unwrap_or_default(),
            turns: self
                .0
                .turns
                .each_ref()
                .map(|turns| turns.load(Ordering::Relaxed)),
            refused: self.0.refused.load(Ordering::Relaxed),
        }
    }

    /// Returns those that do not let every call through, by model.
    pub fn troubles(&self) -> Vec<Trouble> {
        let now = Instant::now();
        let mut troubles: Vec<_> = self
            .all()
            .into_iter()
            .map(|named| Trouble {
                upstream: self.0.options.upstream.clone(),
                model: named.model.as_deref().map(str::to_owned),
                state: named.state_at(now),
            })
            .filter(|trouble| trouble.state != State::Closed)
            .collect();
        troubles.sort_by(|one, other| one.model.cmp(&other.model));
        troubles
    }

    /// Returns how many models have a circuit of their own.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.0.board).circuits.len()
    }

    /// Asks for leave to call `model`; an error of the kind `Unavailable` where there is none.
    pub(super) fn admit(&self, model: Option<&str>, now: Instant) -> Result<Admission, Error> {
        let of = self.of(model, now);
        let admitted = self.turned(&of, now, None, Circuit::admit);
        match admitted {
            Ok(permit) => Ok(Admission {
                circuits: self.clone(),
                of,
                permit: Some(permit),
            }),
            Err(Refused { retry_after }) => Err(self.refusal(retry_after)),
        }
    }

    /// Counts a call that is not let through, and says so.
    fn refusal(&self, retry_after: Duration) -> Error {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
        let upstream = &self.0.options.upstream;
        let message =
            format!("upstream `{upstream}` has failed too often and is not called for a while");
        Error::new(Kind::Unavailable, message).with_retry_after(retry_after)
    }

    /// Returns the circuit of `model`.
    fn of(&self, model: Option<&str>, now: Instant) -> Arc<Named> {
        let Some(model) = model else {
            return self.0.nameless.clone();
        };
        if model.len() > MAX_NAME {
            return self.0.rest.clone();
        }
        let mut board = lock(&self.0.board);
        if let Some(named) = board.circuits.get(model) {
            return named.clone();
        }
        if !board.has_room(now) {
            return self.0.rest.clone();
        }
        let named = Arc::new(Named::new(Some(model), self.0.options.terms, now));
        board.circuits.insert(model.into(), named.clone());
        named
    }

    fn all(&self) -> Vec<Arc<Named>> {
        let board = lock(&self.0.board);
        let shared = [&self.0.nameless, &self.0.rest];
        shared
            .into_iter()
            .chain(board.circuits.values())
            .cloned()
            .collect()
    }

    /// Does something with a circuit, and tells if that has changed its state.
    fn turned<T>(
        &self,
        of: &Named,
        now: Instant,
        why: Option<&'static str>,
        act: impl FnOnce(&mut Circuit, std::time::Instant) -> T,
    ) -> T {
        let now = now.into_std();
        let mut circuit = lock(&of.circuit);
        let before = circuit.state();
        let done = act(&mut circuit, now);
        let after = circuit.state();
        let open_for = circuit.refuses_for(now);
        if before != after {
            of.flow.set(after == State::Closed);
        }
        drop(circuit);
        if before != after {
            self.tell(of, after, why, open_for);
        }
        done
    }

    fn tell(&self, of: &Named, to: State, why: Option<&'static str>, open_for: Duration) {
        let turns = State::ALL.iter().position(|state| *state == to);
        if let Some(turns) = turns.and_then(|place| self.0.turns.get(place)) {
            turns.fetch_add(1, Ordering::Relaxed);
        }
        let upstream = self.0.options.upstream.as_str();
        let model = of.model.as_deref();
        match to {
            State::Open => {
                let open_for = in_tenths(open_for);
                tracing::warn!(upstream, model, why, ?open_for, "circuit tripped");
            }
            State::HalfOpen => tracing::info!(upstream, model, "circuit half-open"),
            State::Closed => tracing::info!(upstream, model, "circuit closed"),
        }
    }
}

impl Board {
    /// Returns whether there is room for one more, made where nothing is known or under way. Looked for once a second at
    /// most: it takes a look at every circuit.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.circuits.len() < MAX_MODELS {
            return true;
        }
        if self
            .cleared
            .is_some_and(|cleared| now.duration_since(cleared) < PAUSE)
        {
            return false;
        }
        self.cleared = Some(now);
        self.circuits
            .retain(|_, named| Arc::strong_count(named) > 1 || !named.is_blank(now));
        self.circuits.len() < MAX_MODELS
    }
}

impl Named {
    fn new(model: Option<&str>, terms: Terms, now: Instant) -> Self {
        Self {
            model: model.map(Into::into),
            circuit: Mutex::new(Circuit::new(terms, now.into_std())),
            flow: Flow::default(),
        }
    }

    fn state_at(&self, now: Instant) -> State {
        lock(&self.circuit).state_at(now.into_std())
    }

    fn is_blank(&self, now: Instant) -> bool {
        lock(&self.circuit).is_blank(now.into_std())
    }
}

impl Admission {
    /// Returns what the call may know of it.
    pub(super) fn leave(&self) -> Leave {
        if self.permit.as_ref().is_some_and(Permit::is_probe) {
            Leave::Probe
        } else {
            Leave::Flow(self.of.flow.clone())
        }
    }

    /// Returns the refusal of a call that came too late with its leave, and has not been made.
    pub(super) fn lapse(mut self) -> Error {
        self.end(Class::Ours, None);
        let left = lock(&self.of.circuit).refuses_for(Instant::now().into_std());
        self.circuits.refusal(left.max(PAUSE))
    }

    /// Says what came of the call; `why` names it, should it be a failure.
    pub(super) fn settle(mut self, class: Class, why: Option<&'static str>) {
        self.end(class, why);
    }

    /// Says that the call has ended in an error.
    pub(super) fn settle_error(self, error: &Error) {
        let kind = error.kind();
        let class = if error.blames_nobody() {
            Class::Ours
        } else {
            Class::of_error(kind)
        };
        self.settle(class, Some(kind.as_str()));
    }

    fn end(&mut self, class: Class, why: Option<&'static str>) {
        let Some(permit) = self.permit.take() else {
            return;
        };
        let outcome = class.outcome(self.circuits.0.options.own_key);
        let settle = |circuit: &mut Circuit, now| circuit.settle(permit, outcome, now, chance);
        self.circuits.turned(&self.of, Instant::now(), why, settle);
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.end(Class::Ours, None);
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            upstream,
            model,
            state,
        } = self;
        write!(f, "circuit {}: upstream {upstream:?}", state.as_str())?;
        match model {
            Some(model) => write!(f, ", model {model:?}"),
            None => Ok(()),
        }
    }
}

/// Returns a number from 0 up to 1 at random; 0 where there is no chance to be had.
fn chance() -> f64 {
    let dice = getrandom::u32().unwrap_or_default();
    f64::from(dice) / f64::from(u32::MAX)
}

/// Returns a time as people read it: to a tenth of a second.
fn in_tenths(time: Duration) -> Duration {
    let nanos = time.subsec_nanos();
    Duration::new(time.as_secs(), nanos - nanos % TENTH)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Circuits of one upstream, at most.
const MAX_MODELS: usize = 1024;
/// Longest name of a model that has a circuit of its own, bytes.
const MAX_NAME: usize = 256;
/// What models without a circuit of their own are called; no model has a blank name.
const REST: &str = "(others)";
/// Least time between two looks for room.
const PAUSE: Duration = Duration::from_secs(1);
/// Nanoseconds of a tenth of a second.
const TENTH: u32 = 100_000_000;
