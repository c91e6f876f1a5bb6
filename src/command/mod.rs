//! The command line: one file per subcommand, `serve` where none is named.
//!
//! A subcommand ends with an error of its own making or with [`config::Problems`]; which exit code that is, and how it is
//! shown, is `main`'s.

pub mod check;
pub mod demo;
pub mod failure;
pub mod hash_key;
pub mod health;
pub mod mock;
pub mod purge;
pub mod serve;
pub mod stats;

mod client;
mod operator;
mod signals;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, Parser, Subcommand};

use self::failure::Failure;
pub use self::{
    check::Check, demo::Demo, hash_key::HashKey, health::Health, mock::Mock, purge::Purge,
    serve::ServeArgs, stats::Stats,
};
use crate::config::{self, Config, Contact, Flag, Problems, Sources};

/// The command line.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "refrain",
    version,
    about = "A transparent reverse proxy for LLM APIs that answers what was answered before.",
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = EXAMPLES
)]
pub struct Cli {
    /// What to do; to serve, if nothing is said.
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serve calls; what `refrain` alone does
    Serve(ServeArgs),
    /// Say everything that is wrong with a configuration
    Check(Check),
    /// Show what it does: a mock upstream, a proxy, a handful of calls
    Demo(Demo),
    /// Hash the key of a caller, for `[[caller]]`
    HashKey(HashKey),
    /// Ask a running Refrain whether it is ready
    Health(Health),
    /// Be an OpenAI-shaped upstream, for trying things out
    Mock(Mock),
    /// Have a running Refrain forget answers
    Purge(Purge),
    /// Show what was counted: calls, hits, tokens spent and saved
    Stats(Stats),
}

/// Which configuration file is read.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigArgs {
    /// Read the settings of this file; without it, no file is read
    #[arg(long, value_name = "FILE", env = config::CONFIG_VARIABLE, hide_env_values = true)]
    pub config: Option<PathBuf>,
}

impl Cli {
    /// Returns what to do.
    pub fn command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

impl Command {
    /// Does it.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Serve(args) => serve::run(args).await,
            Self::Check(check) => check.run(&mut io::stdout().lock()),
            Self::Demo(demo) => Ok(demo.run().await?),
            Self::HashKey(hash_key) => Ok(hash_key.run()?),
            Self::Health(health) => health.run().await,
            Self::Mock(mock) => Ok(mock.run().await?),
            Self::Purge(purge) => Ok(purge.run().await?),
            Self::Stats(stats) => stats.run().await,
        }
    }
}

impl ConfigArgs {
    /// Loads the configuration out of file, environment and `flags`.
    pub fn load(&self, flags: Vec<Flag>) -> Result<Config, Problems> {
        Config::load(Sources {
            path: self.config.clone(),
            env: std::env::vars_os().collect(),
            flags,
        })
    }

    /// Finds out whom to ask, out of file and environment.
    fn contact(&self) -> Result<Contact, Problems> {
        Contact::load(Sources {
            path: self.config.clone(),
            env: std::env::vars_os().collect(),
            flags: Vec::new(),
        })
    }
}

/// Writes to standard output; a reader that went away is a failure, not a panic.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::new(format!("failed to write to standard output: {error}")))
}

const EXAMPLES: &str = "\
Examples:
  refrain                                            call OpenAI, listen on 127.0.0.1:8080
  refrain --upstream http://localhost:11434/v1       call Ollama on this machine

Every setting can also come from the environment (REFRAIN_CACHE__TTL=1h) and stands,
explained, in the file that `refrain check --print` prints.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(args: &[&str]) -> Command {
        Cli::try_parse_from(args).unwrap().command()
    }

    fn help(args: &[&str]) -> String {
        Cli::try_parse_from(args).unwrap_err().to_string()
    }

    #[test]
    fn the_command_line_is_sound() {
        <Cli as CommandFactory>::command().debug_assert();
    }

    #[test]
    fn to_serve_needs_no_word() {
        let flags = ["--listen", "127.0.0.1:1", "--listen", "[::1]:1"];
        for words in [&["refrain"][..], &["refrain", "serve"]] {
            let args: Vec<_> = words.iter().chain(&flags).copied().collect();
            let Command::Serve(serve) = parse(&args) else {
                panic!("{args:?}")
            };
            assert_eq!(serve.listen, ["127.0.0.1:1", "[::1]:1"]);
        }
    }

    #[test]
    fn flags_of_serve_do_not_go_with_another_subcommand() {
        assert!(Cli::try_parse_from(["refrain", "--listen", "127.0.0.1:1", "check"]).is_err());
        assert!(Cli::try_parse_from(["refrain", "check", "--listen", "127.0.0.1:1"]).is_err());
    }

    #[test]
    fn the_help_reads_well() {
        insta::assert_snapshot!(help(&["refrain", "--help"]), @"
    A transparent reverse proxy for LLM APIs that answers what was answered before.

    Usage: refrain [OPTIONS]
           refrain <COMMAND>

    Commands:
      serve     Serve calls; what `refrain` alone does
      check     Say everything that is wrong with a configuration
      demo      Show what it does: a mock upstream, a proxy, a handful of calls
      hash-key  Hash the key of a caller, for `[[caller]]`
      health    Ask a running Refrain whether it is ready
      mock      Be an OpenAI-shaped upstream, for trying things out
      purge     Have a running Refrain forget answers
      stats     Show what was counted: calls, hits, tokens spent and saved

    Options:
          --config <FILE>        Read the settings of this file; without it, no file is read [env: REFRAIN_CONFIG]
          --listen <ADDR>        Accept calls on this address, such as 0.0.0.0:8080; may be repeated
          --admin <ADDR|off>     Listen here for /healthz, /readyz and /metrics; `off` for not at all
          --upstream <URL>       Send calls here: what an SDK would be given as its base URL
          --redis <URL>          Share answers with other replicas in this Redis, such as `redis://user:password@host:6379`
          --log-format <FORMAT>  Write log lines as text or JSON; `auto` is text on a terminal [possible values: auto, text, json]
          --log-level <LEVEL>    Log from this level on: `debug`, or a filter such as `info,refrain=debug`
      -h, --help                 Print help
      -V, --version              Print version

    Examples:
      refrain                                            call OpenAI, listen on 127.0.0.1:8080
      refrain --upstream http://localhost:11434/v1       call Ollama on this machine

    Every setting can also come from the environment (REFRAIN_CACHE__TTL=1h) and stands,
    explained, in the file that `refrain check --print` prints.
    ");
    }

    #[test]
    fn the_help_of_check_reads_well() {
        insta::assert_snapshot!(help(&["refrain", "check", "--help"]), @"
    Say everything that is wrong with a configuration

    Usage: refrain check [OPTIONS]

    Options:
          --config <FILE>  Read the settings of this file; without it, no file is read [env: REFRAIN_CONFIG]
          --print          Print a file with every setting at its default, explained, and check nothing
      -h, --help           Print help

    Examples:
      refrain check --config proxy.toml      exits with 0, or with 78 if anything is wrong
      refrain check --print > proxy.toml     a file to start from
    ");
    }
}
