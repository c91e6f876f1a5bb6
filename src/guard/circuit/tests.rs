//! The states one by one, and all of them against a simple model.

use proptest::prelude::*;

use super::*;

/// A circuit and a clock that the test moves.
struct Bench {
    circuit: Circuit,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            circuit: Circuit::new(Terms::default(), now),
            now,
        }
    }

    fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn admit(&mut self) -> Option<Permit> {
        self.circuit.admit(self.now).ok()
    }

    fn end(&mut self, permit: Permit, outcome: Outcome) {
        self.circuit.settle(permit, outcome, self.now, || 0.0);
    }

    /// Lets `count` calls through, all at once, that end as `outcome`.
    fn calls(&mut self, count: usize, outcome: Outcome) {
        for _ in 0..count {
            let permit = self.admit().expect("calls flow");
            self.end(permit, outcome);
        }
    }

    fn tripped() -> Self {
        let mut bench = Self::new();
        bench.calls(20, Outcome::Failure);
        bench
    }

    /// Returns for how long it refuses from now on, in milliseconds.
    fn refuses_for(&mut self) -> u128 {
        let refused = self.circuit.admit(self.now).expect_err("a refusal");
        refused.retry_after.as_millis()
    }

    fn state(&self) -> State {
        self.circuit.state()
    }
}

#[test]
fn it_trips_when_half_of_twenty_calls_have_failed() {
    for (successes, failures, expected) in [
        (0, 19, State::Closed),
        (0, 20, State::Open),
        (10, 9, State::Closed),
        (10, 10, State::Open),
        (11, 10, State::Closed),
        (30, 29, State::Closed),
        (30, 30, State::Open),
    ] {
        let mut bench = Bench::new();
        bench.calls(successes, Outcome::Success);
        bench.calls(failures, Outcome::Failure);
        assert_eq!(bench.state(), expected, "{successes} and {failures}");
    }
}

#[test]
fn a_success_never_trips_it() {
    let mut bench = Bench::new();
    bench.calls(19, Outcome::Failure);
    bench.calls(1, Outcome::Success);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn what_says_nothing_neither_trips_it_nor_hides_an_outage() {
    for neutral in [Outcome::Alive, Outcome::Unknown] {
        let mut bench = Bench::new();
        bench.calls(10_000, neutral);
        assert_eq!(bench.state(), State::Closed, "{neutral:?}");
        bench.calls(20, Outcome::Failure);
        assert_eq!(bench.state(), State::Open, "{neutral:?}");
    }
}

#[test]
fn old_failures_are_forgotten() {
    let mut bench = Bench::new();
    bench.calls(19, Outcome::Failure);
    bench.wait(26_000);
    bench.calls(1, Outcome::Success);
    bench.wait(5_000);
    bench.calls(19, Outcome::Failure);
    assert_eq!(bench.state(), State::Open, "one success and 19 failures");

    let mut bench = Bench::new();
    bench.calls(19, Outcome::Failure);
    bench.wait(31_000);
    bench.calls(19, Outcome::Failure);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn it_refuses_until_its_time_is_over_and_then_lets_one_probe_through() {
    let mut bench = Bench::tripped();
    assert_eq!(bench.refuses_for(), 5_000);
    bench.wait(4_999);
    assert_eq!(bench.refuses_for(), 1);
    bench.wait(1);
    let probe = bench.admit().expect("a probe");
    assert_eq!(bench.state(), State::HalfOpen);
    bench.wait(30_000);
    assert_eq!(bench.refuses_for(), 1_000, "one at a time");
    bench.end(probe, Outcome::Success);
    assert_eq!(bench.state(), State::Closed);
    bench.calls(100, Outcome::Success);
}

#[test]
fn a_probe_that_fails_opens_it_for_twice_as_long_up_to_a_minute() {
    let mut bench = Bench::tripped();
    for millis in [5_000, 10_000, 20_000, 40_000, 60_000, 60_000] {
        assert_eq!(bench.refuses_for(), u128::from(millis));
        bench.wait(millis);
        let probe = bench.admit().expect("a probe");
        bench.end(probe, Outcome::Failure);
        assert_eq!(bench.state(), State::Open);
    }
}

#[test]
fn chance_takes_a_quarter_off_at_most() {
    for (chance, millis) in [(0.0, 5_000), (0.5, 4_375), (1.0, 3_750), (7.0, 3_750)] {
        let mut bench = Bench::new();
        bench.calls(19, Outcome::Failure);
        let last = bench.admit().expect("calls flow");
        let now = bench.now;
        bench.circuit.settle(last, Outcome::Failure, now, || chance);
        assert_eq!(bench.refuses_for(), millis, "{chance}");
    }
}

#[test]
fn it_opens_for_longer_unless_it_was_closed_for_a_window() {
    for (closed, millis) in [(0, 10_000), (29_000, 10_000), (30_000, 5_000)] {
        let mut bench = Bench::tripped();
        bench.wait(5_000);
        bench.calls(1, Outcome::Success);
        bench.wait(closed);
        bench.calls(20, Outcome::Failure);
        assert_eq!(bench.refuses_for(), millis, "{closed}");
    }
}

#[test]
fn a_probe_that_is_only_answered_closes_it() {
    let mut bench = Bench::tripped();
    bench.wait(5_000);
    bench.calls(1, Outcome::Alive);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn an_abandoned_probe_makes_room_for_the_next_within_a_second() {
    let mut bench = Bench::tripped();
    bench.wait(5_000);
    let first = bench.admit().expect("a probe");
    bench.wait(400);
    bench.end(first, Outcome::Unknown);
    assert_eq!(bench.refuses_for(), 600);
    bench.wait(600);
    let second = bench.admit().expect("another probe");
    bench.wait(2_000);
    assert_eq!(bench.refuses_for(), 1_000);
    bench.end(second, Outcome::Unknown);
    assert!(bench.admit().is_some(), "more than a second ago");
}

#[test]
fn a_probe_that_takes_too_long_keeps_nobody_waiting_and_still_counts() {
    for (outcome, state) in [
        (Outcome::Success, State::Closed),
        (Outcome::Failure, State::Open),
        (Outcome::Unknown, State::HalfOpen),
    ] {
        let mut bench = Bench::tripped();
        bench.wait(5_000);
        let slow = bench.admit().expect("a probe");
        bench.wait(60_000);
        let next = bench.admit().expect("another probe");
        bench.end(slow, outcome);
        assert_eq!(bench.state(), state);
        bench.wait(1_000);
        if outcome == Outcome::Unknown {
            assert_eq!(bench.refuses_for(), 1_000, "the second is under way");
            bench.end(next, Outcome::Success);
            assert_eq!(bench.state(), State::Closed);
        }
    }
}

#[test]
fn what_was_let_through_before_it_tripped_comes_too_late() {
    let mut bench = Bench::new();
    let slow: Vec<_> = (0..100).filter_map(|_| bench.admit()).collect();
    bench.calls(20, Outcome::Failure);
    let mut slow = slow.into_iter();
    let mut late = |bench: &mut Bench, outcome| bench.end(slow.next().unwrap(), outcome);
    late(&mut bench, Outcome::Success);
    late(&mut bench, Outcome::Failure);
    assert_eq!((bench.state(), bench.refuses_for()), (State::Open, 5_000));
    bench.wait(5_000);
    let probe = bench.admit().expect("a probe");
    late(&mut bench, Outcome::Success);
    late(&mut bench, Outcome::Failure);
    late(&mut bench, Outcome::Unknown);
    assert_eq!(bench.state(), State::HalfOpen);
    assert!(bench.admit().is_none(), "the probe is still under way");
    bench.end(probe, Outcome::Success);
    for _ in 0..50 {
        late(&mut bench, Outcome::Failure);
    }
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn what_nobody_asks_for_is_forgotten() {
    let mut bench = Bench::tripped();
    bench.wait(34_999);
    assert_eq!(bench.circuit.state_at(bench.now), State::HalfOpen);
    assert!(!bench.circuit.is_blank(bench.now));
    bench.wait(1);
    assert_eq!(bench.circuit.state_at(bench.now), State::Closed);
    assert!(bench.circuit.is_blank(bench.now));
    bench.calls(19, Outcome::Failure);
    assert_eq!(bench.state(), State::Closed);

    let mut bench = Bench::tripped();
    bench.wait(5_000);
    bench.calls(1, Outcome::Unknown);
    assert_eq!(bench.circuit.state_at(bench.now), State::HalfOpen);
    bench.wait(30_000);
    assert_eq!(bench.circuit.state_at(bench.now), State::Closed);
}

#[test]
fn a_circuit_is_blank_when_its_window_is_empty() {
    let mut bench = Bench::new();
    assert!(bench.circuit.is_blank(bench.now));
    bench.calls(5, Outcome::Alive);
    assert!(bench.circuit.is_blank(bench.now));
    bench.calls(1, Outcome::Success);
    assert!(!bench.circuit.is_blank(bench.now));
    bench.wait(31_000);
    assert!(bench.circuit.is_blank(bench.now));
}

/// What happens to a circuit.
#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Call,
    /// The call under way at this place, counted round, ends.
    End(usize, Outcome),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        3 => Just(Outcome::Failure),
        1 => Just(Outcome::Success),
        1 => Just(Outcome::Alive),
        1 => Just(Outcome::Unknown),
    ];
    let step = prop_oneof![
        2 => prop_oneof![0..50_u64, 0..3_000_u64, 0..40_000_u64].prop_map(Step::Wait),
        4 => Just(Step::Call),
        4 => (any::<usize>(), outcome).prop_map(|(place, outcome)| Step::End(place, outcome)),
    ];
    prop::collection::vec(step, 1..400)
}

/// What a bystander knows of the circuit: who was let through when, and what the state was.
#[derive(Debug, Default)]
struct Model {
    /// Calls under way: their permit, the period they were let through in, when, and whether as a probe.
    under_way: Vec<(Permit, u32, Instant, bool)>,
    /// How often the state has changed between closed and not.
    period: u32,
    /// Outcomes that counted since it was last closed: when, and whether a failure.
    counted: Vec<(Instant, bool)>,
    tripped: Option<Instant>,
    last_probe: Option<Instant>,
}

const MODELLED: Terms = Terms {
    window: Duration::from_secs(30),
    min_calls: 4,
    ratio: 0.5,
    open: Duration::from_secs(5),
    max_open: Duration::from_secs(60),
};

impl Model {
    /// Returns whether it may trip now, and whether it may not: the window slides by a tenth of itself, so it holds at
    /// least what is 27 s old and at most what is younger than 30 s.
    fn verdicts(&self, now: Instant) -> [bool; 2] {
        let [least, most] = [27, 30].map(Duration::from_secs);
        let ages = self.counted.iter().map(|(at, _)| now - *at);
        let between = ages.filter(|age| *age > least && *age < most);
        let found: Vec<_> = between
            .chain([least])
            .map(|age| self.is_enough(now, age))
            .collect();
        [true, false].map(|verdict| found.contains(&verdict))
    }

    /// Returns whether what is no older than `age` is enough to trip.
    fn is_enough(&self, now: Instant, age: Duration) -> bool {
        let of_late = || self.counted.iter().filter(|(at, _)| now - *at <= age);
        let failures = of_late().filter(|(_, failed)| *failed).count();
        of_late().count() >= 4 && failures * 2 >= of_late().count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn it_never_admits_while_open_and_probes_one_by_one(steps in steps(), chance in 0.0..1.0_f64) {
        let mut now = Instant::now();
        let mut circuit = Circuit::new(MODELLED, now);
        let mut model = Model::default();
        for step in steps {
            let before = circuit.state();
            match step {
                Step::Wait(millis) => now += Duration::from_millis(millis),
                Step::Call => {
                    let expected = circuit.state_at(now);
                    let admitted = circuit.admit(now);
                    if let Ok(permit) = admitted {
                        prop_assert_ne!(expected, State::Open);
                        let is_probe = circuit.state() == State::HalfOpen;
                        if before == State::Open {
                            let tripped = model.tripped.unwrap();
                            prop_assert!(now - tripped >= MODELLED.open.mul_f64(0.75));
                        }
                        if is_probe {
                            let young = |(_, period, at, probe): &&(Permit, u32, Instant, bool)| {
                                *probe && *period == model.period && now - *at < MODELLED.max_open
                            };
                            prop_assert_eq!(model.under_way.iter().filter(young).count(), 0);
                            let pause = model.last_probe.map(|last| now - last);
                            prop_assert!(pause.is_none_or(|pause| pause >= Duration::from_secs(1)));
                            model.last_probe = Some(now);
                        }
                        if before != State::Closed && circuit.state() == State::Closed {
                            model.period += 1;
                            model.counted.clear();
                        }
                        model.under_way.push((permit, model.period, now, is_probe));
                    } else {
                        let retry_after = admitted.unwrap_err().retry_after;
                        prop_assert!(!retry_after.is_zero() && retry_after <= MODELLED.max_open);
                        prop_assert_ne!(before, State::Closed);
                    }
                }
                Step::End(place, outcome) if !model.under_way.is_empty() => {
                    let place = place % model.under_way.len();
                    let (permit, period, ..) = model.under_way.swap_remove(place);
                    circuit.settle(permit, outcome, now, || chance);
                    let after = circuit.state();
                    if period != model.period {
                        prop_assert_eq!(before, after, "it came too late");
                        continue;
                    }
                    match before {
                        State::Closed => {
                            let failed = outcome == Outcome::Failure;
                            if failed || outcome == Outcome::Success {
                                model.counted.push((now, failed));
                            }
                            let [may, may_not] = model.verdicts(now);
                            if after == State::Open {
                                prop_assert!(failed && may);
                            } else {
                                prop_assert!(!failed || may_not);
                            }
                        }
                        State::HalfOpen => prop_assert_eq!(after, match outcome {
                            Outcome::Success | Outcome::Alive => State::Closed,
                            Outcome::Failure => State::Open,
                            Outcome::Unknown => State::HalfOpen,
                        }),
                        State::Open => prop_assert!(false, "a call of this period in an open circuit"),
                    }
                    if after != before {
                        model.period += 1;
                        model.counted.clear();
                        if after == State::Open {
                            model.tripped = Some(now);
                        }
                    }
                }
                Step::End(..) => {}
            }
        }
        // Whatever has happened, it closes again within the open time and one probe.
        now += MODELLED.max_open;
        let probe = circuit.admit(now);
        prop_assert!(probe.is_ok());
        circuit.settle(probe.unwrap(), Outcome::Success, now, || chance);
        prop_assert_eq!(circuit.state(), State::Closed);
    }
}
