//! 200 calls a second while Redis is not there yet, works, is frozen, thaws, is killed, and comes back.
//!
//! Warm calls are answered from memory, cold ones look into Redis first: what Redis costs, it costs these.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    checks::Checks,
    client::End,
    lines::Lines,
    paced::{self, Done},
    proxy::{Proxy, Watch},
    redis::Redis,
    report,
    upstream::Upstream,
};

/// A part of the scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Redis is not there yet.
    Absent,
    /// It works.
    Well,
    /// It is stopped: its sockets stand, and nothing is answered.
    Frozen,
    /// It goes on.
    Thawed,
    /// It is killed.
    Killed,
    /// It is there again, empty.
    Back,
}

/// What was so when one second was over.
#[derive(Clone, Copy, Debug)]
struct Tick {
    phase: Phase,
    /// Whether Redis was used.
    up: bool,
}

/// Plays the scene.
pub(crate) async fn play() -> Result<Checks> {
    let (upstream, mut redis) = (Upstream::start()?, Redis::nowhere()?);
    let store = format!("[store]\nredis = \"{}\"\n", redis.url());
    let mut proxy = Proxy::start(&[upstream.section("only", ""), store].concat())?;
    paced::warm(&proxy).await?;
    let mut checks = Checks::default();
    let (mut calls, mut ticks) = (JoinSet::new(), Vec::new());
    for phase in Phase::ALL {
        phase.begin(&mut redis)?;
        let mut recovery = JoinSet::new();
        if phase.is_up() {
            recovery.spawn(recovery_time(proxy.watch()));
        }
        for _ in 0..phase.seconds() {
            paced::one_second(ticks.len(), &proxy, &mut calls).await;
            let up = proxy.metrics().await?.sum(UP, &[]) > 0;
            ticks.push(Tick { phase, up });
        }
        for found in recovery.join_all().await {
            judge_recovery(phase, found, &mut checks)?;
        }
    }
    let done = calls.join_all().await;
    table(&ticks, &done)?;
    judge_calls(&ticks, &done, &mut checks)?;
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

impl Phase {
    const ALL: [Self; 6] = [
        Self::Absent,
        Self::Well,
        Self::Frozen,
        Self::Thawed,
        Self::Killed,
        Self::Back,
    ];

    fn begin(self, redis: &mut Redis) -> Result<()> {
        match self {
            Self::Absent => Ok(()),
            Self::Well | Self::Back => redis.start(),
            Self::Frozen => redis.freeze(),
            Self::Thawed => redis.thaw(),
            Self::Killed => redis.kill(),
        }
    }

    fn seconds(self) -> usize {
        match self {
            Self::Frozen | Self::Killed => 10,
            _ => 6,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Well => "well",
            Self::Frozen => "frozen",
            Self::Thawed => "thawed",
            Self::Killed => "killed",
            Self::Back => "back",
        }
    }

    /// Whether Redis answers.
    fn is_up(self) -> bool {
        matches!(self, Self::Well | Self::Thawed | Self::Back)
    }
}

/// Waits until Redis is used; returns how long that took, or nothing when it took too long.
async fn recovery_time(watch: Watch) -> Option<Duration> {
    let start = Instant::now();
    let used = async {
        while !watch
            .metrics()
            .await
            .is_ok_and(|metrics| metrics.sum(UP, &[]) > 0)
        {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(RECOVERY, used).await.ok()?;
    Some(start.elapsed())
}

/// Prints what happened, a row for each second.
fn table(ticks: &[Tick], done: &[Done]) -> Result<()> {
    report::text(HEADER)?;
    for (second, tick) in ticks.iter().enumerate() {
        let now = |one: &&Done| one.second == second;
        let (warm, cold): (Vec<&Done>, Vec<&Done>) =
            done.iter().filter(now).partition(|one| one.warm);
        let failed = warm.iter().chain(&cold).filter(|one| failed(one)).count();
        report::text(&format!(
            "{second:>3} {:<8}{:<6}{failed:>6}   {:>7}{:>7}   {:>7}{:>7}",
            tick.phase.name(),
            if tick.up { "yes" } else { "no" },
            millis(slowest(&warm, 50)),
            millis(slowest(&warm, 99)),
            millis(slowest(&cold, 50)),
            millis(slowest(&cold, 99)),
        ))?;
    }
    Ok(())
}

fn judge_recovery(phase: Phase, found: Option<Duration>, checks: &mut Checks) -> Result<()> {
    let what = format!("redis is used soon after it is {}", phase.name());
    let told = found.map_or_else(
        || format!("not within {RECOVERY:?}"),
        |time| format!("{time:?} later"),
    );
    checks.check(&what, found.is_some(), &told)
}

fn judge_calls(ticks: &[Tick], done: &[Done], checks: &mut Checks) -> Result<()> {
    let count = done.iter().filter(|one| failed(one)).count();
    let found = format!("{count} of {}", done.len());
    checks.check("no call fails", count == 0, &found)?;
    // With its first second, Redis is still being connected to.
    let calm = ninety_ninth(done, &seconds(ticks, Phase::Well, 1));
    for phase in [Phase::Frozen, Phase::Killed] {
        let own = seconds(ticks, phase, 1);
        let asked = own.iter().filter_map(|second| ticks.get(*second));
        let asked = asked.filter(|tick| tick.up).count();
        let what = format!("redis {} is not asked after its first second", phase.name());
        checks.check(
            &what,
            asked == 0,
            &format!("{asked} of {} seconds", own.len()),
        )?;
        let of = |from, to: usize| {
            let seconds = seconds(ticks, phase, from);
            let seconds = seconds
                .get(..to.min(seconds.len()))
                .unwrap_or_default()
                .to_vec();
            ninety_ninth(done, &seconds).saturating_sub(calm)
        };
        for (when, from, to, most) in [
            ("in its first second", 0, 1, BUDGET + NOISE),
            ("from its third second on", 2, usize::MAX, NOISE),
        ] {
            let added = of(from, to);
            let what = format!("redis {} adds little to a cold call {when}", phase.name());
            let found = format!("p99 {} ms more than {} ms", millis(added), millis(calm));
            checks.check(&what, added <= most, &found)?;
        }
    }
    Ok(())
}

/// Returns the seconds of a phase, but for its first ones.
fn seconds(ticks: &[Tick], phase: Phase, but: usize) -> Vec<usize> {
    let seconds = ticks.iter().enumerate();
    let seconds = seconds.filter(|(_, tick)| tick.phase == phase);
    seconds.map(|(second, _)| second).skip(but).collect()
}

/// Returns what 99 of 100 cold calls of these seconds did not take longer than.
fn ninety_ninth(done: &[Done], seconds: &[usize]) -> Duration {
    let cold = done
        .iter()
        .filter(|one| !one.warm && seconds.contains(&one.second));
    slowest(&cold.collect::<Vec<_>>(), 99)
}

/// Returns the time that so many of 100 calls did not take longer than.
fn slowest(calls: &[&Done], percent: usize) -> Duration {
    let mut times: Vec<Duration> = calls.iter().map(|one| one.took).collect();
    times.sort_unstable();
    let last = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(last).copied().unwrap_or_default()
}

fn failed(one: &Done) -> bool {
    one.outcome.end != End::Whole
}

fn millis(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

const HEADER: &str = "  s redis   used  failed   warm p50    p99   cold p50    p99  ms";
const UP: &str = "refrain_redis_up";
/// What the store may cost a call.
const BUDGET: Duration = Duration::from_millis(50);
/// What a busy machine adds.
const NOISE: Duration = Duration::from_millis(15);
/// Within which Redis is to be used again.
const RECOVERY: Duration = Duration::from_secs(5);
