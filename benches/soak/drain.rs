//! SIGTERM under load: whoever goes by `/readyz`, as a load balancer does, loses nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    checks::Checks,
    client::{Call, Client, End, Patience, pause},
    dice::Dice,
    proxy::Proxy,
    report,
    upstream::Upstream,
};

/// What came of the calls of one client.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    whole: u64,
    failed: u64,
    truncated: u64,
}

/// Ends proxies under load, [`ROUNDS`] one after the other.
pub(crate) async fn play() -> Result<Checks> {
    let upstream = Upstream::start()?;
    let mut checks = Checks::default();
    let mut all = Tally::default();
    for round in 0..ROUNDS {
        let tally = one(round, &upstream, &mut checks).await?;
        all.add(tally);
    }
    let found = format!("{}", all.whole);
    checks.check("calls were answered", all.whole > 0, &found)?;
    checks.check(
        "no call failed",
        all.failed == 0,
        &format!("{}", all.failed),
    )?;
    let found = format!("{}", all.truncated);
    checks.check("no answer was truncated", all.truncated == 0, &found)?;
    Ok(checks)
}

async fn one(round: u64, upstream: &Upstream, checks: &mut Checks) -> Result<Tally> {
    let config = "[limits]\nmin_drain = \"1s\"\n";
    let mut proxy = Proxy::start(&[config, &upstream.section("only", "")].concat())?;
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let first = (round * CLIENTS + number) * 1_000_000;
        let client = Client::new(proxy.address);
        clients.spawn(ask_until(over.clone(), client, Dice::new(first), first));
    }
    sleep(Duration::from_secs(2)).await;
    let balancer = {
        let (ready, over) = (proxy.watch(), over.clone());
        async move {
            while ready.is_ready().await {
                sleep(Duration::from_millis(20)).await;
            }
            over.store(true, Ordering::Relaxed);
        }
    };
    let (code, ()) = tokio::join!(proxy.end(), balancer);
    let code = code?;
    let found = format!("exit code {code:?}");
    checks.check("the proxy ends by itself", code == Some(0), &found)?;
    let mut tally = Tally::default();
    for one in clients.join_all().await {
        tally.add(one);
    }
    report::text(&format!("round {round}: {tally:?}"))?;
    Ok(tally)
}

async fn ask_until(over: Arc<AtomicBool>, mut client: Client, mut dice: Dice, first: u64) -> Tally {
    let mut tally = Tally::default();
    for question in first.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let call = Call {
            id: question,
            question,
            caller: 0,
            streams: question.is_multiple_of(2),
            patience: Patience::Whole,
        };
        match client.call(call).await.end {
            End::Whole => tally.whole += 1,
            End::Broken | End::Odd => tally.truncated += 1,
            _ => tally.failed += 1,
        }
        pause(dice.below(20)).await;
    }
    tally
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.whole += other.whole;
        self.failed += other.failed;
        self.truncated += other.truncated;
    }
}

const ROUNDS: u64 = 5;
const CLIENTS: u64 = 32;
