//! What replicas agree on: the secret, what was purged, and what upstreams have said of credentials.
//!
//! ```text
//! a new connection ──▶ greet: secret, purges ──▶ others are let in ──▶ proofs
//! every second     ──▶ check: is the secret there, has any purge changed ──▶ if so, all purges are read again
//! a message        ──▶ a purge or a proof is known at once
//! ```
//!
//! # Scope
//! Messages make it fast, the check makes it sure: every change of the purges is counted where they lie, so that one which
//! was not heard of is noticed within a second. As long as the check fails, purges may be missed, and the memory is
//! trusted for a while only (`store::trust`). That what was purged here cannot be written is no such failure. Where what lies there cannot be read, nothing in Redis can be judged: the link
//! is given up, with a word of what is in the way, until it can. Which purges are loaded, put back or forgotten is `generations::shared`'s
//! decision, whose secret counts `secret`'s.

mod agree;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{Cmd, FromRedisValue, ScriptInvocation};
use tokio::{
    sync::{self, Notify},
    time::{Instant, sleep_until},
};

use super::{
    Channel, Link, Redis,
    channel::Heard,
    generations::Hash,
    layout::Layout,
    link::Early,
    message::Message,
    proofs::{self, Set},
    secret::Proposal,
    trouble::{Kind, Trouble},
};
use crate::{
    call::key::Secret,
    store::{
        disk::Proof,
        generations::{
            Generations, Row,
            shared::{Known, Run},
        },
        proofs::Proofs,
        trust::Trust,
    },
};

/// What replicas agree on, and this one's part of it; clones share it.
#[derive(Clone)]
pub struct Facts(Arc<Inner>);

/// What this replica has to agree on.
#[derive(Clone, Debug)]
pub struct Options {
    /// What keys and fingerprints are made with.
    pub secret: Secret,
    /// Whether that is the operator's word: then it is neither written nor replaced.
    pub is_configured: bool,
    /// What was purged.
    pub generations: Generations,
    /// The trust in the memory.
    pub trust: Trust,
    /// How long a proof is of use.
    pub keep_proofs: Duration,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Whether no purge can have been missed.
    pub trusted: bool,
    /// How often another secret was adopted in place of one that had been agreed on.
    pub secrets: u64,
    /// How often all purges were read.
    pub reads: u64,
    /// Purges that found no room.
    pub unfit: u64,
    /// Proofs that were to be told to others and found no room.
    pub proofs_dropped: u64,
}

struct Inner {
    /// Held by who agrees. Of two at once, as a new node of a cluster is greeted during a check, the slower one could leave an
    /// older word under the count of the newer.
    agreeing: sync::Mutex<()>,
    layout: Layout,
    options: Options,
    proposal: Proposal,
    hash: Hash,
    proofs: Set,
    state: Mutex<State>,
    /// Wakes the keeper.
    wake: Notify,
    /// Whether the keeper is to check at once.
    is_urgent: AtomicBool,
    /// Whether no messages come.
    is_deaf: AtomicBool,
    /// Whether proofs are to be read: they may have been missed.
    lacks_proofs: AtomicBool,
    secrets: AtomicU64,
    reads: AtomicU64,
    unfit: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// Whether the secret was the others', too.
    is_agreed: bool,
    /// What was last read of the purges.
    known: Option<Known>,
    /// What was heard of them lately.
    heard: Option<Run>,
    /// When it was last known that none was missed.
    checked: Instant,
}

/// Whom Redis is asked by: everybody's connection, or one that nobody else is let in by yet.
#[derive(Clone, Copy)]
pub(super) enum To<'a> {
    Link(&'a Link),
    Early(&'a Early),
}

impl Facts {
    /// Prepares to agree. Until that is done with the first [`greet`](Self::greet), nothing of other replicas is believed.
    pub fn new(layout: Layout, options: Options) -> Self {
        let now = Instant::now();
        options.generations.share();
        options.trust.lose(now);
        Self(Arc::new(Inner {
            agreeing: sync::Mutex::default(),
            hash: Hash::new(&layout),
            proofs: Set::new(&layout, options.keep_proofs),
            layout,
            options,
            proposal: Proposal::default(),
            state: Mutex::new(State {
                is_agreed: false,
                known: None,
                heard: None,
                checked: now,
            }),
            wake: Notify::new(),
            is_urgent: AtomicBool::new(false),
            is_deaf: AtomicBool::new(true),
            lacks_proofs: AtomicBool::new(true),
            secrets: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            unfit: AtomicU64::new(0),
        }))
    }

    /// Agrees with whoever has used this server before, or uses it now. Before that is done nothing there can be judged.
    pub async fn greet(&self, early: &Early) -> Result<(), Trouble> {
        self.0.agree(To::Early(early), true).await?;
        self.0.lacks_proofs.store(true, Ordering::Relaxed);
        self.0.wake.notify_one();
        Ok(())
    }

    /// Stays in agreement, for ever: checks, and writes and reads proofs.
    pub async fn look_after(self, link: Link, proofs: Proofs) {
        let (mut due, mut page) = (Instant::now(), None);
        loop {
            tokio::select! {
                () = sleep_until(due) => {}
                () = self.0.wake.notified() => {}
            }
            let now = Instant::now();
            let is_due = self.0.is_urgent.swap(false, Ordering::Relaxed) || now >= due;
            if is_due {
                due = now + self.0.check(&link).await;
            }
            let to = To::Link(&link);
            // What cannot be written may still be read.
            let written = self.0.write_proofs(to).await;
            let read = self.0.read_proofs(to, &proofs, &mut page, is_due).await;
            if written || read {
                // The next page comes in another turn: first it is seen whether a check is due.
                self.0.wake.notify_one();
            }
        }
    }

    /// Listens to what the others say, for ever.
    pub async fn listen(self, channel: Channel, proofs: Proofs) {
        let mut ears = channel.ears();
        self.hears(channel.is_hearing());
        while let Some(heard) = ears.next().await {
            match heard {
                Heard::Message(message) => self.hear(&message, &proofs),
                Heard::Lost => self.hears(false),
                Heard::Back => self.hears(true),
            }
        }
    }

    /// Believes a message.
    fn hear(&self, message: &Message, proofs: &Proofs) {
        match message {
            Message::Purged { row, change } => self.0.hear_of(row, *change),
            Message::Proof { subject, score } => {
                let now = self.0.options.generations.now();
                proofs.learn(&proofs::proof(*subject, *score, now));
            }
            Message::Wanted => self.0.hurry(),
            Message::Done(_) | Message::Replaced { .. } | Message::Beat { .. } => {}
        }
    }

    /// Notes whether messages come. Where they began or ceased to, some were missed.
    fn hears(&self, hears: bool) {
        self.0.is_deaf.store(!hears, Ordering::Relaxed);
        self.0.state().heard = None;
        self.0.lacks_proofs.store(true, Ordering::Relaxed);
        self.0.hurry();
    }

    async fn save(&self, link: &Link) -> bool {
        self.0.save(To::Link(link)).await
    }

    async fn forget(&self, link: &Link, rows: &[Row]) -> bool {
        let forgotten = self.0.hash.forget(To::Link(link), rows).await;
        forgotten.is_ok()
    }

    fn keep_proof(&self, proof: &Proof) {
        self.0.proofs.put(proof, Instant::now());
        self.0.wake.notify_one();
    }

    /// Returns what has happened so far.
    pub fn counts(&self) -> Counts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            trusted: !self.0.options.trust.is_lost(),
            secrets: load(&self.0.secrets),
            reads: load(&self.0.reads),
            unfit: load(&self.0.unfit),
            proofs_dropped: self.0.proofs.dropped(),
        }
    }

    /// Returns whether it is so long since this replica has known all purges that others may have forgotten one since. What it
    /// writes meanwhile may be dead, and nobody would know.
    pub(super) fn is_behind(&self) -> bool {
        is_behind(self.0.state().checked, Instant::now())
    }
}

impl Redis {
    /// Tells the other replicas of what was purged here; returns whether it is written down.
    pub async fn save(&self) -> bool {
        self.0.facts.save(&self.0.link).await
    }

    /// Has all replicas forget these purges, behind which nothing is left; returns whether that was done.
    pub async fn forget(&self, rows: &[Row]) -> bool {
        self.0.facts.forget(&self.0.link, rows).await
    }

    /// Has the other replicas know `proof`, soon and in the background.
    pub fn keep_proof(&self, proof: &Proof) {
        self.0.facts.keep_proof(proof);
    }
}

impl Inner {
    /// Checks; returns when to do so again.
    async fn check(&self, link: &Link) -> Duration {
        match self.agree(To::Link(link), false).await {
            Ok(()) if self.is_deaf.load(Ordering::Relaxed) => DEAF,
            Ok(()) => PAUSE,
            Err(trouble) => {
                let since = self.state().checked;
                if self.options.trust.lose(since) {
                    tracing::debug!(error = %trouble, "purges of other replicas may be missed");
                }
                if trouble.kind == Kind::Type {
                    link.give_up(&trouble);
                }
                PAUSE
            }
        }
    }

    /// Writes a page of the proofs that wait; returns whether the next can be written. What fails is done later.
    async fn write_proofs(&self, to: To<'_>) -> bool {
        let generations = &self.options.generations;
        self.proofs.flush(to, generations).await.unwrap_or_default()
    }

    /// Reads a `page` of the proofs that others have written, the first one where some may have been missed, or else, if that
    /// `is_due`, the latest; returns whether the next page can be read. One that could not be read is read later.
    async fn read_proofs(
        &self,
        to: To<'_>,
        proofs: &Proofs,
        page: &mut Option<usize>,
        is_due: bool,
    ) -> bool {
        let now = self.options.generations.now();
        let learn = |proof: &Proof| proofs.learn(proof);
        if self.lacks_proofs.swap(false, Ordering::Relaxed) {
            *page = Some(0);
        }
        let Some(number) = *page else {
            if is_due {
                let _ = self.proofs.read_latest(to, now, learn).await;
            }
            return false;
        };
        let next = self.proofs.load(to, number, now, learn).await;
        let is_read = next.is_ok();
        *page = next.unwrap_or(*page);
        is_read && page.is_some()
    }

    fn hurry(&self) {
        self.is_urgent.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl To<'_> {
    pub(super) async fn ask<T: FromRedisValue>(
        self,
        key: &str,
        command: &Cmd,
    ) -> Result<T, Trouble> {
        match self {
            Self::Link(link) => link.ask(key, command, PATIENCE).await,
            Self::Early(early) => early.ask(key, command, PATIENCE).await,
        }
    }

    pub(super) async fn run<T: FromRedisValue>(
        self,
        key: &str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, Trouble> {
        match self {
            Self::Link(link) => link.run(key, script, PATIENCE).await,
            Self::Early(early) => early.run(key, script, PATIENCE).await,
        }
    }

    /// Sends a message to all replicas that hear it.
    pub(super) async fn publish(self, layout: &Layout, message: &Message) -> Result<(), Trouble> {
        let channel = layout.channel();
        let mut publish = Cmd::new();
        publish.arg("PUBLISH").arg(&channel).arg(message.encode());
        self.ask(&channel, &publish).await
    }
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Facts({:?})", self.counts())
    }
}

/// Returns whether a replica is behind at `now` that has known all purges when it `checked`.
fn is_behind(checked: Instant, now: Instant) -> bool {
    now.saturating_duration_since(checked) > BEHIND
}

/// Between two checks.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two checks where no messages come.
const DEAF: Duration = Duration::from_millis(100);
/// For each thing that is asked.
const PATIENCE: Duration = Duration::from_millis(500);
/// Without a check for so long, a replica is behind: well before anybody forgets a purge that it may not know
/// (`store::generations`).
const BEHIND: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::generations::HEARD;

    #[test]
    fn who_is_behind_knows_before_others_forget() {
        let now = Instant::now();
        assert!(!is_behind(now, now + BEHIND));
        assert!(is_behind(now, now + BEHIND + PAUSE));
        assert!(BEHIND * 2 < HEARD, "what is under way by then arrives, too");
    }
}
