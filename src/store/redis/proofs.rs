//! Proofs in Redis: one sorted set, no credential in it.
//!
//! A member is a subject, its score when it was accepted or refused, in milliseconds of Unix time, doubled, and one more for
//! a refusal: so the later word wins, and of two at once the refusal. It is made when it is written: until the first greeting this
//! machine's own clock is nobody else's.
//!
//! # Scope
//! What is to be written waits in a bounded outbox; what finds no room there is counted, and merely not known to the others.
//! What is too old to be of use, or too much, is deleted with every write. What is of another type is nobody's proofs: it gives
//! way to the next write, and until then there are none.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::Script;
use tokio::time::Instant;

use super::{
    layout::Layout,
    message::Message,
    page::{Bounds, Page, Pages},
    sync::To,
    trouble::{Kind, Trouble},
};
use crate::store::{codec, disk::Proof, generations::Generations, proofs::MOST};

/// What was said of a subject: when, and what, in one number.
pub(super) type Score = u64;

/// What was said of a subject: when, and whether that was a refusal. The greater one wins.
type Word = (Instant, bool);

/// The sorted set, and what is to be written there.
#[derive(Debug)]
pub(super) struct Set {
    key: String,
    channel: String,
    /// How long a proof is of use.
    keep: Duration,
    waiting: Mutex<HashMap<[u8; 32], Word>>,
    /// How many have found no room there.
    dropped: AtomicU64,
    pages: Pages,
    /// Adds proofs (score, subject, message) unless a later one is there, publishes them, and trims the set.
    add: Script,
}

impl Set {
    pub(super) fn new(layout: &Layout, keep: Duration) -> Self {
        let most = MOST + 1;
        Self {
            key: layout.fact("proofs"),
            channel: layout.channel(),
            keep,
            waiting: Mutex::default(),
            dropped: AtomicU64::new(0),
            pages: Pages::default(),
            add: Script::new(&format!(
                "local kind = redis.call('TYPE', KEYS[1]).ok
                if kind ~= 'zset' and kind ~= 'none' then redis.call('UNLINK', KEYS[1]) end
                for i = 3, #ARGV, 3 do
                    redis.call('ZADD', KEYS[1], 'GT', ARGV[i], ARGV[i + 1])
                    redis.call('PUBLISH', ARGV[1], ARGV[i + 2])
                end
                redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[2])
                return redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -{most})"
            )),
        }
    }

    /// Has `proof` written soon.
    pub(super) fn put(&self, proof: &Proof, now: Instant) {
        let said = now.checked_sub(proof.age).unwrap_or(now);
        self.take_back([(proof.subject, (said, proof.ended))]);
    }

    /// Writes a page of what waits, dated by the clock of `generations`; returns whether more does. What could not be written
    /// waits on.
    pub(super) async fn flush(
        &self,
        to: To<'_>,
        generations: &Generations,
    ) -> Result<bool, Trouble> {
        let page = self.take_page();
        if page.is_empty() {
            return Ok(false);
        }
        let written = self.write(to, &page, generations).await;
        if written.is_err() {
            self.take_back(page);
        }
        written.map(|()| !self.waiting().is_empty())
    }

    fn take_page(&self) -> Vec<([u8; 32], Word)> {
        let mut waiting = self.waiting();
        waiting.extract_if(|_, _| true).take(PAGE).collect()
    }

    async fn write(
        &self,
        to: To<'_>,
        page: &[([u8; 32], Word)],
        generations: &Generations,
    ) -> Result<(), Trouble> {
        let oldest = generations.now().saturating_sub(codec::millis(self.keep)) * 2;
        let mut script = self.add.key(&self.key);
        script.arg(&self.channel).arg(oldest);
        for (subject, word) in page {
            let score = score(*word, generations);
            let message = Message::Proof {
                subject: *subject,
                score,
            };
            script.arg(score).arg(&subject[..]).arg(message.encode());
        }
        let _: i64 = to.run(&self.key, &script).await?;
        Ok(())
    }

    /// Reads a page of the proofs, youngest first, and hands each to `known`; returns which page is next.
    pub(super) async fn load(
        &self,
        to: To<'_>,
        page: usize,
        now: u64,
        known: impl Fn(&Proof),
    ) -> Result<Option<usize>, Trouble> {
        let (first, next) = (page * PAGE, page + 1);
        let mut read = self.pages.of(&self.key, BOUNDS, "ZREVRANGE");
        read.arg(first).arg(first + PAGE - 1).arg("WITHSCORES");
        let (_, read, left_out): Page<f64> = unless_foreign(to.run(&self.key, &read).await)?;
        let is_last = read.len() as u64 + left_out < PAGE as u64;
        for (member, score) in read {
            if let Some(proof) = read_proof(&member, score, now) {
                known(&proof);
            }
        }
        Ok((!is_last && next * PAGE < MOST).then_some(next))
    }

    /// Reads the proofs that were given lately, and hands each to `known`: messages may have been lost.
    pub(super) async fn read_latest(
        &self,
        to: To<'_>,
        now: u64,
        known: impl Fn(&Proof),
    ) -> Result<(), Trouble> {
        let since = now.saturating_sub(codec::millis(LATELY)) * 2;
        let mut read = self.pages.of(&self.key, BOUNDS, "ZREVRANGEBYSCORE");
        read.arg("+inf").arg(since).arg("WITHSCORES");
        read.arg("LIMIT").arg(0).arg(MOST_LATELY);
        let (_, latest, _): Page<f64> = unless_foreign(to.run(&self.key, &read).await)?;
        for (member, score) in latest {
            if let Some(proof) = read_proof(&member, score, now) {
                known(&proof);
            }
        }
        Ok(())
    }

    /// Returns how many were dropped: too many waited.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn take_back(&self, proofs: impl IntoIterator<Item = ([u8; 32], Word)>) {
        let mut waiting = self.waiting();
        for (subject, word) in proofs {
            if waiting.len() >= MOST && !waiting.contains_key(&subject) {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let later = waiting.entry(subject).or_insert(word);
            *later = word.max(*later);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<[u8; 32], Word>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the proof that a score is about, at `now`. What is dated ahead is new, and gets older from now on.
pub(super) fn proof(subject: [u8; 32], score: Score, now: u64) -> Proof {
    Proof {
        subject,
        age: Duration::from_millis(now.saturating_sub(score >> 1)),
        ended: score & 1 == 1,
    }
}

/// Takes what is of another type for nothing.
fn unless_foreign(read: Result<Page<f64>, Trouble>) -> Result<Page<f64>, Trouble> {
    match read {
        Err(trouble) if trouble.kind == Kind::Type => Ok(Page::default()),
        read => read,
    }
}

fn read_proof(member: &[u8], score: f64, now: u64) -> Option<Proof> {
    let is_score = (0.0..EXACT).contains(&score);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between zero and 2^53"
    )]
    let score = is_score.then_some(score as Score)?;
    Some(proof(member.try_into().ok()?, score, now))
}

fn score((said, ended): Word, generations: &Generations) -> Score {
    generations.wall(said) * 2 + u64::from(ended)
}

/// Subjects have 32 bytes.
const BOUNDS: Bounds = Bounds {
    name: 32,
    value: 32,
};
/// Proofs that are read or written at a time, and between two checks.
const PAGE: usize = 200;
/// What was given so long ago has been read by now, unless clocks differ by more.
const LATELY: Duration = Duration::from_secs(10);
/// Proofs that are read so at most; what is beyond is read with the next connection.
const MOST_LATELY: usize = 10_000;
/// Below, every whole number is a float: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const NOW: u64 = 1_760_000_000_000;

    /// The clock that tells [`NOW`] at this moment.
    fn clock(now: Instant) -> Generations {
        let clock = Generations::new(UNIX_EPOCH + Duration::from_millis(NOW));
        clock.set_clock(NOW, now, Duration::ZERO);
        clock
    }

    fn score_of(proof: &Proof) -> Score {
        let now = Instant::now();
        score(
            (now.checked_sub(proof.age).unwrap(), proof.ended),
            &clock(now),
        )
    }

    fn of(age: u64, ended: bool) -> Proof {
        Proof {
            subject: [7; 32],
            age: Duration::from_millis(age),
            ended,
        }
    }

    #[test]
    fn a_proof_is_read_as_it_is_written() {
        for proof in [
            of(0, false),
            of(0, true),
            of(1_234, false),
            of(60_000, true),
        ] {
            #[expect(clippy::cast_precision_loss, reason = "it is below 2^53")]
            let score = score_of(&proof) as f64;
            assert_eq!(read_proof(&[7; 32], score, NOW), Some(proof));
        }
    }

    #[test]
    fn a_refusal_is_the_later_word_of_two_at_once() {
        assert!(score_of(&of(5, true)) > score_of(&of(5, false)));
        assert!(score_of(&of(4, false)) > score_of(&of(5, true)));
    }

    #[test]
    fn what_was_said_before_the_first_greeting_is_dated_by_everybodys_clock() {
        let set = Set::new(&Layout::new("p:"), Duration::from_secs(60));
        let now = Instant::now();
        let an_hour_ahead = UNIX_EPOCH + Duration::from_millis(NOW + 3_600_000);
        let generations = Generations::new(an_hour_ahead);
        set.put(&of(0, false), now);
        generations.set_clock(NOW, now, Duration::ZERO);
        let page = set.take_page();
        let refusal = (now + Duration::from_millis(1), true);
        assert_eq!(score(page[0].1, &generations), NOW * 2);
        assert!(score(refusal, &generations) > NOW * 2, "the later word");
    }

    #[test]
    fn what_is_no_proof_is_none_and_what_is_dated_ahead_is_new() {
        for score in [-1.0, f64::NAN, f64::INFINITY, EXACT] {
            assert_eq!(read_proof(&[7; 32], score, NOW), None);
        }
        assert_eq!(read_proof(&[7; 31], 2.0, NOW), None);
        let ahead = read_proof(&[7; 32], EXACT - 1.0, NOW);
        assert_eq!(ahead.map(|proof| proof.age), Some(Duration::ZERO));
    }

    #[test]
    fn of_what_waits_the_later_word_stays_and_no_more_than_there_is_room_for() {
        let set = Set::new(&Layout::new("p:"), Duration::from_secs(60));
        let now = Instant::now();
        set.put(&of(0, true), now);
        set.put(&of(10, false), now);
        assert_eq!(set.waiting()[&[7; 32]], (now, true));
        for number in 0..=MOST as u64 {
            let mut subject = [0; 32];
            subject[..8].copy_from_slice(&number.to_le_bytes());
            set.put(
                &Proof {
                    subject,
                    ..of(0, false)
                },
                now,
            );
        }
        assert_eq!(set.waiting().len(), MOST);
        let page = set.take_page();
        assert_eq!((page.len(), set.waiting().len()), (PAGE, MOST - PAGE));
        set.take_back(page);
        assert_eq!(set.waiting().len(), MOST);
        assert_eq!(set.dropped(), 2, "what found no room is counted");
    }
}
