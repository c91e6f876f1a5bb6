//! What entries take in Redis, and what it costs Redis to be cleared of them: Refrain's own store against a real server.
//!
//! ```text
//! cargo bench --bench redis -- memory      10,000 chat answers of 2 KB
//! cargo bench --bench redis -- purge       100,000 of them, purged by a pattern
//! ```
//!
//! # Scope
//! The server is started here and has nothing else to do; the figures are its own. They are the same for a debug build
//! of Refrain, except for how long the purge takes in all.

mod entries;
mod server;

use std::{
    env,
    io::{self, Write as _},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use refrain::{
    answer::{retold::Teller, tasks::Tasks},
    call::key::Secret,
    ledger::clock,
    store::{
        behind::Behind,
        generations::Generations,
        memory::Memory,
        proofs::Proofs,
        purge::{Order, Purge, Purger, Selector},
        redis::{
            Link, Options, Redis,
            layout::Layout,
            sync::{self, Facts},
        },
        tiered::Tiered,
        trust::Trust,
    },
};
use tokio::time::sleep;

use self::server::Server;

#[tokio::main]
async fn main() -> Result<()> {
    // Cargo passes `--bench` to every benchmark.
    let words: Vec<String> = env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["memory"] => memory().await,
        ["purge"] => purge().await,
        [] => {
            memory().await?;
            purge().await
        }
        _ => bail!("one of memory and purge, or nothing for both"),
    }
}

async fn memory() -> Result<()> {
    let server = Server::start().await?;
    let (redis, _) = connect(&server).await?;
    let before = server.used().await?;
    fill(&redis, 10_000).await?;
    let used = server.used().await? - before;
    say(&format!(
        "10,000 chat answers of {} bytes take {:.1} MB in Redis, {} bytes each",
        entries::body(0).len(),
        megabytes(used),
        used / 10_000
    ))
}

async fn purge() -> Result<()> {
    let server = Server::start().await?;
    let (redis, generations) = connect(&server).await?;
    fill(&redis, 100_000).await?;
    server.watch_slow_commands().await?;
    let store = Tiered::new(
        Memory::new(1 << 20, 1 << 10),
        Some(Behind::Redis(redis.clone())),
        generations,
        Teller::new(Tasks::default()),
    );
    let purger = Purger::new(store, false);
    let keepers = Tasks::default();
    keepers.spawn_until_stop(purger.clone().look_after());
    let purge = Purge {
        selector: Selector::Pattern("openai/chat/*".to_owned()),
        within: None,
        soft: false,
    };
    let start = Instant::now();
    let order = |dry_run| Order {
        purges: vec![purge.clone()],
        dry_run,
    };
    let found = purger.run(&order(true)).await?.concerned;
    let found = found.map_or(0, |concerned| concerned.entries);
    say(&format!("found {found} entries in {:?}", start.elapsed()))?;
    let start = Instant::now();
    purger.run(&order(false)).await?;
    while redis.counts().purged < 100_000 {
        sleep(Duration::from_millis(10)).await;
    }
    say(&format!("deleted them within {:?}", start.elapsed()))?;
    // Beside them lies what replicas agree on.
    ensure!(server.entries().await? < 10, "entries are left");
    say(&server.slowest().await?)
}

/// Connects a store to `server`.
async fn connect(server: &Server) -> Result<(Redis, Generations)> {
    let tasks = Tasks::default();
    let generations = Generations::new(clock::wall());
    let layout = Layout::new("refrain:");
    let secret = Secret::random()?;
    let facts = Facts::new(layout.clone(), alone(&secret, &generations));
    let greeter = facts.clone();
    // Before that is done nothing is written.
    let greeting = move |early| {
        let greeter = greeter.clone();
        async move { greeter.greet(&early).await }
    };
    let link = Link::start(server.settings(), &tasks, greeting).await;
    ensure!(link.is_up(), "no connection to Redis");
    let proofs = Proofs::new(secret, &[], Duration::ZERO, None, &[]);
    tasks.spawn(facts.clone().look_after(link.clone(), proofs));
    let options = Options {
        max_entry: 8 << 20,
        max_ttl: Duration::from_secs(60 * 24 * 60 * 60),
        keep_stale: Duration::from_secs(24 * 60 * 60),
        budget: Duration::from_millis(50),
        generations: generations.clone(),
        tasks: tasks.clone(),
    };
    let redis = Redis::new(link, layout, facts, options);
    tasks.spawn(redis.clone().write_behind());
    Ok((redis, generations))
}

/// What a replica would agree on with others; here there are none.
fn alone(secret: &Secret, generations: &Generations) -> sync::Options {
    sync::Options {
        secret: secret.clone(),
        is_configured: true,
        generations: generations.clone(),
        trust: Trust::new(Duration::MAX, tokio::time::Instant::now()),
        keep_proofs: Duration::ZERO,
    }
}

/// Writes so many entries.
async fn fill(redis: &Redis, count: u64) -> Result<()> {
    for number in 0..count {
        redis.put(Arc::new(entries::entry(number)), false);
        // The queue is bounded, and what it does not take is lost.
        while number >= redis.counts().written + AHEAD {
            sleep(Duration::from_millis(1)).await;
        }
    }
    while redis.counts().written < count {
        ensure!(redis.counts().dropped == 0, "entries were dropped");
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

fn megabytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1_000).unwrap_or(u32::MAX)) / 1e3
}

fn say(line: &str) -> Result<()> {
    Ok(writeln!(io::stdout(), "{line}")?)
}

/// Entries that may wait for the writer.
const AHEAD: u64 = 1_000;
