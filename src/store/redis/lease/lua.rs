//! How leases are asked for in Redis: three scripts, so that each question is one step for everybody.

use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;
use redis::{Cmd, cmd};

use super::{APART, APART_FOR, Asked, Asking, Claim, Holder, LEASE, Release, Wire};
use crate::{
    call::Slot,
    store::redis::{Redis, layout::Layout, link::Link, message::Message, trouble::Trouble, value},
};

/// Leases in Redis.
pub struct Scripts {
    link: Link,
    layout: Layout,
    entries: Redis,
}

impl Scripts {
    /// Asks by `link` about the names of `layout`, where `entries` are written, too.
    pub fn new(link: Link, layout: Layout, entries: Redis) -> Self {
        Self {
            link,
            layout,
            entries,
        }
    }
}

impl Wire for Scripts {
    fn ask<'a>(
        &'a self,
        asking: Asking<'a>,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Asked, Trouble>> {
        Box::pin(async move {
            let (key, command) = ask(&self.layout, &asking);
            let (mark, holder, taken): (Vec<u8>, Vec<u8>, i64) =
                self.link.ask(&key, &command, patience).await?;
            Ok(Asked {
                mark,
                holder: Holder::read(&holder),
                taken: taken == 1,
            })
        })
    }

    fn renew<'a>(
        &'a self,
        slot: &'a Slot,
        claim: &'a Claim,
        patience: Duration,
    ) -> BoxFuture<'a, Result<bool, Trouble>> {
        Box::pin(async move {
            let key = self.layout.lease(slot);
            let mut command = cmd("EVAL");
            command
                .arg(RENEW)
                .arg(1)
                .arg(&key)
                .arg(claim.as_bytes())
                .arg(millis(LEASE));
            let held: i64 = self.link.ask(&key, &command, patience).await?;
            Ok(held == 1)
        })
    }

    fn release<'a>(
        &'a self,
        release: &'a Release,
        patience: Duration,
    ) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(async move {
            let (key, command) = give_back(&self.layout, release);
            self.link.ask(&key, &command, patience).await
        })
    }

    fn release_behind_entry(&self, release: &Release) {
        let (key, command) = give_back(&self.layout, release);
        self.entries.follow(release.slot, key, command);
    }
}

fn give_back(layout: &Layout, release: &Release) -> (String, Cmd) {
    let key = layout.lease(&release.slot);
    let rest = if release.apart { APART } else { b"" };
    let mut command = cmd("EVAL");
    command
        .arg(RELEASE)
        .arg(1)
        .arg(&key)
        .arg(release.claim.as_bytes())
        .arg(rest)
        .arg(millis(APART_FOR))
        .arg(layout.channel())
        .arg(Message::Done(release.slot).encode());
    (key, command)
}

fn ask(layout: &Layout, asking: &Asking<'_>) -> (String, Cmd) {
    let key = layout.lease(asking.slot);
    let mut command = cmd("EVAL");
    command
        .arg(ASK)
        .arg(2)
        .arg(&key)
        .arg(layout.entry(asking.slot))
        .arg(asking.claim.map_or(&b""[..], Claim::as_bytes))
        .arg(millis(LEASE))
        .arg(asking.known.unwrap_or(ANY))
        .arg(value::IDENTITY_END)
        .arg(MOST - 1);
    (key, command)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Scripts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripts")
    }
}

/// Tells an entry that is not known, by its first bytes up to the end of what is its own: those before, too, as one that was
/// softened is another. Else takes the lease, or tells whose it is. What does not end as a lease does is
/// nobody's: were it waited for, that would have no end, either. What is of another type is no lease, and no entry.
const ASK: &str = "\
local mark = redis.pcall('GETRANGE', KEYS[2], 0, ARGV[4])
if type(mark) == 'table' then mark = '' end
if mark ~= '' and mark ~= ARGV[3] and ARGV[3] ~= '*' then return {mark, '', 0} end
local left = redis.call('PTTL', KEYS[1])
local holder = redis.pcall('GETRANGE', KEYS[1], 0, ARGV[5])
if left >= 0 and left <= tonumber(ARGV[2]) and type(holder) ~= 'table' then return {mark, holder, 0} end
if ARGV[1] == '' then return {mark, '', 0} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {mark, '', 1}";

/// Has a lease live on, if it is still held; what else lies there may be of another type.
const RENEW: &str = "\
if redis.pcall('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0";

/// Ends a lease, if it is still held, and tells everybody in any case: what they look for may lie there.
const RELEASE: &str = "\
if redis.pcall('GET', KEYS[1]) == ARGV[1] then
  if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
end
redis.call('PUBLISH', ARGV[4], ARGV[5])
return true";

/// Stands for the mark of any entry.
const ANY: &[u8] = b"*";
/// What is read of a lease, bytes: a little more than it has, so that what is longer is told from it.
const MOST: usize = 32;
