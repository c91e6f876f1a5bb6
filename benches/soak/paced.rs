//! Calls at a steady rate, whether earlier ones have been answered or not.
//!
//! Half of them ask what was answered before (warm), the others what nobody ever asked (cold).

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::{
    client::{Call, Client, End, Outcome, Patience},
    proxy::Proxy,
};

/// One call, once it is over.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// The second that it was sent in, from 0.
    pub(crate) second: usize,
    /// Whether it asked what was answered before.
    pub(crate) warm: bool,
    /// What came of it.
    pub(crate) outcome: Outcome,
    /// How long that took.
    pub(crate) took: Duration,
}

/// Has every warm question answered once.
pub(crate) async fn warm(proxy: &Proxy) -> Result<()> {
    let mut client = Client::new(proxy.address);
    for question in 0..WARM {
        let outcome = client.call(call(question, question, false)).await;
        anyhow::ensure!(outcome.end == End::Whole, "not warmed: {outcome:?}");
    }
    Ok(())
}

/// Sends the calls of one second, evenly.
pub(crate) async fn one_second(second: usize, proxy: &Proxy, calls: &mut JoinSet<Done>) {
    let mut clock = interval(Duration::from_secs(1) / RATE);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0..u64::from(RATE) {
        clock.tick().await;
        let id = WARM + u64::from(RATE) * second as u64 + number;
        let (warm, streams) = (number % 2 == 0, number % 4 < 2);
        let question = if warm { id % WARM } else { id };
        let mut client = Client::new(proxy.address);
        calls.spawn(async move {
            let start = Instant::now();
            let outcome = client.call(call(id, question, streams)).await;
            Done {
                second,
                warm,
                outcome,
                took: start.elapsed(),
            }
        });
    }
}

fn call(id: u64, question: u64, streams: bool) -> Call {
    Call {
        id,
        question,
        caller: 0,
        streams,
        patience: Patience::Whole,
    }
}

/// Calls a second.
const RATE: u32 = 200;
/// Questions that are answered before.
const WARM: u64 = 100;
