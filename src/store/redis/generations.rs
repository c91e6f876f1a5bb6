//! Purges in Redis: one hash, which all replicas write and read.
//!
//! ```text
//! era        8 bytes, random: the life of this hash
//! changes    how many fields were set or deleted since, and so the number of the last change
//! forgotten  how many purges were deleted
//! NAME       value u64, at u64: a purge, by its name in the registry
//! ```
//!
//! # Scope
//! Reads and writes; what is to be done is decided by `store::generations::shared`. A purge is written and published at once,
//! by one script, which leaves alone what was not done earlier. What is read is bounded: more than replicas ever remember, or what is longer or another than they write, is
//! refused as a whole, as nobody could tell what was purged. Fields that are nobody's are passed over while they are short.

use std::collections::HashMap;

use redis::{Script, ScriptInvocation};

use super::{
    layout::Layout,
    page::{Bounds, Page, Pages},
    sync::To,
    trouble::{Kind, Trouble},
};
use crate::store::generations::{LONGEST_READ, Row, is_name, shared::Theirs};

/// The hash; what writes it are scripts.
#[derive(Debug)]
pub(super) struct Hash {
    key: String,
    channel: String,
    pages: Pages,
    /// Tells how many fields there are, what time it is (milliseconds of Unix time), and what short values some fields have.
    head: Script,
    /// Sets purges (name, value) in place of earlier ones, counts and publishes them; returns those that are there and are not
    /// earlier (name, value).
    write: Script,
    /// Begins an era (8 bytes), unless there is one by now that is another than is to end; returns that which is.
    begin: Script,
    /// Deletes purges (name, value) that are still the same, and counts them.
    forget: Script,
}

/// The value of a field that may not be there.
type Field = Option<Vec<u8>>;

/// The name of a field, and its value.
type Pair = (Vec<u8>, Vec<u8>);

/// What the hash tells of itself.
#[derive(Debug)]
pub(super) struct Head {
    /// All but the purges.
    pub(super) theirs: Theirs,
    /// What time it is where the hash lies, milliseconds of Unix time.
    pub(super) time: u64,
}

impl Hash {
    pub(super) fn new(layout: &Layout) -> Self {
        Self {
            key: layout.fact("generations"),
            channel: layout.channel(),
            pages: Pages::default(),
            head: Script::new(
                "local kind = redis.call('TYPE', KEYS[1]).ok
                if kind ~= 'hash' and kind ~= 'none' then return redis.error_reply('WRONGTYPE a ' .. kind) end
                local time = redis.call('TIME')
                local head = {redis.call('HLEN', KEYS[1]), time[1] * 1000 + math.floor(time[2] / 1000)}
                for at, field in ipairs(ARGV) do
                    local is_short = redis.call('HSTRLEN', KEYS[1], field) <= 32
                    if is_short then head[at + 2] = redis.call('HGET', KEYS[1], field)
                    else head[at + 2] = '?' end
                end
                return head",
            ),
            write: Script::new(
                "local function is_earlier(one, other)
                    for i = 16, 9, -1 do
                        local a, b = string.byte(one, i), string.byte(other, i)
                        if a ~= b then return a < b end
                    end
                    return false
                end
                local left = {}
                for i = 2, #ARGV, 2 do
                    local name, new, there = ARGV[i], ARGV[i + 1], false
                    if redis.call('HSTRLEN', KEYS[1], name) == 16 then
                        there = redis.call('HGET', KEYS[1], name)
                    end
                    if not there or is_earlier(there, new) then
                        redis.call('HSET', KEYS[1], name, new)
                        local change = redis.call('HINCRBY', KEYS[1], 'changes', 1)
                        local number = struct.pack('<I8', change)
                        redis.call('PUBLISH', ARGV[1], 'p' .. new .. number .. name)
                    elseif string.sub(there, 1, 8) ~= string.sub(new, 1, 8) then
                        left[#left + 1] = name
                        left[#left + 1] = there
                    end
                end
                return left",
            ),
            begin: Script::new(
                "local era = redis.call('HGET', KEYS[1], 'era')
                if era and #era == 8 and era ~= ARGV[2] then return era end
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

    /// Returns where it lies.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Reads all but the purges.
    pub(super) async fn head(&self, to: To<'_>) -> Result<Head, Trouble> {
        let mut script = self.head.key(&self.key);
        script.arg(&[ERA, CHANGES, FORGOTTEN]);
        let (fields, time, era, changes, forgotten): (usize, u64, Field, Field, Field) =
            to.run(&self.key, &script).await?;
        if fields > MOST {
            return Err(too_many());
        }
        let theirs = Theirs {
            era: era.and_then(|era| Some(u64::from_le_bytes(era.try_into().ok()?))),
            changes: count(changes)?,
            forgotten: count(forgotten)?,
            rows: HashMap::new(),
        };
        Ok(Head { theirs, time })
    }

    /// Reads the purges, in pages.
    pub(super) async fn rows(&self, to: To<'_>) -> Result<HashMap<Vec<u8>, Row>, Trouble> {
        let mut rows = HashMap::new();
        let mut cursor = 0_u64;
        loop {
            let mut page = self.pages.of(&self.key, BOUNDS, "HSCAN");
            page.arg(cursor).arg("COUNT").arg(PAGE);
            let (next, page, left_out): Page<Vec<u8>> = to.run(&self.key, &page).await?;
            if left_out > 0 {
                return Err(Trouble::new(Kind::Type, "a field is too long"));
            }
            for (name, value) in page.into_iter().filter(|(name, _)| is_name(name)) {
                let row = row(&name, &value);
                rows.insert(name, row.ok_or_else(damaged)?);
            }
            if rows.len() > MOST {
                return Err(too_many());
            }
            cursor = next;
            if cursor == 0 {
                return Ok(rows);
            }
        }
    }

    /// Writes purges and publishes them; returns those that were not, each with the moment of the purge that is there instead.
    pub(super) async fn write(&self, to: To<'_>, rows: &[Row]) -> Result<Vec<Row>, Trouble> {
        let mut left = Vec::new();
        for page in rows.chunks(PAGE) {
            let mut script = self.write.key(&self.key);
            script.arg(&self.channel);
            for row in page {
                script.arg(&row.name).arg(&value(row)[..]);
            }
            let there: Vec<Pair> = to.run(&self.key, &script).await?;
            for (name, value) in there {
                let there = row(&name, &value).ok_or_else(damaged)?;
                let ours = page.iter().find(|ours| ours.name == name);
                left.extend(ours.map(|ours| Row {
                    at: there.at,
                    ..ours.clone()
                }));
            }
        }
        Ok(left)
    }

    /// Begins the era `fresh`, unless there is one that is not `over`; returns that which is.
    pub(super) async fn begin(
        &self,
        to: To<'_>,
        fresh: u64,
        over: Option<u64>,
    ) -> Result<u64, Trouble> {
        let over = over.map(u64::to_le_bytes);
        let mut script = self.begin.key(&self.key);
        script.arg(&fresh.to_le_bytes()[..]);
        script.arg(over.as_ref().map_or(&b""[..], <[u8; 8]>::as_slice));
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

/// Reads a purge; `None` for what nobody of us has written.
fn row(name: &[u8], value: &[u8]) -> Option<Row> {
    let (value, at) = value.split_first_chunk()?;
    let row = Row {
        name: name.to_vec(),
        value: u64::from_le_bytes(*value),
        at: u64::from_le_bytes(at.try_into().ok()?),
    };
    row.is_sound().then_some(row)
}

fn value(row: &Row) -> [u8; 16] {
    let mut bytes = [0; 16];
    let (value, at) = bytes.split_at_mut(8);
    value.copy_from_slice(&row.value.to_le_bytes());
    at.copy_from_slice(&row.at.to_le_bytes());
    bytes
}

/// Reads a count; where there is none, nothing was counted yet.
fn count(field: Field) -> Result<u64, Trouble> {
    let Some(field) = field else { return Ok(0) };
    let count = str::from_utf8(&field)
        .ok()
        .and_then(|text| text.parse().ok());
    // Redis does not count any further.
    let count = count.filter(|count| *count < u64::MAX / 4);
    count.ok_or_else(|| Trouble::new(Kind::Type, "a count is none"))
}

fn damaged() -> Trouble {
    Trouble::new(Kind::Type, "a purge is damaged")
}

fn too_many() -> Trouble {
    Trouble::new(Kind::Type, "more purges than replicas remember")
}

const ERA: &str = "era";
const CHANGES: &str = "changes";
const FORGOTTEN: &str = "forgotten";
/// Purges that are read or written at a time.
const PAGE: usize = 200;
/// Purges that are read at most: twice as many as one replica remembers.
const MOST: usize = 1 << 17;
/// The longest that is read of it. A name that is longer than replicas take in is for the registry to judge.
const BOUNDS: Bounds = Bounds {
    name: LONGEST_READ,
    value: 32,
};

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
        assert_eq!(row(&purge.name, &written), Some(purge.clone()));
        assert!(is_name(&purge.name));
        for name in [&b"era"[..], b"changes", b"forgotten", b"", b"z"] {
            assert!(!is_name(name));
        }
        assert_eq!(row(&[0, 0, 0], &written[..15]), None);
        assert_eq!(row(&[0, 0, 0], &[0; 17]), None);
        assert_eq!(row(&[0, 0, 0], b""), None);
        assert_eq!(
            row(&[0, 0, 0], &[0xFF; 16]),
            None,
            "nothing is later than that"
        );
    }

    #[test]
    fn what_is_no_count_is_not_taken_for_one() {
        assert_eq!(count(Some(b"12".to_vec())).unwrap(), 12);
        assert_eq!(count(None).unwrap(), 0, "nothing was counted yet");
        for field in [&b""[..], b"-3", b"x", b"?", b"\xFF", b"9223372036854775807"] {
            let trouble = count(Some(field.to_vec())).unwrap_err().about("p:g");
            assert_eq!(trouble.kind, Kind::Type, "{field:?}");
            assert!(trouble.to_string().contains("`DEL p:g`"), "{trouble}");
        }
    }
}
