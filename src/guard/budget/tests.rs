//! Budgets over time.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn spent(budget: &mut Budget, now: Instant, tries: u32) -> u32 {
    (0..tries).map(|_| u32::from(budget.spend(now))).sum()
}

#[test]
fn an_hour_without_trouble_pays_for_ten_tries_at_once() {
    let now = Instant::now();
    let mut budget = Budget::new(0.2, now);
    for _ in 0..10_000 {
        budget.earn();
    }
    assert_eq!(
        spent(&mut budget, now + Duration::from_secs(3_600), 100),
        10
    );
}

#[test]
fn a_quiet_proxy_can_repeat_a_try_every_ten_seconds() {
    let start = Instant::now();
    let mut budget = Budget::new(0.2, start);
    assert_eq!(spent(&mut budget, start, 100), 10);
    let later = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(spent(&mut budget, later(9), 5), 0);
    assert_eq!(spent(&mut budget, later(10), 5), 1);
}

#[test]
fn without_a_budget_nothing_is_repeated() {
    let now = Instant::now();
    let mut budget = Budget::new(0.0, now);
    budget.earn();
    assert!(!budget.spend(now + Duration::from_secs(3_600)));
}

proptest! {
    #[test]
    fn an_outage_is_multiplied_by_no_more_than_the_budget(
        ratio in 0.01..1.0_f64,
        gaps in proptest::collection::vec(0_u64..200, 1..500),
    ) {
        let start = Instant::now();
        let mut now = start;
        let mut budget = Budget::new(ratio, start);
        let mut tries = 0;
        for gap in &gaps {
            now += Duration::from_millis(*gap);
            budget.earn();
            tries += spent(&mut budget, now, 3);
        }
        let calls = f64::from(u32::try_from(gaps.len()).unwrap());
        let most = calls.mul_add(ratio, MOST) + (now - start).as_secs_f64() * TRICKLE;
        prop_assert!(f64::from(tries) <= most + 1e-6, "{tries} tries, {most} allowed");
    }
}
