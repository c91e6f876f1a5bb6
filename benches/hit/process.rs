//! A server process under measurement, and what the kernel says of it.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::bare;

/// A server process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Where it accepts calls.
    pub(crate) address: SocketAddr,
    /// Kept open, so that the server can write on.
    _stdout: BufReader<ChildStdout>,
    /// Where the log goes, as an operator would redirect it.
    _log: TempDir,
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Time on processors, in the program and in the kernel for it.
    pub(crate) cpu: Duration,
    /// Resident memory now, bytes.
    pub(crate) rss: u64,
    /// Most resident memory since the start, bytes.
    pub(crate) peak: u64,
}

impl Server {
    /// Starts the bare server: this very program in another role.
    pub(crate) fn bare() -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.arg(bare::ARGUMENT);
        Self::start(command)
    }

    /// Starts Refrain with nothing but an upstream, free ports, its log in a file and its answers in memory alone.
    pub(crate) fn refrain(upstream: SocketAddr) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_refrain"));
        command
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--upstream", &format!("http://{upstream}/v1")])
            .env("REFRAIN_STORE__PATH", "off");
        Self::start(command)
    }

    fn start(mut command: Command) -> Result<Self> {
        let log = tempfile::tempdir()?;
        let file = fs::File::create(log.path().join("log"))?;
        let mut child = command.stdout(Stdio::piped()).stderr(file).spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().context("no standard output")?);
        let address = address(&mut stdout);
        Ok(Self {
            address: address.inspect_err(|_| drop(child.kill()))?,
            child,
            _stdout: stdout,
            _log: log,
        })
    }

    /// Reads what it has used so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let process = format!("/proc/{}", self.child.id());
        let status = fs::read_to_string(format!("{process}/status"))?;
        let stat = fs::read_to_string(format!("{process}/stat"))?;
        Ok(Usage {
            cpu: cpu(&stat).context("no processor times in `stat`")?,
            rss: size(&status, "VmRSS:").context("no `VmRSS` in `status`")?,
            peak: size(&status, "VmHWM:").context("no `VmHWM` in `status`")?,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
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

/// Reads utime and stime of `proc_pid_stat(5)`, fields 14 and 15; the name before them may hold blanks.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let utime: u64 = fields.next()?.parse().ok()?;
    let stime: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((utime + stime) * TICK_MS))
}

/// Reads a size of `proc_pid_status(5)`, bytes.
fn size(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

/// `sysconf(_SC_CLK_TCK)` is 100 on every Linux.
const TICK_MS: u64 = 10;
