//! The bounds: how many refreshes, for whom. What a refresh does is held by `tests/it/stale.rs`.

use std::{
    future::Pending,
    task::{Context, Poll},
};

use super::*;
use crate::{
    cache::tests::{call, slot},
    call::{Unkeyed, key::Key, plan::Plan},
};

/// An upstream that never answers.
#[derive(Clone)]
struct Silent;

impl Service<Call> for Silent {
    type Response = Answer;
    type Error = Error;
    type Future = Pending<Result<Answer, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Call) -> Self::Future {
        std::future::pending()
    }
}

/// Returns how many refreshes `calls` set off.
fn set_off(calls: impl IntoIterator<Item = Call>) -> usize {
    let tasks = Tasks::default();
    let refreshes = Refreshes::new(tasks.clone(), Box::new(|_| {}));
    for call in calls {
        refreshes.begin(&call, Instant::now(), &Silent);
    }
    tasks.len()
}

fn call_at(number: u8) -> Call {
    let mut call = call(|_| {});
    let slot = Slot {
        key: Key::from_bytes([number; 32]),
        ..slot()
    };
    let known = call.keyed.clone().unwrap();
    call.fixed_mut().keyed = Ok(Arc::new(Keyed {
        slot,
        scope: known.scope,
        request: known.request.clone(),
    }));
    call
}

#[tokio::test]
async fn a_place_has_one_refresh_at_a_time_and_all_together_have_a_bound() {
    assert_eq!(set_off([call_at(1), call_at(2), call_at(1)]), 2);
    assert_eq!(set_off((0..100).map(call_at)), MOST);
}

#[tokio::test]
async fn only_who_may_have_it_stored_sets_off_a_refresh() {
    let no_store = |plan: &mut Plan| plan.store = false;
    let only_if_cached = |plan: &mut Plan| plan.only_if_cached = true;
    assert_eq!(set_off([call(no_store), call(only_if_cached)]), 0);
    let mut unkeyed = call(|_| {});
    unkeyed.fixed_mut().keyed = Err(Unkeyed::Bypass);
    assert_eq!(set_off([unkeyed, call(|_| {})]), 1);
}
