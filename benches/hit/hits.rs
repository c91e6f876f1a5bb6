//! Hits beside the bare server's, in alternating rounds, so that what disturbs the machine disturbs both.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{
    load::{Load, Seen},
    process::{Server, Usage},
    report, script,
    upstream::{Script, Upstream},
};

/// A server and the load on it.
#[derive(Debug)]
struct Side {
    name: &'static str,
    server: Server,
    load: Load,
    rounds: Vec<Round>,
}

/// One round's figures.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Requests per second.
    rate: f64,
    /// Microseconds of the server's processor time per request.
    cpu: f64,
    /// Microseconds.
    p50: f64,
    /// Microseconds.
    p99: f64,
    /// Resident memory afterwards, bytes.
    rss: u64,
}

/// Measures one hot key, then many keys.
pub(crate) async fn play() -> Result<()> {
    report::heading("hits")?;
    report::text(&format!(
        "{CONNECTIONS} connections, {ROUNDS} rounds of {ROUND:?} each, after {WARM_UP:?}; bodies of {} bytes, answers of {} bytes",
        script::question(0, false).len(),
        script::completion(script::ANSWER).len(),
    ))?;
    for keys in [1, 10_000] {
        compare(keys).await?;
    }
    Ok(())
}

async fn compare(keys: usize) -> Result<()> {
    let upstream = Upstream::start(Script::default()).await?;
    let mut bare = Side::new("bare", Server::bare()?, keys).await?;
    let mut refrain = Side::new("refrain", Server::refrain(upstream.address)?, keys).await?;
    let missed = upstream.calls();
    report::text(&format!("\n{keys} keys"))?;
    report::row("", ["req/s", "CPU us", "p50 us", "p99 us", "RSS"])?;
    for _ in 0..ROUNDS {
        bare.round().await?;
        refrain.round().await?;
    }
    ensure!(upstream.calls() == missed, "not every call was a hit");
    bare.median()?;
    refrain.median()?;
    ratios(&bare.rounds, &refrain.rounds)
}

impl Side {
    /// Fills the server's memory and warms it up.
    async fn new(name: &'static str, server: Server, keys: usize) -> Result<Self> {
        let load = Load::new(server.address, keys, CONNECTIONS);
        load.once().await?;
        load.run(WARM_UP).await?;
        Ok(Self {
            name,
            server,
            load,
            rounds: Vec::with_capacity(ROUNDS),
        })
    }

    async fn round(&mut self) -> Result<()> {
        let before = self.server.usage()?;
        let seen = self.load.run(ROUND).await?;
        let round = Round::new(&seen, before, self.server.usage()?);
        self.rounds.push(round);
        round.write(self.name)
    }

    fn median(&self) -> Result<()> {
        Round::median(&self.rounds).write(&format!("{}, median", self.name))
    }
}

impl Round {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 requests")]
    fn new(seen: &Seen, before: Usage, after: Usage) -> Self {
        Self {
            rate: seen.rate(),
            cpu: report::micros(after.cpu.saturating_sub(before.cpu)) / seen.times.len() as f64,
            p50: seen.p50(),
            p99: seen.p99(),
            rss: after.rss,
        }
    }

    /// Returns the median of each figure, and the memory at the end.
    fn median(rounds: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| report::median(rounds.iter().map(figure));
        Self {
            rate: of(|round| round.rate),
            cpu: of(|round| round.cpu),
            p50: of(|round| round.p50),
            p99: of(|round| round.p99),
            rss: rounds.last().map_or(0, |round| round.rss),
        }
    }

    fn write(&self, name: &str) -> Result<()> {
        let cells = [
            format!("{:.0}", self.rate),
            format!("{:.1}", self.cpu),
            format!("{:.0}", self.p50),
            format!("{:.0}", self.p99),
            report::mebibytes(self.rss),
        ];
        Ok(report::row(name, cells)?)
    }
}

/// Writes Refrain's rate as a part of the bare server's, for each pair of rounds and in the middle.
fn ratios(bare: &[Round], refrain: &[Round]) -> Result<()> {
    let pairs = || bare.iter().zip(refrain);
    let rates: Vec<f64> = pairs().map(|(bare, ours)| ours.rate / bare.rate).collect();
    let listed: Vec<String> = rates.iter().map(|ratio| format!("{ratio:.3}")).collect();
    let cpu = report::median(pairs().map(|(bare, ours)| ours.cpu - bare.cpu));
    report::text(&format!(
        "refrain/bare, req/s: {} median {:.3}; CPU added per hit: {cpu:.1} us",
        listed.join(" "),
        report::median(rates),
    ))?;
    Ok(())
}

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 15;
/// Short, so that the two rounds of a pair meet the same machine.
const ROUND: Duration = Duration::from_secs(1);
const WARM_UP: Duration = Duration::from_secs(2);
