//! Real Redis servers on loopback ports of their own, to be killed, stopped and started again.
//!
//! A test begins by `let Some(server) = redis().start().await else { return };`: where there is no `redis-server`, it is
//! skipped, and [`skip`] says so. `REFRAIN_TEST_REDIS` names another program to be run in its place, such as
//! `/usr/bin/valkey-server`; its command line client lies beside it.

mod cluster;
mod sentinel;

use std::{
    collections::hash_map::RandomState,
    env, fs,
    hash::BuildHasher as _,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
};

use ::redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, Pipeline, RedisResult, TlsCertificates,
    Value, aio::MultiplexedConnection, cmd,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::Mutex,
};

use super::{proxy::Lines, skip, tls::Authority, within};

pub(crate) use self::{
    cluster::{Cluster, cluster},
    sentinel::{Sentinels, follower, sentinels},
};

/// A server to be started; see [`redis`].
#[derive(Default)]
pub(crate) struct Plan {
    config: String,
    arguments: &'static [&'static str],
    /// The user and the password that Refrain goes by.
    credential: Option<(&'static str, &'static str)>,
    /// The user and the password that the test goes by.
    own: Option<(&'static str, &'static str)>,
    tls: Option<Authority>,
}

/// A running server. It is killed, by its process id, when it is dropped.
pub(crate) struct Redis {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    plan: Plan,
    home: TempDir,
    child: Child,
    is_frozen: AtomicBool,
    log: Lines,
    connection: Mutex<Option<MultiplexedConnection>>,
}

/// Prepares a server that keeps nothing on disk and lets everybody in.
pub(crate) fn redis() -> Plan {
    Plan::default().with("save \"\"")
}

impl Plan {
    /// Adds a line to its configuration.
    pub(crate) fn with(mut self, line: &str) -> Self {
        self.config.push_str(line);
        self.config.push('\n');
        self
    }

    /// Has it keep every write on disk, so that a restart finds it.
    pub(crate) fn aof(self) -> Self {
        self.with("appendonly yes").with("appendfsync always")
    }

    /// Has it ask for this password.
    pub(crate) fn password(mut self, password: &'static str) -> Self {
        self.credential = Some(("", password));
        self.own = self.credential;
        self.with(&format!("requirepass {password}"))
    }

    /// Has it let nobody in but this user, who may do what `rules` say.
    pub(crate) fn acl(mut self, user: &'static str, password: &'static str, rules: &str) -> Self {
        self.credential = Some((user, password));
        self.own = Some(("tester", "tester"));
        self.with("user default off")
            .with("user tester on >tester ~* &* +@all")
            .with(&format!("user {user} on >{password} {rules}"))
    }

    /// Has it speak TLS only, and show a certificate of an authority of its own.
    pub(crate) fn tls(mut self) -> Self {
        self.tls = Some(Authority::called("The authority of Redis"));
        self
    }

    /// Gives it this much memory, with a policy for when that is full.
    pub(crate) fn maxmemory(self, bytes: u32, policy: &str) -> Self {
        self.with(&format!("maxmemory {bytes}"))
            .with(&format!("maxmemory-policy {policy}"))
    }

    /// Starts it and waits until it listens; `None` where Redis is not installed.
    pub(crate) async fn start(self) -> Option<Redis> {
        if !installed() {
            skip(&format!("needs `{}`", program("server")));
            return None;
        }
        let home = home();
        for _ in 0..TRIES {
            let addr = SocketAddr::new(LOCALHOST, free_port());
            self.write(&home, addr);
            // Somebody else may have been faster.
            if let Some((child, log)) = self.launch(&home).await {
                return Some(Redis {
                    addr,
                    plan: self,
                    home,
                    child,
                    is_frozen: AtomicBool::new(false),
                    log,
                    connection: Mutex::default(),
                });
            }
        }
        panic!("no redis-server has started:\n{}", self.config);
    }

    /// Writes its configuration; a sentinel goes on to write into it what it has learnt.
    fn write(&self, home: &TempDir, addr: SocketAddr) {
        let port = addr.port();
        let listens = match &self.tls {
            None => format!("port {port}\n"),
            Some(authority) => {
                let (shown, ca) = (authority.vouch_for(&addr.ip().to_string()), authority.pem());
                let (cert, key) = (shown.cert.display(), shown.key.display());
                format!(
                    "port 0\ntls-port {port}\ntls-cert-file {cert}\ntls-key-file {key}\n\
                     tls-ca-cert-file {}\ntls-auth-clients no\n",
                    ca.display()
                )
            }
        };
        let text = format!("bind {LOCALHOST}\n{listens}{}", self.config);
        fs::write(home.path().join(FILE), text).expect("a writable directory");
    }

    /// Starts the process; `None` when it ends before it listens.
    async fn launch(&self, home: &TempDir) -> Option<(Child, Lines)> {
        let mut child = Command::new(program("server"))
            .arg(FILE)
            .args(self.arguments)
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("a Redis server starts");
        let log = Lines::of(child.stdout.take().expect("standard output is piped"));
        let ready = |line: &String| READY.iter().any(|ready| line.contains(ready));
        let listens = log.until("a Redis server to listen", |lines| lines.iter().any(ready));
        listens.await.is_some().then_some((child, log))
    }
}

impl Redis {
    /// Returns the address that Refrain is given.
    pub(crate) fn url(&self) -> String {
        self.url_of(self.plan.credential)
    }

    /// Returns the file with the certificate of whoever vouches for it.
    pub(crate) fn ca(&self) -> Option<PathBuf> {
        self.plan.tls.as_ref().map(Authority::pem)
    }

    /// Runs a command, such as `["INFO", "memory"]`, and returns its reply as a person would read it.
    pub(crate) async fn cli(&self, words: &[&str]) -> String {
        spelled(&self.ask::<Value>(&command(words)).await)
    }

    /// Runs a command that has to succeed.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> T {
        let reply = self.try_ask(command).await;
        reply.unwrap_or_else(|why| panic!("{why} after {command:?}"))
    }

    /// Runs a command.
    pub(crate) async fn try_ask<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let mut connection = self.connection().await?;
        let reply = within("a reply of Redis", command.query_async(&mut connection)).await;
        match reply {
            // Sentinels hang up on everybody when they promote a replica.
            Err(why) if why.is_io_error() => {
                *self.connection.lock().await = None;
                let mut connection = self.connection().await?;
                within("a reply of Redis", command.query_async(&mut connection)).await
            }
            reply => reply,
        }
    }

    /// Runs commands in one go, all of which have to succeed.
    pub(crate) async fn ask_all<T: FromRedisValue>(&self, commands: &Pipeline) -> T {
        let mut connection = self.connection().await.expect("a connection to Redis");
        let replies = within("replies of Redis", commands.query_async(&mut connection));
        replies.await.expect("commands that succeed")
    }

    /// Runs a command until its reply is as `wanted`, and returns that.
    pub(crate) async fn until(&self, words: &[&str], wanted: impl Fn(&str) -> bool) -> String {
        let asked = async {
            loop {
                let reply = self.cli(words).await;
                if wanted(&reply) {
                    return reply;
                }
            }
        };
        within(&format!("another reply to {words:?}"), asked).await
    }

    /// Waits until a replica has all that lies here now. `WAIT` would wait for what its own connection has written, and for
    /// nothing of what others have; and a replica whose link is up may get nothing for a second yet.
    pub(crate) async fn replicated(&self) {
        let here = offsets(&self.cli(&["INFO", "replication"]).await).0;
        let has_all = |info: &str| offsets(info).1.is_some_and(|there| there >= here);
        self.until(&["INFO", "replication"], has_all).await;
    }

    /// Returns the keys that match `pattern`, found as one may find them: by SCAN.
    pub(crate) async fn keys(&self, pattern: &str) -> Vec<Vec<u8>> {
        let (mut cursor, mut keys) = (0, Vec::new());
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(pattern);
            scan.arg("COUNT").arg(1_000);
            let (next, page): (u64, Vec<Vec<u8>>) = self.ask(&scan).await;
            keys.extend(page);
            cursor = next;
            if cursor == 0 {
                return keys;
            }
        }
    }

    /// Returns how often a command has been called since the start, such as `"get"`.
    pub(crate) async fn calls(&self, command: &str) -> u64 {
        let stats = self.cli(&["INFO", "commandstats"]).await;
        let before = format!("cmdstat_{command}:calls=");
        let line = stats.lines().find_map(|line| line.strip_prefix(&before));
        let count = line.and_then(|line| line.split(',').next()?.parse().ok());
        count.unwrap_or(0)
    }

    /// Returns how many bytes it has sent to all clients.
    pub(crate) async fn sent(&self) -> u64 {
        let stats = self.cli(&["INFO", "stats"]).await;
        let before = "total_net_output_bytes:";
        let line = stats.lines().find_map(|line| line.strip_prefix(before));
        let sent = line.and_then(|line| line.trim().parse().ok());
        sent.expect("a count of bytes")
    }

    /// Stops the process where it stands (SIGSTOP): its sockets stay open, and nothing is answered.
    pub(crate) fn freeze(&self) {
        self.is_frozen.store(true, Ordering::Relaxed);
        kill_process(self.pid(), Signal::STOP).expect("a child of ours can be signalled");
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).expect("a child of ours can be signalled");
        self.is_frozen.store(false, Ordering::Relaxed);
    }

    /// Ends the process as a crash would (SIGKILL), and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        let killed = within("Redis to be gone", self.child.kill()).await;
        killed.expect("a child of ours can be killed");
        *self.connection.lock().await = None;
    }

    /// Starts it again on its port, with what it has on its disk.
    pub(crate) async fn restart(&mut self) {
        let launched = async {
            loop {
                // Another test may be trying this very moment whether the port is free.
                if let Some(launched) = self.plan.launch(&self.home).await {
                    return launched;
                }
            }
        };
        (self.child, self.log) = within("Redis to be there again", launched).await;
    }

    /// Returns the lines that it has printed since its start.
    pub(crate) fn printed(&self) -> String {
        self.log.now().join("\n")
    }

    /// Returns whether it has neither been killed nor frozen.
    fn is_alive(&self) -> bool {
        self.child.id().is_some() && !self.is_frozen.load(Ordering::Relaxed)
    }

    fn pid(&self) -> Pid {
        let id = self.child.id();
        let pid = id.and_then(|id| Pid::from_raw(id.cast_signed()));
        pid.expect("the process still runs")
    }

    fn url_of(&self, credential: Option<(&str, &str)>) -> String {
        let scheme = self.plan.tls.as_ref().map_or("redis", |_| "rediss");
        let credential = credential.map(|(user, password)| {
            let (user, password) = (escaped(user), escaped(password));
            format!("{user}:{password}@")
        });
        format!("{scheme}://{}{}", credential.unwrap_or_default(), self.addr)
    }

    /// Returns the test's own connection, made where there is none.
    async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = &*kept {
            return Ok(connection.clone());
        }
        let url = self.url_of(self.plan.own);
        let client = match self.ca() {
            None => Client::open(url)?,
            Some(ca) => Client::build_with_tls(url, trusting(&ca))?,
        };
        let config = patient();
        let made = client.get_multiplexed_async_connection_with_config(&config);
        let made = within("a connection to Redis", made).await?;
        Ok(kept.insert(made).clone())
    }
}

/// Returns how to connect where [`within`] is the test's patience.
pub(crate) fn patient() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
}

/// Returns the command of these words.
fn command(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(word);
    }
    command
}

/// Returns how many bytes of changes a master has made, and how many its first replica has said that it has got, by what
/// the master tells of its replication.
fn offsets(info: &str) -> (u64, Option<u64>) {
    let number = |text: &str| text.parse::<u64>().ok();
    let mut lines = info.lines();
    let made = lines.find_map(|line| number(line.strip_prefix("master_repl_offset:")?));
    let replica = info.lines().find_map(|line| line.strip_prefix("slave0:"));
    let got = replica.and_then(|fields| {
        let mut fields = fields.split(',');
        fields.find_map(|field| number(field.strip_prefix("offset=")?))
    });
    (made.expect("what a master tells"), got)
}

/// Returns `text` as it stands in an address.
fn escaped(text: &str) -> String {
    let bytes = text.bytes().map(|byte| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    bytes.collect()
}

fn trusting(ca: &Path) -> TlsCertificates {
    TlsCertificates {
        client_tls: None,
        root_cert: Some(fs::read(ca).expect("a certificate")),
    }
}

/// Returns a reply as lines.
fn spelled(value: &Value) -> String {
    match value {
        Value::Nil => String::new(),
        Value::Okay => "OK".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        Value::Array(values) => {
            let lines: Vec<String> = values.iter().map(spelled).collect();
            lines.join("\n")
        }
        other => format!("{other:?}"),
    }
}

/// Returns a directory in memory where there can be one: sentinels and cluster nodes write to their disk what they decide,
/// and wait for it, and one that waits for seconds decides nothing any more.
fn home() -> TempDir {
    TempDir::new_in("/dev/shm")
        .or_else(|_| TempDir::new())
        .expect("a temporary directory")
}

fn installed() -> bool {
    let mut asked = std::process::Command::new(program("server"));
    let asked = asked.arg("--version").stdout(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// Returns the program of Redis' that has this `part`: `server` or `cli`.
fn program(part: &str) -> String {
    let server = env::var("REFRAIN_TEST_REDIS").unwrap_or_else(|_| "redis-server".to_owned());
    let family = server
        .strip_suffix("server")
        .expect("REFRAIN_TEST_REDIS ends with `server`");
    format!("{family}{part}")
}

/// Returns a port that nobody listens on, with another one 10,000 above it for the nodes of a cluster to meet at. The
/// kernel gives away neither of them by itself.
fn free_port() -> u16 {
    static TURN: AtomicU16 = AtomicU16::new(0);
    static START: OnceLock<u64> = OnceLock::new();
    let start = START.get_or_init(|| RandomState::new().hash_one(()));
    let candidates = (0..PORTS).map(|_| {
        let turn = u64::from(TURN.fetch_add(1, Ordering::Relaxed));
        let step = u16::try_from((start.wrapping_add(turn)) % u64::from(PORTS));
        FIRST_PORT + step.expect("fewer than 2^16")
    });
    let free = |port: u16| TcpListener::bind((LOCALHOST, port)).is_ok();
    let mut free = candidates.filter(|port| free(*port) && free(*port + BUS));
    free.next().expect("a free port")
}

const FILE: &str = "redis.conf";
/// What a server says, and what a sentinel does, once it listens.
const READY: [&str; 2] = ["Ready to accept connections", "+monitor master"];
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const TRIES: usize = 5;
const FIRST_PORT: u16 = 10_000;
const PORTS: u16 = 10_000;
const BUS: u16 = 10_000;
