//! What a start takes from the file at once, and what it leaves for later.

use super::{super::loading::Loading, *};

#[tokio::test]
async fn the_secret_does_not_wait_for_the_fingerprints() {
    let house = House::new();
    let (disk, before) = Disk::open(house.options()).await.unwrap();
    disk.put(Arc::new(entry(1)));
    closed(disk).await;
    let file = rusqlite::Connection::open(house.path()).unwrap();
    file.execute_batch("UPDATE entry SET key = x'00'").unwrap();
    drop(file);
    let (disk, after) = Disk::open(house.options()).await.unwrap();
    assert_eq!(after.secret.expose(), before.secret.expose());
    // The database is damaged, which is found out later.
    until(|| disk.counts().errors == errors(Kind::Corrupt)).await;
    disk.put(Arc::new(entry(2)));
    until(|| disk.0.shared.queue.present().knows(&slot(2))).await;
    assert!(!disk.holds(&slot(1)));
}

#[tokio::test]
async fn a_database_is_read_through_in_pieces_and_everything_may_lie_there_meanwhile() {
    const ENTRIES: u16 = 1_500;
    let house = House::new();
    house.write((0..ENTRIES).map(entry)).await;
    let file = rusqlite::Connection::open(house.path()).unwrap();
    let queue = Queue::behind(1 << 30);
    let present = queue.present();
    let mut loading = Loading::begin(present);
    assert!(!loading.step(&file, present).unwrap());
    assert_eq!(present.len(), 1_000);
    assert!((0..=ENTRIES).all(|number| present.holds(&slot(number))));
    let last = (0..ENTRIES).max_by_key(|number| slot(*number).key).unwrap();
    queue.put(Arc::new(entry(last)), NOON);
    while !loading.step(&file, present).unwrap() {}
    assert!(!present.holds(&slot(last)), "a newer version waits");
    assert_eq!(present.len(), u64::from(ENTRIES) - 1);
    assert!(!present.holds(&slot(ENTRIES)));
}

#[tokio::test]
async fn what_is_refreshed_before_it_is_read_replaces_what_lies_on_the_disk() {
    let house = House::new();
    house.write([entry(1)]).await;
    let queue = Queue::behind(1 << 30);
    queue.present().begin();
    queue.put(Arc::new(entry(1)), NOON);
    let batch = queue.take(Duration::ZERO).unwrap();
    queue.failed(&batch);
    let batch = queue.take(Duration::ZERO).unwrap();
    assert!(matches!(batch.jobs[..], [(_, queue::Job::Remove)]));
}
