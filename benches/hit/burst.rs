//! Identical calls at once: how many reach the upstream, whether all get the same, and how long they wait.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::{sync::Barrier, task::JoinSet};

use crate::{
    client::Client,
    process::Server,
    report, script,
    upstream::{Script, Upstream},
};

/// One call's answer.
#[derive(Debug)]
struct Answered {
    body: Bytes,
    /// From the moment that all calls were sent to the end of this one's answer.
    wait: Duration,
}

/// Measures a burst of streams, then one of plain calls.
pub(crate) async fn play() -> Result<()> {
    report::heading("identical calls at once")?;
    report::row("", ["upstream", "different", "bytes", "p50 ms", "max ms"])?;
    let streams = Script {
        events: 50,
        pause: Duration::from_millis(20),
        ..Script::default()
    };
    row("1 stream, for comparison", 1, true, streams.clone()).await?;
    row(
        "1,000 streams of 51 pieces, 20 ms apart",
        1_000,
        true,
        streams,
    )
    .await?;
    let plain = Script {
        delay: Duration::from_millis(200),
        ..Script::default()
    };
    row("1 plain call, for comparison", 1, false, plain.clone()).await?;
    row("100 plain calls, upstream of 200 ms", 100, false, plain).await
}

/// Measures one burst through a Refrain of its own.
async fn row(name: &str, count: usize, stream: bool, script: Script) -> Result<()> {
    let upstream = Upstream::start(script).await?;
    let refrain = Server::refrain_in_memory(upstream.address)?;
    let answers = burst(&refrain, count, stream).await?;
    let different: HashSet<_> = answers.iter().map(|answer| &answer.body).collect();
    let mut waits: Vec<_> = answers.iter().map(|answer| answer.wait).collect();
    waits.sort_unstable();
    let millis = |share| {
        let wait = report::quantile(&waits, share);
        format!("{:.1}", wait.as_secs_f64() * 1e3)
    };
    let cells = [
        upstream.calls().to_string(),
        different.len().to_string(),
        different
            .iter()
            .map(|body| body.len())
            .max()
            .unwrap_or(0)
            .to_string(),
        millis(0.5),
        millis(1.0),
    ];
    Ok(report::row(name, cells)?)
}

/// Sends the same call on many connections at the same moment; returns the answers.
async fn burst(server: &Server, calls: usize, stream: bool) -> Result<Vec<Answered>> {
    let together = Arc::new(Barrier::new(calls));
    let mut tasks = JoinSet::new();
    for _ in 0..calls {
        let client = Client::open(server.address).await?;
        tasks.spawn(call(client, stream, together.clone()));
    }
    let mut answers = Vec::with_capacity(calls);
    while let Some(answered) = tasks.join_next().await {
        answers.push(answered??);
    }
    Ok(answers)
}

async fn call(mut client: Client, stream: bool, together: Arc<Barrier>) -> Result<Answered> {
    let question = script::question(0, stream);
    together.wait().await;
    let start = Instant::now();
    let answer = client.chat(&question).await?;
    let body = answer.into_body().collect().await?.to_bytes();
    Ok(Answered {
        body,
        wait: start.elapsed(),
    })
}
