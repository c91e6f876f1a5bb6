//! What the memory makes of the news of other replicas: what they have replaced is dropped, and what may have been missed is
//! looked up anew.
//!
//! ```text
//! replaced      ──▶ what is being read of the slot counts for nothing, and what is in memory is dropped
//! lost, back    ──▶ everything in memory is doubted: each entry is looked up once before it answers again
//! not hearing   ──▶ the same, once a second
//! ```
//!
//! # Scope
//! Costs a hit nothing: a doubt is found where purges are (`generations`). Nothing is lost by it, either: while Redis is
//! away, or where it has nothing, what is in memory answers as before. News that were made up cost a look.

use tokio::time::{Duration, Instant, timeout_at};

use super::{
    behind::Behind,
    redis::{Ears, Heard, message::Message},
    tiered::Tiered,
};

impl Tiered {
    /// Heeds what `ears` hear, as long as there is a channel; `is_hearing` says whether news come now.
    pub async fn heed(self, mut ears: Ears, mut is_hearing: bool) {
        let mut doubted = Instant::now();
        loop {
            let heard = if is_hearing {
                ears.next().await
            } else {
                let heard = timeout_at(doubted + BELIEVED, ears.next()).await;
                heard.unwrap_or(Some(Heard::Lost))
            };
            match heard {
                Some(Heard::Message(message)) => {
                    self.hear(&message);
                    continue;
                }
                Some(Heard::Lost) => is_hearing = false,
                Some(Heard::Back) => is_hearing = true,
                None => return,
            }
            doubted = Instant::now();
            self.doubt();
        }
    }

    fn hear(&self, message: &Message) {
        let Message::Replaced { slot, by } = message else {
            return;
        };
        if let Some(Behind::Redis(redis)) = &self.behind
            && !redis.hears_of(slot, *by)
        {
            return;
        }
        self.changes.note(slot);
        self.memory.clear(slot);
    }

    fn doubt(&self) {
        self.changes.note_all();
        self.generations.doubt();
    }
}

/// How long what was looked up is believed while no news come.
const BELIEVED: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
