//! Files that are not ours, and files that are moved aside.

use super::*;

impl House {
    /// Puts a file where the database is to be, readable for everybody.
    fn occupy(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().with_file_name(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path
    }

    async fn open_at(&self, path: &Path) -> Result<(Disk, Kept), Trouble> {
        Disk::open(Options {
            path: path.to_owned(),
            ..self.options()
        })
        .await
    }

    fn set_version(&self, version: i64) {
        let file = rusqlite::Connection::open(self.path()).unwrap();
        file.pragma_update(None, "user_version", version).unwrap();
    }
}

/// Asserts that nobody has touched the file at `path`, and that there is nothing beside it but our lock.
fn assert_untouched(path: &Path, bytes: &[u8]) {
    assert_eq!(fs::read(path).unwrap(), bytes);
    let mode = fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    let beside = fs::read_dir(path.parent().unwrap()).unwrap();
    assert_eq!(beside.count(), 2);
}

#[tokio::test]
async fn a_database_of_another_program_is_left_alone() {
    let house = House::new();
    let path = house.occupy("refrain.db", b"");
    let foreign = rusqlite::Connection::open(&path).unwrap();
    foreign
        .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE theirs (x)")
        .unwrap();
    drop(foreign);
    let before = fs::read(&path).unwrap();
    assert_eq!(house.trouble().await, Kind::Foreign);
    assert_untouched(&path, &before);
}

#[tokio::test]
async fn a_file_of_another_name_that_is_no_database_is_left_alone() {
    let house = House::new();
    let path = house.occupy("notes.txt", b"my notes");
    let trouble = house.open_at(&path).await.unwrap_err();
    assert_eq!(trouble.kind, Kind::Foreign);
    assert_untouched(&path, b"my notes");
}

#[tokio::test]
async fn a_folder_in_the_place_of_the_database_is_left_alone() {
    let house = House::new();
    fs::create_dir_all(house.path()).unwrap();
    assert_eq!(house.trouble().await, Kind::Foreign);
}

#[tokio::test]
async fn a_database_of_a_later_version_is_left_alone() {
    let house = House::new();
    house.write([entry(1)]).await;
    house.set_version(3);
    assert_eq!(house.trouble().await, Kind::Foreign);
    house.set_version(2);
    found(&house.open().await, &slot(1)).await;
}

#[tokio::test]
async fn a_database_of_an_earlier_version_is_moved_aside() {
    let house = House::new();
    house.write([entry(1)]).await;
    house.set_version(1);
    let disk = house.open().await;
    assert!(!disk.holds(&slot(1)));
    assert_eq!(disk.counts().errors, errors(Kind::Outdated));
    assert!(house.path().with_file_name("refrain.db.outdated").exists());
    disk.put(Arc::new(entry(2)));
    assert_eq!(closed(disk).await.written, 1);
}

#[tokio::test]
async fn what_was_moved_aside_before_stays_and_there_is_an_end_to_it() {
    let house = House::new();
    let name = |number| match number {
        1 => "refrain.db.damaged".to_owned(),
        _ => format!("refrain.db.damaged.{number}"),
    };
    for number in 1..=9_u8 {
        house.occupy("refrain.db", &[number; 100]);
        closed(house.open().await).await;
        for log in ["refrain.db-wal", "refrain.db-shm"] {
            drop(fs::remove_file(house.path().with_file_name(log)));
        }
    }
    for number in 1..=9_u8 {
        let aside = house.path().with_file_name(name(number));
        assert_eq!(fs::read(aside).unwrap(), [number; 100]);
    }
    house.occupy("refrain.db", &[10; 100]);
    assert_eq!(house.trouble().await, Kind::Corrupt);
    assert_eq!(house.bytes(), [10; 100]);
}
