//! Refrain under faults for as long as one likes, and through an outage: the real binary between clients and an
//! upstream that both misbehave.
//!
//! ```text
//! cargo bench --bench soak                 ten minutes of mixed faults
//! cargo bench --bench soak -- 20s          as long as one says
//! cargo bench --bench soak -- outage       200 calls a second while the upstream is killed, fails, and comes back
//! cargo bench --bench soak -- outage FILE  the same, drawn into an SVG
//! cargo bench --bench soak -- failover     the same beside a second upstream
//! cargo bench --bench soak -- revoked      10,000 calls with a key that is refused
//! cargo bench --bench soak -- drain        SIGTERM under load, five times
//! cargo bench --bench soak -- freeze       200 calls a second while Redis is frozen, thaws, is killed, and comes back
//! ```
//!
//! # Scope
//! What is checked is counted, not timed, except that no call may take longer than its time-outs allow, nor wait for
//! Redis longer than its budget. Each check is printed with what it found, and one that does not hold ends the program
//! with 1. How fast Refrain is, is told by
//! `benches/hit`. `REFRAIN_BIN` names another binary than the one that is built beside.

mod answer;
mod checks;
mod client;
mod dice;
mod drain;
mod fault;
mod freeze;
mod lines;
mod mixed;
mod outage;
mod paced;
mod picture;
mod proxy;
mod redis;
mod report;
mod revoked;
mod upstream;

use std::{env, process::ExitCode, time::Duration};

use anyhow::{Result, bail};

use self::{checks::Checks, outage::Second};

fn main() -> Result<ExitCode> {
    // Cargo passes `--bench` to every benchmark.
    let words: Vec<String> = env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let checks = runtime.block_on(play(&words))?;
    Ok(if checks.held() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn play(words: &[&str]) -> Result<Checks> {
    match words {
        [] => mixed::play(TEN_MINUTES).await,
        ["outage"] => outage::play(Second::Absent, None).await,
        ["outage", picture] => outage::play(Second::Absent, Some(picture)).await,
        ["failover"] => outage::play(Second::Present, None).await,
        ["failover", picture] => outage::play(Second::Present, Some(picture)).await,
        ["revoked"] => revoked::play().await,
        ["drain"] => drain::play().await,
        ["freeze"] => freeze::play().await,
        [time] => mixed::play(humantime::parse_duration(time)?).await,
        more => bail!(
            "a time such as `20s`, or one of outage, failover, revoked, drain and freeze; not {}",
            more.join(" ")
        ),
    }
}

const TEN_MINUTES: Duration = Duration::from_secs(600);
