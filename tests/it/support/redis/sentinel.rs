//! A master, its replica, and three sentinels that watch over them.

use ::redis::cmd;

use super::{Plan, Redis, redis};
use crate::support::within;

/// A master and a replica under sentinels. All are killed when it is dropped.
pub(crate) struct Sentinels {
    servers: [Redis; 2],
    sentinels: Vec<Redis>,
}

/// Starts them and waits until they all know each other; `None` where Redis is not installed.
pub(crate) async fn sentinels() -> Option<Sentinels> {
    let master = redis().with("repl-diskless-sync-delay 0").start().await?;
    let replica = follower(&master).start().await?;
    let linked = |info: &str| info.contains("master_link_status:up");
    replica.until(&["INFO", "replication"], linked).await;
    let mut sentinels = Vec::new();
    for _ in 0..SENTINELS {
        sentinels.push(sentinel(&master).start().await?);
    }
    let all = Sentinels {
        servers: [master, replica],
        sentinels,
    };
    all.acquainted().await;
    Some(all)
}

/// Prepares a replica of `master`.
pub(crate) fn follower(master: &Redis) -> Plan {
    let port = master.addr.port();
    redis().with(&format!("replicaof 127.0.0.1 {port}"))
}

fn sentinel(master: &Redis) -> Plan {
    let port = master.addr.port();
    let plan = Plan {
        arguments: &["--sentinel"],
        ..Plan::default()
    };
    plan.with(&format!("sentinel monitor {NAME} 127.0.0.1 {port} 2"))
        .with(&format!("sentinel down-after-milliseconds {NAME} 3000"))
        .with(&format!("sentinel failover-timeout {NAME} 2000"))
}

impl Sentinels {
    /// Returns the address that Refrain is given.
    pub(crate) fn url(&self) -> String {
        let sentinels = self.sentinels.iter();
        let all: Vec<String> = sentinels.map(|one| one.addr.to_string()).collect();
        format!("redis+sentinel://{}/{NAME}", all.join(","))
    }

    /// Returns the server that began as the master.
    pub(crate) fn master(&mut self) -> &mut Redis {
        &mut self.servers[0]
    }

    /// Returns the server that began as the replica.
    pub(crate) fn replica(&self) -> &Redis {
        &self.servers[1]
    }

    /// Waits until each sentinel knows the replica, and would be followed by the others if it decided.
    async fn acquainted(&self) {
        let mut quorum = cmd("SENTINEL");
        quorum.arg("CKQUORUM").arg(NAME);
        for sentinel in &self.sentinels {
            let known = |reply: &str| {
                let lines: Vec<&str> = reply.lines().collect();
                let is = |name, count| lines.windows(2).any(|pair| pair == [name, count]);
                is("num-slaves", "1") && is("num-other-sentinels", "2")
            };
            sentinel.until(&["SENTINEL", "MASTER", NAME], known).await;
            let quorate = async { while sentinel.try_ask::<String>(&quorum).await.is_err() {} };
            within("sentinels that hear each other", quorate).await;
        }
    }
}

const NAME: &str = "mymaster";
const SENTINELS: usize = 3;
