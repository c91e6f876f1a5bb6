//! The program: command line to exit code. Everything else is in the library.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
use refrain::{command::Cli, config::Problems};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A wrong command line ends here, with its message and exit code 2.
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    // Fails only if there is a provider already, and then there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no threads to run on")?
        .block_on(cli.command().run())
}

/// Tells the error on standard error and returns its exit code.
fn fail(error: &anyhow::Error) -> ExitCode {
    let (message, code) = match error.downcast_ref::<Problems>() {
        Some(problems) => (problems.to_string(), INVALID_CONFIG),
        None => (format!("error: {error:#}"), FAILURE),
    };
    // Nobody is left to be told if this fails, too.
    let _ = writeln!(io::stderr(), "{message}");
    ExitCode::from(code)
}

const FAILURE: u8 = 1;

/// `EX_CONFIG` of sysexits(3).
const INVALID_CONFIG: u8 = 78;
