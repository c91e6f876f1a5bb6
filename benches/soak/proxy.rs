//! The real binary with its log in a file, its metrics, and what the kernel says of it.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

/// A running proxy; killed when dropped.
pub(crate) struct Proxy {
    /// Where it accepts calls.
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    child: Child,
    home: TempDir,
    /// Kept open, so that it can write on.
    _stdout: BufReader<ChildStdout>,
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// Resident memory, bytes.
    pub(crate) rss: u64,
    /// Open descriptors.
    pub(crate) fds: usize,
}

/// Looks at a proxy from beside, also while it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch(SocketAddr);

/// The metrics of one moment.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(String);

impl Proxy {
    /// Starts it with this configuration and free ports: the binary that `REFRAIN_BIN` names, else the one built beside.
    pub(crate) fn start(config: &str) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let file = home.path().join("proxy.toml");
        fs::write(&file, config)?;
        let log = fs::File::create(home.path().join("log"))?;
        let binary = env::var_os("REFRAIN_BIN");
        let binary = binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_refrain").into());
        let mut command = Command::new(binary);
        for (name, _) in env::vars_os().filter(|(name, _)| is_ours(name)) {
            command.env_remove(name);
        }
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .arg("--config")
            .arg(&file)
            .env("XDG_CACHE_HOME", home.path())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().context("no standard output")?);
        let banner = banner(&mut stdout).inspect_err(|_| drop(child.kill()));
        let (address, admin) = banner
            .with_context(|| fs::read_to_string(home.path().join("log")).unwrap_or_default())?;
        Ok(Self {
            address,
            admin,
            child,
            home,
            _stdout: stdout,
        })
    }

    /// Asks for the metrics.
    pub(crate) async fn metrics(&self) -> Result<Metrics> {
        self.watch().metrics().await
    }

    /// Returns what looks at it.
    pub(crate) fn watch(&self) -> Watch {
        Watch(self.admin)
    }

    /// Reads what it holds now.
    pub(crate) fn held(&self) -> Result<Held> {
        let process = format!("/proc/{}", self.child.id());
        let status = fs::read_to_string(format!("{process}/status"))?;
        let rss = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
            .context("no `VmRSS` in `status`")?;
        Ok(Held {
            rss: rss.parse::<u64>()? << 10,
            fds: fs::read_dir(format!("{process}/fd"))?.count(),
        })
    }

    /// Asks it to end and waits until it has; returns its exit code.
    pub(crate) async fn end(&mut self) -> Result<Option<i32>> {
        let process = Pid::from_raw(self.child.id().cast_signed()).context("no process")?;
        kill_process(process, Signal::TERM)?;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            sleep(Duration::from_millis(50)).await;
        }
        bail!("the proxy has not ended within {PATIENCE:?}")
    }

    /// Returns where its log is.
    pub(crate) fn log(&self) -> PathBuf {
        self.home.path().join("log")
    }
}

impl Watch {
    /// Asks for the metrics.
    pub(crate) async fn metrics(self) -> Result<Metrics> {
        get(self.0, "/metrics").await.map(Metrics)
    }

    /// Asks whether it is ready; one that cannot be asked is not.
    pub(crate) async fn is_ready(self) -> bool {
        let page = get(self.0, "/readyz").await;
        page.is_ok_and(|page| page.split(' ').nth(1) == Some("200"))
    }
}

impl Metrics {
    /// Returns the sum of the metric `name`, which counts, over all series whose labels hold every one of `labels`.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        let series = self.0.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        series
            .filter_map(|line| {
                line.rsplit(' ')
                    .next()?
                    .split('.')
                    .next()?
                    .parse::<u64>()
                    .ok()
            })
            .sum()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It is gone already, or is now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns whether the proxy would take a variable of this name for a setting.
fn is_ours(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with("REFRAIN_")
}

/// Asks for a page of the admin listener; returns it with its head.
async fn get(admin: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(admin).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {admin}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    Ok(page)
}

/// Reads where it listens: for calls, and for its operator.
fn banner(stdout: &mut BufReader<ChildStdout>) -> Result<(SocketAddr, SocketAddr)> {
    let mut admin = None;
    for line in stdout.lines() {
        let line = line?;
        if let Some(rest) = line.strip_prefix("admin") {
            admin = rest.trim().trim_start_matches("http://").parse().ok();
        }
        if let Some(rest) = line.strip_prefix("export OPENAI_BASE_URL=http://") {
            let address = rest.trim_end_matches("/v1").parse()?;
            return Ok((address, admin.context("no admin listener")?));
        }
    }
    bail!("the proxy ended before it told its address")
}

/// For the proxy to drain.
const PATIENCE: Duration = Duration::from_secs(60);
