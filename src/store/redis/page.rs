//! Pages of hashes and sorted sets, which Redis cuts before it sends them.
//!
//! # Scope
//! Whoever can write to Redis can have put anything under our names. So pairs that are longer than any of ours are left out
//! where they lie, by a script, and counted: however large they are, they are not sent. What the others mean is for those to
//! judge who ask.

use redis::{Script, ScriptInvocation};

/// Where to go on (0 at the end), the pairs of a page, and how many were left out.
pub(super) type Page<V> = (u64, Vec<(Vec<u8>, V)>, u64);

/// Asks for pages.
#[derive(Debug)]
pub(super) struct Pages(Script);

/// The longest that either half of a pair may be, bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The name of a field, or the member of a set.
    pub(super) name: usize,
    /// The value of a field; a score is never too long.
    pub(super) value: usize,
}

impl Default for Pages {
    fn default() -> Self {
        Self(Script::new(
            "local most, longest = tonumber(ARGV[1]), tonumber(ARGV[2])
            local told = redis.pcall(ARGV[3], KEYS[1], unpack(ARGV, 4))
            if told.err then return told end
            local cursor, all = '0', told
            if type(told[2]) == 'table' then cursor, all = told[1], told[2] end
            local kept, out = {}, 0
            for at = 1, #all, 2 do
                if #all[at] <= most and #all[at + 1] <= longest then
                    kept[#kept + 1] = all[at]
                    kept[#kept + 1] = all[at + 1]
                else out = out + 1 end
            end
            return {cursor, kept, out}",
        ))
    }
}

impl Pages {
    /// Returns the question for a page of `key`, which `command` tells: HSCAN, ZSCAN, or one of those that tell members with
    /// their scores. What it takes behind the key is to be added.
    pub(super) fn of(&self, key: &str, bounds: Bounds, command: &str) -> ScriptInvocation<'_> {
        let mut page = self.0.key(key);
        page.arg(bounds.name).arg(bounds.value).arg(command);
        page
    }
}
