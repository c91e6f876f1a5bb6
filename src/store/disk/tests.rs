//! The disk tier on real files, with a clock of the test's own.

mod busy;
mod place;
mod size;
mod start;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use rusqlite::ffi;
use tempfile::TempDir;

use super::*;
use crate::{
    answer::retold::Retold,
    call::key::Key,
    dialect::chat::form::Form,
    store::{Label, codec::Record, generations::Seen},
};

/// A folder for a database, and the time of day there.
struct House {
    folder: TempDir,
    clock: Arc<AtomicU64>,
    max_size: u64,
}

impl House {
    fn new() -> Self {
        Self {
            folder: TempDir::new().unwrap(),
            clock: Arc::new(AtomicU64::new(NOON)),
            max_size: 64 << 20,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("state/refrain.db")
    }

    fn options(&self) -> Options {
        let clock = self.clock.clone();
        Options {
            path: self.path(),
            max_size: self.max_size,
            max_entry: 1 << 20,
            memory: 1 << 30,
            max_ttl: Duration::from_secs(1_000),
            keep_stale: Duration::from_secs(50),
            budget: PATIENCE,
            generations: Generations::new(UNIX_EPOCH),
            clock: Arc::new(move || {
                UNIX_EPOCH + Duration::from_millis(clock.load(Ordering::Relaxed))
            }),
        }
    }

    /// Opens the disk; everything that lies there is known.
    async fn open(&self) -> Disk {
        let (disk, _) = Disk::open(self.options()).await.unwrap();
        read_through(&disk).await;
        disk
    }

    async fn trouble(&self) -> Kind {
        Disk::open(self.options()).await.unwrap_err().kind
    }

    /// Writes `entries` with a disk that is then closed.
    async fn write(&self, entries: impl IntoIterator<Item = Entry>) -> Counts {
        let disk = self.open().await;
        for entry in entries {
            // However long it took to open.
            let made = Instant::now();
            disk.put(Arc::new(Entry { made, ..entry }));
        }
        closed(disk).await
    }

    fn advance(&self, by: Duration) {
        let by = codec::millis(by);
        self.clock.fetch_add(by, Ordering::Relaxed);
    }

    /// Returns the bytes of the database.
    fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }

    /// Changes the bytes of the database.
    fn spoil(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.bytes();
        change(&mut bytes);
        fs::write(self.path(), bytes).unwrap();
    }
}

async fn closed(disk: Disk) -> Counts {
    assert!(disk.close(PATIENCE).await);
    disk.counts()
}

/// Runs until `condition` holds; the threads of the disk bring that about.
async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it never came");
}

async fn read_through(disk: &Disk) {
    until(|| disk.0.shared.queue.present().is_complete()).await;
}

async fn found(disk: &Disk, slot: &Slot) -> Entry {
    disk.get(slot).await.expect("it is not there")
}

fn slot(number: u16) -> Slot {
    let mut key = [7; 32];
    key[..2].copy_from_slice(&number.to_le_bytes());
    Slot {
        key: Key::from_bytes(key),
        delivery: u64::MAX,
    }
}

fn entry(number: u16) -> Entry {
    Entry {
        slot: slot(number),
        form: Form::Plain,
        status: StatusCode::OK,
        headers: HeaderMap::from_iter([(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        )]),
        body: noise(number, 3_000),
        upstream: HeaderValue::from_static("up"),
        usage: None,
        made: Instant::now(),
        lifetime: Duration::from_secs(100),
        tags: vec!["a".to_owned()],
        label: Label {
            model: "m".to_owned(),
            ..Label::default()
        },
        retold: Retold::default(),
        seen: Seen::default(),
    }
}

/// Returns bytes that zstd cannot make smaller.
fn noise(seed: u16, length: usize) -> Bytes {
    let mut state = u64::from(seed) + 1;
    let bytes = (0..length).map(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    });
    bytes.collect()
}

const NOON: u64 = 1_700_000_000_000;

#[tokio::test]
async fn proofs_are_kept_with_their_age_and_forgotten() {
    let house = House::new();
    let proof = |byte, ended| Proof {
        subject: [byte; 32],
        age: Duration::from_secs(5),
        ended,
    };
    let disk = house.open().await;
    for kept in [
        proof(1, false),
        proof(2, true),
        proof(3, false),
        proof(1, true),
    ] {
        disk.keep_proof(kept);
    }
    disk.forget_proof([3; 32]);
    assert!(disk.close(PATIENCE).await);
    house.clock.fetch_add(2_000, Ordering::Relaxed);
    let (disk, Kept { mut proofs, .. }) = Disk::open(house.options()).await.unwrap();
    proofs.sort_by_key(|proof| proof.subject);
    let older = |byte, ended| Proof {
        age: Duration::from_secs(7),
        ..proof(byte, ended)
    };
    assert_eq!(proofs, [older(1, true), older(2, true)]);
    assert!(disk.close(PATIENCE).await);
    house.clock.store(0, Ordering::Relaxed);
    let (_disk, Kept { proofs, .. }) = Disk::open(house.options()).await.unwrap();
    assert!(proofs.iter().all(|proof| proof.age.is_zero()), "{proofs:?}");
}

#[tokio::test]
async fn what_is_kept_is_found_after_a_restart_under_the_same_secret() {
    let house = House::new();
    let (disk, Kept { secret, .. }) = Disk::open(house.options()).await.unwrap();
    disk.put(Arc::new(entry(1)));
    let counts = closed(disk).await;
    assert_eq!((counts.written, counts.entries, counts.up), (1, 1, true));

    let (disk, Kept { secret: again, .. }) = Disk::open(house.options()).await.unwrap();
    assert_eq!(again.expose(), secret.expose());
    read_through(&disk).await;
    assert!(disk.holds(&slot(1)) && !disk.holds(&slot(2)));
    let (back, original) = (found(&disk, &slot(1)).await, entry(1));
    assert_eq!(back.body, original.body);
    assert_eq!(back.headers, original.headers);
    assert_eq!((back.tags, back.label), (original.tags, original.label));
    assert!(disk.get(&slot(2)).await.is_none());
}

#[tokio::test]
async fn an_entry_is_found_as_soon_as_it_is_said_to_be_there() {
    let house = House::new();
    let disk = house.open().await;
    disk.put(Arc::new(entry(1)));
    until(|| disk.holds(&slot(1))).await;
    assert_eq!(found(&disk, &slot(1)).await.body, entry(1).body);
}

#[tokio::test]
async fn a_look_up_does_not_have_its_statement_parsed_anew() {
    let house = House::new();
    house.write([entry(1), entry(2)]).await;
    let connection = file::Place::reader(&house.path()).unwrap();
    for slot in [slot(1), slot(2), slot(1)] {
        let mut statement = connection.prepare_cached(reader::AT).unwrap();
        let key = rusqlite::params![slot.key.as_bytes(), slot.delivery.cast_signed()];
        let envelope = statement.query_row(key, |row| row.get::<_, Vec<u8>>(0));
        assert!(!envelope.unwrap().is_empty());
        let anew = statement.get_status(rusqlite::StatementStatus::RePrepare);
        assert_eq!(anew, 0);
    }
}

#[tokio::test]
async fn a_newer_entry_takes_the_place_of_the_older() {
    let house = House::new();
    house.write([entry(1)]).await;
    let newer = Entry {
        body: Bytes::from_static(b"newer"),
        ..entry(1)
    };
    let counts = house.write([newer]).await;
    assert_eq!(counts.entries, 1);
    let disk = house.open().await;
    assert_eq!(found(&disk, &slot(1)).await.body, "newer");
}

#[tokio::test]
async fn another_delivery_of_the_same_key_is_another_entry() {
    let house = House::new();
    house.write([entry(1)]).await;
    let disk = house.open().await;
    let other = Slot {
        delivery: 3,
        ..slot(1)
    };
    assert!(!disk.holds(&other));
    assert!(disk.get(&other).await.is_none());
}

#[tokio::test]
async fn age_goes_on_while_nobody_runs_and_is_never_negative() {
    let house = House::new();
    house.write([entry(1)]).await;
    let age = async || {
        let disk = house.open().await;
        let entry = found(&disk, &slot(1)).await;
        let age = entry.made.elapsed().as_secs();
        closed(disk).await;
        age
    };
    house.advance(Duration::from_secs(70));
    assert_eq!(age().await, 70);
    // The clock is set back to before the entry was made.
    house.clock.store(NOON - 200_000, Ordering::Relaxed);
    assert_eq!(age().await, 0);
}

#[tokio::test]
async fn no_lifetime_exceeds_the_present_bound() {
    let house = House::new();
    let long = Entry {
        lifetime: Duration::from_secs(1_000_000),
        ..entry(1)
    };
    house.write([long]).await;
    let back = found(&house.open().await, &slot(1)).await;
    assert_eq!(back.lifetime, Duration::from_secs(1_000));
}

#[tokio::test]
async fn what_is_over_is_deleted_once_it_cannot_stand_in_any_more() {
    let house = House::new();
    let counts = house.write([entry(1)]).await;
    assert_eq!(counts.expired, 0);
    house.advance(Duration::from_secs(149));
    assert_eq!(house.write([entry(2)]).await.entries, 2, "it may stand in");
    house.advance(Duration::from_secs(2));
    let counts = house.write([entry(3)]).await;
    assert_eq!((counts.expired, counts.entries), (1, 2));
}

#[tokio::test]
async fn what_was_used_least_recently_gives_way() {
    let house = House {
        max_size: 1 << 20,
        ..House::new()
    };
    for number in 0..200 {
        house.advance(Duration::from_millis(10));
        house.write([entry(number)]).await;
        // The first one is used all the time.
        let disk = house.open().await;
        house.advance(Duration::from_millis(10));
        found(&disk, &slot(0)).await;
        closed(disk).await;
    }
    let counts = house.write((200..600).map(entry)).await;
    assert!(counts.bytes <= 1 << 20, "{counts:?}");
    assert!(counts.evicted > 300, "{counts:?}");
    assert!(counts.entries > 100, "{counts:?}");
    assert!(fs::metadata(house.path()).unwrap().len() < 2 << 20);
    let disk = house.open().await;
    assert!(disk.holds(&slot(599)) && !disk.holds(&slot(1)));
}

#[tokio::test]
async fn the_database_is_its_owners_and_one_processes() {
    let house = House::new();
    let disk = house.open().await;
    disk.put(Arc::new(entry(1)));
    until(|| disk.holds(&slot(1))).await;
    assert_private(&house);
    let folder = fs::metadata(house.path().parent().unwrap()).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
    assert_eq!(house.trouble().await, Kind::Locked);
    closed(disk).await;
    // As somebody may have copied them.
    for name in FILES {
        let path = house.path().with_file_name(name);
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let _open = house.open().await;
    assert_private(&house);
}

fn assert_private(house: &House) {
    let files = fs::read_dir(house.path().parent().unwrap()).unwrap();
    let mut names = Vec::new();
    for file in files.map(Result::unwrap) {
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file:?}");
        names.push(file.file_name().into_string().unwrap());
    }
    for name in FILES {
        assert!(names.iter().any(|found| found == name), "{name}");
    }
}

const FILES: [&str; 3] = ["refrain.db", "refrain.db-wal", "refrain.db-shm"];

#[tokio::test]
async fn what_the_database_takes_is_known_before_anything_is_written() {
    let house = House::new();
    let written = house.write((0..50).map(entry)).await;
    let disk = house.open().await;
    let counts = disk.counts();
    assert_eq!((counts.bytes, counts.entries), (written.bytes, 50));
}

#[tokio::test]
async fn a_database_that_is_deleted_behind_our_back_is_made_anew_with_the_same_secret() {
    let house = House::new();
    let (disk, secret) = Disk::open(house.options()).await.unwrap();
    disk.put(Arc::new(entry(1)));
    until(|| disk.holds(&slot(1))).await;
    found(&disk, &slot(1)).await;
    // Nothing is under way there any more.
    assert!(disk.save().await);
    fs::remove_dir_all(house.path().parent().unwrap()).unwrap();
    disk.put(Arc::new(entry(2)));
    until(|| disk.holds(&slot(2))).await;
    assert!(!disk.holds(&slot(1)));
    assert_eq!(found(&disk, &slot(2)).await.body, entry(2).body);
    assert_eq!(house.trouble().await, Kind::Locked, "nobody else takes it");
    assert_eq!(closed(disk).await.errors, errors(Kind::Io));
    let (disk, again) = Disk::open(house.options()).await.unwrap();
    assert_eq!(again.secret.expose(), secret.secret.expose());
    found(&disk, &slot(2)).await;
}

#[tokio::test]
async fn a_database_that_another_is_put_in_place_of_is_let_go_and_the_other_left_alone() {
    let (house, other) = (House::new(), House::new());
    other.write([entry(1)]).await;
    let disk = house.open().await;
    disk.put(Arc::new(entry(1)));
    until(|| disk.holds(&slot(1))).await;
    fs::rename(other.path(), house.path()).unwrap();
    let theirs = house.bytes();
    disk.put(Arc::new(entry(2)));
    until(|| disk.counts().dropped == 1 && !disk.counts().up).await;
    assert!(!disk.holds(&slot(1)));
    closed(disk).await;
    assert_eq!(house.bytes(), theirs);
}

#[tokio::test]
async fn a_damaged_file_is_moved_aside_and_an_empty_one_takes_its_place() {
    let house = House::new();
    fs::create_dir(house.folder.path().join("state")).unwrap();
    let rubbish = vec![b'x'; 10_000];
    fs::write(house.path(), &rubbish).unwrap();
    let disk = house.open().await;
    disk.put(Arc::new(entry(1)));
    let counts = closed(disk).await;
    assert_eq!((counts.written, counts.errors), (1, errors(Kind::Corrupt)));
    let aside = house.path().with_file_name("refrain.db.damaged");
    assert_eq!(fs::read(aside).unwrap(), rubbish);
}

fn errors(kind: Kind) -> [u64; Kind::ALL.len()] {
    Counts::refused(kind).errors
}

/// Opens what is left and asks for every entry; whatever comes back has to be whole.
async fn assert_nothing_damaged_is_served(house: &House, count: u16, why: &str) -> u16 {
    let disk = match Disk::open(house.options()).await {
        Ok((disk, _)) => disk,
        Err(trouble) => {
            assert_eq!(trouble.kind, Kind::Foreign, "{why}: {trouble}");
            return 0;
        }
    };
    let mut found = 0;
    for number in 0..count {
        if let Some(back) = disk.get(&slot(number)).await {
            assert_eq!(back.body, entry(number).body, "{why}: {number}");
            found += 1;
        }
    }
    closed(disk).await;
    // Only so many are kept.
    drop(fs::remove_file(
        house.path().with_file_name("refrain.db.damaged"),
    ));
    found
}

#[tokio::test]
async fn flipped_bits_cost_entries_and_never_show() {
    const ENTRIES: u16 = 20;
    let house = House::new();
    house.write((0..ENTRIES).map(entry)).await;
    let whole = house.bytes();
    let found = assert_nothing_damaged_is_served(&house, ENTRIES, "untouched").await;
    assert_eq!(found, ENTRIES);
    let mut lost = 0;
    for round in 0..60_usize {
        fs::write(house.path(), &whole).unwrap();
        let at = (round * 7_919 + 31) % whole.len();
        house.spoil(|bytes| bytes[at] ^= 1 << (round % 8));
        let found = assert_nothing_damaged_is_served(&house, ENTRIES, &format!("byte {at}")).await;
        lost += usize::from(found < ENTRIES);
    }
    assert!(lost > 20, "only {lost} of 60 flips were in an entry's way");
}

#[tokio::test]
async fn a_file_that_was_cut_off_costs_entries_and_never_shows() {
    const ENTRIES: u16 = 20;
    let house = House::new();
    house.write((0..ENTRIES).map(entry)).await;
    let whole = house.bytes();
    for round in 0..24 {
        let length = whole.len() * round / 24 + round;
        fs::write(house.path(), &whole[..length]).unwrap();
        assert_nothing_damaged_is_served(&house, ENTRIES, &format!("{length} bytes")).await;
    }
}

#[tokio::test]
async fn an_entry_in_anothers_place_is_no_answer() {
    let house = House::new();
    house.write([entry(1), entry(2)]).await;
    let swapped = rusqlite::Connection::open(house.path()).unwrap();
    swapped
        .execute_batch("UPDATE body SET id = -id; UPDATE body SET id = 3 + id")
        .unwrap();
    drop(swapped);
    let disk = house.open().await;
    assert!(disk.get(&slot(1)).await.is_none());
    assert!(!disk.holds(&slot(1)), "it is not asked for again");
    let key = Damage::ALL.iter().position(|known| *known == Damage::Key);
    assert_eq!(disk.counts().damaged[key.unwrap()], 1);
    assert_eq!(closed(disk).await.entries, 1);
    assert_eq!(house.open().await.counts().entries, 1, "it was deleted");
}

#[tokio::test]
async fn a_database_that_is_damaged_while_it_is_open_is_replaced() {
    let house = House::new();
    house.write((0..20).map(entry)).await;
    let (disk, Kept { secret, .. }) = Disk::open(house.options()).await.unwrap();
    read_through(&disk).await;
    house.spoil(|bytes| bytes[4_096..].fill(0xa5));
    assert!(disk.get(&slot(1)).await.is_none());
    until(|| disk.counts().entries == 0).await;
    let aside = house.path().with_file_name("refrain.db.damaged");
    until(|| aside.exists()).await;
    disk.put(Arc::new(entry(1)));
    until(|| disk.holds(&slot(1))).await;
    assert_eq!(found(&disk, &slot(1)).await.body, entry(1).body);
    closed(disk).await;
    let (disk, Kept { secret: again, .. }) = Disk::open(house.options()).await.unwrap();
    assert_eq!(again.expose(), secret.expose(), "keys stay the same");
    found(&disk, &slot(1)).await;
}

#[test]
fn every_failure_has_its_kind() {
    let kind = |code: i32| {
        let error = rusqlite::ffi::Error::new(code);
        Trouble::from(rusqlite::Error::SqliteFailure(error, None)).kind
    };
    assert_eq!(kind(ffi::SQLITE_FULL), Kind::Full);
    assert_eq!(kind(ffi::SQLITE_READONLY), Kind::ReadOnly);
    assert_eq!(kind(ffi::SQLITE_CORRUPT), Kind::Corrupt);
    assert_eq!(kind(ffi::SQLITE_NOTADB), Kind::Corrupt);
    assert_eq!(kind(ffi::SQLITE_BUSY), Kind::Locked);
    assert_eq!(kind(ffi::SQLITE_IOERR), Kind::Io);
    let kind = |kind: io::ErrorKind| Trouble::from(io::Error::from(kind)).kind;
    assert_eq!(kind(io::ErrorKind::StorageFull), Kind::Full);
    assert_eq!(kind(io::ErrorKind::PermissionDenied), Kind::ReadOnly);
    assert_eq!(kind(io::ErrorKind::NotADirectory), Kind::Io);
}

#[tokio::test]
async fn what_only_a_later_version_writes_is_no_entry() {
    let options = House::new().options();
    let terms = Terms {
        generations: &options.generations,
        max_ttl: options.max_ttl,
    };
    let record = || Record::of(&entry(1), NOON, vec![(1, 2)]);
    let restored = |record| {
        let found = Found {
            record,
            softened: false,
        };
        restore(&found, terms, Instant::now(), NOON).is_some()
    };
    assert!(restored(record()));
    assert!(!restored(Record {
        alias: true,
        ..record()
    }));
    assert!(!restored(Record {
        variant: 1,
        ..record()
    }));
}

#[tokio::test]
async fn a_place_that_cannot_be_written_to_is_told_and_nothing_is_made_there() {
    let house = House::new();
    fs::write(house.folder.path().join("state"), "a file").unwrap();
    assert_eq!(house.trouble().await, Kind::Io);
    let left = fs::read_dir(house.folder.path()).unwrap().count();
    assert_eq!(left, 1);
    assert!(Path::new(&house.folder.path().join("state")).is_file());
}
