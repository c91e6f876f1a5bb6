//! Bounds: what a process holds after many large entries, during a large download, and beside a reader that stalls.

use std::time::Duration;

use anyhow::{Context as _, Result};
use http_body_util::BodyExt as _;

use crate::{
    client::Client,
    load::{Load, Seen},
    process::Server,
    report, script,
    upstream::{PIECE, Script, Upstream},
};

/// Measures each bound on a Refrain of its own.
pub(crate) async fn play() -> Result<()> {
    report::heading("memory")?;
    report::row("RSS", ["before", "after", "peak"])?;
    large_entries().await?;
    download().await?;
    stalled_reader().await
}

/// Stores four times what the store may hold.
async fn large_entries() -> Result<()> {
    let upstream = Upstream::start(Script {
        answer: 100_000,
        ..Script::default()
    })
    .await?;
    let refrain = Server::refrain_in_memory(upstream.address)?;
    let before = refrain.usage()?.rss;
    Load::new(refrain.address, ENTRIES, 8).once().await?;
    row("10,001 entries of 100 KB", &refrain, before)
}

/// Fetches what is never keyed.
async fn download() -> Result<()> {
    let upstream = Upstream::start(Script {
        pieces: (500 << 20) / PIECE,
        ..Script::default()
    })
    .await?;
    let refrain = Server::refrain_in_memory(upstream.address)?;
    let before = refrain.usage()?.rss;
    let mut client = Client::open(refrain.address).await?;
    let answer = client.get("/v1/files/file-1/content").await?;
    let mut body = answer.into_body();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame?.data_ref().map_or(0, bytes::Bytes::len);
    }
    anyhow::ensure!(read == 500 << 20, "only {read} bytes arrived");
    row("a download of 500 MiB", &refrain, before)
}

/// Lets one client stop reading a long stream, while others go on.
async fn stalled_reader() -> Result<()> {
    let upstream = Upstream::start(Script {
        event: 16 << 10,
        events: (200 << 20) / (16 << 10),
        ..Script::default()
    })
    .await?;
    let refrain = Server::refrain_in_memory(upstream.address)?;
    let others = Load::new(refrain.address, 1, OTHERS);
    others.once().await?;
    others.run(WARM_UP).await?;
    let alone = others.run(BESIDE).await?;
    let before = refrain.usage()?.rss;
    let mut client = Client::open(refrain.address).await?;
    let stalled = client.chat(&script::question(1, true)).await?;
    let beside = others.run(BESIDE).await?;
    row("a stalled reader of a stream of 200 MiB", &refrain, before)?;
    report::text(&format!(
        "\n{OTHERS} connections with hits for {BESIDE:?}\n"
    ))?;
    report::row("", ["req/s", "p50 us", "p99 us"])?;
    traffic("alone", &alone)?;
    traffic("beside the stalled reader", &beside)?;
    report::text(&format!(
        "\nthe reader then found: {}",
        rest(stalled).await?
    ))?;
    Ok(())
}

/// Reads what is left of a stream, and tells how it ended.
async fn rest(answer: http::Response<hyper::body::Incoming>) -> Result<String> {
    let mut body = answer.into_body();
    let mut read = 0_u64;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => read += u64::try_from(frame.data_ref().map_or(0, bytes::Bytes::len))?,
            Err(error) => {
                return Ok(format!(
                    "{}, then an abort ({error})",
                    report::mebibytes(read)
                ));
            }
        }
    }
    Ok(format!("{}, then the end", report::mebibytes(read)))
}

fn row(name: &str, server: &Server, before: u64) -> Result<()> {
    let usage = server.usage()?;
    let cells = [before, usage.rss, usage.peak].map(report::mebibytes);
    report::row(name, cells).context("no way to print")
}

fn traffic(name: &str, seen: &Seen) -> Result<()> {
    let cells = [seen.rate(), seen.p50(), seen.p99()].map(|figure| format!("{figure:.0}"));
    Ok(report::row(name, cells)?)
}

const ENTRIES: usize = 10_001;
const OTHERS: usize = 4;
const WARM_UP: Duration = Duration::from_secs(1);
/// Longer than `[cache] stall` lets a reader hold a recording up.
const BESIDE: Duration = Duration::from_secs(15);
