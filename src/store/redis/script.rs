//! The scripts that Redis runs, each about one key: what it does depends on what lies there, and nobody comes between.

use redis::Script;

use super::{page::Pages, value};

/// All of them.
#[derive(Debug)]
pub(super) struct Scripts {
    /// Deletes what lies under an entry's key if it is still what was read (its identity), or nothing that an entry could be.
    pub(super) discard: Script,
    /// Marks an entry as stale if it is still what was read (its identity).
    pub(super) soften: Script,
    /// Writes an entry (value, milliseconds to live) in place of another, and tells everybody (channel, message).
    pub(super) replace: Script,
    /// Deletes an entry that was made before a moment, milliseconds of Unix time, and tells everybody if there was one (channel,
    /// message).
    pub(super) outdate: Script,
    /// Adds an entry (member, when it ends) to the index of a tag or key, and drops from it what has ended (by now). The index
    /// ends with its last entry.
    pub(super) index: Script,
    /// Takes the turn of all replicas for so many milliseconds, unless one has it; what does not end is nobody's turn.
    pub(super) turn: Script,
    /// Reads such an index.
    pub(super) pages: Pages,
}

impl Default for Scripts {
    fn default() -> Self {
        let (from, to) = (value::IDENTITY, value::IDENTITY_END);
        let (made, made_end) = (value::MADE, value::MADE + 7);
        Self {
            discard: Script::new(&format!(
                "if redis.call('TYPE', KEYS[1]).ok == 'string'
                    and redis.call('GETRANGE', KEYS[1], {from}, {to}) ~= ARGV[1] then return 0 end
                return redis.call('UNLINK', KEYS[1])"
            )),
            soften: Script::new(&format!(
                "if redis.call('GETRANGE', KEYS[1], {from}, {to}) ~= ARGV[1] then return 0 end
                redis.call('SETRANGE', KEYS[1], 0, '\\1')
                return 1"
            )),
            // Whoever may not tell may write all the same.
            replace: Script::new(
                "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
                redis.pcall('PUBLISH', ARGV[3], ARGV[4])
                return 0",
            ),
            outdate: Script::new(&format!(
                "local made = redis.call('GETRANGE', KEYS[1], {made}, {made_end})
                if #made < 8 or struct.unpack('<I8', made) >= tonumber(ARGV[1]) then return 0 end
                redis.call('UNLINK', KEYS[1])
                redis.pcall('PUBLISH', ARGV[2], ARGV[3])
                return 1"
            )),
            index: Script::new(
                "local added = redis.pcall('ZADD', KEYS[1], ARGV[2], ARGV[1])
                if type(added) == 'table' then
                    if redis.call('TYPE', KEYS[1]).ok == 'zset' then return added end
                    redis.call('UNLINK', KEYS[1])
                    redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
                end
                redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[3])
                local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
                if last[2] then redis.call('PEXPIREAT', KEYS[1], last[2]) end
                return 0",
            ),
            turn: Script::new(
                "if redis.call('PTTL', KEYS[1]) >= 0 then return 0 end
                redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
                return 1",
            ),
            pages: Pages::default(),
        }
    }
}
