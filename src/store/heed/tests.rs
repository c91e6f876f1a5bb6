//! The memory in front of a real file, which stands for what replicas share.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, StatusCode};
use tempfile::TempDir;
use tokio::{
    sync::broadcast,
    task::yield_now,
    time::{advance, timeout},
};

use super::*;
use crate::{
    answer::{
        retold::{Retold, Teller},
        tasks::Tasks,
        verdict::Tier,
    },
    call::{
        Slot,
        key::{Key, Secret},
    },
    config::{self, Host, RedisAddress, Servers},
    dialect::chat::form::Form,
    store::{
        Entry, Label,
        disk::{Disk, Options},
        generations::{Generations, Seen, Standing},
        memory::Memory,
        redis::{
            self, Link, Redis,
            layout::Layout,
            sync::{self, Facts},
        },
        trust::Trust,
    },
};

fn slot() -> Slot {
    Slot {
        key: Key::from_bytes([1; 32]),
        delivery: 0,
    }
}

fn replaced() -> Message {
    Message::Replaced {
        slot: slot(),
        by: 7,
    }
}

fn entry(body: &'static str) -> Arc<Entry> {
    Arc::new(Entry {
        slot: slot(),
        form: Form::Plain,
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Bytes::from_static(body.as_bytes()),
        upstream: HeaderValue::from_static("up"),
        usage: None,
        made: Instant::now(),
        lifetime: Duration::from_secs(100),
        tags: Vec::new(),
        label: Label::default(),
        retold: Retold::default(),
        seen: Seen::default(),
    })
}

fn store(behind: Option<Behind>, generations: Generations) -> Tiered {
    let memory = Memory::new(1 << 20, 1 << 10);
    Tiered::new(memory, behind, generations, Teller::new(Tasks::default()))
}

/// Has `new` lie behind the memory, and `old` in it; the folder lasts as long as the test.
async fn divided(folder: &TempDir) -> Tiered {
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
    disk.put(entry("new"));
    let written = async {
        while !disk.holds(&slot()) {
            yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), written).await.unwrap();
    let store = store(Some(disk.into()), generations);
    store.memory.put(entry("old"));
    store
}

/// The memory in front of a Redis that nobody answers for: what is put there waits.
async fn in_front_of_redis() -> Tiered {
    let generations = Generations::new(UNIX_EPOCH);
    let patience = Duration::from_millis(50);
    let nowhere = Host {
        name: "127.0.0.1".to_owned(),
        port: 1,
    };
    let address = RedisAddress {
        tls: false,
        user: None,
        password: None,
        servers: Servers::Single(nowhere),
        database: 0,
    };
    let config = config::Redis {
        address,
        prefix: "p:".to_owned(),
        ca: None,
        budget: patience,
    };
    let (layout, tasks) = (Layout::new("p:"), Tasks::default());
    let link = Link::start(config, &tasks, async |_| Ok(())).await;
    let agreed = sync::Options {
        secret: Secret::from_bytes([7; 32]),
        is_configured: true,
        generations: generations.clone(),
        trust: Trust::new(patience, Instant::now()),
        keep_proofs: patience,
    };
    let facts = Facts::new(layout.clone(), agreed);
    let options = redis::Options {
        max_entry: 1 << 20,
        max_ttl: Duration::from_secs(1_000),
        keep_stale: Duration::ZERO,
        budget: patience,
        generations: generations.clone(),
        tasks,
    };
    let redis = Redis::new(link, layout, facts, options);
    store(Some(redis.into()), generations)
}

/// Returns what a call would be answered with, and from where.
async fn found(store: &Tiered) -> (String, Tier) {
    let (entry, tier) = store.find(&slot()).await.unwrap();
    (String::from_utf8(entry.body.to_vec()).unwrap(), tier)
}

fn told(body: &str, tier: Tier) -> (String, Tier) {
    (body.to_owned(), tier)
}

#[tokio::test]
async fn what_another_replica_has_replaced_is_looked_for_behind_the_memory() {
    let folder = TempDir::new().unwrap();
    let store = divided(&folder).await;
    assert_eq!(found(&store).await, told("old", Tier::Memory));
    store.hear(&Message::Done(slot()));
    assert_eq!(found(&store).await, told("old", Tier::Memory));
    store.hear(&replaced());
    assert_eq!(found(&store).await, told("new", Tier::Disk));
    assert_eq!(found(&store).await, told("new", Tier::Memory));
}

#[tokio::test]
async fn what_is_doubted_gives_way_to_what_lies_behind_it() {
    let folder = TempDir::new().unwrap();
    let store = divided(&folder).await;
    store.doubt();
    assert_eq!(found(&store).await, told("new", Tier::Disk));
    assert_eq!(found(&store).await, told("new", Tier::Memory), "once");
}

#[tokio::test]
async fn an_older_copy_behind_the_memory_takes_no_newer_entrys_place() {
    let store = in_front_of_redis().await;
    store.put(Arc::into_inner(entry("old")).unwrap(), false);
    let mut newer = Arc::into_inner(entry("new")).unwrap();
    newer.made += Duration::from_secs(5);
    store.memory.put(Arc::new(newer));
    store.doubt();
    let (kept, tier) = store.fetch(&slot()).await.unwrap();
    assert_eq!((&kept.body[..], tier), (&b"new"[..], Tier::Memory));
    assert_eq!(store.generations.standing(&kept), Standing::Alive);
    store.memory.clear(&slot());
    let (written, tier) = store.fetch(&slot()).await.unwrap();
    assert!(Arc::ptr_eq(&written, &kept), "in place of the older one");
    assert_eq!(tier, Tier::Redis);
}

#[tokio::test]
async fn what_waits_to_be_written_is_doubted_once() {
    let store = in_front_of_redis().await;
    store.put(Arc::into_inner(entry("new")).unwrap(), false);
    store.doubt();
    let doubted = store.memory.get(&slot()).unwrap();
    assert_eq!(store.generations.standing(&doubted), Standing::Doubted);
    let (entry, tier) = store.fetch(&slot()).await.unwrap();
    assert!(Arc::ptr_eq(&entry, &doubted));
    assert_eq!(tier, Tier::Memory);
    assert_eq!(store.generations.standing(&entry), Standing::Alive);
}

#[tokio::test]
async fn what_is_doubted_answers_where_nothing_else_is_to_be_had() {
    let wall = SystemTime::UNIX_EPOCH;
    let store = store(None, Generations::new(wall));
    store.memory.put(entry("old"));
    store.doubt();
    for _ in 0..2 {
        assert_eq!(found(&store).await, told("old", Tier::Memory));
    }
}

#[tokio::test]
async fn what_was_replaced_while_it_was_read_is_not_kept() {
    type Event = fn(&Tiered);
    let events: [Event; 2] = [|store| store.hear(&replaced()), Tiered::doubt];
    for event in events {
        let folder = TempDir::new().unwrap();
        let store = divided(&folder).await;
        let place = slot();
        // The disk may be as quick as the one who asks.
        let fetching = loop {
            store.memory.clear(&place);
            let mut fetching = Box::pin(store.fetch(&place));
            if fetching.as_mut().now_or_never().is_none() {
                break fetching;
            }
        };
        event(&store);
        assert!(fetching.await.is_some(), "that call was under way");
        assert!(store.memory.get(&slot()).is_none());
        assert_eq!(found(&store).await, told("new", Tier::Disk));
        assert_eq!(found(&store).await, told("new", Tier::Memory));
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_deaf_doubts_every_second_and_once_more_at_the_end() {
    let store = store(None, Generations::new(SystemTime::UNIX_EPOCH));
    let (news, _) = broadcast::channel(8);
    let heeding = store.clone().heed(Ears::of(&news), true);
    let doubts = || store.generations.epoch();
    let wait = async |seconds: u64| {
        for _ in 0..seconds {
            advance(BELIEVED).await;
            for _ in 0..10 {
                yield_now().await;
            }
        }
    };
    let script = async move {
        wait(5).await;
        assert_eq!(doubts(), 0, "all is well");
        news.send(Heard::Lost).unwrap();
        wait(3).await;
        let while_deaf = doubts();
        assert!((3..=4).contains(&while_deaf), "{while_deaf}");
        news.send(Heard::Back).unwrap();
        wait(5).await;
        assert_eq!(doubts(), while_deaf + 1);
    };
    tokio::join!(heeding, script);
}

#[test]
fn a_doubt_ends_with_a_look_and_hides_no_purge() {
    use crate::store::generations::{Purge, Selector};
    let generations = Generations::new(SystemTime::UNIX_EPOCH);
    let purge = |soft| Purge {
        selector: Selector::Key(slot().key),
        within: None,
        soft,
    };
    let entry = entry("body");
    let before = generations.epoch();
    generations.doubt();
    assert_eq!(
        generations.settled(),
        generations.settleable(),
        "nothing is dead"
    );
    for _ in 0..2 {
        assert_eq!(generations.standing(&entry), Standing::Doubted);
    }
    generations.vouch(&entry, before);
    assert_eq!(generations.standing(&entry), Standing::Doubted);
    generations.vouch(&entry, generations.epoch());
    assert_eq!(generations.standing(&entry), Standing::Alive);

    generations.doubt();
    generations.purge(&purge(true)).unwrap();
    assert_eq!(generations.standing(&entry), Standing::Doubted);
    assert!(entry.seen.is_softened());
    generations.vouch(&entry, generations.epoch());
    assert_eq!(generations.standing(&entry), Standing::Stale);

    generations.doubt();
    generations.purge(&purge(false)).unwrap();
    generations.vouch(&entry, generations.epoch());
    assert_eq!(generations.standing(&entry), Standing::Dead);
}
