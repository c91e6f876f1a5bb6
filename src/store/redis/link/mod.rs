//! The link to Redis: one connection to each server that all share, given up when it breaks or keeps silent, made anew
//! behind the calls.
//!
//! ```text
//! ask ──▶ table: which server has the key ──▶ its connection ──▶ reply, within the caller's patience
//!                     │                └── none: fails at once
//! keeper ── connects, looks over, greets ──▶ lets all others in
//! ```
//!
//! # Scope
//! An ask waits for at most as long as its caller says, and not at all while there is no connection: that is the
//! circuit. Nobody who answers a call makes a connection or tries one. Nothing is asked twice, but a script that Redis does
//! not know yet; where a cluster says that another of its servers has the key, that is an error, and the table is asked for.

mod circuit;
mod cluster;
mod connect;
mod counts;
mod hash_slot;
mod info;
mod keeper;
mod node;
mod survey;
mod table;

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::{Stream, StreamExt as _};
use redis::{
    Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ScriptInvocation,
    ServerErrorKind, aio::MultiplexedConnection,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{
    counts::Counters,
    node::{Entrance, Live, Node},
    table::Table,
};
pub use self::{counts::Counts, hash_slot::hash_slot, survey::Survey};
use super::trouble::{Kind, Trouble};
use crate::{
    answer::tasks::Tasks,
    config::{Host, Redis, Servers},
    store::working::Working,
};

/// The link; clones share it. It ends with the last of them.
#[derive(Clone)]
pub struct Link(Arc<Handle>);

/// The link as whoever looks over a new connection has it, before all others.
#[derive(Clone)]
pub struct Early(Arc<Inner>);

/// A server that keys lie on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master(Option<Host>);

struct Handle {
    inner: Arc<Inner>,
    /// Ends the keeper.
    _stop: DropGuard,
}

struct Inner {
    redis: Redis,
    table: ArcSwap<Table>,
    counters: Counters,
    working: Working<Kind>,
    /// What was wrong last, for who asks whether all is well.
    trouble: Mutex<Option<Trouble>>,
    /// The policy that the operator was told of.
    policy: Mutex<Option<String>>,
    /// Whether the operator was told that a server is too old.
    is_aged: AtomicBool,
    /// Whether it is a cluster, as the operator or a server said.
    in_cluster: AtomicBool,
    /// Whether the cluster has said that the table is old.
    is_old: AtomicBool,
    /// When the cluster was asked for the table.
    asked: Mutex<Option<Instant>>,
    /// Wakes the keeper.
    wake: Notify,
    /// How many rounds the keeper has made.
    rounds: watch::Sender<u64>,
}

/// What Redis is asked.
#[derive(Clone, Copy)]
enum Question<'a> {
    Command(&'a Cmd),
    Pipeline(&'a Pipeline),
    Script(&'a ScriptInvocation<'a>),
}

impl Link {
    /// Begins to connect, and goes on for as long as it takes. Returns when there is a connection, after the first try that
    /// failed, or after a second.
    ///
    /// Every new connection is shown to `greeting` first; where that fails it is given up.
    pub async fn start<F>(
        redis: Redis,
        tasks: &Tasks,
        greeting: impl Fn(Early) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), Trouble>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let inner = Arc::new(Inner::new(redis));
        let mut rounds = inner.rounds.subscribe();
        let (ended, keeper) = (stop.clone(), keeper::keep(inner.clone(), greeting));
        tasks.spawn_until_stop(async move {
            ended.run_until_cancelled(keeper).await;
        });
        // An error says that the keeper has ended already: the process does.
        let _ = timeout(START, rounds.wait_for(|rounds| *rounds > 0)).await;
        Self(Arc::new(Handle {
            inner,
            _stop: stop.drop_guard(),
        }))
    }

    /// Sends a command about `key` and returns the reply.
    pub async fn ask<T: FromRedisValue>(
        &self,
        key: &str,
        command: &Cmd,
        patience: Duration,
    ) -> Result<T, Trouble> {
        let question = Question::Command(command);
        self.inner()
            .ask(key, question, patience, Entrance::Main)
            .await
    }

    /// Sends commands whose keys all lie in the hash slot of `key`, in one go and in order, and returns the replies.
    pub async fn ask_all<T: FromRedisValue>(
        &self,
        key: &str,
        commands: &Pipeline,
        patience: Duration,
    ) -> Result<T, Trouble> {
        let question = Question::Pipeline(commands);
        self.inner()
            .ask(key, question, patience, Entrance::Main)
            .await
    }

    /// Runs a script whose keys all lie in the hash slot of `key`, and returns its result.
    pub async fn run<T: FromRedisValue>(
        &self,
        key: &str,
        script: &ScriptInvocation<'_>,
        patience: Duration,
    ) -> Result<T, Trouble> {
        let question = Question::Script(script);
        self.inner()
            .ask(key, question, patience, Entrance::Main)
            .await
    }

    /// Returns whether every server that keys lie on can be asked.
    pub fn is_up(&self) -> bool {
        self.inner().is_up()
    }

    /// Returns whether the server that `key` lies on can be asked.
    pub fn reaches(&self, key: &str) -> bool {
        let table = self.inner().table.load();
        let node = table.of_key(key.as_bytes());
        node.is_some_and(|node| node.is_up())
    }

    /// Gives up all connections because of `trouble`, which the greeting is to find or not to find any more.
    pub(super) fn give_up(&self, trouble: &Trouble) {
        let inner = self.inner();
        for node in inner.table.load().nodes() {
            if let Some(live) = node.connection(Entrance::Main) {
                inner.give_up(node, &live, trouble);
            }
        }
    }

    /// Returns every server that keys lie on, whether it can be asked or not. Fails where a part of the keys lies nowhere.
    pub fn masters(&self) -> Result<Vec<Master>, Trouble> {
        let table = self.inner().table.load();
        if !table.is_whole() {
            return Err(Trouble::new(Kind::Away, "a part of the cluster is missing"));
        }
        let masters = table.nodes().iter().map(|node| Master(node.host.clone()));
        Ok(masters.collect())
    }

    /// Returns what lies where now, as a cluster says when it is asked; an error where it does not have everything, or is
    /// about to move some of it.
    pub async fn survey(&self) -> Result<Survey, Trouble> {
        self.inner().survey().await
    }

    /// Sends a command to one server: for SCAN, and for what goes by server.
    pub async fn ask_master<T: FromRedisValue>(
        &self,
        master: &Master,
        command: &Cmd,
        patience: Duration,
    ) -> Result<T, Trouble> {
        let inner = self.inner();
        let node = inner.table.load().at(master.0.as_ref()).cloned();
        let question = Question::Command(command);
        inner.put(node, question, patience, Entrance::Main).await
    }

    /// Publishes `message` on `channel`: in a cluster, by any of its nodes.
    pub async fn publish(
        &self,
        channel: &str,
        message: &[u8],
        patience: Duration,
    ) -> Result<(), Trouble> {
        let mut command = Cmd::new();
        command.arg("PUBLISH").arg(channel).arg(message);
        let node = self.any();
        let question = Question::Command(&command);
        self.inner()
            .put(node, question, patience, Entrance::Main)
            .await
    }

    /// Listens to what is published on `channel`, by a connection of its own.
    pub async fn subscribe(
        &self,
        channel: &str,
    ) -> Result<impl Stream<Item = Vec<u8>> + use<>, Trouble> {
        let away = || Trouble::new(Kind::Away, "there is no connection");
        let node = self.any().ok_or_else(away)?;
        let redis = &self.inner().redis;
        let subscribed = connect::subscribe(redis, node.host.as_ref(), channel).await;
        if let Err(trouble) = &subscribed {
            self.inner().counters.failed(trouble.kind);
        }
        Ok(subscribed?.map(|message| message.get_payload_bytes().to_vec()))
    }

    /// Returns what was done so far.
    pub fn counts(&self) -> Counts {
        self.inner().counters.read(self.is_up())
    }

    /// Returns what is wrong, if anything is.
    pub fn trouble(&self) -> Option<Trouble> {
        let trouble = || keeper::locked(&self.inner().trouble).clone();
        (!self.is_up())
            .then(|| trouble().unwrap_or_else(|| Trouble::new(Kind::Away, "not connected yet")))
    }

    fn any(&self) -> Option<Arc<Node>> {
        let table = self.inner().table.load();
        let node = table.nodes().iter().find(|node| node.is_up());
        node.cloned()
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.0.inner
    }
}

impl Early {
    /// Sends a command about `key` and returns the reply.
    pub async fn ask<T: FromRedisValue>(
        &self,
        key: &str,
        command: &Cmd,
        patience: Duration,
    ) -> Result<T, Trouble> {
        let question = Question::Command(command);
        self.0.ask(key, question, patience, Entrance::Early).await
    }

    /// Sends commands whose keys all lie in the hash slot of `key`, in one go and in order, and returns the replies.
    pub async fn ask_all<T: FromRedisValue>(
        &self,
        key: &str,
        commands: &Pipeline,
        patience: Duration,
    ) -> Result<T, Trouble> {
        let question = Question::Pipeline(commands);
        self.0.ask(key, question, patience, Entrance::Early).await
    }

    /// Runs a script whose keys all lie in the hash slot of `key`, and returns its result.
    pub async fn run<T: FromRedisValue>(
        &self,
        key: &str,
        script: &ScriptInvocation<'_>,
        patience: Duration,
    ) -> Result<T, Trouble> {
        let question = Question::Script(script);
        self.0.ask(key, question, patience, Entrance::Early).await
    }
}

impl Inner {
    fn new(redis: Redis) -> Self {
        let in_cluster = matches!(redis.address.servers, Servers::Cluster(_));
        Self {
            redis,
            table: ArcSwap::from_pointee(if in_cluster {
                Table::default()
            } else {
                Table::of_one()
            }),
            counters: Counters::default(),
            working: Working::default(),
            trouble: Mutex::default(),
            policy: Mutex::default(),
            is_aged: AtomicBool::new(false),
            in_cluster: AtomicBool::new(in_cluster),
            is_old: AtomicBool::new(in_cluster),
            asked: Mutex::default(),
            wake: Notify::new(),
            rounds: watch::Sender::new(0),
        }
    }

    fn is_up(&self) -> bool {
        let table = self.table.load();
        let mut nodes = table.nodes().iter();
        !table.nodes().is_empty() && nodes.all(|node| node.is_up())
    }

    async fn ask<T: FromRedisValue>(
        &self,
        key: &str,
        question: Question<'_>,
        patience: Duration,
        entrance: Entrance,
    ) -> Result<T, Trouble> {
        let node = self.table.load().of_key(key.as_bytes()).cloned();
        self.put(node, question, patience, entrance).await
    }

    /// Puts a question to a server, and notes what comes of it.
    async fn put<T: FromRedisValue>(
        &self,
        node: Option<Arc<Node>>,
        question: Question<'_>,
        patience: Duration,
        entrance: Entrance,
    ) -> Result<T, Trouble> {
        let at = node.and_then(|node| Some((node.connection(entrance)?, node)));
        let Some((live, node)) = at else {
            self.counters.failed(Kind::Away);
            return Err(Trouble::new(Kind::Away, "there is no connection"));
        };
        let begun = Instant::now();
        let patience = patience.min(connect::MOST_PATIENCE);
        let reply = timeout(patience, question.put(live.connection())).await;
        let took = begun.elapsed();
        self.counters.asked(took);
        let is_quick = took <= self.redis.budget;
        let trouble = match reply {
            Ok(Ok(reply)) => {
                live.replied(is_quick);
                return Ok(reply);
            }
            Ok(Err(error)) => self.judge(&node, &live, error, is_quick),
            Err(_) => self.late(&node, &live),
        };
        self.counters.failed(trouble.kind);
        Err(trouble)
    }

    fn late(&self, node: &Node, live: &Arc<Live>) -> Trouble {
        let trouble = Trouble::new(Kind::Timeout, "no reply in time");
        if live.was_late() {
            self.give_up(node, live, &trouble);
        }
        trouble
    }

    /// Decides what an error means for the connection that it came by.
    fn judge(&self, node: &Node, live: &Arc<Live>, error: RedisError, is_quick: bool) -> Trouble {
        if error.is_timeout() {
            return self.late(node, live);
        }
        let (is_lost, is_misled) = (is_lost(&error), is_misled(&error));
        let trouble = Trouble::from(error);
        if is_lost {
            self.give_up(node, live, &trouble);
        } else {
            live.replied(is_quick);
        }
        if is_misled {
            self.is_old.store(true, Ordering::Relaxed);
            self.wake.notify_one();
        }
        trouble
    }

    fn give_up(&self, node: &Node, live: &Arc<Live>, trouble: &Trouble) {
        if node.give_up(live, trouble.kind, Instant::now(), keeper::dice()) {
            tracing::debug!(reason = trouble.kind.as_str(), error = %trouble, "redis connection given up");
            *keeper::locked(&self.trouble) = Some(trouble.clone());
            self.is_old.store(true, Ordering::Relaxed);
            self.wake.notify_one();
        }
    }
}

impl Question<'_> {
    async fn put<T: FromRedisValue>(self, mut to: MultiplexedConnection) -> RedisResult<T> {
        match self {
            Self::Command(command) => command.query_async(&mut to).await,
            Self::Pipeline(commands) => commands.query_async(&mut to).await,
            Self::Script(script) => script.invoke_async(&mut to).await,
        }
    }
}

/// Returns whether nothing more will come of a connection after `error`: it is broken, or leads to a server that takes no
/// writes any more, beside which there may be one that does.
fn is_lost(error: &RedisError) -> bool {
    let readonly = ErrorKind::Server(ServerErrorKind::ReadOnly);
    error.is_connection_dropped() || error.is_unrecoverable_error() || error.kind() == readonly
}

/// Returns whether another server of the cluster was to be asked.
fn is_misled(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::ClusterDown)
    )
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Link({}, up: {})",
            self.inner().redis.address,
            self.is_up()
        )
    }
}

impl fmt::Debug for Early {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Early({})", self.0.redis.address)
    }
}

/// For the first try, before the start goes on without.
const START: Duration = Duration::from_secs(1);
