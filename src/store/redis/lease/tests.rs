//! Leases by themselves: a scripted Redis below, paused time.

use tokio::time::advance;

use super::{double::Scripted, *};
use crate::call::key::Key;

fn slot() -> Slot {
    Slot {
        key: Key::from_bytes([1; 32]),
        delivery: 0,
    }
}

const PATIENCE: Duration = Duration::from_millis(50);

const HELD: Holder = Holder::Flight {
    form: Form::Plain,
    hops: 0,
};

/// Lets the tasks that can run, run.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

async fn taken(leases: &Leases) -> Lease {
    let mut lease = leases.lease(slot(), Form::Plain, 0).unwrap();
    let asked = lease.take(Some(b""), PATIENCE).await.unwrap();
    assert!(asked.taken);
    lease
}

#[tokio::test(start_paused = true)]
async fn a_lease_lives_as_long_as_it_is_held_and_no_longer() {
    let redis = Scripted::default();
    let lease = taken(&redis.replica()).await;
    for _ in 0..60 {
        advance(Duration::from_secs(1)).await;
        settle().await;
        assert_eq!(redis.holder(&slot()), HELD);
    }
    drop(lease);
    settle().await;
    assert_eq!(redis.holder(&slot()), Holder::Nobody);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_lost_is_neither_renewed_nor_given_back() {
    let redis = Scripted::default();
    let first = taken(&redis.replica()).await;
    redis.expire(&slot());
    let second = taken(&redis.replica()).await;
    advance(Duration::from_secs(4)).await;
    settle().await;
    drop(first);
    settle().await;
    assert_eq!(redis.holder(&slot()), HELD, "it is the second one's");
    drop(second);
    settle().await;
    assert_eq!(redis.holder(&slot()), Holder::Nobody);
}

#[tokio::test(start_paused = true)]
async fn one_that_may_be_held_is_given_back_like_one_that_is() {
    for (kind, given_back) in [(Kind::Timeout, true), (Kind::Io, true), (Kind::Away, false)] {
        let redis = Scripted::default();
        let mut lease = redis.replica().lease(slot(), Form::Plain, 0).unwrap();
        redis.fail(kind);
        let asked = lease.take(Some(b""), PATIENCE).await;
        assert_eq!(asked.unwrap_err().kind, kind);
        redis.heal();
        drop(lease);
        settle().await;
        assert_eq!(redis.holder(&slot()) == Holder::Nobody, given_back);
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_lease_is_told_to_those_who_wait() {
    for end in [End::Written, End::Again, End::Apart] {
        let redis = Scripted::default();
        let (here, there) = (redis.replica(), redis.replica());
        let mut waiter = there.wait(slot());
        let lease = taken(&here).await;
        lease.end(end);
        settle().await;
        let behind = redis.write();
        assert_eq!(behind, usize::from(end == End::Written));
        waiter.told().await;
        let apart = redis.holder(&slot()) == Holder::Apart;
        assert_eq!(apart, end == End::Apart);
        advance(APART_FOR).await;
        assert_eq!(redis.holder(&slot()), Holder::Nobody);
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_news_is_told_before_the_lease_is_taken() {
    let redis = Scripted::default();
    let leases = redis.replica();
    redis.lay(slot(), "entry");
    let mut lease = leases.lease(slot(), Form::Plain, 0).unwrap();
    for (known, taken) in [(Some(&b""[..]), false), (Some(b"entry"), true)] {
        let asked = lease.take(known, PATIENCE).await.unwrap();
        assert_eq!((asked.taken, &asked.mark[..]), (taken, &b"entry"[..]));
    }
    let looked = leases.look(&slot(), None, PATIENCE).await.unwrap();
    assert_eq!((looked.taken, looked.holder), (false, HELD));
}
