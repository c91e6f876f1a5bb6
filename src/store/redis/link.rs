//! The link to Redis: one connection that all share, given up when it breaks or keeps silent, made anew behind the calls.
//!
//! # Scope
//! A command waits for at most as long as its caller says, and not at all while there is no connection: that is the
//! circuit. Nobody who answers a call makes a connection or tries one.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use redis::{
    Cmd, FromRedisValue, Pipeline, RedisResult, ScriptInvocation, aio::MultiplexedConnection,
    cluster_async::ClusterConnection,
};
use tokio::time::timeout;

use super::trouble::{Kind, Trouble};

/// The link; clones share it.
#[derive(Clone)]
pub struct Link(Arc<Inner>);

struct Inner {
    connection: ArcSwapOption<Connection>,
}

/// A node that keys lie on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    address: Option<(String, u16)>,
}

/// A connection to one server, or to a cluster.
#[derive(Clone)]
enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    /// Sends a command about `key` and returns the reply.
    pub async fn ask<T: FromRedisValue>(
        &self,
        key: &str,
        command: &Cmd,
        patience: Duration,
    ) -> Result<T, Trouble> {
        self.with(key, patience, async |connection| match connection {
            Connection::Single(mut to) => command.query_async(&mut to).await,
            Connection::Cluster(mut to) => command.query_async(&mut to).await,
        })
        .await
    }

    /// Sends commands whose keys all lie in the hash slot of `key`, in one go and in order, and returns the replies.
    pub async fn ask_all<T: FromRedisValue>(
        &self,
        key: &str,
        commands: &Pipeline,
        patience: Duration,
    ) -> Result<T, Trouble> {
        self.with(key, patience, async |connection| match connection {
            Connection::Single(mut to) => commands.query_async(&mut to).await,
            Connection::Cluster(mut to) => commands.query_async(&mut to).await,
        })
        .await
    }

    /// Runs a script whose keys all lie in the hash slot of `key`, and returns its result.
    pub async fn run<T: FromRedisValue>(
        &self,
        key: &str,
        script: &ScriptInvocation<'_>,
        patience: Duration,
    ) -> Result<T, Trouble> {
        self.with(key, patience, async |connection| match connection {
            Connection::Single(mut to) => script.invoke_async(&mut to).await,
            Connection::Cluster(mut to) => script.invoke_async(&mut to).await,
        })
        .await
    }

    /// Returns whether there is a connection.
    pub fn is_up(&self) -> bool {
        self.0.connection.load().is_some()
    }

    /// Returns every master that keys lie on.
    pub async fn masters(&self) -> Result<Vec<Master>, Trouble> {
        todo!()
    }

    /// Sends a command to one master: for SCAN, and for what goes by node.
    pub async fn ask_master<T: FromRedisValue>(
        &self,
        master: &Master,
        command: &Cmd,
        patience: Duration,
    ) -> Result<T, Trouble> {
        todo!()
    }

    async fn with<T>(
        &self,
        _key: &str,
        patience: Duration,
        ask: impl AsyncFnOnce(Connection) -> RedisResult<T>,
    ) -> Result<T, Trouble> {
        let Some(connection) = self.0.connection.load_full() else {
            return Err(Trouble::new(Kind::Away, "there is no connection"));
        };
        match timeout(patience, ask((*connection).clone())).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Trouble::new(Kind::Timeout, "no reply in time")),
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link(up: {})", self.is_up())
    }
}
