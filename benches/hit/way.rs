//! A way to an upstream under the open load, round by round.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;

use crate::{paced::Lanes, process::Server, report};

/// A way to the upstream.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) name: &'static str,
    address: SocketAddr,
    lanes: Option<Lanes>,
    /// None on the direct way.
    pub(crate) server: Option<Server>,
    rounds: Vec<Round>,
    /// Of all calls that count.
    times: Vec<Duration>,
}

/// One round's figures, microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) p50: f64,
    /// The server's processor time per call.
    pub(crate) cpu: f64,
}

impl Way {
    /// Returns the way without a server between.
    pub(crate) fn direct(address: SocketAddr) -> Self {
        Self {
            name: "direct",
            address,
            lanes: None,
            server: None,
            rounds: Vec::new(),
            times: Vec::new(),
        }
    }

    /// Returns the way through `server`.
    pub(crate) fn through(name: &'static str, server: Server) -> Self {
        Self {
            address: server.address,
            server: Some(server),
            ..Self {
                name,
                ..Self::direct(SocketAddr::from(([127, 0, 0, 1], 0)))
            }
        }
    }

    /// Has another process serve from now on: what a process came by at its start, such as where its memory lies, makes
    /// all of its rounds alike.
    pub(crate) fn anew(&mut self, start: impl FnOnce() -> Result<Server>) -> Result<()> {
        // Two cannot have the same files.
        self.server = None;
        self.lanes = None;
        let server = start()?;
        self.address = server.address;
        self.server = Some(server);
        Ok(())
    }

    /// Sends the questions from number `first` on for a round, which `counts` or not; returns how many they were.
    pub(crate) async fn play(&mut self, first: usize, counts: bool) -> Result<usize> {
        let (round, times) = self.round(first).await?;
        let asked = times.len();
        if counts {
            self.rounds.push(round);
            self.times.extend(times);
        }
        Ok(asked)
    }

    /// Sends the questions from number `first` on; returns what was seen, and the time of each, sorted.
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 calls")]
    async fn round(&mut self, first: usize) -> Result<(Round, Vec<Duration>)> {
        let mut lanes = match self.lanes.take() {
            Some(lanes) => lanes,
            None => Lanes::open(self.address).await?,
        };
        let usage = || self.server.as_ref().map(Server::usage).transpose();
        let before = usage()?;
        let times = lanes.run(first).await?;
        let cpu = match (before, usage()?) {
            (Some(before), Some(after)) => after.cpu_since(&before),
            _ => Duration::ZERO,
        };
        self.lanes = Some(lanes);
        let round = Round {
            p50: report::micros(report::quantile(&times, 0.5)),
            cpu: report::micros(cpu) / times.len() as f64,
        };
        Ok((round, times))
    }

    /// Returns the time that 99 % of the calls did not exceed, microseconds.
    pub(crate) fn p99(&self) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        report::micros(report::quantile(&times, 0.99))
    }

    /// Returns the median of a figure.
    pub(crate) fn median(&self, figure: fn(&Round) -> f64) -> f64 {
        report::median(self.rounds.iter().map(figure))
    }

    /// Returns the median of what a figure of this way is more than that of `other`, round by round.
    pub(crate) fn more(&self, other: &Self, figure: fn(&Round) -> f64) -> f64 {
        let pairs = self.rounds.iter().zip(&other.rounds);
        report::median(pairs.map(|(ours, theirs)| figure(ours) - figure(theirs)))
    }
}
