//! `refrain mock`: an OpenAI-shaped upstream on this machine, for trying things out and for tests.
//!
//! It answers chat completions (plain and streamed), embeddings and the list of models with made-up text, after a
//! chosen latency and at a chosen pace. Every answer has a fresh `id`: two answers with one `id` came from one call.
//!
//! # Scope
//! It has the shapes of the OpenAI API, not its rules: it accepts every model name and every parameter, and honours
//! those that change the shape of an answer. Its text depends on the last user message and on nothing else.

mod ask;
mod chat;
mod completion;
mod dice;
mod embedding;
mod fault;
mod refusal;
mod reply;
mod route;
mod sample;
mod say;
mod server;
#[cfg(test)]
mod tests;

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, task::JoinSet};

use self::{route::Calls, server::Server};
use super::{failure::Failure, print, signals::Signals};

/// Run an OpenAI-shaped upstream that makes its answers up
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Some models fail on demand:
  mock-401    invalid key
  mock-429    too many requests, `Retry-After: 1`
  mock-500    server error
  mock-cut    the answer breaks off: a stream after 3 events, a plain answer in its middle
  mock-stall  the same, but the connection stays open and silent
  mock-slow   the first byte comes 5 s later

A prompt with the words `call tools`, sent with `tools`, is answered by two parallel tool calls.
`GET /mock/stats` counts the calls since the start.

Example:
  refrain mock --latency 300ms --pace 60 &
  refrain --upstream http://127.0.0.1:9000/v1")]
pub struct Mock {
    /// Address to listen on; port 0 takes a free one and prints it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    pub listen: String,
    /// How it answers.
    #[command(flatten)]
    pub options: Options,
}

/// How the mock answers.
#[derive(clap::Args, Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Wait before the first byte of an answer, such as 300ms
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = humantime::parse_duration)]
    pub latency: Duration,
    /// Tokens per second; 0 = all at once
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub pace: u32,
    /// Length of an answer's text, tokens
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub tokens: u32,
    /// Accept this API key and refuse others; repeatable [default: any key, or none]
    #[arg(long = "key", value_name = "KEY")]
    pub keys: Vec<String>,
}

/// A mock that was started; dropping it cuts its connections.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    calls: Arc<Calls>,
    task: JoinSet<()>,
}

/// Starts the mock on `listener`; it runs until `shutdown` is ready, then cuts what is under way.
///
/// # Errors
/// When the listener cannot tell its address.
pub fn start(
    listener: TcpListener,
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<Running> {
    let address = listener.local_addr()?;
    let server = Server::new(options);
    let calls = server.calls();
    let mut task = JoinSet::new();
    task.spawn(server.run(listener, shutdown));
    Ok(Running {
        address,
        calls,
        task,
    })
}

impl Mock {
    /// Runs the mock until SIGINT or SIGTERM.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn run(self) -> Result<(), Failure> {
        let mut signals = Signals::listen()?;
        let running = self.bind().await.map_err(|error| {
            Failure::new(format!("failed to listen on `{}`: {error}", self.listen))
                .hint("give another address with `--listen`; port 0 takes a free one")
        })?;
        print(&format!("mock       {}\n", running.base_url()))?;
        signals.received().await;
        Ok(())
    }

    async fn bind(&self) -> io::Result<Running> {
        let listener = TcpListener::bind(&self.listen).await?;
        start(listener, self.options.clone(), std::future::pending())
    }
}

impl Running {
    /// Returns the address it listens on, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what an SDK would be given as its base URL.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Returns how many calls arrived since the start, refused ones included.
    pub fn calls(&self) -> u64 {
        self.calls.total()
    }

    /// Waits until the mock has shut down, connections included.
    pub async fn stopped(mut self) {
        while self.task.join_next().await.is_some() {}
    }
}

impl Options {
    /// Returns how long one token takes.
    fn step(&self) -> Duration {
        Duration::from_secs(1)
            .checked_div(self.pace)
            .unwrap_or_default()
    }
}

impl Default for Options {
    /// The defaults of the command line.
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            pace: 0,
            tokens: 24,
            keys: Vec::new(),
        }
    }
}
