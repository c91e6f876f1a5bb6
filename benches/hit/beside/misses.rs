//! Misses at a fixed rate: direct, through a bare pass-through, through Refrain, and, where there is time for it, through
//! Refrain with a million entries on its disk.

use std::{net::SocketAddr, time::Instant};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::{Wanted, seed};
use crate::{
    paced::{self, RATE, ROUND},
    process::Server,
    report,
    upstream::{Script, Upstream},
};

/// A way to the upstream.
struct Way {
    name: &'static str,
    address: SocketAddr,
    /// None on the direct way.
    server: Option<Server>,
    rounds: Vec<Round>,
}

/// One round's figures, microseconds.
#[derive(Clone, Copy, Debug)]
struct Round {
    p50: f64,
    p99: f64,
    /// The server's processor time per call.
    cpu: f64,
}

/// Measures alternating rounds; each call is a new one for the cache. `full`: also with a million entries on the disk.
pub(crate) async fn compare(full: bool) -> Result<()> {
    let upstream = Upstream::start(Script::default()).await?;
    let (home, full_home) = (TempDir::new()?, TempDir::new()?);
    let direct = Way::direct(upstream.address);
    let pass = Way::through("pass-through", Server::pass(upstream.address)?);
    let mut ways = vec![
        direct,
        pass,
        Way::through("Refrain", refrain(&upstream, &home)?),
    ];
    if full {
        let server = with_many(&upstream, &full_home).await?;
        ways.push(Way::through("Refrain, a million entries", server));
    }
    report::text(&format!(
        "open loop, {RATE} calls/s, {ROUNDS} alternating rounds of {ROUND:?}; the upstream answers at once\n"
    ))?;
    let mut asked = 0;
    for round in 0..=ROUNDS {
        for way in &mut ways {
            let seen = way.round(asked).await?;
            asked += seen.1;
            // The first is for warming up.
            way.rounds.extend((round > 0).then_some(seen.0));
        }
    }
    ensure!(
        upstream.calls() == asked as u64,
        "not every call was a miss"
    );
    tell(&ways)
}

impl Way {
    fn direct(address: SocketAddr) -> Self {
        Self {
            name: "direct",
            address,
            server: None,
            rounds: Vec::new(),
        }
    }

    fn through(name: &'static str, server: Server) -> Self {
        Self {
            address: server.address,
            server: Some(server),
            ..Self {
                name,
                ..Self::direct(SocketAddr::from(([127, 0, 0, 1], 0)))
            }
        }
    }

    /// Sends the questions from number `first` on; returns what was seen, and how many they were.
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 calls")]
    async fn round(&self, first: usize) -> Result<(Round, usize)> {
        let usage = || self.server.as_ref().map(Server::usage).transpose();
        let before = usage()?;
        let times = paced::run(self.address, first).await?;
        let cpu = match (before, usage()?) {
            (Some(before), Some(after)) => after.cpu.saturating_sub(before.cpu),
            _ => std::time::Duration::ZERO,
        };
        let quantile = |share| report::micros(report::quantile(&times, share));
        let round = Round {
            p50: quantile(0.5),
            p99: quantile(0.99),
            cpu: report::micros(cpu) / times.len() as f64,
        };
        Ok((round, times.len()))
    }

    fn median(&self, figure: fn(&Round) -> f64) -> f64 {
        report::median(self.rounds.iter().map(figure))
    }

    /// Returns the median of what this way adds to the p50 of `other`, round by round.
    fn added(&self, other: &Self) -> f64 {
        let pairs = self.rounds.iter().zip(&other.rounds);
        report::median(pairs.map(|(ours, theirs)| ours.p50 - theirs.p50))
    }

    /// Returns the processor time per call over all rounds: one round is too short for the kernel's ticks.
    #[expect(clippy::cast_precision_loss, reason = "a handful of rounds")]
    fn cpu(&self) -> f64 {
        let sum: f64 = self.rounds.iter().map(|round| round.cpu).sum();
        sum / self.rounds.len() as f64
    }
}

fn tell(ways: &[Way]) -> Result<()> {
    let [direct, pass, refrain @ ..] = ways else {
        anyhow::bail!("a way is missing");
    };
    report::row("", ["p50 us", "p99 us", "added us", "CPU us", "RSS"])?;
    for way in ways {
        let rss = match &way.server {
            Some(server) => report::mebibytes(server.usage()?.rss),
            None => String::new(),
        };
        let cells = [
            format!("{:.0}", way.median(|round| round.p50)),
            format!("{:.0}", way.median(|round| round.p99)),
            format!("{:.0}", way.added(direct)),
            format!("{:.0}", way.cpu()),
            rss,
        ];
        report::row(way.name, cells)?;
    }
    report::text("")?;
    for way in refrain {
        let name = format!("{}: p50 added beyond the pass-through, us", way.name);
        Wanted::AtMost(60.0).write(&name, way.added(pass), 0)?;
    }
    Ok(())
}

/// Starts Refrain as it is by default.
fn refrain(upstream: &Upstream, home: &TempDir) -> Result<Server> {
    let home = home.path().to_str().context("a path that is no text")?;
    Server::refrain(upstream.address, &[("STATE_DIRECTORY", home)])
}

/// Starts Refrain with a full disk store.
async fn with_many(upstream: &Upstream, home: &TempDir) -> Result<Server> {
    let start = Instant::now();
    seed::fill(home.path(), ENTRIES).await?;
    let filled = start.elapsed();
    let start = Instant::now();
    let server = refrain(upstream, home)?;
    report::text(&format!(
        "{ENTRIES} entries written in {:.0} s; the start with them took {:.2} s",
        filled.as_secs_f64(),
        start.elapsed().as_secs_f64()
    ))?;
    Ok(server)
}

const ENTRIES: u64 = 1_000_000;
const ROUNDS: usize = 15;
