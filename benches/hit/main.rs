//! What Refrain costs and holds, measured on real processes over loopback.
//!
//! ```text
//! cargo bench --bench hit                hits beside a bare hyper server that keys and looks up
//! cargo bench --bench hit -- miss        misses beside direct calls
//! cargo bench --bench hit -- burst       identical calls at once
//! cargo bench --bench hit -- memory      bounds: large entries, a download, a stalled reader
//! cargo bench --bench hit -- beside      all ways side by side: direct, bare, nginx, memory, disk, misses
//! cargo bench --bench hit -- paced       the misses of `beside` alone, with an empty disk
//! cargo bench --bench hit -- against PATH    hits and misses beside another build of Refrain, whose binary lies there
//! cargo bench --bench hit -- all         all of them
//! ```
//!
//! # Scope
//! Server and client are processes of their own, so that CPU and memory of the server are read off `/proc` (Linux only)
//! and not mixed with the client's. Figures are printed as they fall; whether they are good enough is told in
//! `docs/benchmarks.md`. No figure is made with another one's process: each scene starts its own.

mod against;
mod bare;
mod beside;
mod burst;
mod client;
mod hits;
mod load;
mod machine;
mod memory;
mod misses;
mod paced;
mod pass;
mod placing;
mod process;
mod report;
mod script;
mod side;
mod upstream;
mod way;

use std::env;

use anyhow::{Result, bail};

/// The allocator of the released binary, for the bare server as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    // Cargo passes `--bench` to every benchmark.
    let words: Vec<String> = env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run(&words))
}

/// Plays a scene, or is the server that a scene has started.
async fn run(words: &[&str]) -> Result<()> {
    match words {
        [] => play("hit").await,
        [bare::ARGUMENT] => bare::serve().await,
        [upstream::ARGUMENT] => upstream::serve().await,
        [pass::ARGUMENT, upstream] => pass::serve(upstream.parse()?).await,
        ["against", build] => {
            report::text(&machine::describe()?)?;
            against::play(build.as_ref()).await
        }
        [scene] => play(scene).await,
        more => bail!("one scene at a time, not {}", more.join(" ")),
    }
}

async fn play(scene: &str) -> Result<()> {
    report::text(&machine::describe()?)?;
    match scene {
        "hit" => hits::play().await,
        "miss" => misses::play().await,
        "burst" => burst::play().await,
        "memory" => memory::play().await,
        "beside" => beside::play().await,
        "paced" => beside::paced().await,
        "all" => {
            hits::play().await?;
            misses::play().await?;
            burst::play().await?;
            memory::play().await?;
            beside::play().await
        }
        other => {
            bail!("no scene `{other}`; there are hit, miss, burst, memory, beside, paced and all")
        }
    }
}
