//! A server process under measurement, and what the kernel says of it.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{
    bare, pass,
    placing::{self, Placing},
    upstream,
};

/// A server process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Processes that it has started, which count as its own.
    workers: Vec<Pid>,
    /// Where it accepts calls.
    pub(crate) address: SocketAddr,
    /// Kept open, so that the server can write on.
    _stdout: Option<BufReader<ChildStdout>>,
    /// Where the log goes, as an operator would redirect it.
    _home: TempDir,
}

/// What a process has used so far.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    /// Time on processors of each thread, in the program and in the kernel for it.
    threads: BTreeMap<OsString, Duration>,
    /// Resident memory now, bytes.
    pub(crate) rss: u64,
    /// Most resident memory since the start, bytes.
    pub(crate) peak: u64,
}

impl Server {
    /// Starts the bare server: this very program in another role.
    pub(crate) fn bare() -> Result<Self> {
        Self::own(&[bare::ARGUMENT])
    }

    /// Starts an upstream: this very program in another role.
    pub(crate) fn upstream() -> Result<Self> {
        Self::own(&[upstream::ARGUMENT])
    }

    /// Starts the bare pass-through to `upstream`: this very program in another role.
    pub(crate) fn pass(upstream: SocketAddr) -> Result<Self> {
        Self::own(&[pass::ARGUMENT, &upstream.to_string()])
    }

    fn own(arguments: &[&str]) -> Result<Self> {
        Self::start(&env::current_exe()?, |command| {
            command.args(arguments);
        })
    }

    /// Starts Refrain with an upstream, free ports, its log in a file, and these variables.
    pub(crate) fn refrain(upstream: SocketAddr, variables: &[(&str, &str)]) -> Result<Self> {
        Self::refrain_of(Path::new(REFRAIN), upstream, variables)
    }

    /// Starts another build of Refrain like that.
    pub(crate) fn refrain_of(
        build: &Path,
        upstream: SocketAddr,
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        Self::start(build, |command| {
            command
                .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
                .args(["--upstream", &format!("http://{upstream}/v1")])
                .envs(variables.iter().copied());
        })
    }

    /// Starts Refrain with its answers in memory alone.
    pub(crate) fn refrain_in_memory(upstream: SocketAddr) -> Result<Self> {
        Self::refrain(upstream, &[("REFRAIN_STORE__PATH", "off")])
    }

    /// Starts a server that was told to listen on `address`, and whose files are in `home`.
    pub(crate) fn at(mut command: Command, address: SocketAddr, home: TempDir) -> Result<Self> {
        let log = fs::File::create(home.path().join("log"))?;
        let child = command.stdout(Stdio::null()).stderr(log).spawn()?;
        Ok(Self {
            child,
            workers: Vec::new(),
            address,
            _stdout: None,
            _home: home,
        })
    }

    /// Counts the processes that it has started by now as its own.
    pub(crate) fn with_workers(mut self) -> Result<Self> {
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // What has ended meanwhile has no parent.
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            if parent(&stat) == Some(self.child.id()) {
                self.workers.extend(Pid::from_raw(id));
            }
        }
        Ok(self)
    }

    /// Has it end its workers, which would outlive it if it were killed.
    fn end_workers(&mut self) {
        if self.workers.is_empty() {
            return;
        }
        if let Some(process) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process(process, Signal::TERM);
        }
        let end = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            thread::yield_now();
        }
    }

    /// Starts a copy of `program`, as it would be installed. A linker writes its file piece by piece, and the system holds the
    /// pages of such a file far apart: a call that comes alone takes 10 to 15 µs more of the same build.
    fn start(program: &Path, prepare: impl FnOnce(&mut Command)) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let installed = home.path().join("server");
        fs::copy(program, &installed)?;
        let mut command = Command::new(installed);
        prepare(&mut command);
        let file = fs::File::create(home.path().join("log"))?;
        let mut child = command.stdout(Stdio::piped()).stderr(file).spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().context("no standard output")?);
        let address = address(&mut stdout);
        Ok(Self {
            address: address.inspect_err(|_| drop(child.kill()))?,
            child,
            workers: Vec::new(),
            _stdout: Some(stdout),
            _home: home,
        })
    }

    /// Places its workers: the processes that it has started, else the threads of its runtime.
    pub(crate) fn place(&self, placing: Placing) -> Result<()> {
        if !self.workers.is_empty() {
            return placing.place(&self.workers);
        }
        let process = Pid::from_raw(self.child.id().cast_signed()).context("no process")?;
        placing.place(&placing::threads(process)?)
    }

    /// Reads what it has used so far, its workers included.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let mut sum = Usage::of(self.child.id())?;
        for worker in &self.workers {
            // One that was for the start only has ended, and used next to nothing.
            let Ok(usage) = Usage::of(worker.as_raw_nonzero().get().unsigned_abs()) else {
                continue;
            };
            sum.threads.extend(usage.threads);
            sum.rss += usage.rss;
            sum.peak += usage.peak;
        }
        Ok(sum)
    }
}

impl Usage {
    /// Returns the time on processors since `before`, without that of threads which have ended meanwhile.
    pub(crate) fn cpu_since(&self, before: &Self) -> Duration {
        let since = |(thread, time): (&OsString, &Duration)| {
            let before = before.threads.get(thread).copied().unwrap_or_default();
            time.saturating_sub(before)
        };
        self.threads.iter().map(since).sum()
    }

    fn of(process: u32) -> Result<Self> {
        let process = format!("/proc/{process}");
        let status = fs::read_to_string(format!("{process}/status"))?;
        Ok(Self {
            threads: threads(&process)?,
            rss: size(&status, "VmRSS:").context("no `VmRSS` in `status`")?,
            peak: size(&status, "VmHWM:").context("no `VmHWM` in `status`")?,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end_workers();
        // It is gone already, or is now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the line `proxy http://ADDRESS` that servers print at their start.
fn address(stdout: &mut impl BufRead) -> Result<SocketAddr> {
    for line in stdout.lines() {
        let line = line?;
        let Some(row) = line.strip_prefix("proxy") else {
            continue;
        };
        let address = row.trim().trim_start_matches("http://");
        return address.parse().context("no address after `proxy`");
    }
    anyhow::bail!("the server ended before it told its address")
}

/// Reads the parent's id of `proc_pid_stat(5)`, field 4.
fn parent(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

/// Reads how long each thread of a `process` was on processors (`schedstat`, nanoseconds): `stat` counts in hundredths of a second.
fn threads(process: &str) -> Result<BTreeMap<OsString, Duration>> {
    let mut threads = BTreeMap::new();
    for thread in fs::read_dir(format!("{process}/task"))? {
        let thread = thread?;
        // One that has just ended has none.
        let Ok(stat) = fs::read_to_string(thread.path().join("schedstat")) else {
            continue;
        };
        let time = stat.split_whitespace().next();
        let time = time.context("no time in `schedstat`")?.parse()?;
        threads.insert(thread.file_name(), Duration::from_nanos(time));
    }
    ensure!(!threads.is_empty(), "no `schedstat` of any thread");
    Ok(threads)
}

/// Reads a size of `proc_pid_status(5)`, bytes.
fn size(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

/// The build under measurement.
pub(crate) const REFRAIN: &str = env!("CARGO_BIN_EXE_refrain");
/// For a server to end its workers.
const PATIENCE: Duration = Duration::from_secs(5);
