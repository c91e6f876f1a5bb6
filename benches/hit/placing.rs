//! Which core a worker runs on.
//!
//! Where client and server share two cores, the kernel may keep both workers of a busy server on one of them for seconds,
//! beside a client that sleeps a lot on the other: workers that never sleep are never placed anew. A comparison would then
//! measure that. So every process has its first worker on the first core, its second on the second, and so on, for all
//! sides alike; `hit` also shows a run as the kernel places them.

use std::{fs, process, thread};

use anyhow::{Context as _, Result};
use rustix::{
    process::Pid,
    thread::{CpuSet, sched_setaffinity},
};

/// Whether workers are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placing {
    /// Each worker of a process on a core of its own, as far as there are cores.
    Spread,
    /// As the kernel likes.
    Kernel,
}

impl Placing {
    /// Returns what stands above the figures.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Spread => "every process has its i-th worker on core i",
            Self::Kernel => "workers run where the kernel places them",
        }
    }

    /// Places the workers of this process.
    pub(crate) fn place_own(self) -> Result<()> {
        let own = Pid::from_raw(process::id().cast_signed()).context("a process without an id")?;
        self.place(&threads(own)?)
    }

    /// Places `workers`, threads or processes of one thread.
    pub(crate) fn place(self, workers: &[Pid]) -> Result<()> {
        let cores = thread::available_parallelism()?.get();
        for (number, worker) in workers.iter().enumerate() {
            let mut set = CpuSet::new();
            match self {
                Self::Spread => set.set(number % cores),
                Self::Kernel => (0..cores).for_each(|core| set.set(core)),
            }
            sched_setaffinity(Some(*worker), &set)?;
        }
        Ok(())
    }
}

/// Returns the threads of tokio's runtime in a process, in the order of their start.
pub(crate) fn threads(process: Pid) -> Result<Vec<Pid>> {
    let tasks = format!("/proc/{}/task", process.as_raw_nonzero());
    let mut found = Vec::new();
    for entry in fs::read_dir(tasks)? {
        let entry = entry?;
        let name = fs::read_to_string(entry.path().join("comm"))?;
        if name.trim_end() == WORKER {
            let id = entry.file_name().to_str().and_then(|id| id.parse().ok());
            found.extend(id.and_then(Pid::from_raw));
        }
    }
    found.sort_unstable_by_key(|id| id.as_raw_nonzero());
    Ok(found)
}

/// What tokio calls the threads of its runtime.
const WORKER: &str = "tokio-rt-worker";
