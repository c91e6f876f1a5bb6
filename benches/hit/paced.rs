//! An open load: calls leave at fixed times, whether earlier ones have been answered or not.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{task::JoinSet, time::sleep_until};

use crate::{load::Connection, script};

/// The connections of an open load.
#[derive(Debug)]
pub(crate) struct Lanes {
    server: SocketAddr,
    connections: Vec<Connection>,
}

impl Lanes {
    /// Connects.
    pub(crate) async fn open(server: SocketAddr) -> Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..LANES {
            connections.push(Connection::open(server).await?);
        }
        Ok(Self {
            server,
            connections,
        })
    }

    /// Sends [`CALLS`] different questions, [`RATE`] per second, the first of number `first`; returns the time of each,
    /// sorted.
    pub(crate) async fn run(&mut self, first: usize) -> Result<Vec<Duration>> {
        let server = self.server;
        let request = |number| script::request(server, &script::question(first + number, false));
        let mut lanes = Vec::with_capacity(LANES);
        for (lane, connection) in self.connections.drain(..).enumerate() {
            let requests = (lane..CALLS).step_by(LANES).map(request);
            lanes.push((connection, requests.collect()));
        }
        let start = Instant::now() + interval();
        let mut tasks = JoinSet::new();
        for (number, (connection, requests)) in (0..).zip(lanes) {
            tasks.spawn(lane(connection, requests, start + interval() * number));
        }
        let mut times = Vec::with_capacity(CALLS);
        while let Some(done) = tasks.join_next().await {
            let (connection, took) = done??;
            self.connections.push(connection);
            times.extend(took);
        }
        times.sort_unstable();
        Ok(times)
    }
}

/// Sends `requests` over one connection, the first at `due`, the others as many intervals apart as there are lanes.
async fn lane(
    mut connection: Connection,
    requests: Vec<Vec<u8>>,
    mut due: Instant,
) -> Result<(Connection, Vec<Duration>)> {
    let mut times = Vec::with_capacity(requests.len());
    for request in requests {
        // An answer that came too late for the next call is the server's fault, a late timer is not.
        let is_late = Instant::now() > due;
        sleep_until(due.into()).await;
        let start = if is_late { due } else { Instant::now() };
        connection.exchange(&request).await?;
        times.push(start.elapsed());
        due += interval() * u32::try_from(LANES)?;
    }
    Ok((connection, times))
}

fn interval() -> Duration {
    Duration::from_secs(1) / RATE
}

/// Calls per second.
pub(crate) const RATE: u32 = 300;
/// Calls of a round: so few that the rounds of two servers meet the same machine, whose pace changes within seconds.
pub(crate) const CALLS: usize = 60;
/// Connections, so that many calls may be under way.
const LANES: usize = 16;
