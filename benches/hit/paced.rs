//! An open load: calls leave at fixed times, whether earlier ones have been answered or not.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{task::JoinSet, time::sleep_until};

use crate::{load::Connection, script};

/// Sends [`RATE`] different questions per second for [`ROUND`], the first of number `first`; returns the time of each,
/// sorted.
pub(crate) async fn run(server: SocketAddr, first: usize) -> Result<Vec<Duration>> {
    let mut connections = Vec::new();
    for lane in 0..LANES {
        let requests = (lane..calls()).step_by(LANES).map(|number| {
            let question = script::question(first + number, false);
            script::request(server, &question)
        });
        connections.push((Connection::open(server).await?, requests.collect()));
    }
    let start = Instant::now() + interval();
    let mut tasks = JoinSet::new();
    for (number, (connection, requests)) in (0..).zip(connections) {
        tasks.spawn(lane(connection, requests, start + interval() * number));
    }
    let mut times = Vec::with_capacity(calls());
    while let Some(done) = tasks.join_next().await {
        times.extend(done??);
    }
    times.sort_unstable();
    Ok(times)
}

/// Sends `requests` over one connection, the first at `due`, the others as many intervals apart as there are lanes.
async fn lane(
    mut connection: Connection,
    requests: Vec<Vec<u8>>,
    mut due: Instant,
) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(requests.len());
    for request in requests {
        sleep_until(due.into()).await;
        let now = Instant::now();
        // A late timer is not the server's fault; an earlier answer that came too late is.
        let start = if now > due + TIMER { due } else { now };
        connection.exchange(&request).await?;
        times.push(start.elapsed());
        due += interval() * u32::try_from(LANES)?;
    }
    Ok(times)
}

fn interval() -> Duration {
    Duration::from_secs(1) / RATE
}

fn calls() -> usize {
    RATE as usize * SECONDS
}

/// Calls per second.
pub(crate) const RATE: u32 = 300;
/// How long a round lasts.
pub(crate) const ROUND: Duration = Duration::from_secs(SECONDS as u64);
const SECONDS: usize = 2;
/// Connections, so that many calls may be under way.
const LANES: usize = 16;
/// How late tokio's timer may be.
const TIMER: Duration = Duration::from_millis(2);
