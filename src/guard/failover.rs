//! Makes a call at its primary, and where that fails before the first byte, at the next upstream, or once more.
//!
//! # What it does
//! It asks the candidates of the call's route in their order. Whether, where and when there is another try is
//! [`retry`]'s to say, what is told when none succeeded `course`'s. Each try's own failure
//! stays in the metrics and, at debug, in the log.
//!
//! # What it refuses
//! Nothing is tried again once the client may have had a byte: the beginning of a stream is looked at first
//! (`peek`), but only while another upstream could take over; with none the bytes pass as they come. A body
//! that streams from the client can be sent once. A 4xx is the client's and final, except what an upstream that takes over says
//! of the proxy's own key there. An upstream takes over with a key of its own only for a caller who is known: the
//! primary has accepted the caller's credential, and for the model, or is itself called with the proxy's key. (`no_credential`).

use std::{
    fmt,
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, sleep};
use tower::{Service, ServiceExt};

use super::{
    budget::Budget,
    course::{Course, Failed, Standing},
    pause::Pause,
    peek::{Sight, peek},
    retry::{self, Facts, Failure, Next, Terms},
    tally::Tally,
};
use crate::{
    answer::Answer,
    call::{Call, route::Candidate},
    config::Timeouts,
    error::{Error, Kind},
};

/// The service over the ways to all upstreams.
pub struct Failover<S>(Arc<Inner<S>>);

/// The way to one upstream.
#[derive(Clone, Debug)]
pub struct Way<S> {
    /// Its name, for the log.
    pub name: String,
    /// Its timers.
    pub timeouts: Timeouts,
    /// What makes one try there.
    pub inner: S,
}

/// Tells whether a call may be made with the proxy's own key at an upstream that is not its primary.
pub type Vouches = Arc<dyn Fn(&Call) -> bool + Send + Sync>;

/// What failover goes by.
pub struct Options {
    /// What the operator says of further tries.
    pub terms: Terms,
    /// Whom the proxy's own keys are spent for.
    pub vouches: Vouches,
    /// The wall clock.
    pub wall: fn() -> SystemTime,
    /// Where tries are counted.
    pub tally: Tally,
}

struct Inner<S> {
    ways: Vec<Way<S>>,
    options: Options,
    budget: Mutex<Budget>,
}

/// What is made of a try's answer by its head.
enum Judged {
    /// That says enough.
    Known(Tried),
    /// Its beginning is to be looked at.
    Looks(Answer),
}

/// What came of a try.
enum Tried {
    /// Whatever it is, it is what the client gets.
    Over(Result<Answer, Error>),
    /// Another try may do better.
    Failed(Failed),
}

impl<S> Failover<S> {
    /// Makes the service over `ways`, which stand in the order of the configuration.
    pub fn new(ways: Vec<Way<S>>, options: Options) -> Self {
        let budget = Budget::new(options.terms.budget, Instant::now().into_std());
        Self(Arc::new(Inner {
            ways,
            options,
            budget: Mutex::new(budget),
        }))
    }
}

impl<S> Clone for Failover<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> fmt::Debug for Failover<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.ways.iter().map(|way| &way.name);
        f.debug_list().entries(names).finish()
    }
}

impl<S> Service<Call> for Failover<S>
where
    S: Service<Call, Response = Answer, Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // Which way is taken, and so which has to be ready, is seen only on the way.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        Box::pin(self.0.clone().run(call))
    }
}

impl<S> Inner<S>
where
    S: Service<Call, Response = Answer, Error = Error> + Clone,
{
    /// Makes tries until one is what the client gets. A future is moved with the room for all that it may ever await, and almost every
    /// call needs the first try alone: so what is awaited for a second one stands in a box of its own, and this is no `async fn`, which
    /// would keep the call twice.
    fn run(self: Arc<Self>, mut call: Call) -> impl Future<Output = Result<Answer, Error>> {
        self.budget().earn();
        let mut course = Course::new(Instant::now());
        call.since = Some(course.began.into_std());
        async move {
            loop {
                let spare = self.spare(&call, &course);
                let looks = spare
                    .as_ref()
                    .is_some_and(|spare| self.looks(spare, &course));
                let failed = match self.attempt(call, looks).await {
                    Tried::Over(result) => return result.map(|answer| course.end(answer)),
                    Tried::Failed(failed) => failed,
                };
                match Box::pin(self.onward(failed, spare, &mut course)).await {
                    ControlFlow::Continue(following) => call = following,
                    ControlFlow::Break(failed) => return course.give_up(failed),
                }
            }
        }
    }

    /// Returns the call for another try, once it is time for that; without one the failure is the last.
    async fn onward(
        &self,
        failed: Failed,
        spare: Option<Call>,
        course: &mut Course,
    ) -> ControlFlow<Failed, Call> {
        course.note(&failed);
        let next = spare.map(|spare| (self.next(&spare, course), spare));
        let Some((Some((at, wait)), mut following)) = next else {
            return ControlFlow::Break(failed);
        };
        course.keep(failed).await;
        course.let_go(at);
        if !wait.is_zero() {
            sleep(wait).await;
        }
        following.at = at;
        ControlFlow::Continue(following)
    }

    /// Returns the call once more, if there may be another try.
    fn spare(&self, call: &Call, course: &Course) -> Option<Call> {
        let elsewhere = call.route.candidate(course.passed).is_some();
        let there = course.retries < self.options.terms.attempts;
        (elsewhere || there).then(|| call.again()).flatten()
    }

    /// Makes one try, at the candidate that the call is on its way to.
    fn attempt(&self, call: Call, looks: bool) -> impl Future<Output = Tried> {
        let (fixed, at) = (call.fixed.clone(), call.at);
        let callers = call.candidate().is_some_and(|to| at == 0 || !to.own_key);
        let upstream = call.candidate().map(|candidate| candidate.upstream);
        let way = upstream.and_then(|upstream| Some((upstream, self.ways.get(upstream)?)));
        let answering = way.map(|(_, way)| way.inner.clone().oneshot(call));
        async move {
            let (Some((upstream, way)), Some(answering)) = (way, answering) else {
                let message = "the call has no upstream to go to";
                return Tried::Over(Err(Error::new(Kind::Internal, message)));
            };
            let tried = match self.judge(answering.await, at, callers, looks) {
                Judged::Known(tried) => tried,
                Judged::Looks(answer) => Box::pin(looked(answer, at, callers)).await,
            };
            match &tried {
                Tried::Over(result) => {
                    if result.is_ok() {
                        self.options.tally.tried(upstream, None);
                    }
                }
                Tried::Failed(failed) => {
                    let failure = failed.standing.failure;
                    self.options.tally.tried(upstream, Some(failure));
                    let error = failed.result.as_ref().err().map(tracing::field::display);
                    tracing::debug!(
                        call.id = ?fixed.id, upstream = way.name, reason = failure.as_str(), error,
                        "try failed"
                    );
                }
            }
            tried
        }
    }

    fn judge(
        &self,
        result: Result<Answer, Error>,
        at: usize,
        callers: bool,
        looks: bool,
    ) -> Judged {
        let answer = match result {
            Ok(answer) => answer,
            Err(error) => return Judged::Known(Tried::of_error(error, at, callers)),
        };
        if let Some(failure) = Failure::of_status(answer.head.status, callers) {
            let pause = Pause::of(&answer.head.headers, (self.options.wall)());
            return Judged::Known(Tried::failed(at, callers, failure, pause, Ok(answer)));
        }
        if looks {
            Judged::Looks(answer)
        } else {
            Judged::Known(Tried::Over(Ok(answer)))
        }
    }

    /// Decides about another try; returns which candidate it is made at, and after which wait.
    fn next(&self, call: &Call, course: &mut Course) -> Option<(usize, Duration)> {
        let standing = course.standing?;
        let from = upstream(call, call.at)?;
        let there = upstream(call, standing.at)?;
        let elsewhere = self.elsewhere(call, course);
        let facts = Facts {
            failure: standing.failure,
            pause: standing.pause,
            elsewhere: elsewhere.is_some(),
            repeatable: !course.reached || call.is_repeatable(),
            retries: course.retries,
            left: self.left(call, there, course.began),
        };
        let Options { terms, tally, .. } = &self.options;
        let affords = || self.budget().spend(Instant::now().into_std());
        match retry::next(&facts, terms, random(), affords) {
            Next::GiveUp => None,
            Next::NextUpstream => {
                let at = elsewhere?;
                tally.left(from, upstream(call, at)?);
                Some((at, Duration::ZERO))
            }
            Next::Retry(wait) => {
                course.retries += 1;
                tally.retried(there, standing.failure);
                Some((standing.at, wait))
            }
        }
    }

    /// Returns the next candidate that has not been asked and that the call may go to, and passes those that it may not, or that
    /// would have no time left to answer.
    fn elsewhere(&self, call: &Call, course: &mut Course) -> Option<usize> {
        while let Some(candidate) = call.route.candidate(course.passed) {
            course.passed += 1;
            if !self.may_take_over(call, candidate) {
                self.options.tally.skipped(candidate.upstream);
                continue;
            }
            let left = self.left(call, candidate.upstream, course.began);
            if left.is_none_or(|left| !left.is_zero()) {
                return Some(course.passed - 1);
            }
        }
        None
    }

    /// Returns whether the beginning of an answer is looked at: another upstream could still take over.
    fn looks(&self, call: &Call, course: &Course) -> bool {
        let mut others = call.route.candidates().skip(course.passed);
        call.is_repeatable() && others.any(|other| self.may_take_over(call, other))
    }

    fn may_take_over(&self, call: &Call, candidate: &Candidate) -> bool {
        !candidate.own_key || call.route.primary().own_key || (self.options.vouches)(call)
    }

    /// Returns what is left of a call's time at an upstream, where that is limited.
    fn left(&self, call: &Call, upstream: usize, began: Instant) -> Option<Duration> {
        let rule = call.rule.as_ref().map(|rule| rule.timeouts);
        let timeouts = self.ways.get(upstream)?.timeouts;
        let total = rule.unwrap_or_default().over(timeouts).total?;
        Some(total.saturating_sub(began.elapsed()))
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tried {
    fn failed(
        at: usize,
        callers: bool,
        failure: Failure,
        pause: Pause,
        result: Result<Answer, Error>,
    ) -> Self {
        let standing = Standing { at, failure, pause };
        Self::Failed(Failed {
            standing,
            callers,
            result,
        })
    }

    fn of_error(error: Error, at: usize, callers: bool) -> Self {
        match Failure::of_error(error.kind()) {
            Some(failure) => Self::failed(at, callers, failure, Pause::Unsaid, Err(error)),
            None => Self::Over(Err(error)),
        }
    }
}

/// Looks at the beginning of an answer.
async fn looked(answer: Answer, at: usize, callers: bool) -> Tried {
    match peek(answer).await {
        Sight::Begun(answer) => Tried::Over(Ok(answer)),
        Sight::Failed(failure, answer) => {
            Tried::failed(at, callers, failure, Pause::Unsaid, Ok(answer))
        }
        Sight::Broke(error) => Tried::of_error(error, at, callers),
    }
}

fn upstream(call: &Call, at: usize) -> Option<usize> {
    Some(call.route.candidate(at)?.upstream)
}

/// Returns a number in `0.0..=1.0`. Without a source of randomness every wait is the longest.
fn random() -> f64 {
    getrandom::u32().map_or(1.0, |bits| f64::from(bits) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
