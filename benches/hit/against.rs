//! Two builds of Refrain in alternating rounds: what a change costs hits and misses.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::{
    paced::{CALLS, RATE},
    placing::Placing,
    process::{REFRAIN, Server},
    report,
    side::{CONNECTIONS, ROUND, ROUNDS, Round, Side},
    upstream::{Script, Upstream},
    way::Way,
};

/// Measures the build at `before` beside the one at hand.
pub(crate) async fn play(before: &Path) -> Result<()> {
    report::heading("two builds")?;
    ensure!(before.is_file(), "no binary at {}", before.display());
    for keys in [1, 10_000] {
        hits(before, keys).await?;
    }
    misses(before).await
}

async fn hits(before: &Path, keys: usize) -> Result<()> {
    let placing = Placing::Spread;
    placing.place_own()?;
    let upstream = Upstream::start(Script::default()).await?;
    let mut sides = Vec::new();
    for (name, build) in [("before", before), ("now", Path::new(REFRAIN))] {
        let server = Server::refrain_of(build, upstream.address, &IN_MEMORY)?;
        sides.push(Side::new(name, server, keys, placing).await?);
    }
    report::text(&format!(
        "hits, keys: {keys}; {CONNECTIONS} connections, medians of {ROUNDS} alternating rounds of {ROUND:?}; {}\n",
        placing.describe()
    ))?;
    for _ in 0..ROUNDS {
        // Who is second finds the machine as the first has left it; the names tell who is who.
        sides.reverse();
        for side in &mut sides {
            side.round().await?;
        }
    }
    sides.sort_by_key(|side| side.name);
    Round::heads()?;
    for side in &sides {
        side.median().write(side.name)?;
    }
    if let [before, now] = &*sides {
        let ratio = report::median(now.ratios(before));
        report::text(&format!("now/before, req/s: {ratio:.3}\n"))?;
    }
    Ok(())
}

async fn misses(before: &Path) -> Result<()> {
    let upstream = Upstream::start(Script::default()).await?;
    let start = |build| Server::refrain_of(build, upstream.address, &IN_MEMORY);
    let mut old = Way::through("before", start(before)?);
    let mut new = Way::through("now", start(Path::new(REFRAIN))?);
    report::text(&format!(
        "misses, {RATE} calls/s, medians of {} alternating rounds of {CALLS} calls, without a disk; both started anew {STARTS} times\n",
        STARTS * MISS_ROUNDS
    ))?;
    let mut asked = 0;
    for number in 0..STARTS {
        if number > 0 {
            old.anew(|| start(before))?;
            new.anew(|| start(Path::new(REFRAIN)))?;
        }
        for round in 0..WARMING + MISS_ROUNDS {
            let mut ways = [&mut old, &mut new];
            // Who is second finds the machine as the first has left it.
            if (number + round) % 2 == 1 {
                ways.reverse();
            }
            for way in ways {
                asked += way.play(asked, round >= WARMING).await?;
            }
        }
    }
    report::row("", ["p50 us", "p99 us", "CPU us"])?;
    for way in [&old, &new] {
        let cells = [
            format!("{:.0}", way.median(|round| round.p50)),
            format!("{:.0}", way.p99()),
            format!("{:.1}", way.median(|round| round.cpu)),
        ];
        report::row(way.name, cells)?;
    }
    let cpu = new.more(&old, |round| round.cpu);
    let p50 = new.more(&old, |round| round.p50);
    report::text(&format!(
        "added per miss, median of the pairs: CPU {cpu:.1} us, p50 {p50:.0} us"
    ))?;
    Ok(())
}

/// The disk's writer would be measured as well.
const IN_MEMORY: [(&str, &str); 1] = [("REFRAIN_STORE__PATH", "off")];
/// Rounds that count, of each start.
const MISS_ROUNDS: usize = 60;
/// Rounds that do not count, of each start.
const WARMING: usize = 5;
const STARTS: usize = 8;
