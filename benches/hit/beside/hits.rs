//! Hits of the bare server, nginx and Refrain, and direct calls, in alternating rounds.

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::{Wanted, nginx};
use crate::{
    load::Connection,
    placing::Placing,
    process::Server,
    report, script,
    side::{ROUNDS, Round, Side},
    upstream::{Script, Upstream},
};

/// All sides of one comparison.
struct Sides {
    direct: Side,
    bare: Side,
    nginx: Option<Side>,
    memory: Side,
    disk: Option<Side>,
}

/// Measures `keys` different questions.
pub(super) async fn compare(keys: usize) -> Result<()> {
    PLACING.place_own()?;
    let upstream = Upstream::start(Script::default()).await?;
    let (memory_home, disk_home) = (TempDir::new()?, TempDir::new()?);
    let mut sides = Sides {
        direct: Side::new("direct, no cache", Server::upstream()?, keys, PLACING).await?,
        bare: Side::new("bare", Server::bare()?, keys, PLACING).await?,
        nginx: with_nginx(&upstream, keys).await?,
        memory: from_memory(&upstream, &memory_home, keys).await?,
        disk: from_disk(&upstream, &disk_home, keys).await?,
    };
    report::text(&format!(
        "\nkeys: {keys}; medians of {ROUNDS} rounds; {}",
        PLACING.describe()
    ))?;
    if let Some(disk) = &sides.disk {
        told_of_tier(disk, keys).await?;
    }
    let missed = upstream.calls();
    for _ in 0..ROUNDS {
        for side in sides.all() {
            side.round().await?;
        }
    }
    ensure!(upstream.calls() == missed, "not every call was a hit");
    Round::heads()?;
    for side in sides.all() {
        side.median().write(side.name)?;
    }
    sides.ratios()
}

impl Sides {
    fn all(&mut self) -> impl Iterator<Item = &mut Side> {
        let Self {
            direct,
            bare,
            nginx,
            memory,
            disk,
        } = self;
        let always = [Some(direct), Some(bare)].into_iter();
        let rest = [nginx.as_mut(), Some(memory), disk.as_mut()];
        always.chain(rest).flatten()
    }

    /// Writes who is how fast beside whom: medians of the pairs of rounds.
    fn ratios(&self) -> Result<()> {
        let median = |side: &Side, other: &Side| report::median(side.ratios(other));
        let Self {
            bare,
            nginx,
            memory,
            disk,
            ..
        } = self;
        report::text("")?;
        let name = "Refrain from memory / bare, req/s";
        Wanted::AtLeast(0.8).write(name, median(memory, bare), 3)?;
        if let Some(nginx) = nginx {
            let name = "Refrain from memory / nginx, req/s";
            Wanted::AtLeast(1.05).write(name, median(memory, nginx), 3)?;
            Wanted::Nothing.write("nginx / bare, req/s", median(nginx, bare), 3)?;
        }
        if let Some(disk) = disk {
            Wanted::Nothing.write("Refrain from disk / bare, req/s", median(disk, bare), 3)?;
            let name = "Refrain from disk / from memory, req/s";
            Wanted::Nothing.write(name, median(disk, memory), 3)?;
        }
        Ok(())
    }
}

async fn with_nginx(upstream: &Upstream, keys: usize) -> Result<Option<Side>> {
    match nginx::start(upstream.address).await? {
        Some(server) => Ok(Some(
            Side::new("nginx, proxy_cache", server, keys, PLACING).await?,
        )),
        None => Ok(None),
    }
}

/// Starts Refrain as it is by default.
async fn from_memory(upstream: &Upstream, home: &TempDir, keys: usize) -> Result<Side> {
    let server = Server::refrain(upstream.address, &[("STATE_DIRECTORY", path(home)?)])?;
    Side::new("Refrain, from memory", server, keys, PLACING).await
}

/// Starts Refrain with hardly any memory. One key would stay there all the same: `None` where there are too few.
async fn from_disk(upstream: &Upstream, home: &TempDir, keys: usize) -> Result<Option<Side>> {
    if keys < MANY {
        return Ok(None);
    }
    let settings = [
        ("STATE_DIRECTORY", path(home)?),
        ("REFRAIN_STORE__MEMORY", "1MiB"),
        ("REFRAIN_CACHE__MAX_ENTRY", "64KiB"),
    ];
    let server = Server::refrain(upstream.address, &settings)?;
    let side = Side::new("Refrain, from disk", server, keys, PLACING).await?;
    // What comes faster than the disk writes is not kept; it comes again.
    for _ in 0..PASSES {
        let missed = upstream.calls();
        side.once().await?;
        if upstream.calls() == missed {
            return Ok(Some(side));
        }
    }
    anyhow::bail!("the disk does not keep {keys} entries")
}

/// Says which part of the hits comes from where it should.
async fn told_of_tier(side: &Side, keys: usize) -> Result<()> {
    let mut connection = Connection::open(side.server.address).await?;
    let mut from_disk = 0;
    for number in (0..keys).step_by(keys / SAMPLE) {
        let question = script::question(number, false);
        let request = script::request(side.server.address, &question);
        let answer = connection.exchange(&request).await?;
        from_disk += usize::from(memchr::memmem::find(answer, b"x-cache-tier: disk").is_some());
    }
    Ok(report::text(&format!(
        "of {SAMPLE} sampled hits of `{}`, {from_disk} came from there",
        side.name
    ))?)
}

fn path(home: &TempDir) -> Result<&str> {
    home.path().to_str().context("a path that is no text")
}

/// For all sides alike.
const PLACING: Placing = Placing::Spread;
/// Keys that do not all fit into 1 MiB.
const MANY: usize = 5_000;
const PASSES: usize = 20;
const SAMPLE: usize = 200;
