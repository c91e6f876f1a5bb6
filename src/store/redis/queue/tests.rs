//! The queue by itself, on paused time.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

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

fn entry(slot: Slot, size: usize) -> Arc<Entry> {
    Arc::new(Entry {
        slot,
        form: Form::Plain,
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Bytes::from(vec![b'x'; size]),
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

fn put(queue: &Queue, number: u8, size: usize) -> bool {
    queue.put(entry(slot(number), size), false, Instant::now())
}

/// What waits for a slot, in short.
#[derive(Debug, PartialEq)]
enum Waits {
    /// An entry of this size.
    Entry(usize),
    /// It is about to be deleted.
    Nothing,
}

fn waiting(queue: &Queue, number: u8) -> Option<Waits> {
    Some(match queue.waiting(&slot(number))? {
        Waiting::Entry(entry) => Waits::Entry(entry.body.len()),
        Waiting::Nothing => Waits::Nothing,
    })
}

#[tokio::test(start_paused = true)]
async fn the_newest_of_a_slot_is_handed_out_and_found_until_it_is_settled() {
    let queue = Queue::default();
    assert!(put(&queue, 1, 10) && put(&queue, 2, 20) && put(&queue, 1, 11));
    assert_eq!(waiting(&queue, 1), Some(Waits::Entry(11)));
    let batch = queue.take().await.unwrap();
    let slots: Vec<_> = batch.iter().map(|(slot, _)| *slot).collect();
    assert_eq!(slots, [slot(1), slot(2)], "it has kept its place");
    assert_eq!(waiting(&queue, 1), Some(Waits::Entry(11)), "under way");
    queue.settle(Vec::new());
    assert_eq!(waiting(&queue, 1), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_tried_again_unless_something_newer_has_come() {
    let queue = Queue::default();
    put(&queue, 1, 10);
    put(&queue, 2, 20);
    let batch = queue.take().await.unwrap();
    put(&queue, 1, 11);
    assert_eq!(waiting(&queue, 1), Some(Waits::Entry(11)));
    queue.settle(batch);
    let again = queue.take().await.unwrap();
    let sizes: Vec<_> = again
        .iter()
        .map(|(_, job)| match &job.work {
            Some(Work::Put(put)) => put.entry.body.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sizes, [11, 20]);
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_leaves_that_what_is_older_is_deleted() {
    let queue = Queue::default();
    let large = usize::try_from(MOST_BYTES).unwrap() / 2;
    assert!(put(&queue, 1, large), "half of it");
    assert!(!put(&queue, 2, large), "more than the other half");
    assert_eq!(waiting(&queue, 2), Some(Waits::Nothing));
    assert!(!put(&queue, 1, 2 * large), "the one before has given way");
    assert_eq!(waiting(&queue, 1), Some(Waits::Nothing));
    assert!(put(&queue, 2, large));
}

#[tokio::test(start_paused = true)]
async fn an_entry_does_not_wait_for_ever_but_the_deletion_of_what_is_older_does() {
    let queue = Queue::default();
    put(&queue, 1, 10);
    let early = Instant::now();
    tokio::time::advance(Duration::from_secs(1)).await;
    put(&queue, 2, 20);
    assert_eq!(queue.give_up(early), 0);
    assert_eq!(queue.give_up(Instant::now()), 1);
    assert_eq!(waiting(&queue, 1), Some(Waits::Nothing));
    assert_eq!(waiting(&queue, 2), Some(Waits::Entry(20)));
    tokio::time::advance(LONGEST * 100).await;
    assert_eq!(queue.give_up(Instant::now()), 1);
    assert_eq!(queue.give_up(Instant::now()), 0);
    let works = queue.take().await.unwrap();
    let is_deletion = |(_, job): &(Slot, Job)| matches!(job.work, Some(Work::Outdate(_)));
    assert!(works.len() == 2 && works.iter().all(is_deletion));
}

#[tokio::test(start_paused = true)]
async fn deletions_are_bounded_too() {
    let queue = Queue::default();
    let now = Instant::now();
    let mut key = [0; 32];
    for number in 0..MOST_DELETIONS as u64 + 100 {
        key[..8].copy_from_slice(&number.to_le_bytes());
        let slot = Slot {
            key: Key::from_bytes(key),
            delivery: 0,
        };
        queue.discard(slot, b"identity", now);
    }
    assert_eq!(queue.state().jobs.len(), MOST_DELETIONS);
    assert!(put(&queue, 255, 10), "entries find their room all the same");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_entry_does_not_push_one_out() {
    let queue = Queue::default();
    put(&queue, 1, 10);
    queue.discard(slot(1), b"identity", Instant::now());
    assert_eq!(waiting(&queue, 1), Some(Waits::Entry(10)));
}

#[tokio::test(start_paused = true)]
async fn a_closed_queue_hands_out_what_waits_and_ends() {
    let queue = Arc::new(Queue::default());
    put(&queue, 1, 10);
    queue.close();
    assert!(!put(&queue, 2, 20), "it takes no more");
    let batch = queue.take().await.unwrap();
    assert_eq!(batch.len(), 2);
    let drained = async {
        queue.drained().await;
        assert_eq!(waiting(&queue, 1), None);
    };
    let settled = async { queue.settle(Vec::new()) };
    tokio::join!(drained, settled);
    assert!(queue.take().await.is_none());
}

fn follower(name: &str) -> Follower {
    Follower {
        key: name.to_owned(),
        command: Cmd::new(),
    }
}

fn names(batch: &Batch) -> Vec<&str> {
    let followers = batch.iter().flat_map(|(_, job)| &job.followers);
    followers.map(|follower| follower.key.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_follows_an_entry_is_handed_out_with_it_or_behind_it() {
    let queue = Queue::default();
    let now = Instant::now();
    put(&queue, 1, 10);
    queue.follow(slot(1), follower("a"), now);
    queue.follow(slot(2), follower("b"), now);
    let batch = queue.take().await.unwrap();
    assert_eq!(names(&batch), ["a", "b"]);
    assert!(batch[0].1.work.is_some() && batch[1].1.work.is_none());
    assert_eq!(waiting(&queue, 2), None, "nothing is done about it");

    queue.follow(slot(1), follower("c"), now);
    queue.settle(batch);
    let again = queue.take().await.unwrap();
    assert_eq!(names(&again), ["a", "c", "b"]);
    assert_eq!(
        waiting(&queue, 1),
        Some(Waits::Entry(10)),
        "the entry is tried again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_follows_an_entry_which_is_given_up_is_given_back_all_the_same() {
    let queue = Queue::default();
    let now = Instant::now();
    for _ in 0..MOST + 10 {
        queue.follow(slot(1), follower("a"), now);
    }
    put(&queue, 1, 10);
    assert_eq!(queue.state().followers, MOST);
    assert_eq!(queue.give_up(now + Duration::from_secs(1)), 1);
    assert_eq!(queue.state().followers, MOST, "bounded they are");
    assert_eq!(waiting(&queue, 1), Some(Waits::Nothing));
    let batch = queue.take().await.unwrap();
    assert_eq!(names(&batch), vec!["a"; MOST]);
    assert!(matches!(batch[0].1.work, Some(Work::Outdate(_))));
    assert_eq!(queue.state().followers, 0);
}

#[tokio::test(start_paused = true)]
async fn thousands_that_are_given_up_at_once_all_keep_their_place() {
    let queue = Queue::default();
    let early = Instant::now();
    let slots = (0..MOST).map(|number| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        Slot {
            key: Key::from_bytes(key),
            delivery: 0,
        }
    });
    let slots: Vec<_> = slots.collect();
    let is_late = |number: usize| !number.is_multiple_of(64);
    for (number, slot) in slots.iter().enumerate() {
        let since = early
            + if is_late(number) {
                Duration::ZERO
            } else {
                LONGEST
            };
        assert!(queue.put(entry(*slot, 1), false, since));
    }
    let late = (0..MOST).filter(|number| is_late(*number)).count();
    assert_eq!(queue.give_up(early + LONGEST), late as u64);
    assert_eq!(queue.state().entries, MOST - late);
    let order: Vec<_> = queue.state().order.iter().copied().collect();
    assert_eq!(order, slots, "nothing went through the others for each");
}
