//! When an answer is late enough for a second call, and whether there may be one. Pure.
//!
//! # Lateness
//! Late is what takes longer than 95 of the last 100 answers of the same model in the same form: a plain answer
//! begins when all of it is there, a stream with its first word. Before 30 have been seen nothing is late.
//!
//! # Budget
//! Every call earns a twentieth of a second call, and no more than a few are saved up. An upstream that turns slow as a whole makes
//! every call late, and must not get twice as many for it.

use std::{collections::HashMap, time::Duration};

/// What is known of one upstream's pace.
#[derive(Debug, Default)]
pub struct Paces {
    plain: Models,
    streams: Models,
    /// Second calls that may be made, in parts of [`COST`].
    credit: u32,
}

/// Of which calls a pace is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort<'a> {
    /// The model asked for.
    pub model: &'a str,
    /// Whether a stream is.
    pub stream: bool,
}

/// The models, at most [`MODELS`] of them.
#[derive(Debug, Default)]
struct Models {
    paces: HashMap<Box<str>, Pace>,
    /// Counts observations, to tell which model was seen longest ago.
    turn: u64,
}

/// The last times to the first byte, microseconds, each over the oldest.
#[derive(Debug, Default)]
struct Pace {
    times: Vec<u32>,
    next: usize,
    seen: u64,
}

impl Paces {
    /// Takes note of a call that begins; returns after how long it is late, once that is known.
    pub fn begin(&mut self, sort: Sort<'_>) -> Option<Duration> {
        self.credit = (self.credit + EARNED).min(SAVED * COST);
        self.of(sort).paces.get(sort.model)?.late()
    }

    /// Returns whether a second call may be made for one that is late, and takes it for made.
    pub fn spend(&mut self) -> bool {
        let left = self.credit.checked_sub(COST);
        self.credit = left.unwrap_or(self.credit);
        left.is_some()
    }

    /// Takes note of an answer whose first byte took so long.
    pub fn observe(&mut self, sort: Sort<'_>, took: Duration) {
        let models = self.of_mut(sort);
        models.turn += 1;
        let turn = models.turn;
        let pace = models.pace(sort.model);
        pace.add(took);
        pace.seen = turn;
    }

    fn of(&self, sort: Sort<'_>) -> &Models {
        if sort.stream {
            &self.streams
        } else {
            &self.plain
        }
    }

    fn of_mut(&mut self, sort: Sort<'_>) -> &mut Models {
        if sort.stream {
            &mut self.streams
        } else {
            &mut self.plain
        }
    }
}

impl Models {
    /// Returns a model's pace; a new model takes the place of the one seen longest ago, where there are enough.
    fn pace(&mut self, model: &str) -> &mut Pace {
        if self.paces.len() >= MODELS && !self.paces.contains_key(model) {
            let oldest = self.paces.iter().min_by_key(|(_, pace)| pace.seen);
            if let Some(oldest) = oldest.map(|(model, _)| model.clone()) {
                self.paces.remove(&oldest);
            }
        }
        self.paces.entry(model.into()).or_default()
    }
}

impl Pace {
    fn add(&mut self, took: Duration) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        match self.times.get_mut(self.next) {
            Some(oldest) => *oldest = took,
            None => self.times.push(took),
        }
        self.next = (self.next + 1) % WINDOW;
    }

    /// Returns the 95th percentile, by nearest rank.
    fn late(&self) -> Option<Duration> {
        if self.times.len() < LEAST {
            return None;
        }
        let mut times = self.times.clone();
        let rank = (times.len() * 95).div_ceil(100).saturating_sub(1);
        let (_, late, _) = times.select_nth_unstable(rank);
        Some(Duration::from_micros(u64::from(*late)))
    }
}

/// Answers that a pace is made of, at most.
const WINDOW: usize = 100;
/// Answers that it takes to know a pace.
const LEAST: usize = 30;
/// Models that are kept apart, of each form.
const MODELS: usize = 64;
/// What a second call costs, and what each call earns: a twentieth.
const COST: u32 = 20;
const EARNED: u32 = 1;
/// Second calls that may be saved up.
const SAVED: u32 = 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: Sort<'_> = Sort {
        model: "m",
        stream: false,
    };

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn nothing_is_late_before_enough_is_known() {
        let mut paces = Paces::default();
        for _ in 1..LEAST {
            paces.observe(PLAIN, millis(10));
            assert_eq!(paces.begin(PLAIN), None);
        }
        paces.observe(PLAIN, millis(10));
        assert_eq!(paces.begin(PLAIN), Some(millis(10)));
    }

    #[test]
    fn late_is_what_takes_longer_than_95_of_the_last_100() {
        let mut paces = Paces::default();
        for number in (1..=100).rev() {
            paces.observe(PLAIN, millis(number));
        }
        assert_eq!(paces.begin(PLAIN), Some(millis(95)));
        for _ in 0..100 {
            paces.observe(PLAIN, millis(7));
        }
        assert_eq!(
            paces.begin(PLAIN),
            Some(millis(7)),
            "what is old counts no more"
        );
    }

    #[test]
    fn forms_and_models_have_paces_of_their_own() {
        let mut paces = Paces::default();
        for _ in 0..LEAST {
            paces.observe(PLAIN, millis(10));
        }
        let stream = Sort {
            stream: true,
            ..PLAIN
        };
        let other = Sort {
            model: "other",
            ..PLAIN
        };
        assert_eq!((paces.begin(stream), paces.begin(other)), (None, None));
    }

    #[test]
    fn the_model_seen_longest_ago_gives_way() {
        let mut paces = Paces::default();
        let names: Vec<_> = (0..=MODELS).map(|number| number.to_string()).collect();
        let sort = |model| Sort {
            model,
            stream: false,
        };
        for name in &names {
            for _ in 0..LEAST {
                paces.observe(sort(name), millis(1));
            }
            paces.observe(sort(&names[0]), millis(1));
        }
        assert_eq!(paces.plain.paces.len(), MODELS);
        assert_eq!(paces.begin(sort(&names[1])), None);
        assert!(paces.begin(sort(&names[0])).is_some());
        assert!(paces.begin(sort(&names[MODELS])).is_some());
    }

    proptest! {
        #[test]
        fn second_calls_are_a_twentieth_of_the_calls_at_most(late in prop::collection::vec(any::<bool>(), 0..2_000)) {
            let mut paces = Paces::default();
            let mut second = 0;
            for (calls, is_late) in (1..).zip(late) {
                paces.begin(PLAIN);
                second += u32::from(is_late && paces.spend());
                prop_assert!(second * 20 <= calls);
            }
        }
    }

    #[test]
    fn no_more_than_a_few_second_calls_are_saved_up() {
        let mut paces = Paces::default();
        for _ in 0..10_000 {
            paces.begin(PLAIN);
        }
        let second = (0..100).filter(|_| paces.spend()).count();
        assert_eq!(second, SAVED as usize);
    }
}
