//! Purges in Redis: one hash, which all replicas write and read.
//!
//! ```text
//! era        8 bytes, random: the life of this hash
//! changes    how many fields were set or deleted since
//! forgotten  how many purges were deleted
//! NAME       value u64, at u64: a purge, by its name in the registry
//! ```
//!
//! # Scope
//! Reads and writes; what is to be done is decided by `store::generations::shared`. A purge is written and published at once,
//! by one script. What is read is bounded: more than replicas ever remember is refused as a whole, as nobody could tell what
//! was purged.

use std::collections::HashMap;

use redis::{Cmd, Script, ScriptInvocation};

use super::{
    layout::Layout,
    message::Message,
    sync::To,
    trouble::{Kind, Trouble},
};
use crate::store::generations::{Row, shared::Theirs};

/// The hash; what writes it are scripts.
#[derive(Debug)]
pub(super) struct Hash {
    key: String,
    channel: String,
    /// Sets purges (name, value, message), in place of others or only where there is none, counts and publishes them.
    write: Script,
    /// Begins an era (8 bytes), unless there is one; returns that which is.
    begin: Script,
    /// Deletes purges (name, value) that are still the same, and counts them.
    forget: Script,
}

/// The value of a field that may not be there.
type Field = Option<Vec<u8>>;

/// Where to go on, and fields with their values.
type Page = (u64, Vec<(Vec<u8>, Vec<u8>)>);

/// What a write does about a purge of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// It takes its place.
    Any,
    /// It leaves it there.
    None,
}

impl Hash {
    pub(super) fn new(layout: &Layout) -> Self {
        Self {
            key: layout.fact("generations"),
            channel: layout.channel(),
            write: Script::new(
                "local n = 0
                for i = 3, #ARGV, 3 do
                    local new = 1
                    if ARGV[2] == 'any' then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
                    else new = redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1]) end
                    if new == 1 then redis.call('PUBLISH', ARGV[1], ARGV[i + 2]) end
                    n = n + new
                end
                return redis.call('HINCRBY', KEYS[1], 'changes', n)",
            ),
            begin: Script::new(
                "local era = redis.call('HGET', KEYS[1], 'era')
                if era and #era == 8 then return era end
                redis.call('HSET', KEYS[1], 'era', ARGV[1])
                redis.call('HINCRBY', KEYS[1], 'changes', 1)
                return ARGV[1]",
            ),
            forget: Script::new(
                "local n = 0
                for i = 1, #ARGV, 2 do
                    if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
                        n = n + redis.call('HDEL', KEYS[1], ARGV[i])
                    end
                end
                redis.call('HINCRBY', KEYS[1], 'forgotten', n)
                return redis.call('HINCRBY', KEYS[1], 'changes', n)",
            ),
        }
    }

    /// Reads all but the purges.
    pub(super) async fn head(&self, to: To<'_>) -> Result<Theirs, Trouble> {
        let mut read = Cmd::new();
        read.arg("HMGET")
            .arg(&self.key)
            .arg(&[ERA, CHANGES, FORGOTTEN]);
        let (era, changes, forgotten): (Field, Field, Field) = to.ask(&self.key, &read).await?;
        Ok(Theirs {
            era: era.and_then(|era| Some(u64::from_le_bytes(era.try_into().ok()?))),
            changes: count(changes),
            forgotten: count(forgotten),
            rows: HashMap::new(),
        })
    }

    /// Reads the purges, in pages.
    pub(super) async fn rows(&self, to: To<'_>) -> Result<HashMap<Vec<u8>, Row>, Trouble> {
        let mut rows = HashMap::new();
        let mut cursor = 0_u64;
        loop {
            let mut scan = Cmd::new();
            scan.arg("HSCAN").arg(&self.key).arg(cursor);
            scan.arg("COUNT").arg(PAGE);
            let (next, page): Page = to.ask(&self.key, &scan).await?;
            let page = page.iter().filter_map(|(name, value)| row(name, value));
            rows.extend(page.map(|row| (row.name.clone(), row)));
            if rows.len() > MOST {
                return Err(Trouble::new(
                    Kind::Type,
                    "more purges than replicas remember",
                ));
            }
            cursor = next;
            if cursor == 0 {
                return Ok(rows);
            }
        }
    }

    /// Writes purges and publishes them.
    pub(super) async fn write(&self, to: To<'_>, rows: &[Row], over: Over) -> Result<(), Trouble> {
        for page in rows.chunks(PAGE) {
            let mut script = self.write.key(&self.key);
            script.arg(&self.channel).arg(match over {
                Over::Any => "any",
                Over::None => "none",
            });
            for row in page {
                let message = Message::Purged(row.clone()).encode();
                script.arg(&row.name).arg(&value(row)[..]).arg(message);
            }
            let _: i64 = to.run(&self.key, &script).await?;
        }
        Ok(())
    }

    /// Begins the era `fresh`, unless there is one; returns that which is.
    pub(super) async fn begin(&self, to: To<'_>, fresh: u64) -> Result<u64, Trouble> {
        let mut script = self.begin.key(&self.key);
        script.arg(&fresh.to_le_bytes()[..]);
        let era: Vec<u8> = to.run(&self.key, &script).await?;
        let odd = |_| Trouble::new(Kind::Type, "no era");
        Ok(u64::from_le_bytes(era.try_into().map_err(odd)?))
    }

    /// Deletes purges, unless their names were purged again.
    pub(super) async fn forget(&self, to: To<'_>, rows: &[Row]) -> Result<(), Trouble> {
        for page in rows.chunks(PAGE) {
            let mut script: ScriptInvocation<'_> = self.forget.key(&self.key);
            for row in page {
                script.arg(&row.name).arg(&value(row)[..]);
            }
            let _: i64 = to.run(&self.key, &script).await?;
        }
        Ok(())
    }
}

/// Reads a purge; `None` for the other fields, and for what nobody of us has written.
fn row(name: &[u8], value: &[u8]) -> Option<Row> {
    // Names begin with whether the purge is soft.
    let is_name = matches!(name.first(), Some(0 | 1));
    let (value, at) = value.split_first_chunk()?;
    is_name.then_some(Row {
        name: name.to_vec(),
        value: u64::from_le_bytes(*value),
        at: u64::from_le_bytes(at.try_into().ok()?),
    })
}

fn value(row: &Row) -> [u8; 16] {
    let mut bytes = [0; 16];
    let (value, at) = bytes.split_at_mut(8);
    value.copy_from_slice(&row.value.to_le_bytes());
    at.copy_from_slice(&row.at.to_le_bytes());
    bytes
}

/// Reads a count; what is none counts as nothing.
fn count(field: Field) -> u64 {
    let text = field.and_then(|field| String::from_utf8(field).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

const ERA: &str = "era";
const CHANGES: &str = "changes";
const FORGOTTEN: &str = "forgotten";
/// Purges that are read or written at a time.
const PAGE: usize = 200;
/// Purges that are read at most: twice as many as one replica remembers.
const MOST: usize = 1 << 17;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_is_read_as_it_is_written_and_nothing_else_is_one() {
        let purge = Row {
            name: vec![1, 2, 0],
            value: u64::MAX - 1,
            at: 1_760_000_000_000,
        };
        let written = value(&purge);
        assert_eq!(row(&purge.name, &written), Some(purge));
        assert_eq!(row(b"era", &written), None);
        assert_eq!(row(b"", &written), None);
        assert_eq!(row(&[0, 0, 0], &written[..15]), None);
        assert_eq!(row(&[0, 0, 0], &[0; 17]), None);
        assert_eq!(row(&[0, 0, 0], b""), None);
    }

    #[test]
    fn what_is_no_count_counts_as_nothing() {
        for (field, counted) in [(&b"12"[..], 12), (b"-3", 0), (b"x", 0), (b"\xFF", 0)] {
            assert_eq!(count(Some(field.to_vec())), counted);
        }
        assert_eq!(count(None), 0);
    }
}
