//! A cluster of six nodes: three masters, each with a replica.

use std::ops::RangeInclusive;

use tokio::process::Command;

use super::{Plan, Redis, program, redis};
use crate::support::within;

/// A running cluster. Its nodes are killed when it is dropped.
pub(crate) struct Cluster {
    nodes: Vec<Redis>,
}

/// A node, as another one sees it.
struct Sight {
    port: u16,
    flags: String,
    linked: bool,
    slots: Vec<RangeInclusive<u16>>,
}

/// Starts a cluster and waits until all of it serves; `None` where Redis is not installed.
pub(crate) async fn cluster() -> Option<Cluster> {
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(node().start().await?);
    }
    let cluster = Cluster { nodes };
    cluster.create().await;
    cluster.settled().await;
    Some(cluster)
}

fn node() -> Plan {
    redis()
        .with("cluster-enabled yes")
        .with("cluster-node-timeout 4000")
        .with("cluster-replica-validity-factor 0")
        .with("repl-diskless-sync-delay 0")
}

impl Cluster {
    /// Returns the address that Refrain is given.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.addresses().join(","))
    }

    /// Returns a node by its number.
    pub(crate) fn node(&mut self, number: usize) -> &mut Redis {
        &mut self.nodes[number]
    }

    /// Returns the numbers of the masters that are alive.
    pub(crate) async fn masters(&self) -> Vec<usize> {
        let sights = self.sights().await;
        let masters = sights.iter().filter(|sight| !sight.slots.is_empty());
        masters.map(|sight| self.number(sight.port)).collect()
    }

    /// Returns the number of the master that `key` lies on.
    pub(crate) async fn master_of(&self, key: &str) -> usize {
        self.owner(key).await.expect("a master for each slot")
    }

    /// Waits until `key` lies on another master than `old`, and until all is settled.
    pub(crate) async fn moved(&self, key: &str, old: usize) {
        let moved = async { while self.owner(key).await.is_none_or(|now| now == old) {} };
        within("a failover", moved).await;
        self.settled().await;
    }

    /// Returns the keys on all masters that match `pattern`.
    pub(crate) async fn keys(&self, pattern: &str) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        for number in self.masters().await {
            keys.extend(self.nodes[number].keys(pattern).await);
        }
        keys
    }

    /// Waits until all nodes that are alive see the same masters, and every slot served, and every replica has its master's
    /// data.
    pub(crate) async fn settled(&self) {
        let agreed = async { while !self.agrees().await {} };
        within("nodes that see the same masters", agreed).await;
        for node in &self.nodes {
            if node.is_alive() {
                let serves = |info: &str| info.contains("cluster_state:ok");
                node.until(&["CLUSTER", "INFO"], serves).await;
                let follows =
                    |info: &str| !info.contains("role:slave") || info.contains("link_status:up");
                node.until(&["INFO", "replication"], follows).await;
            }
        }
    }

    /// Returns whether all nodes that are alive see the same masters: one that was frozen takes itself for what it was.
    async fn agrees(&self) -> bool {
        let mut views = Vec::new();
        for node in self.nodes.iter().filter(|node| node.is_alive()) {
            let sights = seen_by(node).await.into_iter();
            let masters = sights.filter(|sight| !sight.slots.is_empty());
            let mut view: Vec<_> = masters.map(|sight| (sight.port, sight.slots)).collect();
            view.sort_by_key(|(port, _)| *port);
            views.push(view);
        }
        views.windows(2).all(|pair| pair[0] == pair[1])
    }

    async fn owner(&self, key: &str) -> Option<usize> {
        let slot = self.first().cli(&["CLUSTER", "KEYSLOT", key]).await;
        let slot = slot.parse().expect("a slot");
        let sights = self.sights().await;
        let mut masters = sights
            .iter()
            .filter(|sight| sight.slots.iter().any(|slots| slots.contains(&slot)));
        masters.next().map(|master| self.number(master.port))
    }

    async fn create(&self) {
        let created = Command::new(program("cli"))
            .args(["--cluster", "create"])
            .args(self.addresses())
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .output();
        let created = within("a cluster", created)
            .await
            .expect("its client starts");
        let said = String::from_utf8_lossy(&created.stdout);
        assert!(created.status.success(), "{said}");
    }

    /// Returns how the first node that is alive sees all that are.
    async fn sights(&self) -> Vec<Sight> {
        seen_by(self.first()).await
    }

    fn first(&self) -> &Redis {
        let mut alive = self.nodes.iter().filter(|node| node.is_alive());
        alive.next().expect("a node that is alive")
    }

    fn number(&self, port: u16) -> usize {
        let mut nodes = self.nodes.iter();
        let number = nodes.position(|node| node.addr.port() == port);
        number.expect("a node of this cluster")
    }

    fn addresses(&self) -> Vec<String> {
        let nodes = self.nodes.iter();
        nodes.map(|node| node.addr.to_string()).collect()
    }
}

/// Returns how `node` sees all nodes that it takes for alive.
async fn seen_by(node: &Redis) -> Vec<Sight> {
    let lines = node.cli(&["CLUSTER", "NODES"]).await;
    let sights = lines.lines().filter_map(Sight::read);
    sights
        .filter(|sight| sight.linked && !sight.flags.contains("fail"))
        .collect()
}

impl Sight {
    /// Reads a line of CLUSTER NODES: id, address, flags, master, ping, pong, epoch, link, slots.
    fn read(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let port = words.get(1)?.split('@').next()?.rsplit(':').next()?;
        let slots = words.iter().skip(8).filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.parse().ok()?..=last.parse().ok()?)
        });
        Some(Self {
            port: port.parse().ok()?,
            flags: (*words.get(2)?).to_owned(),
            linked: *words.get(7)? == "connected",
            slots: slots.collect(),
        })
    }
}

const NODES: usize = 6;
