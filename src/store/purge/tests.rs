//! Purges over both tiers, with a real file below.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

use super::*;
use crate::{
    answer::{
        retold::{Retold, Teller},
        tasks::Tasks,
    },
    dialect::chat::form::Form,
    store::{
        Entry, Label,
        disk::{Disk, Options},
        generations::{Generations, Seen},
        memory::Memory,
    },
};

struct House {
    store: Tiered,
    purger: Purger,
    folder: TempDir,
}

async fn house() -> House {
    house_in(TempDir::new().unwrap()).await
}

async fn house_in(folder: TempDir) -> House {
    let wall = UNIX_EPOCH + Duration::from_secs(1_000_000);
    let generations = Generations::new(wall);
    let options = Options {
        path: folder.path().join("refrain.db"),
        max_size: 64 << 20,
        max_entry: 1 << 20,
        memory: 1 << 30,
        max_ttl: Duration::from_secs(1_000),
        keep_stale: Duration::from_secs(50),
        budget: Duration::from_secs(10),
        clock: Arc::new(move || wall),
        generations: generations.clone(),
    };
    let (disk, _) = Disk::open(options).await.unwrap();
    let store = Tiered::new(
        Memory::new(1 << 20, 1 << 10),
        Some(disk.into()),
        generations,
        Teller::new(Tasks::default()),
    );
    House {
        purger: Purger::new(store.clone(), false),
        store,
        folder,
    }
}

fn slot(number: u8) -> Slot {
    Slot {
        key: Key::from_bytes([number; 32]),
        delivery: 0,
    }
}

fn entry(number: u8, tag: &str, seen: u64) -> Entry {
    Entry {
        slot: slot(number),
        form: Form::Plain,
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"body"),
        upstream: HeaderValue::from_static("up"),
        usage: None,
        made: Instant::now(),
        lifetime: Duration::from_secs(100),
        tags: vec![tag.to_owned()],
        label: Label {
            scope: b"scope".to_vec(),
            model: "m".to_owned(),
            ..Label::default()
        },
        seen: Seen::at(seen, false),
        retold: Retold::default(),
    }
}

fn order(selector: Selector, dry_run: bool) -> Order {
    Order {
        purges: vec![Purge {
            selector,
            within: None,
            soft: false,
        }],
        dry_run,
    }
}

fn tag(tag: &str) -> Selector {
    Selector::Tag(tag.to_owned())
}

impl House {
    fn disk(&self) -> &Disk {
        match self.store.behind.as_ref() {
            Some(Behind::Disk(disk)) => disk,
            other => panic!("no disk, but {other:?}"),
        }
    }

    async fn put(&self, number: u8, tag: &str) {
        let epoch = self.store.generations.epoch();
        self.store.put(entry(number, tag, epoch), false);
        self.until(|| self.disk().holds(&slot(number))).await;
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        let waiting = async {
            while !condition() {
                yield_now().await;
            }
        };
        let patience = Duration::from_secs(20);
        timeout(patience, waiting).await.expect("it never came");
    }

    async fn is_found(&self, number: u8) -> bool {
        self.store.get(&slot(number)).is_some() || self.store.fetch(&slot(number)).await.is_some()
    }

    /// Drops what is in memory: what is found then comes from the disk.
    fn forget_memory(&self) {
        for entry in self.store.memory.iter().collect::<Vec<_>>() {
            self.store.memory.remove(&entry);
        }
    }
}

#[tokio::test]
async fn a_purge_is_seen_in_memory_on_disk_and_after_a_crash() {
    let house = house().await;
    for number in 1..=4 {
        house.put(number, if number < 3 { "a" } else { "b" }).await;
    }
    let outcome = house.purger.run(&order(tag("a"), false)).await.unwrap();
    assert_eq!(outcome.durable, Some(true));
    for _ in 0..2 {
        assert!(!house.is_found(1).await && !house.is_found(2).await);
        assert!(house.is_found(3).await && house.is_found(4).await);
        house.forget_memory();
    }
    assert_eq!(house.purger.counts()[2], 1);
    // As after a crash: the file as it is, and nothing of this process.
    let copy = TempDir::new().unwrap();
    for name in ["refrain.db", "refrain.db-wal"] {
        std::fs::copy(house.folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let next = house_in(copy).await;
    assert!(!next.is_found(1).await && next.is_found(3).await);
}

#[tokio::test]
async fn a_dry_run_tells_what_is_concerned_and_changes_nothing() {
    let house = house().await;
    for number in 0..30 {
        house.put(number, "a").await;
    }
    let found = house.purger.run(&order(tag("a"), true)).await.unwrap();
    let concerned = found.concerned.unwrap();
    assert_eq!((found.durable, concerned.entries), (None, 30));
    assert_eq!(concerned.samples.len(), 20);
    assert!(house.is_found(0).await);
    assert_eq!(house.store.generations.epoch(), 0);
    house.forget_memory();
    let again = house.purger.run(&order(tag("a"), true)).await.unwrap();
    assert_eq!(again.concerned.unwrap().entries, 30);
    let none = house.purger.run(&order(tag("b"), true)).await.unwrap();
    assert_eq!(none.concerned.unwrap(), Concerned::default());
}

#[tokio::test]
async fn a_key_is_deleted_in_its_own_scope_only() {
    let house = house().await;
    house.put(1, "a").await;
    let key = slot(1).key;
    for _ in 0..2 {
        assert_eq!(house.purger.delete(key, b"another").await, Ok(None));
        assert!(house.is_found(1).await);
        house.forget_memory();
    }
    assert_eq!(house.purger.delete(key, b"scope").await, Ok(Some(true)));
    assert!(!house.is_found(1).await);
    assert_eq!(house.purger.delete(key, b"scope").await, Ok(None));
}

#[tokio::test]
async fn the_sweep_deletes_what_is_dead_and_keeps_the_rest() {
    let house = house().await;
    house.put(1, "a").await;
    house.put(2, "b").await;
    house.purger.run(&order(tag("a"), false)).await.unwrap();
    let soft = Purge {
        selector: tag("b"),
        within: None,
        soft: true,
    };
    house.store.generations.purge(&soft).unwrap();
    house.store.sweep().await;
    assert_eq!(house.store.memory.entries(), 1);
    house.until(|| !house.disk().holds(&slot(1))).await;
    let epoch = house.store.generations.epoch();
    let settling = async {
        while house.store.generations.settled() < epoch {
            house.store.sweep().await;
        }
    };
    timeout(Duration::from_secs(20), settling).await.unwrap();
    let page = house.disk().page(0, None).await.unwrap();
    assert_eq!(page.entries.len(), 1);
    assert!(
        page.entries[0].softened,
        "it stays stale without the registry"
    );
    let (rows, _) = house.store.generations.after(0);
    assert!(house.disk().forget(rows.clone()).await);
    house.store.generations.forget(&rows);
    house.forget_memory();
    let (found, _) = house.store.fetch(&slot(2)).await.unwrap();
    assert!(found.seen.is_softened());
    assert!(!house.is_found(1).await);
}

#[tokio::test]
async fn a_purge_during_a_read_from_disk_is_not_undone_by_it() {
    let house = house().await;
    house.put(1, "a").await;
    house.forget_memory();
    let entry = house.disk().get(&slot(1)).await.unwrap();
    house
        .purger
        .run(&order(Selector::All, false))
        .await
        .unwrap();
    house.store.memory.promote(&Arc::new(entry));
    assert!(house.store.get(&slot(1)).is_none());
    assert_eq!(house.store.memory.entries(), 0);
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_to_is_said_so() {
    let house = house().await;
    house.put(1, "a").await;
    assert!(house.disk().close(Duration::from_secs(10)).await);
    let outcome = house.purger.run(&order(tag("a"), false)).await.unwrap();
    assert_eq!(outcome.durable, Some(false));
    assert!(!house.is_found(1).await);
    let memory = Tiered::new(
        Memory::new(1 << 20, 1),
        None,
        house.store.generations.clone(),
        Teller::new(Tasks::default()),
    );
    for lacks_disk in [false, true] {
        let purger = Purger::new(memory.clone(), lacks_disk);
        let outcome = purger.run(&order(tag("a"), false)).await.unwrap();
        assert_eq!(outcome.durable, Some(!lacks_disk));
    }
}

#[tokio::test]
async fn callers_who_look_without_end_do_not_keep_the_operator_from_purging() {
    let house = house().await;
    for number in 0..=255 {
        house.store.memory.put(Arc::new(entry(number, "a", 0)));
    }
    let looks = |within| Order {
        purges: vec![Purge {
            selector: Selector::All,
            within,
            soft: false,
        }],
        dry_run: true,
    };
    let (by_caller, by_operator) = (looks(Some(b"scope".to_vec())), looks(None));
    let caller = house.purger.run(&by_caller);
    tokio::pin!(caller);
    assert!(futures_util::poll!(caller.as_mut()).is_pending());
    let second = house.purger.run(&by_caller).await;
    assert_eq!(second, Err(Refused::Busy));
    assert!(house.purger.run(&by_operator).await.is_ok());
    assert!(caller.await.is_ok());
}
