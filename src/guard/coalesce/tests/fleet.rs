//! Flights across replicas: a scripted Redis and scripted upstreams, paused time.

use tokio::time::advance;

use super::*;
use crate::{
    guard::coalesce::fleet::{Awaited, Terms},
    store::redis::{
        lease::{Holder, double::Scripted as Redis},
        trouble,
    },
};

/// As in the defaults.
const WAIT: Duration = Duration::from_secs(30);
const BUDGET: Duration = Duration::from_millis(50);
/// Longer than any pause between two looks.
const LOOK: Duration = Duration::from_secs(1);

const APART: Holder = Holder::Apart;

fn replica(redis: &Redis) -> House {
    house_in(Some(Fleet::new(Terms {
        leases: redis.replica(),
        wait: WAIT,
        budget: BUDGET,
    })))
}

/// Lets time pass in steps, as it does.
async fn pass(time: Duration) {
    let step = Duration::from_millis(50);
    let mut passed = Duration::ZERO;
    while passed < time {
        advance(step).await;
        settle().await;
        passed += step;
    }
}

impl House {
    /// Has at hand what `other` has stored, as if it came from Redis.
    fn holds_what(&self, other: &House) {
        let entry = other.memory.get(&slot(1)).expect("it was stored");
        self.memory.put(entry);
    }

    /// Has at hand what `other` has stored, now that it is written to Redis.
    async fn is_brought_by(&self, other: &House, redis: &Redis) {
        settle().await;
        self.holds_what(other);
        redis.lay(slot(1), "entry");
        assert_eq!(redis.write(), 1, "the lease waits for the entry");
    }

    fn awaited(&self, awaited: Awaited) -> u64 {
        let index = Awaited::ALL.iter().position(|known| *known == awaited);
        self.flights.awaited()[index.unwrap()]
    }

    fn assert_awaited(&self, expected: &[(Awaited, u64)]) {
        for awaited in Awaited::ALL {
            let count = expected.iter().find(|(known, _)| *known == awaited);
            let count = count.map_or(0, |(_, count)| *count);
            assert_eq!(self.awaited(awaited), count, "{awaited:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn identical_calls_on_several_replicas_are_one() {
    for news in [true, false] {
        let redis = Redis::default();
        let houses = [replica(&redis), replica(&redis), replica(&redis)];
        if !news {
            redis.deafen();
        }
        let mut calls = Vec::new();
        for house in &houses {
            calls.extend((0..100).map(|_| house.send(call())));
            settle().await;
        }
        let [first, second, third] = &houses;
        pass(5 * LOOK).await;
        first.upstream.answer(Ok("hello"));
        settle().await;
        third.holds_what(first);
        second.is_brought_by(first, &redis).await;
        if !news {
            pass(LOOK).await;
        }
        let mut misses = 0;
        for call in calls {
            let (verdict, body) = call.await.unwrap().unwrap();
            misses += u32::from(verdict == Verdict::Miss);
            assert_eq!(body, "hello");
        }
        assert_eq!(misses, 1);
        for (house, (led, joined)) in houses.iter().zip([(1, 99), (0, 199), (0, 199)]) {
            assert_eq!(house.flights.counts(), (led, joined));
            assert_eq!(house.upstream.calls() as u64, led);
            assert_eq!(house.flights.under_way(), 0);
        }
        second.assert_awaited(&[(Awaited::Landed, 1)]);
        assert_eq!(redis.holder(&slot(1)), Holder::Nobody);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_written_since_the_look_up_is_found_before_the_call_goes() {
    let redis = Redis::default();
    let (first, second) = (replica(&redis), replica(&redis));
    let old = Instant::now();
    pass(LOOK).await;
    let leader = first.send(call());
    settle().await;
    first.upstream.answer(Ok("hello"));
    leader.await.unwrap().unwrap();
    second.is_brought_by(&first, &redis).await;
    // Its look-up was before that, its flight begins only now.
    let mut late = call();
    late.passed_over = Some(old.into_std());
    let answer = second.send(late).await.unwrap().unwrap();
    assert_eq!(answer, said(Verdict::Collapsed, "hello"));
    assert_eq!(second.upstream.calls(), 0);
    second.assert_awaited(&[]);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_was_passed_over_is_no_reason_to_stay() {
    let redis = Redis::default();
    let (first, second) = (replica(&redis), replica(&redis));
    let leader = first.send(call());
    settle().await;
    first.upstream.answer(Ok("old"));
    leader.await.unwrap().unwrap();
    second.is_brought_by(&first, &redis).await;
    let old = first.memory.get(&slot(1)).unwrap().made;
    pass(LOOK).await;
    let mut choosy = call();
    choosy.passed_over = Some(old.into_std());
    let choosy = second.send(choosy);
    settle().await;
    assert_eq!(second.upstream.calls(), 1);
    second.upstream.answer(Ok("new"));
    assert_eq!(choosy.await.unwrap().unwrap(), said(Verdict::Miss, "new"));
    let entry = second.memory.get(&slot(1)).unwrap();
    assert!(entry.is_newer_than(old));
}

#[tokio::test(start_paused = true)]
async fn what_has_landed_and_does_not_fit_has_one_replica_lead_and_the_others_wait() {
    let redis = Redis::default();
    let (first, second, third) = (replica(&redis), replica(&redis), replica(&redis));
    let leader = first.send(call_for(SILENT));
    settle().await;
    first.upstream.answer(Ok("data: silent\n\n"));
    leader.await.unwrap().unwrap();
    for house in [&second, &third] {
        house.holds_what(&first);
    }
    redis.lay(slot(1), "silent");
    redis.write();
    // Each has been let go of by the flight that brought it, and is entitled to its usage.
    let calls = [&second, &third].map(|house| house.send(call_for(TELLING)));
    settle().await;
    assert_eq!((second.upstream.calls(), third.upstream.calls()), (1, 0));
    assert_ne!(redis.holder(&slot(1)), Holder::Nobody);
    drop(calls);
}

#[tokio::test(start_paused = true)]
async fn when_a_lease_dies_one_goes_and_the_others_wait_for_that_one() {
    let redis = Redis::default();
    let houses = [replica(&redis), replica(&redis), replica(&redis)];
    let mut calls = Vec::new();
    for house in &houses {
        calls.push(house.send(call()));
        settle().await;
    }
    redis.expire(&slot(1));
    pass(LOOK).await;
    let gone = |house: &House| house.upstream.calls();
    assert_eq!(houses.iter().map(gone).sum::<usize>(), 2);
    let [first, second, third] = &houses;
    let (next, last) = if gone(second) == 1 {
        (second, third)
    } else {
        (third, second)
    };
    next.assert_awaited(&[(Awaited::Led, 1)]);
    next.upstream.answer(Ok("hello"));
    settle().await;
    last.is_brought_by(next, &redis).await;
    first.upstream.answer(Ok("late"));
    for call in calls {
        call.await.unwrap().unwrap();
    }
    last.assert_awaited(&[(Awaited::Landed, 1)]);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_longer_than_it_may() {
    let redis = Redis::default();
    let (first, second) = (replica(&redis), replica(&redis));
    let _slow = first.send(call());
    settle().await;
    let impatient = second.send(call());
    pass(WAIT.saturating_sub(LOOK)).await;
    assert_eq!(second.upstream.calls(), 0, "the lease is renewed");
    pass(2 * LOOK).await;
    second.assert_awaited(&[(Awaited::Late, 1)]);
    second.upstream.answer(Ok("own"));
    assert_eq!(
        impatient.await.unwrap().unwrap(),
        said(Verdict::Miss, "own")
    );
}

#[tokio::test(start_paused = true)]
async fn what_answers_nobody_else_sends_all_who_wait_on_their_own_ways() {
    for outcome in [
        Ok("status 500"),
        Err(Error::new(Kind::Unreachable, "scripted")),
    ] {
        let redis = Redis::default();
        let houses = [replica(&redis), replica(&redis), replica(&redis)];
        let mut calls = Vec::new();
        for house in &houses {
            calls.push(house.send(call()));
            settle().await;
        }
        houses[0].upstream.answer(outcome);
        settle().await;
        for house in &houses[1..] {
            assert_eq!(house.upstream.calls(), 1);
            house.assert_awaited(&[(Awaited::Apart, 1)]);
        }
        assert_eq!(redis.holder(&slot(1)), APART);
        pass(LOOK).await;
        assert_eq!(redis.holder(&slot(1)), Holder::Nobody, "only for a moment");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_or_breaks_off_sends_all_who_wait_on_their_own_ways() {
    for outcome in [Ok("large"), Ok("broken")] {
        let redis = Redis::default();
        let houses = [replica(&redis), replica(&redis), replica(&redis)];
        let mut calls = Vec::new();
        for house in &houses {
            calls.push(house.send(call()));
            settle().await;
        }
        houses[0].upstream.answer(outcome);
        settle().await;
        for house in &houses[1..] {
            assert_eq!(house.upstream.calls(), 1);
            house.assert_awaited(&[(Awaited::Apart, 1)]);
        }
        assert_eq!(redis.holder(&slot(1)), APART);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_the_end_of_what_is_too_large_already() {
    let redis = Redis::default();
    let (first, second) = (replica(&redis), replica(&redis));
    let leader = first.send(call());
    settle().await;
    let _other = second.send(call());
    settle().await;
    // Its end never comes.
    first.upstream.answer(Ok("endless"));
    settle().await;
    assert!(!leader.is_finished());
    assert_eq!(second.upstream.calls(), 1);
    second.assert_awaited(&[(Awaited::Apart, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_left_while_another_replica_was_at_it_causes_no_upstream_call() {
    for outcome in [Ok("panic"), Ok("status 500"), Ok("hello")] {
        let redis = Redis::default();
        let (first, second) = (replica(&redis), replica(&redis));
        let _leader = first.send(call());
        settle().await;
        let crowd = [second.send(call()), second.send(call())];
        settle().await;
        assert_eq!(second.flights.under_way(), 1);
        for gone in &crowd {
            gone.abort();
        }
        settle().await;
        assert_eq!(second.flights.under_way(), 0);
        first.upstream.answer(outcome);
        pass(5 * LOOK).await;
        assert_eq!(second.upstream.calls(), 0);
        second.assert_awaited(&[]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_left_leaves_those_who_wait_with_it() {
    let redis = Redis::default();
    let (first, second) = (replica(&redis), replica(&redis));
    let _leader = first.send(call());
    settle().await;
    let gone = second.send(call());
    settle().await;
    let stays = second.send(call());
    settle().await;
    gone.abort();
    first.upstream.answer(Ok("status 500"));
    settle().await;
    assert_eq!(second.upstream.calls(), 1);
    second.upstream.answer(Ok("hello"));
    assert_eq!(stays.await.unwrap().unwrap().1, "hello");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_leaders_credential_lets_the_next_one_lead() {
    let redis = Redis::default();
    let houses = [replica(&redis), replica(&redis), replica(&redis)];
    let mut calls = Vec::new();
    for house in &houses {
        calls.push(house.send(call()));
        settle().await;
    }
    houses[0].upstream.answer(Ok("status 401"));
    pass(LOOK).await;
    let gone = houses[1..].iter().map(|house| house.upstream.calls());
    assert_eq!(gone.sum::<usize>(), 1, "one leads, one waits for it");
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_nobody_wants_any_more_gives_its_lease_back() {
    let redis = Redis::default();
    let (first, second) = (replica(&redis), replica(&redis));
    let leader = first.send(call());
    settle().await;
    let waiting = second.send(call());
    settle().await;
    leader.abort();
    settle().await;
    // It is finished for the store all the same.
    first.upstream.answer(Ok("panic"));
    settle().await;
    assert_eq!(second.upstream.calls(), 1);
    second.upstream.answer(Ok("hello"));
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!(answer, said(Verdict::Miss, "hello"));
    second.assert_awaited(&[(Awaited::Led, 1)]);
}

#[tokio::test(start_paused = true)]
async fn without_redis_every_replica_goes_by_itself() {
    for (kind, spent, asks) in [
        (Some(trouble::Kind::Away), Duration::ZERO, 1),
        (Some(trouble::Kind::Timeout), Duration::ZERO, 1),
        (None, BUDGET, 0),
    ] {
        let redis = Redis::default();
        if let Some(kind) = kind {
            redis.fail(kind);
        }
        let house = replica(&redis);
        let mut call = call();
        call.spent = spent;
        let call = house.send(call);
        settle().await;
        let slow = kind == Some(trouble::Kind::Timeout);
        assert_eq!(house.upstream.calls(), usize::from(!slow));
        advance(BUDGET).await;
        settle().await;
        assert_eq!((house.upstream.calls(), redis.asks()), (1, asks));
        house.upstream.answer(Ok("hello"));
        let answer = call.await.unwrap().unwrap();
        assert_eq!(answer, said(Verdict::Miss, "hello"));
        house.assert_awaited(&[]);
    }
}

#[tokio::test(start_paused = true)]
async fn redis_that_goes_away_ends_every_wait() {
    let redis = Redis::default();
    let (first, second) = (replica(&redis), replica(&redis));
    let _leader = first.send(call());
    settle().await;
    let waiting = second.send(call());
    settle().await;
    redis.fail(trouble::Kind::Io);
    pass(LOOK).await;
    second.assert_awaited(&[(Awaited::Away, 1)]);
    second.upstream.answer(Ok("own"));
    assert_eq!(waiting.await.unwrap().unwrap(), said(Verdict::Miss, "own"));
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_only_for_a_form_that_would_serve_it() {
    for (held, asked, waits) in [
        (SILENT, SILENT, true),
        (SILENT, Form::Plain, false),
        (SILENT, TELLING, false),
        (TELLING, Form::Plain, true),
        (Form::Plain, SILENT, true),
    ] {
        let redis = Redis::default();
        let (first, second) = (replica(&redis), replica(&redis));
        let _leader = first.send(call_for(held));
        settle().await;
        let _other = second.send(call_for(asked));
        settle().await;
        let gone = second.upstream.calls() == 1;
        assert_eq!(gone, !waits, "{asked:?} for {held:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_wants_an_answer_of_its_own_waits_for_nobody() {
    let refresh = || call_to(slot(1), |plan| plan.refresh = true);
    let alone = || {
        let mut alone = call();
        alone.alone = true;
        alone
    };
    let again = || {
        let mut again = call();
        let sent = &mut again.fixed_mut().headers;
        sent.insert(headers::HOPS, HeaderValue::from(1_u16));
        again
    };
    let cases: [(&dyn Fn() -> Call, bool, &str); 3] = [
        (&refresh, true, "others may wait for a new answer"),
        (&alone, false, "nobody is to know of it"),
        (&again, true, "it may be the holder's own"),
    ];
    for (makes, leads, why) in cases {
        let redis = Redis::default();
        let (first, second) = (replica(&redis), replica(&redis));
        let _leader = first.send(call());
        settle().await;
        let _other = second.send(makes());
        settle().await;
        assert_eq!(second.upstream.calls(), 1, "{why}");

        let redis = Redis::default();
        redis.lay(slot(1), "old");
        let house = replica(&redis);
        let _first = house.send(makes());
        settle().await;
        assert_eq!(house.upstream.calls(), 1, "{why}");
        assert_eq!(redis.holder(&slot(1)) != Holder::Nobody, leads, "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_wants_nothing_stored_waits_but_has_nobody_wait() {
    let unstored = || call_to(slot(1), |plan| plan.store = false);
    let redis = Redis::default();
    let (first, second) = (replica(&redis), replica(&redis));
    let _unstored = first.send(unstored());
    settle().await;
    assert_eq!(redis.holder(&slot(1)), Holder::Nobody);
    let leader = second.send(call());
    settle().await;
    assert_eq!(second.upstream.calls(), 1);
    let third = replica(&redis);
    let waiting = third.send(unstored());
    settle().await;
    assert_eq!(third.upstream.calls(), 0);
    second.upstream.answer(Ok("hello"));
    leader.await.unwrap().unwrap();
    third.is_brought_by(&second, &redis).await;
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!(answer, said(Verdict::Collapsed, "hello"));
}

#[tokio::test(start_paused = true)]
async fn what_was_purged_on_its_way_is_fetched_by_those_who_waited() {
    let redis = Redis::default();
    let (first, second) = (replica(&redis), replica(&redis));
    let leader = first.send(call());
    settle().await;
    let waiting = second.send(call());
    settle().await;
    let generations = first.flights.0.store.generations();
    generations.purge(&purge(Selector::All, false)).unwrap();
    first.upstream.answer(Ok("old"));
    leader.await.unwrap().unwrap();
    pass(LOOK).await;
    assert_eq!(second.upstream.calls(), 1);
    second.assert_awaited(&[(Awaited::Led, 1)]);
    second.upstream.answer(Ok("new"));
    assert_eq!(waiting.await.unwrap().unwrap(), said(Verdict::Miss, "new"));
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_of_no_use_here_sends_the_call_on() {
    let redis = Redis::default();
    let (first, second) = (replica(&redis), replica(&redis));
    let leader = first.send(call());
    settle().await;
    let waiting = second.send(call());
    settle().await;
    first.upstream.answer(Ok("hello"));
    leader.await.unwrap().unwrap();
    // It lies there, and cannot be read: it was purged here, or is damaged.
    redis.lay(slot(1), "entry");
    redis.write();
    settle().await;
    assert_eq!(second.upstream.calls(), 1);
    second.upstream.answer(Ok("own"));
    assert_eq!(waiting.await.unwrap().unwrap(), said(Verdict::Miss, "own"));
}
