//! Hits beside the bare server's, in alternating rounds, so that what disturbs the machine disturbs both.

use anyhow::{Result, ensure};

use crate::{
    placing::Placing,
    process::Server,
    report, script,
    side::{CONNECTIONS, ROUND, ROUNDS, Round, Side, WARM_UP},
    upstream::{Script, Upstream},
};

/// Measures one hot key, then many keys.
pub(crate) async fn play() -> Result<()> {
    report::heading("hits")?;
    about()?;
    compare(1, Placing::Spread).await?;
    compare(10_000, Placing::Spread).await?;
    compare(1, Placing::Kernel).await
}

/// Says what is sent and how often.
pub(crate) fn about() -> Result<()> {
    Ok(report::text(&format!(
        "{CONNECTIONS} connections, {ROUNDS} rounds of {ROUND:?} each, after {WARM_UP:?}; bodies of {} bytes, answers of {} bytes",
        script::question(0, false).len(),
        script::completion(script::ANSWER).len(),
    ))?)
}

async fn compare(keys: usize, placing: Placing) -> Result<()> {
    placing.place_own()?;
    let upstream = Upstream::start(Script::default()).await?;
    let mut bare = Side::new("bare", Server::bare()?, keys, placing).await?;
    let refrain = Server::refrain_in_memory(upstream.address)?;
    let mut refrain = Side::new("refrain", refrain, keys, placing).await?;
    let missed = upstream.calls();
    report::text(&format!("\nkeys: {keys}; {}", placing.describe()))?;
    Round::heads()?;
    for _ in 0..ROUNDS {
        for side in [&mut bare, &mut refrain] {
            side.round().await?.write(side.name)?;
        }
    }
    ensure!(upstream.calls() == missed, "not every call was a hit");
    for side in [&bare, &refrain] {
        side.median().write(&format!("{}, median", side.name))?;
    }
    ratios(&bare, &refrain)
}

/// Writes Refrain's rate as a part of the bare server's, for each pair of rounds and in the middle.
fn ratios(bare: &Side, refrain: &Side) -> Result<()> {
    let rates = refrain.ratios(bare);
    let listed: Vec<String> = rates.iter().map(|ratio| format!("{ratio:.3}")).collect();
    let pairs = bare.rounds.iter().zip(&refrain.rounds);
    let cpu = report::median(pairs.map(|(bare, ours)| ours.cpu - bare.cpu));
    report::text(&format!(
        "refrain/bare, req/s: {} median {:.3}; CPU added per hit: {cpu:.1} us",
        listed.join(" "),
        report::median(rates),
    ))?;
    Ok(())
}
