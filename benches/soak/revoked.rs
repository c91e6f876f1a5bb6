//! 10,000 calls with a key that the upstream refuses, and one with a good key among every hundred.

use anyhow::Result;
use tokio::task::JoinSet;

use crate::{
    checks::Checks,
    client::{Call, Client, End, Patience},
    proxy::Proxy,
    report,
    upstream::{REVOKED, Upstream},
};

/// What came of the calls of one client.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    refused: u64,
    answered: u64,
    other: u64,
}

/// Plays the scene.
pub(crate) async fn play() -> Result<Checks> {
    let upstream = Upstream::start()?;
    let proxy = Proxy::start(&upstream.section("only", ""))?;
    report::text(&format!("{CALLS} calls with a revoked key"))?;
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(ask(number, Client::new(proxy.address)));
    }
    let mut tally = Tally::default();
    for one in clients.join_all().await {
        tally.refused += one.refused;
        tally.answered += one.answered;
        tally.other += one.other;
    }
    let metrics = proxy.metrics().await?;
    let opened = metrics.sum("refrain_circuit_transitions_total", &["to=\"open\""]);
    let mut checks = Checks::default();
    let found = format!("{} of {CALLS}", tally.refused);
    checks.check("the revoked key is refused", tally.refused == CALLS, &found)?;
    let found = format!("{} of {}", tally.answered, CALLS / EACH);
    checks.check(
        "the good key is answered",
        tally.answered == CALLS / EACH,
        &found,
    )?;
    checks.check(
        "nothing else happened",
        tally.other == 0,
        &format!("{}", tally.other),
    )?;
    checks.check("no circuit opened", opened == 0, &format!("{opened}"))?;
    Ok(checks)
}

/// Makes the calls of one client: each asks what nobody asked before, so that each reaches the upstream.
async fn ask(number: u64, mut client: Client) -> Tally {
    let mut tally = Tally::default();
    for question in number * CALLS..number * CALLS + CALLS / CLIENTS {
        let mut call = Call {
            id: question,
            question,
            caller: REVOKED,
            streams: question.is_multiple_of(2),
            patience: Patience::Whole,
        };
        match client.call(call).await.end {
            End::Told(401) => tally.refused += 1,
            _ => tally.other += 1,
        }
        if !question.is_multiple_of(EACH) {
            continue;
        }
        call.caller = 0;
        match client.call(call).await.end {
            End::Whole => tally.answered += 1,
            _ => tally.other += 1,
        }
    }
    tally
}

const CALLS: u64 = 10_000;
const CLIENTS: u64 = 10;
/// Every so manieth call is made with a good key, too.
const EACH: u64 = 100;
