//! What lies where in a cluster, as its nodes tell.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use redis::{Cmd, Value};
use tokio::time::Instant;

use super::{Inner, Question, connect, keeper::locked, node::Entrance, table::Table};
use crate::{
    config::{Host, Servers},
    store::redis::trouble::{Kind, Trouble},
};

impl Inner {
    /// Asks a cluster what lies where, if that is due: it has said that the table is old, a node is away, or time has passed.
    pub(super) async fn refresh(&self) {
        if !self.in_cluster.load(Ordering::Relaxed) {
            return;
        }
        let now = Instant::now();
        let is_urgent = self.is_old.load(Ordering::Relaxed) || !self.is_up();
        if !is_due(*locked(&self.asked), now, is_urgent) {
            return;
        }
        *locked(&self.asked) = Some(now);
        match self.ask_around().await {
            Ok(slots) => {
                let table = Table::told(&slots, &self.table.load());
                self.table.store(Arc::new(table));
                self.is_old.store(false, Ordering::Relaxed);
            }
            Err(trouble) => {
                self.counters.failed(trouble.kind);
                *locked(&self.trouble) = Some(trouble);
            }
        }
    }

    /// Asks the nodes that are connected, then those that are known, then those that the operator named, until one tells.
    pub(super) async fn ask_around(&self) -> Result<Vec<(u16, u16, Host)>, Trouble> {
        let mut command = Cmd::new();
        command.arg("CLUSTER").arg("SLOTS");
        let table = self.table.load_full();
        let known = table.nodes().iter().filter(|node| node.host.is_some());
        for node in known.clone().filter(|node| node.is_up()) {
            let question = Question::Command(&command);
            let told = self.put(Some(node.clone()), question, PATIENCE, Entrance::Main);
            if let (Ok(value), Some(host)) = (told.await, &node.host)
                && let Some(slots) = read(value, host)
            {
                return Ok(slots);
            }
        }
        let mut last = Trouble::new(Kind::Away, "no server is known");
        let known = known.filter_map(|node| node.host.as_ref());
        for host in known.chain(named(&self.redis.address.servers)) {
            match connect::ask_once(&self.redis, host, &command).await {
                Ok(value) => match read(value, host) {
                    Some(slots) => return Ok(slots),
                    None => last = Trouble::new(Kind::Type, "no table of a cluster"),
                },
                Err(trouble) => last = trouble,
            }
        }
        Err(last)
    }
}

/// Returns whether the table is asked for at `now`, after it was `asked` for before.
fn is_due(asked: Option<Instant>, now: Instant, is_urgent: bool) -> bool {
    let pause = if is_urgent { HASTE } else { PERIOD };
    asked.is_none_or(|asked| now.saturating_duration_since(asked) >= pause)
}

fn named(servers: &Servers) -> &[Host] {
    match servers {
        Servers::Single(host) => std::slice::from_ref(host),
        Servers::Cluster(hosts) => hosts,
        Servers::Sentinel { .. } => &[],
    }
}

/// Reads what `CLUSTER SLOTS` told at `asked`: first and last slot of each range, and where its master is. `None` for what
/// is no such table, or one of nothing.
fn read(value: Value, asked: &Host) -> Option<Vec<(u16, u16, Host)>> {
    let Value::Array(rows) = value else {
        return None;
    };
    let rows = rows.into_iter().filter_map(|row| read_row(row, asked));
    let rows: Vec<_> = rows.take(MOST_RANGES).collect();
    (!rows.is_empty()).then_some(rows)
}

fn read_row(row: Value, asked: &Host) -> Option<(u16, u16, Host)> {
    let Value::Array(row) = row else { return None };
    let mut row = row.into_iter();
    let (first, last) = (number(&row.next()?)?, number(&row.next()?)?);
    let Value::Array(master) = row.next()? else {
        return None;
    };
    let mut master = master.into_iter();
    let name = match master.next()? {
        Value::BulkString(name) => String::from_utf8(name).ok()?,
        Value::SimpleString(name) => name,
        // It does not know its own address: that is the one it was asked at.
        Value::Nil => String::new(),
        _ => return None,
    };
    let name = match name.as_str() {
        "" => asked.name.clone(),
        "?" => return None,
        _ => name,
    };
    let port = number(&master.next()?)?;
    (first <= last).then_some((first, last, Host { name, port }))
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    }
}

/// For a node to tell.
const PATIENCE: Duration = Duration::from_millis(200);
/// How often the table is asked for while something is wrong with it.
const HASTE: Duration = Duration::from_secs(1);
/// How often it is asked for while all is well.
const PERIOD: Duration = Duration::from_secs(10);
/// Every slot a range of its own.
const MOST_RANGES: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(first: i64, last: i64, name: Value, port: i64) -> Value {
        let node = |name, port| Value::Array(vec![name, Value::Int(port), bulk("id")]);
        let replica = node(bulk("replica"), 1);
        Value::Array(vec![
            Value::Int(first),
            Value::Int(last),
            node(name, port),
            replica,
        ])
    }

    fn told(rows: Vec<Value>) -> Option<Vec<(u16, u16, String)>> {
        let asked = Host {
            name: "asked".to_owned(),
            port: 7,
        };
        let slots = read(Value::Array(rows), &asked)?;
        let slots = slots
            .into_iter()
            .map(|(first, last, host)| (first, last, host.to_string()));
        Some(slots.collect())
    }

    #[test]
    fn the_masters_of_a_cluster_are_read_from_its_table() {
        let rows = vec![
            range(0, 99, bulk("10.0.0.1"), 7000),
            range(100, 100, Value::Nil, 7001),
            range(101, 16_383, bulk(""), 7002),
        ];
        let expected = [
            (0, 99, "10.0.0.1:7000".to_owned()),
            (100, 100, "asked:7001".to_owned()),
            (101, 16_383, "asked:7002".to_owned()),
        ];
        assert_eq!(told(rows).unwrap(), expected);
    }

    #[test]
    fn what_is_no_range_is_passed_over() {
        for row in [
            Value::Nil,
            Value::Int(1),
            Value::Array(vec![]),
            Value::Array(vec![Value::Int(0), Value::Int(1)]),
            range(-1, 5, bulk("a"), 1),
            range(0, 70_000, bulk("a"), 1),
            range(5, 4, bulk("a"), 1),
            range(0, 1, bulk("?"), 1),
            range(0, 1, bulk("a"), 70_000),
            range(0, 1, Value::BulkString(vec![0xff]), 1),
        ] {
            assert_eq!(told(vec![row.clone()]), None, "{row:?}");
            let rows = vec![row.clone(), range(0, 9, bulk("a"), 1)];
            assert_eq!(told(rows).unwrap().len(), 1, "{row:?}");
        }
        let asked = Host {
            name: String::new(),
            port: 1,
        };
        assert_eq!(read(Value::Okay, &asked), None);
    }

    #[test]
    fn the_table_is_asked_for_every_ten_seconds_and_once_a_second_in_need() {
        let now = Instant::now();
        assert!(is_due(None, now, false));
        assert!(!is_due(Some(now), now + HASTE, false));
        assert!(is_due(Some(now), now + PERIOD, false));
        assert!(!is_due(Some(now), now, true));
        assert!(is_due(Some(now), now + HASTE, true));
    }
}
