//! `refrain serve`: its flags, the configuration that they lead to, the start and the end.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal},
    net::SocketAddr,
};

use clap::Args;

use super::{ConfigArgs, client::reachable, failure::Failure, print, signals::Signals};
use crate::{
    app::App,
    config::{Config, Flag, Problems},
    error::Error,
    ledger::{
        log::{Flush, Log},
        panics,
    },
};

/// Flags of `refrain serve`; each stands for a setting and counts more than file and environment.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Accept calls on this address, such as 0.0.0.0:8080; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<String>,
    /// Listen here for /healthz, /readyz and /metrics; `off` for not at all
    #[arg(long, value_name = "ADDR|off")]
    pub admin: Option<String>,
    /// Send calls here: what an SDK would be given as its base URL
    #[arg(long, value_name = "URL")]
    pub upstream: Option<String>,
    /// Share answers with other replicas in this Redis, such as `redis://user:password@host:6379`
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// Write log lines as text or JSON; `auto` is text on a terminal
    #[arg(long, value_name = "FORMAT", value_parser = ["auto", "text", "json"])]
    pub log_format: Option<String>,
    /// Log from this level on: `debug`, or a filter such as `info,refrain=debug`
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// Serves until SIGINT or SIGTERM, then drains; a second of them ends at once. A SIGHUP changes nothing.
pub async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let config = args.config()?;
    let mut signals = Signals::listen()?.outliving_hangups()?;
    let (log, flush) = Log::start(&config.log, io::stderr().is_terminal(), io::stderr());
    log.trace(&config.log.level);
    panics::watch();
    for warning in &config.warnings {
        let complaint = warning.complaint();
        tracing::warn!(
            setting = warning.key(),
            what = complaint.what,
            hint = complaint.hint,
            "doubtful setting"
        );
    }
    let app = App::start(&config, log).await.map_err(|error| {
        Failure::from(error)
            .hint("`--listen` and `--admin` name other addresses, `--admin off` none")
    })?;
    print(&banner(&config, &app))?;
    signals.received().await;
    tracing::info!("draining");
    tokio::select! {
        drained = app.stop() => tracing::info!(drained, "stopped"),
        () = signals.received() => {
            app.cut().await;
            tracing::warn!("stopped by a second signal");
        }
    }
    drop(flush);
    Ok(())
}

/// Starts a proxy inside this process, which neither prints nor logs.
pub async fn start(config: Config) -> Result<Running, Error> {
    let (log, flush) = Log::start(&config.log, false, io::sink());
    let app = App::start(&config, log).await?;
    Ok(Running {
        proxy: app.proxy.clone(),
        app,
        _flush: flush,
    })
}

/// A proxy inside this process.
#[derive(Debug)]
pub struct Running {
    /// Addresses that it accepts calls on.
    pub proxy: Vec<SocketAddr>,
    app: App,
    _flush: Flush,
}

impl Running {
    /// Drains and stops; returns whether all calls ended by themselves.
    pub async fn stop(self) -> bool {
        self.app.stop().await
    }
}

/// What the start prints: where it listens, where calls go, what an app has to set.
fn banner(config: &Config, app: &App) -> String {
    let mut text = format!("refrain {}\n", env!("CARGO_PKG_VERSION"));
    let mut row = |name: &str, value: &str| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name:<10} {value}");
    };
    for address in &app.proxy {
        row("proxy", &format!("http://{address}"));
    }
    match app.admin {
        Some(address) => row("admin", &format!("http://{address}")),
        None => row("admin", "off"),
    }
    for upstream in &config.upstreams {
        row(
            "upstream",
            &format!("{} {}", upstream.name, upstream.base_url),
        );
    }
    row("store", &tiers(config, app.has_disk()));
    if let Some(address) = app.proxy.first() {
        let _ = write!(
            text,
            "\nexport OPENAI_BASE_URL=http://{}/v1\n",
            reachable(*address)
        );
    }
    text
}

/// Returns where answers are kept, and how much of them.
fn tiers(config: &Config, has_disk: bool) -> String {
    let size = |bytes| bytesize::ByteSize(bytes).display().iec();
    let memory = format!("memory, at most {}", size(config.store.memory));
    if let Some(redis) = &config.store.redis {
        return format!("{memory}; {}", redis.address);
    }
    match &config.store.disk {
        Some(disk) if has_disk => {
            let (path, bound) = (disk.path.display(), size(disk.max_size));
            format!("{memory}; disk {path}, at most {bound}")
        }
        Some(disk) => format!("{memory}; disk {} does not work", disk.path.display()),
        None => memory,
    }
}

impl ServeArgs {
    /// Loads the configuration to serve with.
    pub fn config(&self) -> Result<Config, Problems> {
        self.config.load(self.flags())
    }

    /// Returns the flags that were given.
    fn flags(&self) -> Vec<Flag> {
        let one = |value: &Option<String>| value.iter().cloned().collect();
        let flags = [
            ("--listen", "listen", self.listen.clone()),
            ("--admin", "admin.listen", one(&self.admin)),
            ("--upstream", "upstream.base_url", one(&self.upstream)),
            ("--redis", "store.redis", one(&self.redis)),
            ("--log-format", "log.format", one(&self.log_format)),
            ("--log-level", "log.level", one(&self.log_level)),
        ];
        flags
            .into_iter()
            .filter(|(.., values)| !values.is_empty())
            .map(|(name, key, values)| Flag { name, key, values })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LogFormat, Sources};

    #[test]
    fn every_flag_reaches_its_setting() {
        let args = ServeArgs {
            listen: vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()],
            admin: Some("off".to_owned()),
            upstream: Some("http://localhost:11434".to_owned()),
            redis: Some("redis://:canary@h/1".to_owned()),
            log_format: Some("json".to_owned()),
            log_level: Some("debug".to_owned()),
            ..ServeArgs::default()
        };
        let config = Config::load(Sources {
            flags: args.flags(),
            ..Sources::default()
        })
        .unwrap();
        assert_eq!(config.listen, args.listen);
        assert_eq!(config.admin.listen, None);
        assert_eq!(
            config.first_upstream().base_url.to_string(),
            "http://localhost:11434/v1"
        );
        let redis = config.store.redis.as_ref().unwrap();
        assert_eq!(redis.address.to_string(), "redis://h:6379/1");
        assert!(!format!("{config:?}").contains("canary"));
        assert_eq!(config.log.format, LogFormat::Json);
        assert_eq!(config.log.level, "debug");
    }

    #[test]
    fn a_flag_that_is_not_given_leaves_its_setting_alone() {
        assert_eq!(ServeArgs::default().flags(), []);
    }
}
