//! The secret that replicas share.
//!
//! # Decisions
//! What lies in Redis is everybody's. Where nothing does, replicas that have agreed before put theirs back at once; one that is
//! new asks for that and waits a moment before it proposes its own. What is no secret gives way.

use std::time::Duration;

use redis::{Cmd, Script};
use tokio::time::sleep;

use super::{layout::Layout, message::Message, sync::To, trouble::Trouble};
use crate::call::key::Secret;

/// Proposes a secret (digits) in place of what was read; returns what lies there then.
#[derive(Debug)]
pub(super) struct Proposal(Script);

impl Default for Proposal {
    fn default() -> Self {
        Self(Script::new(
            "local there = redis.call('GETRANGE', KEYS[1], 0, 64)
            if there ~= ARGV[2] then return there end
            redis.call('SET', KEYS[1], ARGV[1])
            return ARGV[1]",
        ))
    }
}

impl Proposal {
    /// Has `secret` be the one that replicas share, or the other way round; `is_agreed` tells whether it has been before.
    /// Returns whether another was adopted.
    pub(super) async fn agree(
        &self,
        to: To<'_>,
        layout: &Layout,
        secret: &Secret,
        is_agreed: bool,
    ) -> Result<bool, Trouble> {
        let key = layout.fact("secret");
        let mut there = read(to, &key).await?;
        if there.is_empty() && !is_agreed {
            to.publish(layout, &Message::Wanted).await?;
            let mut looks = 0;
            while there.is_empty() && looks < LOOKS {
                sleep(BETWEEN).await;
                there = read(to, &key).await?;
                looks += 1;
            }
        }
        if Secret::read(&there).is_none() {
            let ours = secret.spelled();
            let mut script = self.0.key(&key);
            script.arg(ours.as_bytes()).arg(&there);
            there = to.run(&key, &script).await?;
        }
        Ok(Secret::read(&there).is_some_and(|bytes| secret.adopt(bytes)))
    }
}

/// Reads what lies there, as far as it can be a secret, and a little more.
async fn read(to: To<'_>, key: &str) -> Result<Vec<u8>, Trouble> {
    let mut read = Cmd::new();
    read.arg("GETRANGE").arg(key).arg(0).arg(64);
    to.ask(key, &read).await
}

/// How often is looked for what the others put back.
const LOOKS: u32 = 6;
/// Between two such looks.
const BETWEEN: Duration = Duration::from_millis(50);
