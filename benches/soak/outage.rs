//! 200 calls a second, half of them streams, while the upstream is killed, comes back failing, and gets well.
//!
//! Half of the calls ask what was answered before and has expired since (warm), the others what nobody ever asked (cold).

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    checks::Checks,
    client::End,
    fault::Mood,
    lines::Lines,
    paced::{self, Done},
    picture::{self, Column},
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

/// Whether a second upstream can take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Second {
    /// There is none.
    Absent,
    /// It answers all the time.
    Present,
}

/// What was so when one second was over.
#[derive(Clone, Debug)]
struct Tick {
    phase: Phase,
    /// Calls that the upstream had read in that second.
    asked: usize,
    /// State of its circuit: 0 closed, 1 half-open, 2 open.
    circuit: u64,
}

/// Plays the scene, and draws it into the file `picture`.
pub(crate) async fn play(second: Second, picture: Option<&str>) -> Result<Checks> {
    let (mut first, other) = (Upstream::start()?, Upstream::start()?);
    let mut proxy = Proxy::start(&config(&first, &other, second))?;
    paced::warm(&proxy).await?;
    // Until those answers have expired.
    sleep(Duration::from_secs(1)).await;
    let mut calls = JoinSet::new();
    let (mut ticks, mut asked, mut failing) = (Vec::new(), first.calls(), Instant::now());
    let mut probes = Vec::new();
    for phase in [Phase::Well, Phase::Dead, Phase::Failing, Phase::Back] {
        if phase == Phase::Back {
            probes = first.calls_since(failing);
        }
        phase.begin(&mut first).await?;
        failing = Instant::now();
        for _ in 0..phase.seconds() {
            paced::one_second(ticks.len(), &proxy, &mut calls).await;
            ticks.push(Tick {
                phase,
                asked: first.calls() - asked,
                circuit: proxy.metrics().await?.sum(STATE, &["\"first\""]),
            });
            asked = first.calls();
        }
    }
    let done = calls.join_all().await;
    table(&ticks, &done)?;
    if let Some(picture) = picture {
        fs::write(picture, picture::draw(&columns(&ticks, &done)))?;
    }
    let mut checks = Checks::default();
    judge_calls(&ticks, &done, second, &mut checks)?;
    judge_circuit(&ticks, &probes, &mut checks)?;
    let code = proxy.end().await?;
    let found = format!("exit code {code:?}");
    checks.check("the proxy ends by itself", code == Some(0), &found)?;
    let panics = Lines::read(&proxy.log())?.panics;
    let none = panics.first().map_or("none", String::as_str);
    checks.check("nothing panicked", panics.is_empty(), none)?;
    Ok(checks)
}

fn config(first: &Upstream, other: &Upstream, second: Second) -> String {
    let timeouts = "timeouts = { connect = \"1s\", first_byte = \"2s\", idle = \"2s\" }";
    let own = format!("{timeouts}\npriority = 1\napi_key = \"sk-second\"");
    let other = match second {
        Second::Absent => String::new(),
        Second::Present => other.section("second", &own),
    };
    let rest =
        "[cache]\nttl = \"1s\"\n[breaker]\nwindow = \"5s\"\nopen = \"1s\"\nmax_open = \"4s\"\n";
    [&first.section("first", timeouts), &other, rest].concat()
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
fn table(ticks: &[Tick], done: &[Done]) -> Result<()> {
    let of = |second: usize| done.iter().filter(move |one| one.second == second);
    report::text(HEADER)?;
    for (second, tick) in ticks.iter().enumerate() {
        let longest = of(second).map(|one| one.took.as_millis()).max();
        report::text(&format!(
            "{second:>3} {:<8}{:<10}{:>6}{:>8}   {:<30}{}",
            tick.phase.name(),
            tick.circuit(),
            tick.asked,
            longest.unwrap_or(0),
            spelled(&words(done, second, true)),
            spelled(&words(done, second, false)),
        ))?;
    }
    Ok(())
}

impl Tick {
    fn circuit(&self) -> &'static str {
        match self.circuit {
            0 => "closed",
            1 => "half-open",
            _ => "open",
        }
    }
}

/// Returns what the calls of one second came to, as words and how often.
fn words(done: &[Done], second: usize, warm: bool) -> BTreeMap<String, usize> {
    let mut words = BTreeMap::new();
    for one in done
        .iter()
        .filter(|one| one.second == second && one.warm == warm)
    {
        *words.entry(word(one)).or_default() += 1;
    }
    words
}

fn spelled(words: &BTreeMap<String, usize>) -> String {
    words.iter().fold(String::new(), |mut text, (word, count)| {
        let _ = write!(text, "{word} {count}  ");
        text
    })
}

/// Returns what a call came to, as a word.
fn word(done: &Done) -> String {
    match done.outcome.end {
        End::Whole => done.outcome.verdict.clone(),
        End::Told(200) => "apology".to_owned(),
        End::Told(status) => status.to_string(),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn columns(ticks: &[Tick], done: &[Done]) -> Vec<Column> {
    let column = |(second, tick): (usize, &Tick)| Column {
        phase: tick.phase.name(),
        closed: tick.circuit == 0,
        asked: tick.asked,
        warm: words(done, second, true).into_iter().collect(),
        cold: words(done, second, false).into_iter().collect(),
    };
    ticks.iter().enumerate().map(column).collect()
}

fn judge_calls(ticks: &[Tick], done: &[Done], second: Second, checks: &mut Checks) -> Result<()> {
    // What was under way when the upstream was killed may break off; what came later may not.
    let out = |one: &&Done| {
        ticks
            .get(one.second)
            .is_some_and(|tick| tick.phase.is_out())
    };
    let whole = |one: &Done| one.outcome.end == End::Whole;
    let lost = |one: &&Done| matches!(one.outcome.end, End::Unsent | End::Wrong | End::Odd);
    let count = done.iter().filter(lost).count();
    let found = format!("{count} of {}", done.len());
    checks.check("no call is lost", count == 0, &found)?;
    let (warm, cold): (Vec<&Done>, Vec<&Done>) = done.iter().filter(out).partition(|one| one.warm);
    let kept = warm.iter().filter(|one| whole(one)).count();
    let found = format!("{kept} of {}", warm.len());
    checks.check("warm calls are answered", kept == warm.len(), &found)?;
    let told = |one: &&&Done| match second {
        Second::Absent => one.outcome.end == End::Told(200),
        Second::Present => whole(one),
    };
    let told = cold.iter().filter(told).count();
    let found = format!("{told} of {}", cold.len());
    let what = match second {
        Second::Absent => "cold calls get the apology",
        Second::Present => "cold calls are answered by the second upstream",
    };
    checks.check(what, told == cold.len(), &found)?;
    let longest = done.iter().map(|one| one.took).max().unwrap_or_default();
    let found = format!("the longest took {longest:?}");
    checks.check("no call hangs", longest < LONGEST, &found)
}

fn judge_circuit(ticks: &[Tick], probes: &[Instant], checks: &mut Checks) -> Result<()> {
    let first = |phase| ticks.iter().position(|tick| tick.phase == phase);
    let after = |phase, open: bool| {
        let mut later = ticks.iter().skip(first(phase)?);
        later.position(|tick| (tick.circuit == 2) == open && (open || tick.circuit == 0))
    };
    let opened = after(Phase::Dead, true);
    let found = format!("{opened:?}");
    let soon = opened.is_some_and(|seconds| seconds <= WINDOW);
    checks.check("the circuit opens, whole seconds later", soon, &found)?;
    let gaps = probes.windows(2).filter_map(|pair| {
        let [one, next] = pair else { return None };
        Some(next.duration_since(*one))
    });
    let least = gaps.min().unwrap_or_default();
    let found = format!("{} probes, at least {least:?} apart", probes.len());
    let rare = probes.len() > 1 && least >= SECOND;
    checks.check("there is at most one probe a second", rare, &found)?;
    let closed = after(Phase::Back, false);
    let found = format!("{closed:?}");
    let soon = opened.is_some() && closed.is_some_and(|seconds| seconds <= MAX_OPEN);
    checks.check("the circuit closes, whole seconds later", soon, &found)
}

const HEADER: &str =
    "  s upstream circuit   asked  max ms   warm calls                    cold calls";
/// What the time-outs allow, with room for a busy machine.
const LONGEST: Duration = Duration::from_secs(8);
/// How far back the circuit looks, seconds.
const WINDOW: usize = 5;
/// The longest that it is open, and a probe, seconds.
const MAX_OPEN: usize = 5;
/// Between two probes, with room for how a probe is read late.
const SECOND: Duration = Duration::from_millis(950);
const STATE: &str = "refrain_circuit_state";
