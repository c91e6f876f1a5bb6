//! Who makes the connections: one task, which looks each over before anybody else may ask by it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use redis::Cmd;
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    Early, Inner, Question, connect,
    info::Info,
    node::{Entrance, Node},
};
use crate::store::redis::trouble::{Kind, Trouble};

/// Keeps the connections, for ever.
pub(super) async fn keep<F>(inner: Arc<Inner>, greeting: impl Fn(Early) -> F)
where
    F: Future<Output = Result<(), Trouble>>,
{
    loop {
        let begun = Instant::now();
        inner.look_after().await;
        inner.reach().await;
        inner.greet(&greeting).await;
        inner.tell();
        inner.rounds.send_modify(|rounds| *rounds += 1);
        let next = inner.next(begun);
        tokio::select! {
            () = sleep_until(next) => {}
            () = inner.wake.notified() => {}
        }
    }
}

impl Inner {
    /// Asks every server for a sign of life, so that a silent one is found before a call finds it, and one that is too slow
    /// for calls as well.
    async fn look_after(&self) {
        let table = self.table.load_full();
        let mut ping = Cmd::new();
        ping.arg("PING");
        let patience = self.redis.budget;
        let alive = table.nodes().iter().filter(|node| node.is_up());
        let asks = alive.map(async |node| {
            let question = Question::Command(&ping);
            let reply = self.put::<()>(Some(node.clone()), question, patience, Entrance::Main);
            // What comes of it is noted where it is asked.
            let _ = reply.await;
        });
        join_all(asks).await;
    }

    /// Finds out which servers there are, and connects to those that are due.
    async fn reach(&self) {
        self.refresh().await;
        self.connect().await;
        let in_cluster = self.in_cluster.load(Ordering::Relaxed);
        if in_cluster && self.table.load().at(None).is_some() {
            // The one server that was named is one of many.
            self.refresh().await;
            self.connect().await;
        }
    }

    /// Connects to every server that is due.
    async fn connect(&self) {
        let (table, now) = (self.table.load_full(), Instant::now());
        let wanting = table.nodes().iter().filter(|node| node.is_wanting(now));
        join_all(wanting.map(|node| self.meet(node))).await;
    }

    async fn meet(&self, node: &Node) {
        match connect::meet(&self.redis, node.host.as_ref()).await {
            Ok(met) => {
                self.heed(&met.info);
                // Of a cluster it is but a part: the table is asked for first.
                if node.host.is_some() || !met.info.in_cluster {
                    node.connected(met.connection);
                } else {
                    // Where there is no table, it is not met again at once.
                    node.failed(Kind::Refused, Instant::now(), dice());
                }
            }
            Err(trouble) => self.refuse(node, trouble),
        }
    }

    /// Shows new connections to `greeting`, and lets all others in.
    async fn greet<F>(self: &Arc<Self>, greeting: impl Fn(Early) -> F)
    where
        F: Future<Output = Result<(), Trouble>>,
    {
        let table = self.table.load_full();
        let new: Vec<_> = table.nodes().iter().filter(|node| node.is_new()).collect();
        if new.is_empty() {
            return;
        }
        let late = |_| Trouble::new(Kind::Timeout, "no reply in time");
        let greeted = timeout(GREETING, greeting(Early(self.clone()))).await;
        let greeted = greeted.map_err(late).flatten();
        for node in new {
            match &greeted {
                Ok(()) if node.let_in(Instant::now()) => self.counters.reconnected(),
                Ok(()) => {}
                Err(trouble) => self.refuse(node, trouble.clone()),
            }
        }
    }

    fn refuse(&self, node: &Node, trouble: Trouble) {
        tracing::debug!(reason = trouble.kind.as_str(), error = %trouble, "redis not connected");
        node.failed(trouble.kind, Instant::now(), dice());
        self.counters.failed(trouble.kind);
        *locked(&self.trouble) = Some(trouble);
    }

    /// Tells the operator, once, that Redis is away, or back.
    fn tell(&self) {
        let server = &self.redis.address;
        if self.is_up() {
            if self.working.works() {
                tracing::info!(%server, "redis is back");
            }
            return;
        }
        let trouble = locked(&self.trouble).clone();
        let trouble = trouble.unwrap_or_else(|| Trouble::new(Kind::Away, "no server is known"));
        if self.working.fails(trouble.kind, Instant::now().into_std()) {
            tracing::warn!(
                %server, reason = trouble.kind.as_str(), error = %trouble,
                "redis is away: answers are kept in memory until it is back"
            );
        }
    }

    /// Warns of a server that may drop what is to stay; once for each policy.
    fn heed(&self, info: &Info) {
        if info.in_cluster {
            self.in_cluster.store(true, Ordering::Relaxed);
        }
        if info.is_too_old() && !self.is_aged.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "redis is too old: replicas need 6.2 or later, or Valkey, to tell each other all"
            );
        }
        let mut told = locked(&self.policy);
        let policy = info.careless_policy();
        if let Some(policy) = policy
            && told.as_deref() != Some(policy)
        {
            tracing::warn!(
                policy,
                "redis may drop what was purged: its maxmemory-policy should be a volatile one"
            );
        }
        *told = policy.map(str::to_owned);
    }

    /// Returns when the next round is, at the latest.
    fn next(&self, begun: Instant) -> Instant {
        let (table, now) = (self.table.load_full(), Instant::now());
        let due = table.nodes().iter().filter_map(|node| node.due(now)).min();
        due.unwrap_or(begun + ROUND).min(begun + ROUND).max(now)
    }
}

/// Returns a lock's content, whoever panicked with it.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a number between 0 and 1.
pub(super) fn dice() -> f64 {
    getrandom::u32().map_or(0.5, |bits| f64::from(bits) / f64::from(u32::MAX))
}

/// Between two signs of life.
const ROUND: Duration = Duration::from_secs(1);
/// For the greeting, all in all.
const GREETING: Duration = Duration::from_secs(5);
