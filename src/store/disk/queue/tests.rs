//! What waits, what gives way, and what must not come back.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::Instant;

use super::*;
use crate::{
    answer::retold::Retold,
    call::key::Key,
    dialect::chat::form::Form,
    store::{Label, generations::Seen},
};

fn slot(number: u8) -> Slot {
    Slot {
        key: Key::from_bytes([number; 32]),
        delivery: 0,
    }
}

fn entry(number: u8, body: Bytes) -> Arc<Entry> {
    Arc::new(Entry {
        slot: slot(number),
        form: Form::Plain,
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body,
        upstream: HeaderValue::from_static("up"),
        usage: None,
        made: Instant::now(),
        lifetime: Duration::from_secs(60),
        tags: Vec::new(),
        label: Label::default(),
        retold: Retold::default(),
        seen: Seen::default(),
    })
}

fn queue() -> Queue {
    Queue::behind(1 << 30)
}

fn small(number: u8) -> Arc<Entry> {
    entry(number, Bytes::from_static(b"x"))
}

fn taken(queue: &Queue) -> Vec<(Slot, &'static str)> {
    let batch = queue.take(Duration::ZERO).unwrap();
    let named = batch.jobs.iter().map(|(slot, job)| (*slot, name(job)));
    let named = named.collect();
    queue.done(&batch);
    named
}

fn name(job: &Job) -> &'static str {
    match job {
        Job::Put(_) => "put",
        Job::Touch => "touch",
        Job::Soften => "soften",
        Job::Remove => "remove",
    }
}

#[test]
fn an_entry_is_present_from_when_it_is_written_until_it_is_replaced() {
    let queue = queue();
    assert!(queue.put(small(1), 0));
    assert!(!queue.present().holds(&slot(1)));
    let batch = queue.take(Duration::ZERO).unwrap();
    assert!(!queue.present().holds(&slot(1)));
    queue.done(&batch);
    assert!(queue.present().holds(&slot(1)));
    queue.put(small(1), 1);
    assert!(!queue.present().holds(&slot(1)), "the older version");
}

#[test]
fn what_is_written_while_a_newer_version_waits_is_not_present() {
    let queue = queue();
    queue.put(small(1), 0);
    let batch = queue.take(Duration::ZERO).unwrap();
    queue.put(small(1), 1);
    queue.done(&batch);
    assert!(!queue.present().holds(&slot(1)));
    assert_eq!(taken(&queue), [(slot(1), "put")]);
    assert!(queue.present().holds(&slot(1)));
}

#[test]
fn the_newest_job_of_a_slot_counts() {
    let queue = queue();
    queue.present().insert(&slot(1));
    queue.touch(&slot(1));
    queue.put(small(2), 0);
    queue.put(small(1), 0);
    queue.touch(&slot(1));
    queue.put(small(2), 1);
    assert_eq!(taken(&queue), [(slot(1), "put"), (slot(2), "put")]);
}

#[test]
fn what_finds_no_room_takes_its_older_version_with_it() {
    let queue = queue();
    let large = Bytes::from(vec![0; usize::try_from(MOST_BYTES).unwrap()]);
    assert!(!queue.put(entry(1, large.clone()), 0));
    queue.present().insert(&slot(2));
    assert!(!queue.put(entry(2, large), 0));
    assert!(!queue.present().holds(&slot(2)));
    assert_eq!(taken(&queue), [(slot(2), "remove")]);
}

#[test]
fn what_could_not_be_written_takes_its_older_version_with_it() {
    let queue = queue();
    queue.present().insert(&slot(1));
    queue.put(small(1), 0);
    queue.put(small(2), 0);
    let batch = queue.take(Duration::ZERO).unwrap();
    queue.failed(&batch);
    assert!(!queue.present().holds(&slot(1)) && !queue.present().holds(&slot(2)));
    assert_eq!(taken(&queue), [(slot(1), "remove")]);
}

#[test]
fn a_removal_that_fails_at_the_end_is_tried_once_more() {
    let queue = queue();
    queue.present().insert(&slot(1));
    queue.put(small(1), 0);
    queue.close();
    queue.failed(&queue.take(Duration::ZERO).unwrap());
    let batch = queue.take(Duration::ZERO).unwrap();
    assert!(matches!(batch.jobs[..], [(_, Job::Remove)]));
    queue.failed(&batch);
    assert!(queue.take(Duration::ZERO).is_none(), "and no more");
}

#[test]
fn removals_proofs_and_purges_are_apart_from_what_needs_room() {
    let queue = queue();
    queue.present().insert(&slot(1));
    queue.remove(&slot(1));
    queue.put(small(2), 0);
    queue.put_proof([3; 32], None);
    let parts: Vec<_> = queue.take(Duration::ZERO).unwrap().parts().collect();
    let [first, second] = &parts[..] else {
        panic!("{parts:?}");
    };
    assert!(matches!(first.jobs[..], [(_, Job::Remove)]) && first.proofs.len() == 1);
    assert!(matches!(second.jobs[..], [(_, Job::Put(_))]) && second.proofs.is_empty());
    assert_eq!(Batch::default().parts().count(), 1);
}

#[test]
fn entries_wait_within_their_bounds() {
    let queue = queue();
    let body = Bytes::from(vec![0; 1 << 20]);
    let room = (0..=255).filter(|number| queue.put(entry(*number, body.clone()), 0));
    let room = room.count() as u64;
    assert!(room < MOST_BYTES >> 20 && room > 50, "{room}");
    while !taken(&queue).is_empty() {}
    assert!(queue.put(entry(0, body), 0), "there is room again");
}

#[test]
fn the_writer_is_woken_only_for_what_it_waits_for() {
    let mut state = State {
        enough: BATCH_BYTES,
        ..State::default()
    };
    let come = |state: &mut State| {
        let all = [
            Waiting::Nothing,
            Waiting::Work,
            Waiting::Batch,
            Waiting::Close,
        ];
        all.map(|what| {
            state.writer = what;
            state.has_come()
        })
    };
    assert_eq!(come(&mut state), [false; 4]);
    state.add(slot(0), Job::Touch);
    assert_eq!(come(&mut state), [false, true, false, false], "one job");
    for number in 1..=BATCH {
        state.add(slot(u8::try_from(number).unwrap()), Job::Touch);
    }
    assert_eq!(come(&mut state), [false, true, true, false], "a batch");
    state.jobs.clear();
    for number in 0..BATCH {
        let subject = [u8::try_from(number).unwrap(); 32];
        state.proofs.insert(subject, None);
    }
    assert_eq!(
        come(&mut state),
        [false, true, true, false],
        "as many proofs"
    );
    state.proofs.clear();
    state.damaged = Some(1);
    assert_eq!(
        come(&mut state),
        [false, true, true, false],
        "a damaged file"
    );
    state.closed = true;
    assert_eq!(come(&mut state), [false, true, true, true], "the end");
}

#[test]
fn a_database_that_is_still_read_is_not_kept_waiting_for_more_to_write() {
    let queue = queue();
    let is_at_once = |number| {
        queue.put(small(number), 0);
        let start = std::time::Instant::now();
        assert_eq!(taken(&queue), [(slot(number), "put")]);
        // A writer that gathers waits for all of it.
        start.elapsed() < GATHER
    };
    // The machine may keep this thread waiting, but not each time.
    assert!((0..ATTEMPTS).any(is_at_once));
}

#[test]
fn what_comes_while_a_writer_gathers_is_one_batch() {
    let is_one = |_| {
        let queue = Arc::new(queue());
        let writer = queue.clone();
        let writer = std::thread::spawn(move || writer.take(Duration::from_secs(60)).unwrap());
        queue.put(small(0), 0);
        while queue.state().writer == Waiting::Work {
            std::thread::yield_now();
        }
        for number in 1..u8::try_from(BATCH).unwrap() {
            queue.put(small(number), 0);
        }
        let batch = writer.join().unwrap();
        assert!(batch.jobs.len() <= BATCH);
        batch.jobs.len() == BATCH
    };
    assert!((0..ATTEMPTS).any(is_one));
}

/// Of what a busy machine may spoil.
const ATTEMPTS: u8 = 20;

#[test]
fn a_refusal_does_not_wait_for_more_to_write() {
    let queue = queue();
    let has_come = || {
        queue.state().writer = Waiting::Batch;
        queue.state().has_come()
    };
    queue.put_proof([1; 32], Some((0, false)));
    assert!(!has_come());
    queue.put_proof([2; 32], None);
    assert!(!has_come());
    queue.put_proof([1; 32], Some((1, true)));
    assert!(has_come());
    let batch = queue.take(Duration::ZERO).unwrap();
    assert_eq!(batch.proofs.len(), 2);
    assert!(!has_come(), "written");
}

#[test]
fn what_a_small_memory_may_have_dropped_does_not_wait_for_more() {
    let queue = Queue::behind(1 << 20);
    queue.state().writer = Waiting::Batch;
    for (number, is_enough) in [(1, false), (2, true)] {
        queue.put(entry(number, Bytes::from(vec![0; 200 << 10])), 0);
        assert_eq!(queue.state().has_come(), is_enough, "entry {number}");
    }
}

#[test]
fn few_large_entries_are_a_batch_as_many_small_ones_are() {
    let queue = queue();
    queue.state().writer = Waiting::Batch;
    let large = Bytes::from(vec![0; 6 << 20]);
    for (number, is_batch) in [(1, false), (2, false), (3, true)] {
        queue.put(entry(number, large.clone()), 0);
        assert_eq!(queue.state().has_come(), is_batch, "entry {number}");
    }
}

#[test]
fn an_entry_that_is_told_anew_while_it_waits_does_not_upset_the_account() {
    let queue = queue();
    let body = Bytes::from_static(
        br#"{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}"#,
    );
    for round in 0..2 {
        let waiting = entry(1, body.clone());
        queue.put(waiting.clone(), 0);
        let form = Form::Stream { usage: false };
        let telling = waiting.retold.at_once(&body, Form::Plain, form);
        assert!(telling.unwrap().is_ok());
        waiting.retold.count();
        if round == 0 {
            assert_eq!(taken(&queue), [(slot(1), "put")]);
        } else {
            queue.put(small(1), 1);
            assert_eq!(taken(&queue), [(slot(1), "put")]);
        }
        assert_eq!(queue.state().bytes, 0);
    }
}

#[test]
fn a_closed_queue_does_not_rest() {
    let queue = queue();
    queue.close();
    queue.rest(Duration::MAX);
}

#[test]
fn a_closed_queue_hands_out_what_it_has_and_ends() {
    let queue = queue();
    queue.put(small(1), 0);
    queue.close();
    assert!(!queue.put(small(2), 0));
    let batch = queue.take(Duration::MAX).unwrap();
    assert_eq!(batch.jobs.len(), 1);
    queue.failed(&batch);
    assert!(queue.take(Duration::MAX).is_none());
}
