//! The tape by itself: a scripted source, real readers, paused time.

use std::sync::Mutex;

use futures_util::{FutureExt, future::poll_immediate};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::{answer::Asked, error::Kind};

/// What the upstream does next.
enum Step {
    Piece(&'static [u8]),
    Large(usize),
    Break,
    Panic,
    End,
}

/// The upstream's side of a scripted answer; dropped sources close the channel.
struct Script {
    head: Option<tokio::sync::oneshot::Sender<Result<Head, Error>>>,
    steps: UnboundedSender<Step>,
}

/// What the keeper was given.
type Kept = Arc<Mutex<Option<Bytes>>>;

impl Script {
    fn new() -> (Self, Source) {
        let (head, told) = tokio::sync::oneshot::channel::<Result<Head, Error>>();
        let (steps, received) = unbounded_channel();
        let source = Box::pin(async move {
            let head = told.await.expect("the script tells a head")?;
            let listener = Listener::Whole { wants_json: false };
            Ok(Some((head, content(received), listener)))
        });
        let script = Self {
            head: Some(head),
            steps,
        };
        (script, source)
    }

    fn head(&mut self) {
        self.answer(Ok(head(true)));
    }

    fn answer(&mut self, head: Result<Head, Error>) {
        let _ = self.head.take().unwrap().send(head);
    }

    fn then(&self, step: Step) {
        let _ = self.steps.send(step);
    }

    fn piece(&self, piece: &'static str) {
        self.then(Step::Piece(piece.as_bytes()));
    }

    /// Returns whether the source still exists.
    fn is_wanted(&self) -> bool {
        !self.steps.is_closed()
    }
}

fn content(steps: UnboundedReceiver<Step>) -> Content {
    let frames = futures_util::stream::unfold(steps, |mut steps| async move {
        let frame = match steps.recv().await? {
            Step::Piece(piece) => Ok(Frame::data(Bytes::from_static(piece))),
            Step::Large(size) => Ok(Frame::data(Bytes::from(vec![b'x'; size]))),
            Step::Break => Err(Error::new(Kind::Broken, "scripted")),
            Step::Panic => panic!("scripted"),
            Step::End => return None,
        };
        Some((frame, steps))
    });
    StreamBody::new(frames).boxed_unsync()
}

fn head(framed: bool) -> Head {
    Head {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        framed,
        upstream: HeaderValue::from_static("up"),
        asked: Asked::default(),
        timing: None,
    }
}

fn limits() -> Limits {
    Limits {
        max_entry: 1_000,
        share: 1_000_000,
        window: 100,
        stall: Duration::from_secs(10),
        finish: true,
        linger: Duration::from_secs(60),
    }
}

fn tapes(change: impl FnOnce(&mut Limits)) -> Tapes {
    let mut limits = limits();
    change(&mut limits);
    Tapes::new(limits, Tasks::default(), Box::new(|_| {}))
}

fn record(tapes: &Tapes, source: Source) -> (Tape, Reader, Kept) {
    let kept = Kept::default();
    let notes = kept.clone();
    let keep: Keep = Box::new(move |recorded| {
        *notes.lock().unwrap() = Some(recorded?.body);
        Ok(())
    });
    let (tape, reader) = tapes.record(source, sent(), keep, true);
    (tape, reader, kept)
}

/// The mark of a call that has left.
fn sent() -> Sent {
    let sent = Sent::default();
    sent.note();
    sent
}

async fn next(reader: &mut Reader) -> Option<Result<Bytes, Error>> {
    poll_fn(|cx| reader.poll_chunk(cx)).await
}

async fn rest(reader: &mut Reader) -> Result<String, (String, Error)> {
    let mut text = String::new();
    while let Some(piece) = next(reader).await {
        match piece {
            Ok(piece) => text.push_str(std::str::from_utf8(&piece).unwrap()),
            Err(error) => return Err((text, error)),
        }
    }
    Ok(text)
}

#[expect(clippy::disallowed_methods, reason = "it ends with its test")]
fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(work)
}

/// Lets every task that can run, run.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn kept(kept: &Kept) -> Option<String> {
    let body = kept.lock().unwrap().clone()?;
    Some(String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn one_reader_drives_by_itself_and_the_whole_is_kept() {
    let (mut script, source) = Script::new();
    let tapes = tapes(|_| {});
    let (_tape, mut reader, notes) = record(&tapes, source);
    script.head();
    script.piece("ab");
    script.piece("c");
    assert_eq!(reader.head().await.unwrap().status, StatusCode::OK);
    assert_eq!(next(&mut reader).await.unwrap().unwrap(), "ab");
    assert_eq!(tapes.0.tasks.len(), 0, "nobody else was needed");
    script.then(Step::End);
    assert_eq!(rest(&mut reader).await.unwrap(), "c");
    assert_eq!(kept(&notes).unwrap(), "abc");
    assert_eq!(reader.summary().unwrap().kept, Ok(()));
}

#[tokio::test]
async fn an_answer_that_came_another_way_ends_the_tape_and_is_not_told_of() {
    let told = Arc::new(AtomicU64::new(0));
    let limits = tapes(|_| {}).0.limits;
    let counted = told.clone();
    let count = move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    };
    let tapes = Tapes::new(limits, Tasks::default(), Box::new(count));
    let (_tape, mut reader, notes) = record(&tapes, Box::pin(async { Ok(None) }));
    assert_eq!(reader.head().await.unwrap_err().kind(), Kind::Internal);
    assert!(kept(&notes).is_none() && reader.summary().is_none());
    assert_eq!(Arc::strong_count(&notes), 1, "the keeper is gone");
    assert_eq!(told.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_follower_gets_the_prefix_at_once_and_then_the_live_tail() {
    let (mut script, source) = Script::new();
    let tapes = tapes(|_| {});
    let (tape, mut leader, _) = record(&tapes, source);
    script.head();
    script.piece("a");
    leader.head().await.unwrap();
    next(&mut leader).await.unwrap().unwrap();
    let mut follower = tape.join(true).unwrap();
    follower.head().await.unwrap();
    assert_eq!(next(&mut follower).await.unwrap().unwrap(), "a");
    assert!(poll_immediate(next(&mut follower)).await.is_none());
    script.piece("b");
    assert_eq!(next(&mut follower).await.unwrap().unwrap(), "b");
    assert_eq!(next(&mut leader).await.unwrap().unwrap(), "b");
    script.then(Step::End);
    assert_eq!(rest(&mut follower).await.unwrap(), "");
    assert_eq!(rest(&mut leader).await.unwrap(), "");
}

#[tokio::test]
async fn a_leader_that_waits_is_woken_after_the_task_has_taken_over() {
    let (mut script, source) = Script::new();
    let tapes = tapes(|_| {});
    let (tape, mut leader, _) = record(&tapes, source);
    script.head();
    leader.head().await.unwrap();
    let waiting = spawn(async move { rest(&mut leader).await });
    settle().await;
    let mut follower = tape.join(true).unwrap();
    settle().await;
    script.piece("late");
    script.then(Step::End);
    assert_eq!(waiting.await.unwrap().unwrap(), "late");
    assert_eq!(rest(&mut follower).await.unwrap(), "late");
}

#[tokio::test]
async fn a_leader_that_hangs_up_before_the_head_leaves_its_follower_an_answer() {
    let (mut script, source) = Script::new();
    let tapes = tapes(|_| {});
    let (tape, mut leader, notes) = record(&tapes, source);
    assert!(poll_immediate(leader.head()).await.is_none());
    let mut follower = tape.join(true).unwrap();
    drop(leader);
    script.head();
    script.piece("abc");
    script.then(Step::End);
    follower.head().await.unwrap();
    assert_eq!(rest(&mut follower).await.unwrap(), "abc");
    assert_eq!(kept(&notes).unwrap(), "abc");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_any_more_is_finished_for_the_store() {
    let (mut script, source) = Script::new();
    let tapes = tapes(|_| {});
    let (_tape, mut leader, notes) = record(&tapes, source);
    script.head();
    script.piece("a");
    leader.head().await.unwrap();
    next(&mut leader).await.unwrap().unwrap();
    drop(leader);
    script.piece("b");
    script.then(Step::End);
    settle().await;
    assert_eq!(kept(&notes).unwrap(), "ab");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_any_more_is_given_up_after_a_while() {
    let (mut script, source) = Script::new();
    let tapes = tapes(|_| {});
    let watcher = spawn(tapes.clone().look_after());
    let (tape, mut leader, notes) = record(&tapes, source);
    script.head();
    leader.head().await.unwrap();
    drop(leader);
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert!(script.is_wanted());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!script.is_wanted());
    assert_eq!(kept(&notes), None);
    assert!(tape.join(true).is_none(), "nothing is left to join");
    watcher.abort();
}

#[tokio::test]
async fn a_hang_up_cancels_where_the_policy_or_the_answer_asks_for_it() {
    type Change = fn(&mut Limits);
    let cancel: Change = |limits| limits.finish = false;
    let finish: Change = |_| {};
    let table = [
        (cancel, StatusCode::OK, true),
        (finish, StatusCode::BAD_REQUEST, true),
        (finish, StatusCode::OK, false),
    ];
    for (change, status, wanted) in table {
        let (mut script, source) = Script::new();
        let tapes = tapes(change);
        let keep: Keep = Box::new(|_| Ok(()));
        let (_tape, mut leader) = tapes.record(source, sent(), keep, wanted);
        script.answer(Ok(Head {
            status,
            ..head(true)
        }));
        leader.head().await.unwrap();
        drop(leader);
        assert!(!script.is_wanted(), "{status} {wanted}");
    }
}

#[tokio::test]
async fn what_was_never_asked_for_is_not_finished_when_its_last_reader_leaves() {
    for follows in [false, true] {
        let (script, source) = Script::new();
        let tapes = tapes(|_| {});
        let keep: Keep = Box::new(|_| Ok(()));
        let (tape, leader) = tapes.record(source, Sent::default(), keep, true);
        let follower = follows.then(|| tape.join(true).unwrap());
        drop((leader, follower));
        tokio::task::yield_now().await;
        assert!(!script.is_wanted());
        assert!(tape.join(true).is_none());
    }
}

#[tokio::test]
async fn the_keeper_hears_why_nothing_will_be_stored_and_nothing_of_what_is_abandoned() {
    let large = || Step::Large(2_000);
    for (framed, step, why) in [
        (true, large(), Some(NotStored::TooLarge)),
        (true, Step::Break, Some(NotStored::Broken)),
        (false, Step::End, Some(NotStored::Incomplete)),
        (true, Step::Panic, None),
    ] {
        let (mut script, source) = Script::new();
        let tapes = tapes(|_| {});
        let heard = Arc::new(Mutex::new(None));
        let notes = heard.clone();
        let keep: Keep = Box::new(move |recorded| {
            *notes.lock().unwrap() = recorded.as_ref().err().copied();
            Err(NotStored::Broken)
        });
        let (_tape, mut leader) = tapes.record(source, sent(), keep, true);
        script.answer(Ok(head(framed)));
        leader.head().await.unwrap();
        script.then(step);
        let _ = next(&mut leader).await;
        assert_eq!(*heard.lock().unwrap(), why, "{why:?}");
        drop(leader);
        assert_eq!(*heard.lock().unwrap(), why, "{why:?}");
    }
}

#[tokio::test]
async fn a_break_comes_after_every_piece_before_it_for_all_readers() {
    let (mut script, source) = Script::new();
    let tapes = tapes(|_| {});
    let (tape, mut leader, notes) = record(&tapes, source);
    script.head();
    leader.head().await.unwrap();
    let mut follower = tape.join(true).unwrap();
    script.piece("ab");
    script.then(Step::Break);
    for reader in [&mut leader, &mut follower] {
        let (before, error) = rest(reader).await.unwrap_err();
        assert_eq!((before.as_str(), error.kind()), ("ab", Kind::Broken));
        assert!(next(reader).await.is_none(), "an error is told once");
    }
    assert_eq!(kept(&notes), None);
    assert_eq!(leader.summary().unwrap().kept, Err(NotStored::Broken));
    assert!(tape.join(true).is_none());
}

#[tokio::test]
async fn a_failure_before_the_head_reaches_every_reader() {
    let (mut script, source) = Script::new();
    let tapes = tapes(|_| {});
    let (tape, mut leader, _) = record(&tapes, source);
    let mut follower = tape.join(true).unwrap();
    script.answer(Err(Error::new(Kind::Unreachable, "scripted")));
    for reader in [&mut leader, &mut follower] {
        assert_eq!(reader.head().await.unwrap_err().kind(), Kind::Unreachable);
    }
}

#[tokio::test]
async fn a_panic_in_the_source_breaks_the_tape_and_nothing_else() {
    let (mut script, source) = Script::new();
    let tapes = tapes(|_| {});
    let (tape, mut leader, _) = record(&tapes, source);
    script.head();
    leader.head().await.unwrap();
    let mut follower = tape.join(true).unwrap();
    script.then(Step::Panic);
    for reader in [&mut leader, &mut follower] {
        let (_, error) = rest(reader).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Internal);
    }
}

#[tokio::test]
async fn a_body_that_only_closing_ends_needs_its_end_mark() {
    for (body, complete) in [("{\"a\":1}", true), ("{\"a\":", false)] {
        let (mut script, source) = Script::new();
        let tapes = tapes(|_| {});
        let (_tape, mut reader, notes) = record(&tapes, source);
        script.answer(Ok(head(false)));
        script.piece(body);
        script.then(Step::End);
        reader.head().await.unwrap();
        assert_eq!(rest(&mut reader).await.is_ok(), complete, "{body}");
        assert_eq!(kept(&notes).is_some(), complete, "{body}");
    }
}

#[tokio::test]
async fn past_the_largest_entry_a_tape_takes_no_more_readers_and_is_not_kept() {
    let (mut script, source) = Script::new();
    let tapes = tapes(|_| {});
    let (tape, mut reader, notes) = record(&tapes, source);
    script.head();
    reader.head().await.unwrap();
    for _ in 0..3 {
        script.then(Step::Large(600));
    }
    script.then(Step::End);
    for _ in 0..3 {
        assert_eq!(next(&mut reader).await.unwrap().unwrap().len(), 600);
    }
    assert!(tape.join(true).is_none());
    assert_eq!(tapes.held(), 0, "what was read is let go");
    assert!(next(&mut reader).await.is_none());
    assert_eq!(kept(&notes), None);
    assert_eq!(reader.summary().unwrap().kept, Err(NotStored::TooLarge));
}

#[tokio::test]
async fn all_open_tapes_together_stay_within_their_share() {
    let tapes = tapes(|limits| limits.share = 500);
    let (mut first, source) = Script::new();
    let (one, mut reader_of_one, _) = record(&tapes, source);
    let (mut second, source) = Script::new();
    let (other, mut reader_of_other, _) = record(&tapes, source);
    for (script, reader) in [
        (&mut first, &mut reader_of_one),
        (&mut second, &mut reader_of_other),
    ] {
        script.head();
        reader.head().await.unwrap();
        script.then(Step::Large(400));
        assert_eq!(next(reader).await.unwrap().unwrap().len(), 400);
    }
    assert!(one.join(true).is_some());
    assert!(other.join(true).is_none(), "the second went over the share");
    drop((reader_of_one, reader_of_other, one, other, first, second));
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stalls_holds_others_up_for_a_while_and_is_let_go() {
    let (mut script, source) = Script::new();
    let tapes = tapes(|_| {});
    let watcher = spawn(tapes.clone().look_after());
    let (tape, mut stalled, _) = record(&tapes, source);
    script.head();
    stalled.head().await.unwrap();
    let mut eager = tape.join(true).unwrap();
    script.piece("a");
    assert_eq!(next(&mut stalled).await.unwrap().unwrap(), "a");
    assert_eq!(next(&mut eager).await.unwrap().unwrap(), "a");
    for _ in 0..20 {
        script.then(Step::Large(600));
    }
    script.then(Step::End);
    let started = Instant::now();
    let mut read = 0;
    while let Some(piece) = next(&mut eager).await {
        read += piece.unwrap().len();
        assert!(tapes.held() <= 2_000, "{}", tapes.held());
    }
    assert_eq!(read, 20 * 600);
    let waited = started.elapsed();
    assert!(waited >= Duration::from_secs(9), "{waited:?}");
    assert!(waited <= Duration::from_secs(12), "{waited:?}");
    let (_, error) = rest(&mut stalled).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Stalled);
    watcher.abort();
}

#[tokio::test(start_paused = true)]
async fn a_task_takes_over_from_a_leader_that_does_not_come_back() {
    let (mut script, source) = Script::new();
    let tapes = tapes(|_| {});
    let watcher = spawn(tapes.clone().look_after());
    let (_tape, mut leader, notes) = record(&tapes, source);
    script.head();
    script.piece("a");
    leader.head().await.unwrap();
    next(&mut leader).await.unwrap().unwrap();
    script.piece("b");
    script.then(Step::End);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        kept(&notes).unwrap(),
        "ab",
        "the store did not wait for the client"
    );
    assert_eq!(rest(&mut leader).await.unwrap(), "b");
    watcher.abort();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_waits_for_a_slow_upstream_is_not_taken_for_stalled() {
    let (mut script, source) = Script::new();
    let tapes = tapes(|_| {});
    let watcher = spawn(tapes.clone().look_after());
    let (_tape, mut leader, _) = record(&tapes, source);
    script.head();
    leader.head().await.unwrap();
    assert!(next(&mut leader).now_or_never().is_none());
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(tapes.0.tasks.len(), 0);
    watcher.abort();
}

#[tokio::test]
async fn what_the_tapes_hold_is_given_back() {
    let (mut script, source) = Script::new();
    let tapes = tapes(|_| {});
    let (tape, mut reader, _) = record(&tapes, source);
    script.head();
    script.then(Step::Large(500));
    reader.head().await.unwrap();
    next(&mut reader).await.unwrap().unwrap();
    assert_eq!(tapes.held(), 500 + size_of::<Bytes>() as u64);
    drop((tape, reader, script));
    settle().await;
    assert_eq!(tapes.held(), 0);
}

#[tokio::test]
async fn a_stored_answer_costs_the_share_nothing_while_a_slow_reader_reads_on() {
    let (mut script, source) = Script::new();
    let tapes = tapes(|_| {});
    let (tape, mut leader, notes) = record(&tapes, source);
    script.head();
    leader.head().await.unwrap();
    let mut slow = tape.join(true).unwrap();
    for piece in ["ab", "cd", "ef"] {
        script.piece(piece);
    }
    assert_eq!(next(&mut slow).await.unwrap().unwrap(), "ab");
    script.then(Step::End);
    assert_eq!(rest(&mut leader).await.unwrap(), "abcdef");
    assert_eq!(kept(&notes).unwrap(), "abcdef");
    assert_eq!(tapes.held(), 0);
    assert!(!slow.is_done());
    assert_eq!(rest(&mut slow).await.unwrap(), "cdef");
    assert!(slow.is_done());
    let mut late = tape.join(true).unwrap();
    assert_eq!(rest(&mut late).await.unwrap(), "abcdef");
}

/// A client that has all of an answer asks again at once, and is to find the entry.
#[tokio::test]
async fn the_last_of_an_answer_is_handed_out_once_the_keeper_has_decided() {
    for body in ["abc", ""] {
        let tapes = tapes(|_| {});
        let content = Full::new(Bytes::from_static(body.as_bytes()));
        let content = content.map_err(|never| match never {}).boxed_unsync();
        let listener = Listener::Whole { wants_json: false };
        let source = Box::pin(async move { Ok(Some((head(true), content, listener))) });
        let follower = Arc::new(Mutex::new(None::<Reader>));
        let early = Arc::new(AtomicBool::new(true));
        let (follows, came) = (follower.clone(), early.clone());
        let keep: Keep = Box::new(move |_| {
            let mut follower = follows.lock().unwrap().take().unwrap();
            let has_come = if body.is_empty() {
                follower.head().now_or_never().is_some()
            } else {
                next(&mut follower).now_or_never().is_some()
            };
            came.store(has_come, Ordering::Relaxed);
            Ok(())
        });
        let (tape, mut leader) = tapes.record(source, sent(), keep, true);
        *follower.lock().unwrap() = tape.join(true);
        leader.head().await.unwrap();
        assert_eq!(rest(&mut leader).await.unwrap(), body);
        assert!(!early.load(Ordering::Relaxed), "{body:?}");
    }
}

#[tokio::test]
async fn a_panic_in_the_keeper_strands_nobody() {
    let (mut script, source) = Script::new();
    let tapes = tapes(|_| {});
    let keep: Keep = Box::new(|_| panic!("scripted"));
    let (tape, mut leader) = tapes.record(source, sent(), keep, true);
    script.head();
    leader.head().await.unwrap();
    let mut follower = tape.join(true).unwrap();
    script.piece("a");
    script.then(Step::End);
    for reader in [&mut leader, &mut follower] {
        let (before, error) = rest(reader).await.unwrap_err();
        assert_eq!((before.as_str(), error.kind()), ("a", Kind::Internal));
    }
}

#[tokio::test(start_paused = true)]
async fn a_sole_reader_that_is_let_go_ends_the_upstream_call() {
    let (mut script, source) = Script::new();
    let tapes = tapes(|_| {});
    let watcher = spawn(tapes.clone().look_after());
    let (_tape, mut stalled, _) = record(&tapes, source);
    script.head();
    stalled.head().await.unwrap();
    for _ in 0..20 {
        script.then(Step::Large(600));
    }
    next(&mut stalled).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(!script.is_wanted());
    assert!(stalled.is_let_go());
    watcher.abort();
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_never_asks_for_the_body_is_let_go() {
    let (mut script, source) = Script::new();
    let tapes = tapes(|_| {});
    let watcher = spawn(tapes.clone().look_after());
    let (tape, mut idle, _) = record(&tapes, source);
    script.head();
    idle.head().await.unwrap();
    let mut eager = tape.join(true).unwrap();
    for _ in 0..20 {
        script.then(Step::Large(600));
    }
    script.then(Step::End);
    let mut read = 0;
    while let Some(piece) = next(&mut eager).await {
        read += piece.unwrap().len();
    }
    assert_eq!(read, 20 * 600);
    assert!(idle.is_let_go());
    watcher.abort();
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_trickles_does_not_hold_the_others_up_for_ever() {
    let (mut script, source) = Script::new();
    let tapes = tapes(|_| {});
    let watcher = spawn(tapes.clone().look_after());
    let (tape, mut trickling, _) = record(&tapes, source);
    script.head();
    trickling.head().await.unwrap();
    let mut eager = tape.join(true).unwrap();
    for _ in 0..200 {
        script.then(Step::Large(600));
    }
    script.then(Step::End);
    let trickle = spawn(async move {
        while let Some(Ok(_)) = next(&mut trickling).await {
            tokio::time::sleep(Duration::from_secs(9)).await;
        }
        trickling.is_let_go()
    });
    let started = Instant::now();
    while let Some(piece) = next(&mut eager).await {
        piece.unwrap();
    }
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
    assert!(trickle.await.unwrap());
    watcher.abort();
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up_when_it_turns_out_not_to_be_storable() {
    let (mut script, source) = Script::new();
    let tapes = tapes(|_| {});
    let (_tape, mut leader, _) = record(&tapes, source);
    assert!(poll_immediate(leader.head()).await.is_none());
    drop(leader);
    settle().await;
    assert!(script.is_wanted(), "it might be a good one yet");
    script.answer(Ok(Head {
        status: StatusCode::TOO_MANY_REQUESTS,
        ..head(true)
    }));
    settle().await;
    assert!(!script.is_wanted());
}

#[tokio::test]
async fn an_error_that_only_closing_ends_passes_whole() {
    for body in ["<h1>sorry</h1>", ""] {
        let (mut script, source) = Script::new();
        let tapes = tapes(|_| {});
        let (_tape, mut reader, _) = record(&tapes, source);
        script.answer(Ok(Head {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            ..head(false)
        }));
        script.piece(body);
        script.then(Step::End);
        reader.head().await.unwrap();
        assert_eq!(rest(&mut reader).await.unwrap(), body);
    }
}

#[tokio::test]
async fn readers_that_come_and_go_leave_no_places_behind() {
    let (mut script, source) = Script::new();
    let tapes = tapes(|_| {});
    let (tape, mut leader, _) = record(&tapes, source);
    script.head();
    leader.head().await.unwrap();
    for _ in 0..100 {
        drop(tape.join(true).unwrap());
    }
    assert_eq!(tape.0.state().readers.len(), 2);
}
