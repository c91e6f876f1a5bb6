//! What was counted is told once, whether it is stored, on its way or neither.

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::store::{
    disk::Options,
    generations::Generations,
    totals::{Counts, Place, What},
};

fn noon() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_262_400)
}

async fn disk(folder: &Path) -> Disk {
    let options = Options {
        path: folder.join("refrain.db"),
        max_size: 64 << 20,
        max_entry: 1 << 20,
        memory: 1 << 30,
        max_ttl: Duration::from_secs(1_000),
        keep_stale: Duration::ZERO,
        budget: Duration::from_secs(10),
        generations: Generations::new(noon()),
        clock: Arc::new(noon),
    };
    Disk::open(options).await.unwrap().0
}

fn journal(archive: Option<Archive>) -> Journal {
    Journal::new(Totals::default(), archive, noon).unwrap()
}

/// Counts so many hits of `model`, `days` ago.
fn hits(journal: &Journal, days: u32, model: &str, amount: u64) {
    let mut counts = Counts::default();
    counts.add(What::Hit, amount);
    let day = Day::of(noon()).back(days);
    let place = Place::new("chat", model, "");
    journal.0.totals.count(day, place, &counts);
}

/// Returns the hits that are told, and whether they are all.
async fn told(journal: &Journal) -> (u64, bool) {
    let told = journal.report(7).await;
    (told.report.total.get(What::Hit), told.complete)
}

#[tokio::test]
async fn what_is_stored_and_what_is_not_yet_are_told_together() {
    let folder = TempDir::new().unwrap();
    let disk = disk(folder.path()).await;
    let journal = journal(Some(Archive::Disk(disk)));
    hits(&journal, 0, "a", 1);
    assert!(journal.flush().await);
    hits(&journal, 0, "a", 10);
    hits(&journal, 6, "b", 100);
    hits(&journal, 7, "b", 1_000);
    for _ in 0..3 {
        assert_eq!(told(&journal).await, (111, true));
    }
    let told = journal.report(1).await;
    assert_eq!(told.report.by_model.len(), 1);
    assert_eq!((told.days, told.covers), (1, Cover::Database));
    assert_eq!(journal.report(0).await.days, 1);
    assert_eq!(journal.report(u32::MAX).await.days, KEPT);
}

#[tokio::test]
async fn the_next_process_goes_on_where_this_one_was() {
    let folder = TempDir::new().unwrap();
    for round in 1..4 {
        let disk = disk(folder.path()).await;
        let journal = journal(Some(Archive::Disk(disk.clone())));
        hits(&journal, 0, "a", 5);
        assert!(journal.flush().await);
        assert_eq!(told(&journal).await, (5 * round, true));
        assert!(disk.close(INTERVAL).await);
    }
}

#[tokio::test]
async fn a_batch_is_stored_once_however_often_it_is_sent() {
    let folder = TempDir::new().unwrap();
    let disk = disk(folder.path()).await;
    let journal = journal(Some(Archive::Disk(disk.clone())));
    hits(&journal, 0, "a", 3);
    journal.0.gather();
    journal.0.books().seal(Day::of(noon()));
    // The disk has it, and its reply is lost.
    let batch = journal.0.next().unwrap();
    assert!(disk.keep_totals(batch).await);
    assert!(journal.flush().await);
    assert_eq!(told(&journal).await, (3, true));
}

#[tokio::test]
async fn what_the_store_does_not_take_waits_and_is_told() {
    let folder = TempDir::new().unwrap();
    let disk = disk(folder.path()).await;
    let journal = journal(Some(Archive::Disk(disk.clone())));
    hits(&journal, 0, "a", 1);
    assert!(journal.flush().await);
    assert!(disk.close(INTERVAL).await);
    hits(&journal, 0, "a", 2);
    assert!(!journal.flush().await);
    assert!(journal.0.next().is_some(), "it waits");
    assert_eq!(told(&journal).await, (3, true));
}

#[tokio::test]
async fn without_a_store_all_is_told_that_was_counted_since_the_start() {
    let journal = journal(None);
    hits(&journal, 0, "a", 1);
    assert!(journal.flush().await);
    hits(&journal, 0, "a", 2);
    assert_eq!(told(&journal).await, (3, true));
    let told = journal.report(7).await;
    assert_eq!((told.covers, told.began), (Cover::Process, noon()));
}
