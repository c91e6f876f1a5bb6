//! Refreshes in the background: what was served past its lifetime is asked for anew (RFC 5861 §3).
//!
//! A refresh is the call that set it off, made once more: the same bytes with the same credential. It goes through the
//! layers below the cache, so it is a flight that others join, is stored like any other, and leaves the entry alone
//! where it fails. No client can end it, only the upstream's timers and the end of the process, which waits for it.
//!
//! # Scope
//! When to refresh is `freshness`'s decision. Here: one at a time for each place, and not too many in all; what is beyond
//! is left to a later call.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use http::{HeaderValue, Method, uri::PathAndQuery};
use http_body_util::BodyExt;
use tower::{Service, ServiceExt};

use crate::{
    answer::{Answer, Body, Head, tape::Summary, tasks::Tasks, verdict::Verdict},
    call::{Call, Keyed, Slot, caller::Caller},
    config::Rule,
    dialect::Dialect,
    error::{Error, Kind},
};

/// The refreshes under way; clones share them.
#[derive(Clone)]
pub struct Refreshes(Arc<Inner>);

/// Hears of every refresh that has ended.
pub type Told = Box<dyn Fn(&Refreshed) + Send + Sync>;

struct Inner {
    tasks: Tasks,
    told: Told,
    under_way: Mutex<HashSet<Slot>>,
}

/// A refresh that has ended.
#[derive(Debug)]
pub struct Refreshed {
    /// The id of the call that set it off.
    pub id: HeaderValue,
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub target: PathAndQuery,
    /// Its dialect.
    pub dialect: Option<Dialect>,
    /// Whose credential it was made with.
    pub caller: Caller,
    /// What it is known by.
    pub keyed: Arc<Keyed>,
    /// The caller's own key space; empty for none.
    pub namespace: String,
    /// The operator's rule for it, if there is one.
    pub rule: Option<Arc<Rule>>,
    /// When it began.
    pub started: Instant,
    /// When the first byte of its body came.
    pub first_byte: Option<Instant>,
    /// The head of its answer, if one came.
    pub head: Option<Head>,
    /// Bytes of its body that came.
    pub bytes: u64,
    /// What became of its answer, if it came to its end.
    pub summary: Option<Summary>,
    /// What went wrong.
    pub error: Option<Kind>,
}

/// Most refreshes at a time: each may hold a whole request and its answer.
const MOST: usize = 64;

impl fmt::Debug for Refreshes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refreshes({} under way)", self.0.under_way().len())
    }
}

impl Refreshes {
    /// Starts with none; `told` hears of each that has ended. They belong to `tasks`.
    pub fn new(tasks: Tasks, told: Told) -> Self {
        Self(Arc::new(Inner {
            tasks,
            told,
            under_way: Mutex::default(),
        }))
    }

    /// Makes `call` once more by `inner`, in the background, for an entry that was made at `made`; unless its caller wants
    /// nothing stored or no upstream asked, or there are refreshes enough.
    pub fn begin<S>(&self, call: &Call, made: Instant, inner: &S)
    where
        S: Service<Call, Response = Answer, Error = Error> + Clone + Send + 'static,
        S::Future: Send,
    {
        if !call.plan.store || call.plan.only_if_cached {
            return;
        }
        let Ok(keyed) = &call.keyed else { return };
        let Some(turn) = self.turn(keyed.slot) else {
            return;
        };
        let Some(mut again) = call.again() else {
            return;
        };
        again.passed_over = Some(made);
        let refresh = refresh(inner.clone(), again, keyed.clone(), turn);
        self.0.tasks.spawn(refresh);
    }

    fn turn(&self, slot: Slot) -> Option<Turn> {
        let mut under_way = self.0.under_way();
        let is_free = under_way.len() < MOST && under_way.insert(slot);
        is_free.then(|| Turn {
            refreshes: self.0.clone(),
            slot,
        })
    }
}

impl Inner {
    fn under_way(&self) -> MutexGuard<'_, HashSet<Slot>> {
        let under_way = self.under_way.lock();
        under_way.unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to refresh the entry of a place; it ends when it is dropped, also by a panic.
struct Turn {
    refreshes: Arc<Inner>,
    slot: Slot,
}

impl Turn {
    /// Ends the turn, and then tells: who hears of it can set off the next.
    fn end(self, refreshed: &Refreshed) {
        let all = self.refreshes.clone();
        drop(self);
        (all.told)(refreshed);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.refreshes.under_way().remove(&self.slot);
    }
}

async fn refresh<S>(inner: S, call: Call, keyed: Arc<Keyed>, turn: Turn)
where
    S: Service<Call, Response = Answer, Error = Error>,
{
    let mut refreshed = Refreshed::of(&call, keyed);
    match inner.oneshot(call).await {
        // Another call's flight brings what is wanted, and that call's record tells of it.
        Ok(answer) if answer.served.verdict == Verdict::Collapsed => return,
        Ok(answer) => refreshed.read(answer).await,
        Err(error) => refreshed.error = Some(error.kind()),
    }
    turn.end(&refreshed);
}

impl Refreshed {
    fn of(call: &Call, keyed: Arc<Keyed>) -> Self {
        Self {
            id: call.id.clone(),
            method: call.method.clone(),
            target: call.target.clone(),
            dialect: call.dialect,
            caller: call.caller.clone(),
            keyed,
            namespace: call.plan.namespace.clone(),
            rule: call.rule.clone(),
            started: Instant::now(),
            first_byte: None,
            head: None,
            bytes: 0,
            summary: None,
            error: None,
        }
    }

    /// Reads an answer to its end: a tape is driven by its reader.
    async fn read(&mut self, answer: Answer) {
        let Answer { head, mut body, .. } = answer;
        self.head = Some(head);
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => {
                    self.first_byte.get_or_insert_with(Instant::now);
                    self.bytes += frame.data_ref().map_or(0, |piece| piece.len() as u64);
                }
                Err(error) => self.error = Some(error.kind()),
            }
        }
        if let Body::Tape(reader) = &body {
            self.summary = reader.summary();
        }
    }
}

#[cfg(test)]
mod tests;
