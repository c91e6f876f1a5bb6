//! A Redis server of its own, with nothing in it, and what it says of itself.

use std::{
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use redis::{FromRedisValue, Value, aio::MultiplexedConnection, cmd};
use refrain::config::{Host, Redis as Settings, RedisAddress, Servers};
use tempfile::TempDir;
use tokio::time::sleep;

/// A running server; killed when dropped.
pub(crate) struct Server {
    port: u16,
    child: Child,
    connection: MultiplexedConnection,
    _home: TempDir,
}

impl Server {
    /// Starts it and waits until it listens.
    pub(crate) async fn start() -> Result<Self> {
        let home = tempfile::tempdir()?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let mut child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--port"])
            .arg(port.to_string())
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("no `redis-server`")?;
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}"))?;
        for _ in 0..100 {
            if let Ok(connection) = client.get_multiplexed_async_connection().await {
                return Ok(Self {
                    port,
                    child,
                    connection,
                    _home: home,
                });
            }
            sleep(Duration::from_millis(50)).await;
        }
        child.kill()?;
        bail!("the server does not listen")
    }

    /// Returns what a store is told of it.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            address: RedisAddress {
                tls: false,
                user: None,
                password: None,
                servers: Servers::Single(Host {
                    name: "127.0.0.1".to_owned(),
                    port: self.port,
                }),
                database: 0,
            },
            prefix: "refrain:".to_owned(),
            ca: None,
            budget: Duration::from_millis(50),
        }
    }

    /// Returns the bytes that it uses (`used_memory` of `INFO memory`).
    pub(crate) async fn used(&self) -> Result<u64> {
        let info: String = self.ask(&["INFO", "memory"]).await?;
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:"));
        Ok(line.context("no `used_memory`")?.trim().parse()?)
    }

    /// Returns how many keys it has.
    pub(crate) async fn entries(&self) -> Result<u64> {
        self.ask(&["DBSIZE"]).await
    }

    /// Has it remember commands that take more than a tenth of a millisecond.
    pub(crate) async fn watch_slow_commands(&self) -> Result<()> {
        for (name, value) in [
            ("slowlog-max-len", "100000"),
            ("slowlog-log-slower-than", "100"),
        ] {
            let () = self.ask(&["CONFIG", "SET", name, value]).await?;
        }
        self.ask(&["SLOWLOG", "RESET"]).await
    }

    /// Returns what the slowest commands were.
    pub(crate) async fn slowest(&self) -> Result<String> {
        let log: Vec<Value> = self.ask(&["SLOWLOG", "GET", "-1"]).await?;
        let times = log.iter().filter_map(|row| match row {
            Value::Array(row) => match (row.get(2), row.get(3)) {
                (Some(Value::Int(micros)), Some(Value::Array(words))) => {
                    Some((*micros, words.first().map(|word| format!("{word:?}"))))
                }
                _ => None,
            },
            _ => None,
        });
        let mut times: Vec<_> = times.collect();
        times.sort_unstable_by(|one, other| other.cmp(one));
        let over = times.iter().filter(|(micros, _)| *micros > 1_000).count();
        times.truncate(3);
        Ok(format!(
            "{} commands took more than 0.1 ms, {over} more than 1 ms; the slowest, us: {times:?}",
            log.len()
        ))
    }

    async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> Result<T> {
        let mut command = cmd(words.first().context("no command")?);
        for word in words.iter().skip(1) {
            command.arg(word);
        }
        Ok(command.query_async(&mut self.connection.clone()).await?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is gone already, or is now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
