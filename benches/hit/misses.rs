//! Misses beside direct calls to the same upstream, one after the other: what the way through Refrain adds.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::{
    load::Connection,
    process::Server,
    report, script,
    upstream::{Script, Upstream},
};

/// Measures alternating calls; each is a new one for the cache.
pub(crate) async fn play() -> Result<()> {
    report::heading("misses")?;
    let upstream = Upstream::start(Script::default()).await?;
    let refrain = Server::refrain_in_memory(upstream.address)?;
    let mut straight = Connection::open(upstream.address).await?;
    let mut through = Connection::open(refrain.address).await?;
    let mut direct = Vec::with_capacity(CALLS);
    let mut missed = Vec::with_capacity(CALLS);
    for number in 0..WARM_UP + CALLS {
        let body = script::question(number, false);
        let request = script::request(upstream.address, &body);
        let one = time(&mut straight, &request).await?;
        let other = time(&mut through, &request).await?;
        if number >= WARM_UP {
            direct.push(one);
            missed.push(other);
        }
    }
    let calls = u64::try_from(2 * (WARM_UP + CALLS))?;
    ensure!(upstream.calls() == calls, "not every call was a miss");
    report::text(&format!(
        "1 connection, {CALLS} calls each way, alternating, the upstream answers at once\n"
    ))?;
    report::row("", ["p50 us", "p99 us"])?;
    let direct = row("direct", direct)?;
    let missed = row("through refrain, miss", missed)?;
    report::text(&format!("added p50: {:.0} us", missed - direct))?;
    Ok(())
}

async fn time(connection: &mut Connection, request: &[u8]) -> Result<Duration> {
    let start = Instant::now();
    connection.exchange(request).await?;
    Ok(start.elapsed())
}

/// Writes the quantiles of `times`; returns the median in microseconds.
fn row(name: &str, mut times: Vec<Duration>) -> Result<f64> {
    times.sort_unstable();
    let quantile = |share| report::micros(report::quantile(&times, share));
    let (p50, p99) = (quantile(0.5), quantile(0.99));
    report::row(name, [format!("{p50:.0}"), format!("{p99:.0}")])?;
    Ok(p50)
}

const WARM_UP: usize = 500;
const CALLS: usize = 5_000;
