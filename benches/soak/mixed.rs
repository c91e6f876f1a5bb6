//! Mixed faults and mixed clients for a while, then: is memory flat, is nothing under way, has each call one line?

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    checks::Checks,
    client::{Call, Client, End, Outcome, Patience, pause},
    dice::Dice,
    fault::Mood,
    lines::Lines,
    proxy::{Held, Metrics, Proxy},
    report::{self, mib},
    upstream::Upstream,
};

/// What came of calls.
#[derive(Debug, Default)]
struct Tally {
    verdicts: BTreeMap<String, u64>,
    whole: u64,
    told: u64,
    odd: u64,
    broken: u64,
    hung_up: u64,
    unsent: u64,
    wrong: u64,
    /// Hits and stale answers that were not whole.
    bad_hits: u64,
    /// Calls that got a head, and so must have a line.
    certain: Vec<u64>,
    /// Calls that nobody knows of whether they arrived.
    uncertain: Vec<u64>,
}

/// Soaks for `time`.
pub(crate) async fn play(time: Duration) -> Result<Checks> {
    let upstreams = [Upstream::start()?, Upstream::start()?];
    let mut proxy = Proxy::start(&config(&upstreams))?;
    report::text(&format!(
        "mixed faults for {}",
        humantime::format_duration(time)
    ))?;
    let end = Instant::now() + time;
    let counter = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = Client::new(proxy.address);
        clients.spawn(ask_until(end, client, Dice::new(number), counter.clone()));
    }
    let samples = watch(end, &proxy, &upstreams).await?;
    let mut tally = Tally::default();
    while let Some(one) = clients.join_next().await {
        tally.add(one?);
    }
    report::text("")?;
    let mut checks = Checks::default();
    judge_answers(&tally, &mut checks)?;
    let metrics = settled(&proxy).await?;
    judge_rest(&metrics, &samples, &proxy.held()?, &mut checks)?;
    let code = proxy.end().await?;
    checks.check(
        "the proxy ends by itself",
        code == Some(0),
        &format!("exit code {code:?}"),
    )?;
    judge_lines(&Lines::read(&proxy.log())?, &tally, &metrics, &mut checks)?;
    Ok(checks)
}

/// A small store, so that it is full long before the end, and short time-outs, so that faults follow each other.
fn config([first, second]: &[Upstream; 2]) -> String {
    let timeouts = "timeouts = { connect = \"1s\", first_byte = \"2s\", idle = \"2s\" }";
    let own = format!("{timeouts}\npriority = 1\napi_key = \"sk-second\"");
    let rest = r#"
[cache]
ttl = "20s"
stale_while_revalidate = "5s"
max_entry = "256KiB"
[store]
memory = "16MiB"
max_size = "32MiB"
[breaker]
window = "5s"
open = "1s"
max_open = "4s"
"#;
    [
        &first.section("first", timeouts),
        &second.section("second", &own),
        rest,
    ]
    .concat()
}

/// Asks until `end`, as one client.
async fn ask_until(
    end: Instant,
    mut client: Client,
    mut dice: Dice,
    counter: Arc<AtomicU64>,
) -> Tally {
    let mut tally = Tally::default();
    while Instant::now() < end {
        let id = counter.fetch_add(1, Ordering::Relaxed);
        let call = call(id, &mut dice);
        let outcome = client.call(call).await;
        tally.count(id, &outcome);
        pause(dice.below(2 * PAUSE)).await;
    }
    tally
}

/// Half of the calls ask what many ask, every eighth client hangs up.
fn call(id: u64, dice: &mut Dice) -> Call {
    let question = if dice.percent(50) {
        dice.below(COMMON)
    } else {
        COMMON + id
    };
    let patience = match dice.below(16) {
        0 => Patience::Head,
        1 => Patience::For(Duration::from_millis(dice.below(50))),
        _ => Patience::Whole,
    };
    Call {
        id,
        question,
        caller: dice.below(4),
        streams: dice.percent(50),
        patience,
    }
}

/// Changes the upstreams' moods, and samples and prints what the proxy holds, until `end`.
async fn watch(end: Instant, proxy: &Proxy, upstreams: &[Upstream; 2]) -> Result<Vec<Held>> {
    let [first, second] = upstreams;
    let start = Instant::now();
    let mut samples = Vec::new();
    report::row(HEADER.each_ref().map(|word| word as &dyn std::fmt::Display))?;
    while Instant::now() < end {
        let seconds = start.elapsed().as_secs();
        first.fares(mood(seconds));
        second.fares(Mood::Rough(5));
        if seconds.is_multiple_of(EVERY) {
            print(seconds, proxy, upstreams).await?;
        }
        samples.push(proxy.held()?);
        sleep(Duration::from_secs(1)).await;
    }
    print(start.elapsed().as_secs(), proxy, upstreams).await?;
    Ok(samples)
}

/// Returns how the first upstream fares after so many seconds: five in each mood.
fn mood(seconds: u64) -> Mood {
    let moods = MOODS.iter().flat_map(|mood| [*mood; 5]);
    let mut moods = moods
        .cycle()
        .skip(usize::try_from(seconds % 30).unwrap_or(0));
    moods.next().unwrap_or(Mood::Well)
}

async fn print(seconds: u64, proxy: &Proxy, upstreams: &[Upstream; 2]) -> Result<()> {
    let metrics = proxy.metrics().await?;
    let held = proxy.held()?;
    let verdict = |word: &str| {
        let label = format!("verdict=\"{word}\"");
        metrics.sum("refrain_calls_total", &[&label])
    };
    let [first, second] = upstreams.each_ref().map(Upstream::calls);
    report::row([
        &seconds,
        &metrics.sum("refrain_calls_total", &[]),
        &verdict("hit"),
        &verdict("miss"),
        &verdict("stale"),
        &verdict("collapsed"),
        &verdict("fallback"),
        &verdict("none"),
        &metrics.sum("refrain_calls_total", &["status_class=\"5xx\""]),
        &first,
        &second,
        &metrics.sum("refrain_calls_under_way", &[]),
        &mib(held.rss),
        &held.fds,
    ])?;
    Ok(())
}

/// Waits until nothing is under way any more, an answer without a reader included, and returns the metrics then.
async fn settled(proxy: &Proxy) -> Result<Metrics> {
    let end = Instant::now() + LINGER;
    loop {
        let metrics = proxy.metrics().await?;
        let busy = GAUGES.iter().any(|gauge| metrics.sum(gauge, &[]) > 0);
        if !busy || Instant::now() > end {
            return Ok(metrics);
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn judge_answers(tally: &Tally, checks: &mut Checks) -> Result<()> {
    let Tally {
        whole,
        told,
        odd,
        broken,
        hung_up,
        unsent,
        ..
    } = tally;
    report::text(&format!(
        "{whole} whole, {told} refused or apologised for, {odd} as odd as the upstream made them, {broken} broken off, \
         {hung_up} left by their client, {unsent} without an answer; {:?}",
        tally.verdicts
    ))?;
    checks.check("calls were answered", *whole > 0, &format!("{whole}"))?;
    checks.check(
        "nobody got another's answer",
        tally.wrong == 0,
        &format!("{}", tally.wrong),
    )?;
    checks.check(
        "every hit is whole",
        tally.bad_hits == 0,
        &format!("{} are not", tally.bad_hits),
    )?;
    checks.check(
        "every call gets a head",
        *unsent == 0,
        &format!("{unsent} did not"),
    )
}

fn judge_rest(metrics: &Metrics, samples: &[Held], last: &Held, checks: &mut Checks) -> Result<()> {
    for gauge in GAUGES {
        let value = metrics.sum(gauge, &[]);
        checks.check(
            &format!("{gauge} is back to 0"),
            value == 0,
            &format!("{value}"),
        )?;
    }
    let (middle, end) = (
        samples.len() * 4 / 10..samples.len() * 6 / 10,
        samples.len() * 9 / 10..,
    );
    let rss = |held: &[Held]| report::median(held.iter().map(|held| held.rss).collect());
    let half = rss(samples.get(middle).unwrap_or_default());
    let end = rss(samples.get(end).unwrap_or_default());
    let found = format!(
        "{} MiB in the middle, {} MiB at the end",
        mib(half),
        mib(end)
    );
    checks.check("memory is flat", end <= half + half / 10 + SLACK, &found)?;
    let most = CLIENTS * 4;
    let found = format!("{} at the end", last.fds);
    checks.check(
        "descriptors are few",
        u64::try_from(last.fds)? < most,
        &found,
    )
}

fn judge_lines(lines: &Lines, tally: &Tally, metrics: &Metrics, checks: &mut Checks) -> Result<()> {
    let none = lines.panics.first().map_or("none", String::as_str);
    checks.check("nothing panicked", lines.panics.is_empty(), none)?;
    let other =
        |ids: &[u64], fits: fn(u8) -> bool| ids.iter().filter(|id| !fits(lines.of(**id))).count();
    let wrong =
        other(&tally.certain, |count| count == 1) + other(&tally.uncertain, |count| count <= 1);
    let found = format!("{} lines, {wrong} calls with another number", lines.calls);
    checks.check("each call has exactly one line", wrong == 0, &found)?;
    let counted = metrics.sum("refrain_calls_total", &[]);
    let found = format!("{counted}");
    checks.check(
        "the metrics count as many calls",
        counted == lines.calls,
        &found,
    )
}

impl Tally {
    fn count(&mut self, id: u64, outcome: &Outcome) {
        let verdict = outcome.verdict.as_str();
        *self.verdicts.entry(verdict.to_owned()).or_default() += 1;
        let from_cache = matches!(verdict, "hit" | "stale");
        let whole = matches!(outcome.end, End::Whole | End::HungUp | End::HungUpEarly);
        self.bad_hits += u64::from(from_cache && !whole);
        match outcome.end {
            End::HungUpEarly | End::Unsent => self.uncertain.push(id),
            _ => self.certain.push(id),
        }
        let count = match outcome.end {
            End::Whole => &mut self.whole,
            End::Told(_) => &mut self.told,
            End::Odd => &mut self.odd,
            End::Broken => &mut self.broken,
            End::Wrong => &mut self.wrong,
            End::HungUp | End::HungUpEarly => &mut self.hung_up,
            End::Unsent => &mut self.unsent,
        };
        *count += 1;
    }

    fn add(&mut self, other: Self) {
        for (verdict, count) in other.verdicts {
            *self.verdicts.entry(verdict).or_default() += count;
        }
        self.whole += other.whole;
        self.told += other.told;
        self.odd += other.odd;
        self.broken += other.broken;
        self.hung_up += other.hung_up;
        self.unsent += other.unsent;
        self.wrong += other.wrong;
        self.bad_hits += other.bad_hits;
        self.certain.extend(other.certain);
        self.uncertain.extend(other.uncertain);
    }
}

const HEADER: [&str; 14] = [
    "s",
    "calls",
    "hit",
    "miss",
    "stale",
    "collapsed",
    "fallback",
    "none",
    "5xx",
    "first",
    "second",
    "under way",
    "RSS MiB",
    "fds",
];
/// How the first upstream fares, five seconds each.
const MOODS: [Mood; 6] = [
    Mood::Rough(5),
    Mood::Rough(30),
    Mood::Well,
    Mood::Rough(10),
    Mood::Failing,
    Mood::Rough(60),
];
/// What must be 0 in the end.
const GAUGES: [&str; 3] = [
    "refrain_calls_under_way",
    "refrain_flights",
    "refrain_tape_bytes",
];
const CLIENTS: u64 = 32;
/// Mean pause of a client between two calls, milliseconds.
const PAUSE: u64 = 50;
/// Questions that many ask.
const COMMON: u64 = 200;
/// Seconds between two rows.
const EVERY: u64 = 30;
/// What memory may grow by beside a tenth, bytes.
const SLACK: u64 = 8 << 20;
/// An answer whose client hung up is finished within a minute.
const LINGER: Duration = Duration::from_secs(70);
