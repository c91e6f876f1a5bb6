//! What has come of a call's tries so far, and what is to be told of them in the end.
//!
//! # What is told
//! An answer of the primary says most, then another upstream's 5xx, then why the primary did not answer at all. What another upstream
//! says of the proxy's own key there, that it is refused or has no quota left, is no business of the caller's.

use std::time::Duration;

use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, Limited};
use tokio::time::{Instant, timeout};

use super::{
    pause::{Pause, SHOULD_RETRY},
    retry::Failure,
};
use crate::{
    answer::{Answer, Body, Tries},
    error::{Error, Kind},
};

/// The tries of one call.
#[derive(Debug)]
pub(super) struct Course {
    /// When the first began.
    pub(super) began: Instant,
    /// How many candidates have been asked or skipped.
    pub(super) passed: usize,
    /// How many tries were repeated at the same upstream.
    pub(super) retries: u32,
    /// Whether an upstream may have seen the call.
    pub(super) reached: bool,
    /// The latest failure that is worth repeating the try, else the latest.
    pub(super) standing: Option<Standing>,
    /// Tries that failed with something sent, or an attempt at it.
    failed: u32,
    last: Option<Failure>,
    best: Option<Failed>,
}

/// A failure to go by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// Which candidate it was.
    pub(super) at: usize,
    pub(super) failure: Failure,
    pub(super) pause: Pause,
}

/// A try that failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) standing: Standing,
    pub(super) result: Result<Answer, Error>,
}

impl Course {
    pub(super) fn new(began: Instant) -> Self {
        Self {
            began,
            passed: 1,
            retries: 0,
            reached: false,
            standing: None,
            failed: 0,
            last: None,
            best: None,
        }
    }

    /// Notes a failed try.
    pub(super) fn note(&mut self, Failed { standing, .. }: &Failed) {
        let failure = standing.failure;
        self.reached |= failure.reached();
        self.failed += u32::from(!failure.is_refusal());
        self.last = Some(failure);
        let worth = |standing: &Standing| standing.failure.is_worth_repeating();
        if worth(standing) || !self.standing.as_ref().is_some_and(worth) {
            self.standing = Some(*standing);
        }
    }

    /// Keeps what came of a failed try, if it says more than what is kept already, while another try is made.
    pub(super) async fn keep(&mut self, mut failed: Failed) {
        let known = self.best.as_ref().map(Failed::rank);
        if known.is_some_and(|known| known > failed.rank()) {
            return;
        }
        if let Ok(answer) = failed.result {
            failed.result = hold(answer).await;
        }
        self.best = Some(failed);
    }

    /// Returns what is told in the end when the last try failed, too.
    pub(super) fn give_up(mut self, failed: Failed) -> Result<Answer, Error> {
        let told = match self.best.take() {
            Some(best) if best.rank() > failed.rank() => best,
            _ => failed,
        };
        let mut answer = told.result?;
        if self.failed > 1 && answer.head.status.is_server_error() {
            let no = HeaderValue::from_static("false");
            answer.head.headers.insert(SHOULD_RETRY, no);
        }
        self.sign(&answer, 1);
        Ok(answer)
    }

    /// Returns an answer that needs no further try.
    pub(super) fn end(self, answer: Answer) -> Answer {
        self.sign(&answer, 0);
        answer
    }

    /// Writes down how many tries have failed, of which `shown` are to be seen in the answer itself.
    fn sign(&self, answer: &Answer, shown: u32) {
        let failed = self.failed.saturating_sub(shown);
        if let (Some(timing), Some(last), 1..) = (&answer.head.timing, self.last, failed) {
            timing.note_failed(Tries {
                count: failed,
                why: last.as_str(),
            });
        }
    }
}

impl Failed {
    fn rank(&self) -> Rank {
        match (&self.result, self.standing.at, self.standing.failure) {
            (Ok(_), 0, _) => Rank::Primary,
            (Ok(_), _, Failure::Status | Failure::Stream) => Rank::Other,
            (Err(_), 0, _) => Rank::Why,
            _ => Rank::Nothing,
        }
    }
}

/// How much an outcome says, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Nothing,
    Why,
    Other,
    Primary,
}

/// Reads an answer to its end, so that its connection and its permits are free for the next try.
async fn hold(answer: Answer) -> Result<Answer, Error> {
    let Answer { head, body, served } = answer;
    let reading = Limited::new(body, MOST).collect();
    let Ok(Ok(whole)) = timeout(PATIENCE, reading).await else {
        return Err(unread(head.status));
    };
    let content = whole.map_err(|never| match never {}).boxed_unsync();
    Ok(Answer {
        head,
        body: Body::Stream(content),
        served,
    })
}

fn unread(status: StatusCode) -> Error {
    let message =
        format!("the upstream answered {status}, and its reason could not be read in time");
    Error::new(Kind::Broken, message)
}

/// Bytes of a failed answer that are kept while another try is made.
const MOST: usize = 64 << 10;
/// For a failed answer to be read: what it says is worth less than the next try.
const PATIENCE: Duration = Duration::from_millis(250);
