//! Which server the keys of a hash slot lie on.

use std::sync::Arc;

use super::{
    hash_slot::{SLOTS, hash_slot},
    node::Node,
};
use crate::config::Host;

/// The masters, and what lies on each.
#[derive(Debug, Default)]
pub(super) struct Table {
    nodes: Vec<Arc<Node>>,
    ranges: Vec<Range>,
}

/// Hash slots that lie on one master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    /// Place of the master among the nodes.
    node: usize,
}

impl Table {
    /// Returns the table of a server that has everything.
    pub(super) fn of_one() -> Self {
        Self {
            nodes: vec![Arc::new(Node::new(None))],
            ranges: vec![Range {
                first: 0,
                last: SLOTS - 1,
                node: 0,
            }],
        }
    }

    /// Returns the table that a cluster tells, first and last slot of each range and where its master is; servers that
    /// were in `before` keep their connection.
    pub(super) fn told(slots: &[(u16, u16, Host)], before: &Self) -> Self {
        let mut table = Self::default();
        for (first, last, host) in slots {
            if let Some(node) = table.place(host, before) {
                let (first, last) = (*first, *last);
                table.ranges.push(Range { first, last, node });
            }
        }
        table.ranges.sort_by_key(|range| range.first);
        table
    }

    /// Returns the servers.
    pub(super) fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// Returns whether every key lies somewhere.
    pub(super) fn is_whole(&self) -> bool {
        let mut next = 0;
        for range in &self.ranges {
            if range.first > next {
                return false;
            }
            next = next.max(range.last.saturating_add(1));
        }
        next == SLOTS
    }

    /// Returns the server at `host`.
    pub(super) fn at(&self, host: Option<&Host>) -> Option<&Arc<Node>> {
        let mut nodes = self.nodes.iter();
        nodes.find(|node| node.host.as_ref() == host)
    }

    /// Returns the server that `key` lies on; `None` where the cluster knows none.
    pub(super) fn of_key(&self, key: &[u8]) -> Option<&Arc<Node>> {
        let slot = match self.ranges.as_slice() {
            [only] if only.first == 0 && only.last == SLOTS - 1 => return self.nodes.first(),
            _ => hash_slot(key),
        };
        let behind = self.ranges.partition_point(|range| range.first <= slot);
        let range = self.ranges.get(behind.checked_sub(1)?)?;
        (slot <= range.last).then(|| self.nodes.get(range.node))?
    }

    fn place(&mut self, host: &Host, before: &Self) -> Option<usize> {
        let host = Some(host);
        let known = self
            .nodes
            .iter()
            .position(|node| node.host.as_ref() == host);
        if known.is_none() && self.nodes.len() < MOST_NODES {
            let node = before.at(host).cloned();
            self.nodes
                .push(node.unwrap_or_else(|| Arc::new(Node::new(host.cloned()))));
            return self.nodes.len().checked_sub(1);
        }
        known
    }
}

/// What a cluster may have at most, by its specification.
const MOST_NODES: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn host(port: u16) -> Host {
        Host {
            name: "h".to_owned(),
            port,
        }
    }

    fn port(table: &Table, key: &str) -> Option<u16> {
        let node = table.of_key(key.as_bytes())?;
        node.host.as_ref().map(|host| host.port)
    }

    #[test]
    fn a_key_is_found_on_the_master_of_its_slot() {
        // `foo` lies in slot 12182, `bar` in 5061, the empty key in 0.
        let slots = [
            (12_182, 16_383, host(3)),
            (0, 5_060, host(1)),
            (5_062, 12_181, host(2)),
        ];
        let table = Table::told(&slots, &Table::of_one());
        assert_eq!(port(&table, "foo"), Some(3));
        assert_eq!(port(&table, ""), Some(1));
        assert_eq!(port(&table, "bar"), None, "a slot that nobody has");
        assert_eq!(port(&Table::told(&[], &table), "foo"), None);
        let part = Table::told(&[(0, 99, host(1))], &table);
        assert_eq!(port(&part, "foo"), None, "a single range is a range");
    }

    #[test]
    fn a_server_with_everything_is_asked_for_everything() {
        let table = Table::of_one();
        assert!(table.of_key(b"foo").is_some() && table.at(None).is_some());
        let table = Table::told(&[(0, 16_383, host(1))], &table);
        assert_eq!(port(&table, "foo"), Some(1));
    }

    #[test]
    fn a_table_with_a_gap_is_not_whole() {
        assert!(Table::of_one().is_whole());
        assert!(!Table::default().is_whole());
        let told = |slots: &[_]| Table::told(slots, &Table::default());
        let whole = told(&[(100, 16_383, host(2)), (0, 99, host(1))]);
        assert!(whole.is_whole());
        for gap in [
            &[(0, 99, host(1)), (101, 16_383, host(2))][..],
            &[(1, 16_383, host(1))],
            &[(0, 16_382, host(1))],
        ] {
            assert!(!told(gap).is_whole(), "{gap:?}");
        }
    }

    #[test]
    fn servers_that_stay_keep_their_connection() {
        let one = Table::told(&[(0, 9, host(1)), (10, 16_383, host(2))], &Table::of_one());
        let other = [(0, 5, host(2)), (6, 8, host(3)), (9, 16_383, host(2))];
        let other = Table::told(&other, &one);
        assert_eq!(other.nodes().len(), 2);
        let same = |port| {
            let host = host(port);
            let both = one.at(Some(&host)).zip(other.at(Some(&host)));
            both.is_some_and(|(one, other)| Arc::ptr_eq(one, other))
        };
        assert!(same(2) && !same(1) && !same(3));
    }
}
