//! What has come of a call's tries so far, and what is to be told of them in the end.
//!
//! # What is told
//! An answer of the primary says most, then another upstream's 5xx or what it says to the caller's own key, then why the primary did not answer at all. What another upstream
//! says of the proxy's own key there, that it is refused or has no quota left, is no business of the caller's.
//!
//! # What is kept
//! An answer that may be told in the end is read while another try is made, for as long as that is worth it. What is longer or
//! slower is kept as it is, and read on by whoever gets it. Only where it is in the way of another try at its own
//! upstream, it is given up where it stands, and is told cut off.

use std::{collections::VecDeque, fmt, time::Duration};

use bytes::Bytes;
use http::HeaderValue;
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, Empty, StreamBody};
use tokio::time::{Instant, timeout_at};

use super::{
    pause::{Pause, SHOULD_RETRY},
    retry::Failure,
};
use crate::{
    answer::{Answer, Body, Content, resumed::Resumed},
    error::{Error, Kind, Tries},
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
    /// In a box, as hardly any call has one and each is moved with the room for it.
    best: Option<Box<Kept>>,
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
    /// Whether it concerns the caller whatever it says: the primary's, or said to the caller's own key.
    pub(super) callers: bool,
    pub(super) result: Result<Answer, Error>,
}

/// A try that failed, and what of its answer's body, if it had one, has been read.
#[derive(Debug)]
struct Kept {
    failed: Failed,
    held: Option<Held>,
}

/// A body that is kept, read in part or whole.
struct Held {
    read: VecDeque<Frame<Bytes>>,
    rest: Content,
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
    pub(super) async fn keep(&mut self, failed: Failed) {
        let known = self.best.as_ref().map(|best| best.failed.rank());
        if known.is_some_and(|known| known > failed.rank()) {
            return;
        }
        self.best = Some(Box::new(Kept::of(failed).await));
    }

    /// Gives up what is still under way from candidate `at`, so that its connection and its place are free for another try there.
    pub(super) fn let_go(&mut self, at: usize) {
        let best = self.best.as_mut();
        let best = best.filter(|best| best.failed.standing.at == at);
        if let Some(held) = best.and_then(|best| best.held.as_mut()) {
            held.let_go();
        }
    }

    /// Returns what is told in the end when the last try failed, too.
    pub(super) fn give_up(mut self, failed: Failed) -> Result<Answer, Error> {
        let told = match self.best.take() {
            Some(best) if best.failed.rank() > failed.rank() => best.told(),
            _ => failed,
        };
        let mut answer = told.result.map_err(|error| match self.tries(1) {
            Some(tries) => error.after(tries),
            None => error,
        })?;
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
        if let (Some(timing), Some(tries)) = (&answer.head.timing, self.tries(shown)) {
            timing.note_failed(tries);
        }
    }

    /// Returns the tries that have failed, without the `shown` that are seen in what is told.
    fn tries(&self, shown: u32) -> Option<Tries> {
        let count = self.failed.saturating_sub(shown);
        let why = self.last?.as_str();
        (count > 0).then_some(Tries { count, why })
    }
}

impl Failed {
    fn rank(&self) -> Rank {
        match (&self.result, self.standing.at, self.standing.failure) {
            (Ok(_), 0, _) => Rank::Primary,
            (Ok(_), _, _) if self.callers => Rank::Other,
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

impl Kept {
    /// Takes the body out of a failed answer, and reads it.
    async fn of(mut failed: Failed) -> Self {
        let body = failed.result.as_mut().map(|answer| &mut answer.body);
        let held = match body {
            Ok(Body::Stream(content)) => {
                let content = std::mem::replace(content, nothing());
                Some(Held::of(content).await)
            }
            _ => None,
        };
        Self { failed, held }
    }

    fn told(self) -> Failed {
        let Self { mut failed, held } = self;
        if let (Ok(answer), Some(Held { read, rest })) = (&mut failed.result, held) {
            answer.body = Body::Stream(Resumed::new(read, rest).boxed_unsync());
        }
        failed
    }
}

impl Held {
    /// Reads a body to its end, if that is not far, so that its connection and its place are free for the next try.
    async fn of(mut rest: Content) -> Self {
        let (until, mut length) = (Instant::now() + PATIENCE, 0);
        let mut read = VecDeque::new();
        while length <= MOST
            && let Ok(frame) = timeout_at(until, rest.frame()).await
        {
            // What has ended must not be asked again.
            rest = match frame {
                None => nothing(),
                Some(Err(error)) => broken(error),
                Some(Ok(frame)) => {
                    length += frame.data_ref().map_or(0, Bytes::len);
                    read.push_back(frame);
                    continue;
                }
            };
            break;
        }
        Self { read, rest }
    }

    fn let_go(&mut self) {
        if !self.rest.is_end_stream() {
            let message = "the rest of the answer was given up for another try";
            self.rest = broken(Error::new(Kind::Broken, message));
        }
    }
}

impl fmt::Debug for Held {
    /// Tells how much there is, never what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({} frames)", self.read.len())
    }
}

fn nothing() -> Content {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn broken(error: Error) -> Content {
    let end = futures_util::stream::iter([Err(error)]);
    StreamBody::new(end).boxed_unsync()
}

/// Bytes of a failed answer that are read while another try is made.
const MOST: usize = 64 << 10;
/// For a failed answer to be read: what it says is worth less than the next try.
const PATIENCE: Duration = Duration::from_millis(250);
