//! A server under the closed load of as many connections as there are, round by round.

use std::time::Duration;

use anyhow::Result;

use crate::{
    load::{Load, Seen},
    placing::Placing,
    process::{Server, Usage},
    report,
};

/// A server and the load on it.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) server: Server,
    load: Load,
    pub(crate) rounds: Vec<Round>,
}

/// One round's figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    /// Requests per second.
    pub(crate) rate: f64,
    /// Microseconds of the server's processor time per request.
    pub(crate) cpu: f64,
    /// Microseconds.
    pub(crate) p50: f64,
    /// Microseconds.
    pub(crate) p99: f64,
    /// Resident memory afterwards, bytes.
    pub(crate) rss: u64,
}

impl Side {
    /// Has the server answer each of `keys` questions once, and warms it up; its workers run as `placing` says.
    pub(crate) async fn new(
        name: &'static str,
        server: Server,
        keys: usize,
        placing: Placing,
    ) -> Result<Self> {
        server.place(placing)?;
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

    /// Asks every question once more.
    pub(crate) async fn once(&self) -> Result<()> {
        self.load.once().await
    }

    /// Measures one round.
    pub(crate) async fn round(&mut self) -> Result<Round> {
        let before = self.server.usage()?;
        let seen = self.load.run(ROUND).await?;
        let round = Round::new(&seen, &before, &self.server.usage()?);
        self.rounds.push(round);
        Ok(round)
    }

    /// Returns the median of each figure, and the memory at the end.
    pub(crate) fn median(&self) -> Round {
        let of = |figure: fn(&Round) -> f64| report::median(self.rounds.iter().map(figure));
        Round {
            rate: of(|round| round.rate),
            cpu: of(|round| round.cpu),
            p50: of(|round| round.p50),
            p99: of(|round| round.p99),
            rss: self.rounds.last().map_or(0, |round| round.rss),
        }
    }

    /// Returns the rate as a part of `other`'s, for each pair of rounds.
    pub(crate) fn ratios(&self, other: &Self) -> Vec<f64> {
        let pairs = self.rounds.iter().zip(&other.rounds);
        pairs
            .map(|(ours, theirs)| ours.rate / theirs.rate)
            .collect()
    }
}

impl Round {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 requests")]
    fn new(seen: &Seen, before: &Usage, after: &Usage) -> Self {
        Self {
            rate: seen.rate(),
            cpu: report::micros(after.cpu_since(before)) / seen.times.len() as f64,
            p50: seen.p50(),
            p99: seen.p99(),
            rss: after.rss,
        }
    }

    /// Writes the heads of what [`Round::write`] writes.
    pub(crate) fn heads() -> Result<()> {
        Ok(report::row(
            "",
            ["req/s", "CPU us", "p50 us", "p99 us", "RSS"],
        )?)
    }

    /// Writes the figures in a row.
    pub(crate) fn write(&self, name: &str) -> Result<()> {
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

/// Connections of the load.
pub(crate) const CONNECTIONS: usize = 32;
/// Rounds of each side.
pub(crate) const ROUNDS: usize = 15;
/// Short, so that the rounds of all sides meet the same machine.
pub(crate) const ROUND: Duration = Duration::from_secs(1);
/// Before the first round.
pub(crate) const WARM_UP: Duration = Duration::from_secs(2);
