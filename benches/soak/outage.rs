//! 200 calls a second, half of them streams, while the upstream is killed, comes back failing, and gets well.
//!
//! Half of the calls ask what was answered before and has expired since (warm), the others what nobody ever asked (cold).

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    checks::Checks,
    client::{Call, Client, End, Outcome, Patience},
    fault::Mood,
    lines::Lines,
    proxy::Proxy,
    report,
    upstream::Upstream,
};

/// A part of the scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The upstream answers.
    Well,
    /// Nobody listens.
    Dead,
    /// Every call is a 500, and is counted.
    Failing,
    /// The upstream answers again.
    Back,
}

/// One call of the scene, once it is over.
#[derive(Clone, Debug)]
struct Done {
    second: usize,
    warm: bool,
    outcome: Outcome,
    took: Duration,
}

/// What happened in one second.
#[derive(Clone, Debug)]
struct Second {
    phase: Phase,
    /// Calls that the upstream had read when it was over.
    upstream: u64,
    /// Whether the circuit refused calls when it was over.
    open: bool,
}

/// Plays the scene.
pub(crate) async fn play() -> Result<Checks> {
    let mut upstream = Upstream::start()?;
    let mut proxy = Proxy::start(&config(&upstream))?;
    warm(&proxy).await?;
    let mut calls = JoinSet::new();
    let mut seconds = Vec::new();
    for phase in [Phase::Well, Phase::Dead, Phase::Failing, Phase::Back] {
        phase.begin(&mut upstream).await?;
        for _ in 0..phase.seconds() {
            one_second(seconds.len(), &proxy, &mut calls).await;
            seconds.push(Second {
                phase,
                upstream: upstream.calls(),
                open: proxy.metrics().await?.sum(OPEN, &[]) > 0,
            });
        }
    }
    let done = calls.join_all().await;
    table(&seconds, &done)?;
    let mut checks = Checks::default();
    judge_calls(&seconds, &done, &mut checks)?;
    judge_circuit(&seconds, &mut checks)?;
    let code = proxy.end().await?;
    checks.check(
        "the proxy ends by itself",
        code == Some(0),
        &format!("exit code {code:?}"),
    )?;
    let panics = Lines::read(&proxy.log())?.panics;
    let none = panics.first().map_or("none", String::as_str);
    checks.check("nothing panicked", panics.is_empty(), none)?;
    Ok(checks)
}

fn config(upstream: &Upstream) -> String {
    let address = upstream.address;
    format!(
        r#"
[[upstream]]
name = "only"
base_url = "http://{address}/v1"
timeouts = {{ connect = "1s", first_byte = "2s", idle = "2s" }}
[cache]
ttl = "1s"
[breaker]
window = "5s"
min_calls = 20
ratio = 0.5
open = "1s"
max_open = "4s"
"#
    )
}

/// Has every warm question answered once, and waits until those answers have expired.
async fn warm(proxy: &Proxy) -> Result<()> {
    let mut client = Client::new(proxy.address);
    for question in 0..WARM {
        let outcome = client.call(call(question, question, false)).await;
        anyhow::ensure!(outcome.end == End::Whole, "not warmed: {outcome:?}");
    }
    sleep(Duration::from_secs(1)).await;
    Ok(())
}

/// Sends the calls of one second, evenly, whether earlier ones have been answered or not.
async fn one_second(second: usize, proxy: &Proxy, calls: &mut JoinSet<Done>) {
    let mut clock = interval(Duration::from_secs(1) / RATE);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0..u64::from(RATE) {
        clock.tick().await;
        let id = WARM + u64::from(RATE) * second as u64 + number;
        let (warm, streams) = (number % 2 == 0, number % 4 < 2);
        let question = if warm { id % WARM } else { id };
        let mut client = Client::new(proxy.address);
        calls.spawn(async move {
            let start = Instant::now();
            let outcome = client.call(call(id, question, streams)).await;
            Done {
                second,
                warm,
                outcome,
                took: start.elapsed(),
            }
        });
    }
}

fn call(id: u64, question: u64, streams: bool) -> Call {
    Call {
        id,
        question,
        caller: 0,
        streams,
        patience: Patience::Whole,
    }
}

impl Phase {
    async fn begin(self, upstream: &mut Upstream) -> Result<()> {
        match self {
            Self::Well => {}
            Self::Dead => upstream.kill().await,
            Self::Failing => {
                upstream.fares(Mood::Failing);
                upstream.revive()?;
            }
            Self::Back => upstream.fares(Mood::Well),
        }
        Ok(())
    }

    fn seconds(self) -> usize {
        match self {
            Self::Well => 5,
            Self::Dead | Self::Failing | Self::Back => 15,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Dead => "dead",
            Self::Failing => "failing",
            Self::Back => "back",
        }
    }

    /// Whether the upstream answers nobody.
    fn is_out(self) -> bool {
        matches!(self, Self::Dead | Self::Failing)
    }
}

/// Prints what happened, a row for each second.
fn table(seconds: &[Second], done: &[Done]) -> Result<()> {
    report::row(HEADER.each_ref().map(|word| word as &dyn std::fmt::Display))?;
    let mut before = 0;
    for (number, second) in seconds.iter().enumerate() {
        let of = |warm: bool| {
            tally(
                done.iter()
                    .filter(|one| one.second == number && one.warm == warm),
            )
        };
        let longest = done
            .iter()
            .filter(|one| one.second == number)
            .map(|one| one.took.as_millis())
            .max();
        let asked = second.upstream - before;
        before = second.upstream;
        report::text(&format!(
            "{number:>9} {:>9} {:>9} {asked:>9} {:>9}   {:<44} {}",
            second.phase.name(),
            if second.open { "open" } else { "closed" },
            longest.unwrap_or(0),
            of(true),
            of(false),
        ))?;
    }
    Ok(())
}

fn tally<'a>(done: impl Iterator<Item = &'a Done>) -> String {
    let mut verdicts: BTreeMap<String, u64> = BTreeMap::new();
    for one in done {
        let word = match one.outcome.end {
            End::Whole => one.outcome.verdict.clone(),
            End::Told(200) => "apology".to_owned(),
            End::Told(status) => status.to_string(),
            other => format!("{other:?}").to_lowercase(),
        };
        *verdicts.entry(word).or_default() += 1;
    }
    verdicts
        .iter()
        .fold(String::new(), |mut text, (word, count)| {
            let _ = write!(text, "{word} {count}  ");
            text
        })
}

fn judge_calls(seconds: &[Second], done: &[Done], checks: &mut Checks) -> Result<()> {
    // What was under way when the upstream was killed may break off; what came later may not.
    let out = |one: &&Done| {
        let phase = |second: usize| seconds.get(second).map(|second| second.phase);
        let now = phase(one.second);
        now.is_some_and(Phase::is_out)
    };
    let lost = |one: &&Done| matches!(one.outcome.end, End::Unsent | End::Wrong | End::Odd);
    let count = done.iter().filter(lost).count();
    checks.check(
        "no call is lost",
        count == 0,
        &format!("{count} of {}", done.len()),
    )?;
    let stale = |one: &Done| one.outcome.end == End::Whole;
    let warm: Vec<&Done> = done.iter().filter(|one| one.warm).filter(out).collect();
    let kept = warm.iter().copied().filter(|one| stale(one)).count();
    let found = format!("{kept} of {}", warm.len());
    checks.check(
        "warm calls are answered during the outage",
        kept == warm.len(),
        &found,
    )?;
    let cold: Vec<&Done> = done.iter().filter(|one| !one.warm).filter(out).collect();
    let told = cold
        .iter()
        .filter(|one| one.outcome.end == End::Told(200))
        .count();
    let found = format!("{told} of {}", cold.len());
    checks.check("cold calls get the apology", told == cold.len(), &found)?;
    let longest = done.iter().map(|one| one.took).max().unwrap_or_default();
    let found = format!("the longest took {longest:?}");
    checks.check("no call hangs", longest < LONGEST, &found)
}

fn judge_circuit(seconds: &[Second], checks: &mut Checks) -> Result<()> {
    let first = |phase| {
        seconds
            .iter()
            .position(|second| second.phase == phase)
            .unwrap_or(0)
    };
    let (dead, failing, back) = (
        first(Phase::Dead),
        first(Phase::Failing),
        first(Phase::Back),
    );
    let opened = seconds.iter().skip(dead).position(|second| second.open);
    let found = format!("after {opened:?} s");
    checks.check(
        "the circuit opens within its window",
        opened.is_some_and(|s| s <= 5),
        &found,
    )?;
    let probes: Vec<u64> = seconds
        .windows(2)
        .skip(failing)
        .take(back - failing - 1)
        .filter_map(|pair| Some(pair.get(1)?.upstream - pair.first()?.upstream))
        .collect();
    let most = probes.iter().max().copied().unwrap_or(0);
    let all: u64 = probes.iter().sum();
    let found = format!("at most {most}, {all} in {} s", probes.len());
    checks.check("at most one probe a second", most <= 1 && all > 0, &found)?;
    let closed = seconds.iter().skip(back).position(|second| !second.open);
    let found = format!("after {closed:?} s");
    checks.check(
        "the circuit closes when the upstream is back",
        closed.is_some_and(|s| s <= 6),
        &found,
    )
}

const HEADER: [&str; 6] = ["s", "upstream", "circuit", "asked", "max ms", "warm; cold"];
/// Calls a second.
const RATE: u32 = 200;
/// Questions that were answered before.
const WARM: u64 = 100;
/// What the time-outs allow, with room for a busy machine.
const LONGEST: Duration = Duration::from_secs(5);
/// Circuits that refuse calls.
const OPEN: &str = "refrain_circuit_state";
