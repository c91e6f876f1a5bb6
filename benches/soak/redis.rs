//! A real Redis server, to be frozen, killed and started again.

use std::{
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A place for a server, which runs there or not; it is killed when dropped.
pub(crate) struct Redis {
    port: u16,
    home: TempDir,
    child: Option<Child>,
}

impl Redis {
    /// Finds a port for it. Nothing runs there yet.
    pub(crate) fn nowhere() -> Result<Self> {
        // The kernel gives these ports to nobody by itself, so that it is still there after a while.
        let mut free = PORTS.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
        Ok(Self {
            port: free.next().context("no free port")?,
            home: tempfile::tempdir()?,
            child: None,
        })
    }

    /// Returns the address that Refrain is given.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it, with nothing in it.
    pub(crate) fn start(&mut self) -> Result<()> {
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--port"])
            .arg(self.port.to_string())
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("no `redis-server`")?;
        self.child = Some(child);
        Ok(())
    }

    /// Stops it where it stands.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("no process")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref();
        let pid = child.and_then(|child| Pid::from_raw(child.id().cast_signed()));
        Ok(kill_process(pid.context("no process")?, signal)?)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It is gone already, or is now.
        let _ = self.kill();
    }
}

const PORTS: std::ops::Range<u16> = 21_000..32_000;
