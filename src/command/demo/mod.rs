//! `refrain demo`: a mock upstream, Refrain before it, a handful of calls, and a table of what became of them.
//!
//! # Scope
//! Everything in the table is measured: the verdicts come from the answers' headers, the upstream calls from the mock's
//! counter. What the script claims about them is checked afterwards, and a claim that does not hold is a failure.

mod claim;
mod picture;
mod script;
mod stage;
mod taking;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures_util::future::try_join_all;
use reqwest::Client;

use self::{claim::broken, picture::draw, script::Scene, stage::Stage, taking::Taking};
use super::{client::client, failure::Failure, mock, print};

/// Show what Refrain does, in some seconds: a mock upstream, a proxy, some calls, a table
#[derive(clap::Args, Clone, Copy, Debug)]
#[command(after_help = "\
Everything runs in this process on free ports; nothing leaves the machine, nothing is kept.
Exits with 1 if an answer did not come as the table's calls are meant to show.")]
pub struct Demo {}

/// What became of the script's calls.
#[derive(Debug)]
pub struct Show {
    acts: Vec<Act>,
}

/// A scene that was played.
#[derive(Debug)]
struct Act {
    scene: Scene,
    /// One for each call.
    takings: Vec<Taking>,
    /// Calls that had reached the upstream when the scene ended.
    upstream: u64,
}

impl Demo {
    /// Plays the script and prints the table.
    ///
    /// # Errors
    /// When a server cannot start, a call fails, or what the table shows is not what it is meant to show.
    pub async fn run(self) -> Result<(), Failure> {
        let stage = Stage::set(MOCK).await?;
        print(&stage.announcement())?;
        let show = Show::play(&stage.base_url(), stage.mock()).await;
        stage.strike().await;
        let show = show?;
        print(&show.picture())?;
        show.check()
    }
}

impl Show {
    /// Plays the script through the proxy at `base_url`, whose upstream is `mock`.
    ///
    /// # Errors
    /// When a call fails, or the script is not through in 10 s.
    pub async fn play(base_url: &str, mock: &mock::Running) -> Result<Self, Failure> {
        let late = |_| {
            Failure::new(format!(
                "the demo took longer than {} s",
                DEADLINE.as_secs()
            ))
        };
        let acts = play(base_url, mock);
        let acts = tokio::time::timeout(DEADLINE, acts).await.map_err(late)??;
        Ok(Self { acts })
    }

    /// Returns the table and what it shows.
    pub fn picture(&self) -> String {
        draw(&self.acts)
    }

    /// Returns whether everything the script claims was so.
    ///
    /// # Errors
    /// When it was not; the message names every claim that does not hold.
    pub fn check(&self) -> Result<(), Failure> {
        let broken = broken(&self.acts);
        if broken.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "the demo does not hold: {}",
            broken.join("; ")
        )))
    }
}

async fn play(base_url: &str, mock: &mock::Running) -> Result<Vec<Act>, Failure> {
    let client = client(DEADLINE)?;
    let mut acts = Vec::new();
    for scene in script::SCENES {
        let takings = perform(&client, base_url, &scene).await?;
        let upstream = mock.calls();
        acts.push(Act {
            scene,
            takings,
            upstream,
        });
    }
    Ok(acts)
}

/// Makes the calls of a scene, all at once.
async fn perform(client: &Client, base_url: &str, scene: &Scene) -> Result<Vec<Taking>, Failure> {
    let calls = (0..scene.callers).map(|_| Taking::of(client, base_url, &scene.ask));
    try_join_all(calls).await
}

/// A short answer of a quick model: 300 ms to the first token, 700 ms in all.
const MOCK: mock::Options = mock::Options {
    latency: Duration::from_millis(300),
    pace: 60,
    tokens: 24,
    keys: Vec::new(),
};

/// Bound on the whole demo, which takes about half of it.
const DEADLINE: Duration = Duration::from_secs(10);
