//! The real binary, started on ports of its own against a scripted upstream, with every line it prints at hand.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::watch,
};

use super::{
    client::{Answer, Exchange, Request, request},
    redis::Redis,
    spawn,
    upstream::Upstream,
    within,
};

/// A proxy to be started; see [`proxy`].
pub(crate) struct Setup {
    upstream: String,
    config: String,
    home: Option<Arc<TempDir>>,
    /// A shell's words that start the binary, `$0`, with its arguments, `$@`.
    wrapper: Option<&'static str>,
    user: Option<u32>,
    retries: bool,
    environment: Vec<(&'static str, String)>,
}

/// A running proxy. It is killed, by its process id, when it is dropped.
pub(crate) struct Proxy {
    /// Where calls are accepted.
    pub(crate) addr: SocketAddr,
    /// Where the operator looks.
    pub(crate) admin: SocketAddr,
    child: Child,
    out: Lines,
    log: Lines,
    home: Arc<TempDir>,
}

/// A run of the binary that has ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// The exit code.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

/// Lines that a process prints, as they come.
#[derive(Clone)]
pub(super) struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    /// How many lines there are; it closes with the process's stream.
    count: watch::Receiver<usize>,
}

/// Prepares a proxy in front of `upstream`, with no configuration but its address.
pub(crate) fn proxy(upstream: &Upstream) -> Setup {
    proxy_to(&upstream.base_url())
}

/// Prepares a proxy in front of whatever is at `base_url`.
pub(crate) fn proxy_to(base_url: &str) -> Setup {
    Setup {
        upstream: base_url.to_owned(),
        config: String::new(),
        home: None,
        wrapper: None,
        user: None,
        retries: false,
        environment: Vec::new(),
    }
}

/// Runs the binary to its end.
pub(crate) async fn run(args: &[&str]) -> Run {
    let home = TempDir::new().expect("a temporary directory");
    let output = command(&home).args(args).output();
    let output = within("the binary to end", output)
        .await
        .expect("the binary starts");
    Run {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Setup {
    /// Adds lines to `proxy.toml`.
    pub(crate) fn with(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self.config.push('\n');
        self
    }

    /// Has callers hear of failures as they are, without an apology.
    pub(crate) fn honest(self) -> Self {
        self.with("[fallback]\nmode = \"error\"")
    }

    /// Starts it where another proxy has lived, or lives: with what that one kept.
    pub(crate) fn in_home_of(mut self, other: &Proxy) -> Self {
        self.home = Some(other.home.clone());
        self
    }

    /// Starts it by a shell that says `words`; the binary is `"$0"`, its arguments are `"$@"`.
    pub(crate) fn by_shell(mut self, words: &'static str) -> Self {
        self.wrapper = Some(words);
        self
    }

    /// Lets it repeat tries as it does by itself; else a fault is told at once, which most tests are about.
    pub(crate) fn with_retries(mut self) -> Self {
        self.retries = true;
        self
    }

    /// Starts it as this user.
    pub(crate) fn run_by(mut self, user: u32) -> Self {
        self.user = Some(user);
        self
    }

    /// Gives the upstream these `timeouts`, an inline table.
    pub(crate) fn with_timeouts(self, table: &str) -> Self {
        self.with_upstream(&format!("timeouts = {table}"))
    }

    /// Gives the upstream these settings.
    pub(crate) fn with_upstream(self, settings: &str) -> Self {
        let base_url = self.upstream.clone();
        self.with(&format!(
            "[[upstream]]\nname = \"openai\"\nbase_url = \"{base_url}\"\n{settings}"
        ))
    }

    /// Adds another upstream with these settings.
    pub(crate) fn beside(self, name: &str, upstream: &Upstream, settings: &str) -> Self {
        let base_url = upstream.base_url();
        self.with(&format!(
            "[[upstream]]\nname = \"{name}\"\nbase_url = \"{base_url}\"\n{settings}"
        ))
    }

    /// Sets a variable of its environment.
    pub(crate) fn with_env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Has it share this server.
    pub(crate) fn with_redis(self, server: &Redis) -> Self {
        let setup = self.with_redis_at(&server.url());
        match server.ca() {
            None => setup,
            Some(ca) => setup.with_env("REFRAIN_STORE__REDIS_CA", ca.to_string_lossy()),
        }
    }

    /// Has it share what is at `url`.
    pub(crate) fn with_redis_at(self, url: &str) -> Self {
        self.with_env("REFRAIN_STORE__REDIS", url)
    }

    /// Gives all the store's work for a call this much time; else it has plenty, because a busy machine is no slow disk.
    pub(crate) fn with_budget(self, budget: &str) -> Self {
        self.with_env("REFRAIN_STORE__BUDGET", budget)
    }

    /// Starts the binary and waits until it says where it listens.
    pub(crate) async fn start(self) -> Proxy {
        let new_home = || Arc::new(TempDir::new().expect("a temporary directory"));
        let home = self.home.unwrap_or_else(new_home);
        let file = home.path().join("proxy.toml");
        std::fs::write(&file, &self.config).expect("a writable temporary directory");
        let mut command = self
            .wrapper
            .map_or_else(|| command(&home), |words| shell(&home, words));
        if !self.retries {
            command.env("REFRAIN_RETRY__ATTEMPTS", "0");
        }
        command.envs(self.environment);
        if let Some(user) = self.user {
            command.uid(user);
        }
        let mut child = command
            .arg("--config")
            .arg(&file)
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--upstream", &self.upstream])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let out = Lines::of(child.stdout.take().expect("standard output is piped"));
        let log = Lines::of(child.stderr.take().expect("standard error is piped"));
        let mut proxy = Proxy {
            addr: NOWHERE,
            admin: NOWHERE,
            child,
            out,
            log,
            home,
        };
        proxy.admin = proxy.announced("admin", "").await;
        proxy.addr = proxy.announced("export OPENAI_BASE_URL=", "/v1").await;
        proxy
    }
}

impl Proxy {
    /// Sends `request` and reads the whole answer.
    pub(crate) async fn send(&self, request: &Request) -> Answer {
        request.send(self.addr).await
    }

    /// Sends `request` and leaves the answer to be read.
    pub(crate) async fn open(&self, request: &Request) -> Exchange {
        request.open(self.addr).await
    }

    /// Asks the admin listener.
    pub(crate) async fn admin(&self, path: &str) -> Answer {
        request("GET", path).send(self.admin).await
    }

    /// Returns the sum of the metric `name` over all series whose labels hold every one of `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let page = self.admin("/metrics").await.text();
        let series = page.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        let values = series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum()
    }

    /// Asserts that the metric `name`, over series whose labels hold every one of `labels`, is `expected`.
    pub(crate) async fn assert_metric(&self, name: &str, labels: &[&str], expected: u32) {
        let metric = self.metric(name, labels).await;
        let off = (metric - f64::from(expected)).abs();
        assert!(off < 0.5, "{name} {labels:?} is {metric}, not {expected}");
    }

    /// Waits until `count` calls have joined another's.
    pub(crate) async fn joined(&self, count: u32) {
        let joined =
            async { while self.metric("refrain_followers_total", &[]).await < f64::from(count) {} };
        within("calls to join", joined).await;
    }

    /// Waits for the `count`-th log line about a call and returns its fields.
    pub(crate) async fn call_line(&self, count: usize) -> Value {
        self.call_lines(count)
            .await
            .pop()
            .expect("as many lines as waited for")
    }

    /// Waits for `count` log lines about calls and returns the fields of each.
    pub(crate) async fn call_lines(&self, count: usize) -> Vec<Value> {
        let what = format!("{count} log lines about calls");
        let enough = |lines: &[String]| calls(lines).nth(count - 1).is_some();
        let lines = self.wait(&self.log, &what, enough).await;
        calls(&lines).take(count).collect()
    }

    /// Waits for a log line about a call that has this `field` with this `value`.
    pub(crate) async fn call_with(&self, field: &str, value: &str) -> Value {
        let what = format!("a log line with {field}={value}");
        let fits = |fields: &Value| fields[field] == value;
        let found = |lines: &[String]| calls(lines).any(|call| fits(&call));
        let lines = self.wait(&self.log, &what, found).await;
        calls(&lines).find(fits).expect("the line waited for")
    }

    /// Returns everything printed so far, on either stream.
    pub(crate) fn printed(&self) -> String {
        [self.out.now(), self.log.now()].concat().join("\n")
    }

    /// Asks the process to end (SIGTERM).
    pub(crate) fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).expect("a child of ours can be signalled");
    }

    /// Asks the process to reload, as other servers understand it (SIGHUP).
    pub(crate) fn hang_up(&self) {
        kill_process(self.pid(), Signal::HUP).expect("a child of ours can be signalled");
    }

    /// Ends the process as a crash would (SIGKILL), and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        let killed = within("the process to be gone", self.child.kill()).await;
        killed.expect("a child of ours can be killed");
    }

    /// Returns the id of the process.
    pub(crate) fn pid(&self) -> Pid {
        let id = self.child.id();
        let pid = id.and_then(|id| Pid::from_raw(id.cast_signed()));
        pid.expect("the process still runs")
    }

    /// Returns the path of its database.
    pub(crate) fn database(&self) -> PathBuf {
        self.home.path().join("refrain/refrain.db")
    }

    /// Waits until the metric `name` is at least `least`.
    pub(crate) async fn counted(&self, name: &str, least: f64) {
        self.counted_with(name, &[], least).await;
    }

    /// Waits until the metric `name`, over series whose labels hold every one of `labels`, is at least `least`.
    pub(crate) async fn counted_with(&self, name: &str, labels: &[&str], least: f64) {
        let what = format!("{name} {labels:?} to be at least {least}");
        let counted = async { while self.metric(name, labels).await < least {} };
        within(&what, counted).await;
    }

    /// Asserts that the metric `name`, over series whose labels hold every one of `labels`, is exactly `count`.
    pub(crate) async fn assert_count(&self, name: &str, labels: &[&str], count: u32) {
        let seen = self.metric(name, labels).await;
        let off = (seen - f64::from(count)).abs();
        assert!(off < 0.5, "{name} {labels:?} is {seen} instead of {count}");
    }

    /// Waits until the metric `name` is zero.
    pub(crate) async fn fell_to_zero(&self, name: &str) {
        let fallen = async { while self.metric(name, &[]).await > 0.0 {} };
        within(&format!("{name} to be zero"), fallen).await;
    }

    /// Waits for a log line other than a call's, by its message, and returns its fields.
    pub(crate) async fn logged(&self, message: &str) -> Value {
        let what = format!("`{message}` in the log");
        let fits = |line: &&String| line.contains(message);
        let lines = self.wait(&self.log, &what, |lines| {
            lines.iter().any(|line| fits(&line))
        });
        let lines = lines.await;
        let line = lines.iter().find(fits).expect("the line waited for");
        serde_json::from_str(line).expect("a line of JSON")
    }

    /// Waits until new connections are refused.
    pub(crate) async fn refusing(&self) {
        let refused = async { while TcpStream::connect(self.addr).await.is_ok() {} };
        within("new connections to be refused", refused).await;
    }

    /// Waits for the process to end, and leaves what it kept.
    pub(crate) async fn ended(&mut self) {
        let exit = within("the process to end", self.child.wait()).await;
        exit.expect("a child of ours can be waited for");
    }

    /// Waits for as long as a connection may stand without a call: until one that is opened now has been closed.
    pub(crate) async fn idle_time(&self) {
        let mut silent = Exchange::raw(self.addr, b"").await;
        silent.closed().await;
    }

    /// Waits for the process to end.
    pub(crate) async fn exit(mut self) -> ExitStatus {
        let exit = within("the process to end", self.child.wait()).await;
        exit.expect("a child of ours can be waited for")
    }

    async fn announced(&self, before: &str, after: &str) -> SocketAddr {
        let address = |line: &String| {
            let rest = line.trim().strip_prefix(before)?.trim();
            let authority = rest.strip_prefix("http://")?.strip_suffix(after)?;
            authority.parse::<SocketAddr>().ok()
        };
        let what = format!("`{before}` in the banner");
        let announced = |lines: &[String]| lines.iter().any(|line| address(line).is_some());
        let lines = self.wait(&self.out, &what, announced).await;
        lines.iter().find_map(address).expect("the line waited for")
    }

    /// Waits until `lines` are as `wanted`; a process that ends first fails the test with all it said.
    async fn wait(
        &self,
        lines: &Lines,
        what: &str,
        wanted: impl Fn(&[String]) -> bool,
    ) -> Vec<String> {
        if let Some(lines) = lines.until(what, wanted).await {
            return lines;
        }
        self.log.ended().await;
        panic!("the proxy ended before {what}:\n{}", self.printed());
    }
}

impl Lines {
    /// Reads `stream` line by line.
    pub(super) fn of(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let (sender, count) = watch::channel(0);
        let kept = lines.clone();
        spawn(async move {
            let mut reader = BufReader::new(stream).lines();
            while let Ok(Some(line)) = reader.next_line().await {
                kept.lock()
                    .expect("lines are never held across a panic")
                    .push(line);
                sender.send_modify(|count| *count += 1);
            }
        });
        Self { lines, count }
    }

    /// Returns the lines so far.
    pub(super) fn now(&self) -> Vec<String> {
        let lines = self.lines.lock();
        lines.expect("lines are never held across a panic").clone()
    }

    /// Waits until the lines are as `wanted`; `None` when the stream ends first.
    pub(super) async fn until(
        &self,
        what: &str,
        wanted: impl Fn(&[String]) -> bool,
    ) -> Option<Vec<String>> {
        let mut count = self.count.clone();
        let seen = count.wait_for(|_| wanted(&self.now()));
        let seen = within(what, seen).await.is_ok();
        seen.then(|| self.now())
    }

    /// Waits until the stream ends.
    async fn ended(&self) {
        let mut count = self.count.clone();
        within("the log to end", async {
            while count.changed().await.is_ok() {}
        })
        .await;
    }
}

/// Returns the binary with nothing of the tester's own environment that it would read.
fn command(home: &TempDir) -> Command {
    prepared(Command::new(env!("CARGO_BIN_EXE_refrain")), home)
}

/// Returns a shell that says `words`, with the binary as its `$0`.
fn shell(home: &TempDir, words: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(words);
    shell.arg(env!("CARGO_BIN_EXE_refrain"));
    prepared(shell, home)
}

fn prepared(mut command: Command, home: &TempDir) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("REFRAIN_") {
            command.env_remove(name);
        }
    }
    command
        .env("XDG_CACHE_HOME", home.path())
        // A busy machine is no slow disk.
        .env("REFRAIN_STORE__BUDGET", "10s")
        .env_remove("STATE_DIRECTORY")
        .current_dir(home.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Returns the fields of each log line that is about a call.
fn calls(lines: &[String]) -> impl Iterator<Item = Value> {
    let parsed = lines
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let fields = parsed.map(|line| match line.get("fields") {
        Some(fields) => fields.clone(),
        None => line,
    });
    fields.filter(|fields| fields["message"] == "call")
}

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
