//! When an upstream is given up for a while, and when it is tried again. Pure.
//!
//! ## Closed → open
//! Calls flow, and each end is counted in a sliding window. The circuit trips with a failure that makes them
//! [`Terms::ratio`] of at least [`Terms::min_calls`].
//! ## Open → half-open
//! Every call is refused until the time is over. It is [`Terms::open`] at first and doubles each time up to
//! [`Terms::max_open`], less up to a quarter at random, so that several proxies do not come back at once.
//! ## Half-open
//! One call at a time is let through as a probe, and one a second at most. A probe that is abandoned (its client hung up)
//! decides nothing, and the next one may follow. One that takes longer than [`Terms::max_open`] keeps nobody waiting any longer.
//! ## Half-open → closed
//! When a probe is answered, be it with a 4xx: refusing it would let one caller's bad key keep the circuit open for all. If
//! the upstream is no better for that, the circuit trips again, for a longer time.
//! ## Half-open → open
//! When a probe fails.
//! ## Open, half-open → closed
//! When nobody has called for a whole window: then what is known is as old as what the window forgets.
//!
//! # Scope
//! What an outcome means is `class`'s to say. Outcomes of calls that were let through before the last change of state come
//! too late, and do not count. Time and chance are arguments.

use std::time::{Duration, Instant};

/// When to give up and when to try again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// How far back outcomes count.
    pub window: Duration,
    /// So many calls must have ended in the window, or nothing is concluded.
    pub min_calls: u32,
    /// The part of them that must have failed, above 0 and up to 1.
    pub ratio: f64,
    /// How long nothing is let through, the first time.
    pub open: Duration,
    /// How long at most.
    pub max_open: Duration,
}

/// What a call that has ended says of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It works.
    Success,
    /// It does not.
    Failure,
    /// It is there; whether it works is not known, so this hides no outage: it is not counted.
    Alive,
    /// Nothing.
    Unknown,
}

/// Whether calls flow; the worst is the greatest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Calls flow.
    #[default]
    Closed,
    /// One call at a time is let through.
    HalfOpen,
    /// Calls are refused.
    Open,
}

/// The circuit of one upstream and model.
#[derive(Clone, Debug)]
pub struct Circuit {
    terms: Terms,
    phase: Phase,
    /// What has counted since it was last closed.
    window: Window,
    /// Grows with every change that makes earlier permits worthless.
    generation: u64,
    /// How often in a row it has opened without having been closed for a window in between.
    streak: u32,
    /// When the last probe was let through, and its number.
    probed: Option<(Instant, u64)>,
}

/// Leave to call; to be settled when the call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    generation: u64,
    /// The number of the probe, 0 for none.
    probe: u64,
}

/// No leave to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// When to ask again.
    pub retry_after: Duration,
}

#[derive(Clone, Debug)]
enum Phase {
    Closed {
        /// When it last became so; `None` if it never was anything else.
        since: Option<Instant>,
    },
    Open {
        since: Instant,
        lasts: Duration,
    },
    HalfOpen {
        /// Whether the last probe is still under way.
        probing: bool,
    },
}

/// Outcomes of late, in as many buckets as it slides by.
#[derive(Clone, Debug)]
struct Window {
    start: Instant,
    /// The time that a bucket stands for.
    width: Duration,
    buckets: [Bucket; BUCKETS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Which stretch of time since the start it stands for, counted from 0.
    number: u64,
    successes: u32,
    failures: u32,
}

impl State {
    /// Every state, from best to worst.
    pub const ALL: [Self; 3] = [Self::Closed, Self::HalfOpen, Self::Open];

    /// Returns the name in log lines and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

impl Permit {
    /// Returns whether it is that of a probe.
    pub fn is_probe(&self) -> bool {
        self.probe != 0
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(30),
            min_calls: 20,
            ratio: 0.5,
            open: Duration::from_secs(5),
            max_open: Duration::from_secs(60),
        }
    }
}

impl Circuit {
    /// Makes a closed circuit.
    pub fn new(terms: Terms, now: Instant) -> Self {
        Self {
            terms,
            phase: Phase::Closed { since: None },
            window: Window::new(now, terms.window),
            generation: 0,
            streak: 0,
            probed: None,
        }
    }

    /// Asks for leave to call.
    ///
    /// # Errors
    /// While it is open, and while a probe is under way or was less than a second ago.
    pub fn admit(&mut self, now: Instant) -> Result<Permit, Refused> {
        if self.is_forgotten(now) {
            self.close(now);
        }
        match self.refuses_for(now) {
            Duration::ZERO if self.state() == State::Closed => Ok(self.permit(0)),
            Duration::ZERO => self.probe(now),
            retry_after => Err(Refused { retry_after }),
        }
    }

    /// Takes note of how a call ended. Should the circuit trip, `chance`, from 0 up to 1, shortens the time that it is open.
    pub fn settle(
        &mut self,
        permit: Permit,
        outcome: Outcome,
        now: Instant,
        chance: impl FnOnce() -> f64,
    ) {
        if permit.generation != self.generation {
            return;
        }
        match &mut self.phase {
            Phase::Closed { .. } => {
                self.window.note(outcome, now);
                if outcome == Outcome::Failure && self.window.trips(&self.terms, now) {
                    self.open(now, chance());
                }
            }
            Phase::HalfOpen { probing } => match outcome {
                Outcome::Success | Outcome::Alive => self.close(now),
                Outcome::Failure => self.open(now, chance()),
                Outcome::Unknown => {
                    *probing &= self.probed.is_some_and(|(_, last)| last != permit.probe);
                }
            },
            // Nothing was let through since.
            Phase::Open { .. } => {}
        }
    }

    /// Returns the state that the last call or its end has left it in.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::HalfOpen { .. } => State::HalfOpen,
            Phase::Open { .. } => State::Open,
        }
    }

    /// Returns the state that a call would find it in.
    pub fn state_at(&self, now: Instant) -> State {
        match self.phase {
            _ if self.is_forgotten(now) => State::Closed,
            Phase::Open { .. } if self.refuses_for(now).is_zero() => State::HalfOpen,
            _ => self.state(),
        }
    }

    /// Returns how long it still refuses every call.
    pub fn refuses_for(&self, now: Instant) -> Duration {
        match self.phase {
            Phase::Open { since, lasts } => {
                lasts.saturating_sub(now.saturating_duration_since(since))
            }
            _ => Duration::ZERO,
        }
    }

    /// Returns whether a new circuit would do as well.
    pub fn is_blank(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Closed { .. } => self.window.count(now) == (0, 0),
            _ => self.is_forgotten(now),
        }
    }

    fn permit(&self, probe: u64) -> Permit {
        Permit {
            generation: self.generation,
            probe,
        }
    }

    fn probe(&mut self, now: Instant) -> Result<Permit, Refused> {
        let is_probing = matches!(self.phase, Phase::HalfOpen { probing: true });
        let last = self.probed.map_or(0, |(_, number)| number);
        if let Some((at, _)) = self.probed {
            let pause = if is_probing {
                self.terms.max_open.max(PAUSE)
            } else {
                PAUSE
            };
            let left = pause.saturating_sub(now.saturating_duration_since(at));
            if !left.is_zero() {
                // A probe may be over at any time.
                let retry_after = left.min(PAUSE);
                return Err(Refused { retry_after });
            }
        }
        self.phase = Phase::HalfOpen { probing: true };
        self.probed = Some((now, last + 1));
        Ok(self.permit(last + 1))
    }

    fn open(&mut self, now: Instant, chance: f64) {
        let calm = match self.phase {
            Phase::Closed { since } => {
                since.is_none_or(|since| now.saturating_duration_since(since) >= self.terms.window)
            }
            _ => false,
        };
        self.streak = if calm {
            0
        } else {
            self.streak.saturating_add(1)
        };
        let doubled = 1_u32.checked_shl(self.streak).unwrap_or(u32::MAX);
        let whole = self.terms.open.saturating_mul(doubled);
        let whole = whole.min(self.terms.max_open);
        let lasts = whole.saturating_sub(whole.mul_f64(JITTER * chance.clamp(0.0, 1.0)));
        self.turn(Phase::Open { since: now, lasts });
    }

    fn close(&mut self, now: Instant) {
        self.window = Window::new(now, self.terms.window);
        self.turn(Phase::Closed { since: Some(now) });
    }

    /// Changes the state, so that what was let through before counts no more.
    fn turn(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation += 1;
    }

    /// Returns whether nobody has called for a window, although a probe would have been let through.
    fn is_forgotten(&self, now: Instant) -> bool {
        let waits = |since, before| {
            let waited = now.saturating_duration_since(since).checked_sub(before);
            waited.is_some_and(|waited| waited >= self.terms.window)
        };
        match self.phase {
            Phase::Open { since, lasts } => waits(since, lasts),
            Phase::HalfOpen { probing: false } => {
                self.probed.is_some_and(|(at, _)| waits(at, Duration::ZERO))
            }
            Phase::Closed { .. } | Phase::HalfOpen { probing: true } => false,
        }
    }
}

impl Window {
    fn new(start: Instant, length: Duration) -> Self {
        let buckets = u32::try_from(BUCKETS).unwrap_or(u32::MAX);
        Self {
            start,
            width: (length / buckets).max(Duration::from_nanos(1)),
            buckets: [Bucket::default(); BUCKETS],
        }
    }

    fn note(&mut self, outcome: Outcome, now: Instant) {
        let number = self.number(now);
        let place = usize::try_from(number % BUCKETS as u64).unwrap_or_default();
        let Some(bucket) = self.buckets.get_mut(place) else {
            return;
        };
        if bucket.number != number {
            *bucket = Bucket {
                number,
                ..Bucket::default()
            };
        }
        match outcome {
            Outcome::Success => bucket.successes = bucket.successes.saturating_add(1),
            Outcome::Failure => bucket.failures = bucket.failures.saturating_add(1),
            Outcome::Alive | Outcome::Unknown => {}
        }
    }

    /// Returns how many calls have succeeded and failed.
    fn count(&self, now: Instant) -> (u32, u32) {
        let number = self.number(now);
        let of_late = |bucket: &&Bucket| number.saturating_sub(bucket.number) < BUCKETS as u64;
        let buckets = self.buckets.iter().filter(of_late);
        buckets.fold((0, 0), |(successes, failures), bucket| {
            (
                u32::saturating_add(successes, bucket.successes),
                u32::saturating_add(failures, bucket.failures),
            )
        })
    }

    fn trips(&self, terms: &Terms, now: Instant) -> bool {
        let (successes, failures) = self.count(now);
        let calls = successes.saturating_add(failures);
        calls >= terms.min_calls && f64::from(failures) >= terms.ratio * f64::from(calls)
    }

    fn number(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start);
        u64::try_from(since.as_nanos() / self.width.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// How finely the window slides.
const BUCKETS: usize = 10;
/// Least time between two probes.
const PAUSE: Duration = Duration::from_secs(1);
/// The part of the open time that chance takes off, at most.
const JITTER: f64 = 0.25;

#[cfg(test)]
mod tests;
