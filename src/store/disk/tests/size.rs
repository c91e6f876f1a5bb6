//! What gives way, and what clocks that were set have to do with it.

use std::collections::HashSet;

use super::{super::evict::evict, *};

/// Returns an entry of some 200 KB.
fn large(number: u16) -> Entry {
    Entry {
        body: noise(number, 200_000),
        ..entry(number)
    }
}

#[tokio::test]
async fn no_more_gives_way_than_has_to() {
    let house = House {
        max_size: 4 << 20,
        ..House::new()
    };
    let disk = house.open().await;
    for number in 0..40 {
        house.advance(Duration::from_millis(10));
        disk.put(Arc::new(large(number)));
        until(|| disk.counts().written == u64::from(number) + 1).await;
        let counts = disk.counts();
        assert!(counts.bytes <= 4 << 20, "{counts:?}");
        assert!(
            counts.entries >= u64::from(number + 1).min(18),
            "{number}: {counts:?}"
        );
        assert!(disk.holds(&slot(number)), "{number}");
    }
    assert!(disk.counts().evicted >= 18);
}

#[tokio::test]
async fn what_was_just_written_gives_way_last() {
    let house = House::new();
    house.write((0..15).map(large)).await;
    let mut file = rusqlite::Connection::open(house.path()).unwrap();
    let transaction = file.transaction().unwrap();
    let fresh = HashSet::from([slot(0), slot(1)]);
    let evicted = evict(&transaction, 600_000, NOON, &fresh).unwrap();
    assert_eq!(evicted, (2..15).map(slot).collect::<Vec<_>>());
    let evicted = evict(&transaction, 300_000, NOON, &fresh).unwrap();
    assert_eq!(evicted, [slot(0)], "there is nothing else");
}

#[tokio::test]
async fn a_batch_that_is_larger_than_the_bound_gives_way_to_itself() {
    let house = House {
        max_size: 1 << 20,
        ..House::new()
    };
    let counts = house.write((0..20).map(large)).await;
    assert!(counts.bytes <= 1 << 20 && counts.entries >= 1, "{counts:?}");
}

#[tokio::test]
async fn what_is_dated_ahead_of_the_clock_is_no_entry_and_is_deleted() {
    let house = House::new();
    house.write([entry(1)]).await;
    house
        .clock
        .fetch_sub(codec::millis(SKEW) + 1_000, Ordering::Relaxed);
    let disk = house.open().await;
    assert!(disk.get(&slot(1)).await.is_none());
    assert!(!disk.holds(&slot(1)));
    assert_eq!(closed(disk).await.entries, 0);
    assert_eq!(house.open().await.counts().entries, 0);
}

#[tokio::test]
async fn what_was_used_ahead_of_the_clock_gives_way_first() {
    const YEAR: u64 = 365 * 86_400_000;
    let house = House {
        max_size: 4 << 20,
        ..House::new()
    };
    house.clock.fetch_add(YEAR, Ordering::Relaxed);
    house.write((0..15).map(large)).await;
    house.clock.fetch_sub(YEAR, Ordering::Relaxed);
    let disk = house.open().await;
    for number in 20..35 {
        house.advance(Duration::from_millis(10));
        disk.put(Arc::new(large(number)));
        until(|| disk.counts().written == u64::from(number) - 19).await;
    }
    assert!((20..35).all(|number| disk.holds(&slot(number))));
    until(|| disk.counts().evicted >= 10).await;
}
