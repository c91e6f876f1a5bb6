//! Misses at a fixed rate: direct, through a bare pass-through, through Refrain, and, where there is time for it, through
//! Refrain with a million entries on its disk.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::{Wanted, seed};
use crate::{
    paced::{CALLS, RATE},
    process::Server,
    report,
    upstream::{Script, Upstream},
    way::Way,
};

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
        "open loop, {RATE} calls/s, {} alternating rounds of {CALLS} calls, all started anew {STARTS} times; the upstream answers at once\n",
        STARTS * ROUNDS
    ))?;
    let mut asked = 0;
    for number in 0..STARTS {
        if number > 0 {
            start_anew(&mut ways, &upstream, [&home, &full_home])?;
        }
        for round in 0..WARMING + ROUNDS {
            // There and back: who is before whom changes with every round.
            let order: Vec<_> = if round % 2 == 0 {
                (0..ways.len()).collect()
            } else {
                (0..ways.len()).rev().collect()
            };
            for at in order {
                let way = ways.get_mut(at).context("a way is missing")?;
                asked += way.play(asked, round >= WARMING).await?;
            }
        }
    }
    ensure!(
        upstream.calls() == asked as u64,
        "not every call was a miss"
    );
    tell(&ways)
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
            format!("{:.0}", way.p99()),
            format!("{:.0}", way.more(direct, |round| round.p50)),
            format!("{:.0}", way.median(|round| round.cpu)),
            rss,
        ];
        report::row(way.name, cells)?;
    }
    report::text("")?;
    for way in refrain {
        let name = format!("{}: p50 added beyond the pass-through, us", way.name);
        Wanted::AtMost(60.0).write(&name, way.more(pass, |round| round.p50), 0)?;
    }
    Ok(())
}

/// Has every server but the upstream end, and another take its place.
fn start_anew(ways: &mut [Way], upstream: &Upstream, homes: [&TempDir; 2]) -> Result<()> {
    let [_, pass, refrains @ ..] = ways else {
        anyhow::bail!("a way is missing");
    };
    pass.anew(|| Server::pass(upstream.address))?;
    for (way, home) in refrains.iter_mut().zip(homes) {
        way.anew(|| refrain(upstream, home))?;
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
/// Rounds that count, of each start.
const ROUNDS: usize = 60;
/// Rounds that do not count, of each start.
const WARMING: usize = 5;
const STARTS: usize = 5;
