//! How agreement is reached: with what lies in Redis, and with what is heard.
//!
//! # Scope
//! Asks, has it planned (`store::generations::shared`), follows the plan, and only then writes what was purged here: whoever
//! knows all purges of the others is trusted, whether or not its own could be written. An era that begins is the exception:
//! what is known has to be written before it.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::{
    super::{
        generations::Head,
        trouble::{Kind, Trouble},
    },
    Inner, Options, To, is_behind,
};
use crate::store::generations::{Row, TakenIn, Unpurged, shared::Run};

impl Inner {
    /// Agrees on the secret and on what was purged, as far as anything has changed or `all` is to be read.
    pub(super) async fn agree(&self, to: To<'_>, all: bool) -> Result<(), Trouble> {
        let _alone = self.agreeing.lock().await;
        let asked = Instant::now();
        let secret = self.agree_on_secret(to).await;
        secret.map_err(|trouble| trouble.about(&self.layout.fact("secret")))?;
        let purges = self.agree_on_purges(to, all).await;
        purges.map_err(|trouble| trouble.about(self.hash.key()))?;
        self.state().checked = asked;
        if self.options.trust.regain() {
            tracing::debug!("purges of other replicas are known");
        }
        self.save(to).await;
        Ok(())
    }

    /// Writes what was purged here; returns whether all is written.
    pub(super) async fn save(&self, to: To<'_>) -> bool {
        let saved = self.write_pending(to).await;
        if let Err(trouble) = &saved {
            tracing::debug!(error = %trouble, "purges not shared yet");
        }
        saved.is_ok()
    }

    async fn agree_on_secret(&self, to: To<'_>) -> Result<(), Trouble> {
        let Options {
            secret,
            is_configured,
            ..
        } = &self.options;
        if *is_configured {
            return Ok(());
        }
        let is_agreed = self.state().is_agreed;
        let agreed = self.proposal.agree(to, &self.layout, secret, is_agreed);
        if agreed.await? && is_agreed {
            self.secrets.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                "another key secret was found in redis: what was cached is not found any more"
            );
        }
        self.state().is_agreed = true;
        Ok(())
    }

    async fn agree_on_purges(&self, to: To<'_>, all: bool) -> Result<(), Trouble> {
        let generations = &self.options.generations;
        let (known, checked) = {
            let state = self.state();
            let known = state.known.map(|known| known.with(state.heard));
            (known, state.checked)
        };
        let asked = Instant::now();
        let Head { mut theirs, time } = self.hash.head(to).await?;
        // The replicas' clocks may differ; this one is everybody's.
        generations.set_clock(time, asked, asked.elapsed());
        let is_known = known.as_ref().is_some_and(|known| theirs.is_as(known));
        if is_known && !all {
            return Ok(());
        }
        theirs.rows = self.hash.rows(to).await?;
        let is_lost = self.options.trust.is_lost() || is_behind(checked, asked);
        let plan = generations.plan(known.as_ref(), is_lost, &theirs);
        if plan.distrust {
            tracing::warn!("redis may have lost purges: what was in memory is not found any more");
        } else if known.is_some() && theirs.era.is_none() {
            tracing::warn!("redis came back empty: what lay there is not found any more");
        }
        let unfit = generations.follow(plan).map_err(unpurged)?;
        self.unfit.fetch_add(unfit, Ordering::Relaxed);
        self.reads.fetch_add(1, Ordering::Relaxed);
        let is_over = known.as_ref().is_some_and(|known| theirs.is_older(known));
        let era = match theirs.era {
            Some(era) if !is_over => era,
            over => self.begin(to, over).await?,
        };
        generations.begin(era);
        let goes_on = known.is_some_and(|known| theirs.goes_on(&known));
        let mut state = self.state();
        state.known = Some(theirs.known(era));
        // What was heard of another copy has nothing to do with this one.
        state.heard = state.heard.filter(|_| goes_on);
        Ok(())
    }

    /// Begins an era in place of that which is `over`. It comes last: before, whoever finds none judges nothing, and neither
    /// does this replica.
    async fn begin(&self, to: To<'_>, over: Option<u64>) -> Result<u64, Trouble> {
        self.options.generations.share();
        self.write_pending(to).await?;
        let random = |_| Trouble::new(Kind::Refused, "no random bytes");
        let fresh = getrandom::u64().map_err(random)?;
        self.hash.begin(to, fresh, over).await
    }

    async fn write_pending(&self, to: To<'_>) -> Result<(), Trouble> {
        let generations = &self.options.generations;
        for _ in 0..TRIES {
            let rows = generations.pending();
            let left = self.hash.write(to, &rows).await?;
            let is_all = left.is_empty();
            // What took the place of ours may have been seen by what has not seen ours.
            generations.purge_anew(left).map_err(unpurged)?;
            generations.confirm(&rows);
            if is_all {
                return Ok(());
            }
        }
        Err(Trouble::new(Kind::Refused, "others purge the same"))
    }

    /// Takes in a purge. Where that is not done, or something before was not heard, the check reads all.
    pub(super) fn hear_of(&self, row: &Row, change: u64) {
        let taken = self.options.generations.take_in(row.clone());
        if taken == TakenIn::Unfit {
            self.unfit.fetch_add(1, Ordering::Relaxed);
        }
        let mut state = self.state();
        let is_in = taken != TakenIn::Not;
        state.heard = is_in.then(|| Run::on(state.heard, change));
    }
}

fn unpurged(why: Unpurged) -> Trouble {
    Trouble::new(Kind::Refused, why.to_string())
}

/// How often is written what others purge at the same time.
const TRIES: usize = 3;
