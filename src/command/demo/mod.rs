//! `refrain demo`: a mock upstream, Refrain before it, a handful of calls, and a table of what became of them.
//!
//! # Scope
//! Everything in the table is measured: the verdicts come from the answers' headers, the upstream calls from the mock's
//! counter. What the script claims about them is checked afterwards, and a claim that does not hold is a failure.

mod claim;
mod picture;
mod script;
mod taking;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures_util::future::try_join_all;
use reqwest::Client;

use self::{claim::broken, picture::draw, script::Scene, taking::Taking};
use super::{client::client, failure::Failure, mock};

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

/// Bound on the whole demo, which takes about half of it.
const DEADLINE: Duration = Duration::from_secs(10);
