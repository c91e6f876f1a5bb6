//! Faults that come from outside of the process: a file system that fills up, another program that locks the file.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::Command,
};

use rusqlite::Connection;
use rustix::process::geteuid;

use super::{Dice, again, ask, assert_hit, echo};
use crate::support::{
    client::{assert_verdict, chat},
    proxy::{Proxy, proxy},
    skip,
    upstream::{Reply, completion, upstream},
};

/// Starts the binary in a mount namespace of its own, its state directory a file system of 1 MiB. Both end with it.
const ON_SMALL_DISK: &str = "mkdir -p refrain && \
    exec unshare --mount sh -c 'mount -t tmpfs -o size=1m small refrain && exec \"$0\" \"$@\"' \"$0\" \"$@\"";

#[tokio::test]
async fn a_file_system_that_fills_up_costs_no_call_and_is_used_again_when_it_grows() {
    if !mounts() {
        return;
    }
    let up = upstream().by(|_, number| noise(number)).start().await;
    let proxy = proxy(&up).by_shell(ON_SMALL_DISK).start().await;
    // Three times what there is room for.
    for number in 0..CALLS {
        let answer = ask(&proxy, &prompt(number)).await;
        assert_verdict(&answer, "MISS");
        assert_eq!(answer.body, noise(number).bytes());
    }
    let line = proxy.logged("disk store failed").await.to_string();
    assert!(line.contains("\"full\""), "{line}");
    assert_eq!(proxy.printed().matches("\"WARN\"").count(), 1);
    assert!(
        proxy
            .metric("refrain_disk_errors_total", &["kind=\"full\""])
            .await
            > 0.5
    );
    for number in 0..CALLS {
        let answer = ask(&proxy, &prompt(number)).await;
        assert_hit(&answer, "memory");
        assert_eq!(answer.body, noise(number).bytes());
    }
    grow(&proxy);
    let written = proxy.metric("refrain_disk_written_total", &[]).await;
    ask(&proxy, "after").await;
    proxy
        .counted("refrain_disk_written_total", written + 1.0)
        .await;
    proxy.logged("disk store works again").await;
    proxy.counted("refrain_disk_up", 1.0).await;
}

#[tokio::test]
async fn what_could_not_be_replaced_on_a_full_disk_does_not_come_back_after_a_crash() {
    if !mounts() {
        return;
    }
    let up = upstream().by(|_, number| noise(number)).start().await;
    let mut old = proxy(&up).by_shell(ON_SMALL_DISK).start().await;
    // Two, for one that stays.
    for prompt in ["replaced", "kept"] {
        ask(&old, prompt).await;
    }
    old.counted("refrain_disk_written_total", 2.0).await;
    // The file system is the proxy's own, and seen through it alone.
    let seen = old.database();
    let root = format!("/proc/{}/root", old.pid().as_raw_nonzero());
    let seen = Path::new(&root).join(seen.strip_prefix("/").unwrap());
    fill(&seen.with_file_name("ballast"));
    let refresh = chat("replaced").header("Cache-Control", "no-cache");
    assert_verdict(&old.send(&refresh).await, "MISS");
    old.logged("disk store failed").await;
    old.logged("disk store works again").await;
    let copy = tempfile::TempDir::new().unwrap();
    for name in FILES {
        fs::copy(seen.with_file_name(name), copy.path().join(name)).unwrap();
    }
    old.kill().await;
    for name in FILES {
        fs::copy(copy.path().join(name), old.database().with_file_name(name)).unwrap();
    }
    let new = again(&up, &old).await;
    assert_verdict(&ask(&new, "replaced").await, "MISS");
    assert_hit(&ask(&new, "kept").await, "disk");
}

const FILES: [&str; 2] = ["refrain.db", "refrain.db-wal"];

/// Writes to a file until there is no room left.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    while file.write_all(&[0; 4_096]).is_ok() {}
}

#[tokio::test]
async fn a_file_that_another_program_locks_costs_no_call_and_is_used_again_when_it_lets_go() {
    let up = echo().await;
    let mut old = proxy(&up).start().await;
    ask(&old, "before").await;
    old.counted("refrain_disk_written_total", 1.0).await;
    let other = Connection::open(old.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_verdict(&ask(&old, "meanwhile").await, "MISS");
    assert_hit(&ask(&old, "meanwhile").await, "memory");
    let line = old.logged("disk store failed").await.to_string();
    assert!(line.contains("\"locked\""), "{line}");
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    ask(&old, "after").await;
    old.logged("disk store works again").await;
    old.counted("refrain_disk_written_total", 2.0).await;
    old.kill().await;
    let new = again(&up, &old).await;
    assert_hit(&ask(&new, "before").await, "disk");
    assert_hit(&ask(&new, "after").await, "disk");
}

/// Returns whether file systems can be mounted here; says so where they cannot.
fn mounts() -> bool {
    let tried = || Command::new("unshare").args(["--mount", "true"]).status();
    let able = geteuid().is_root() && tried().is_ok_and(|status| status.success());
    if !able {
        skip("needs root and `unshare`, to mount a small file system");
    }
    able
}

/// Makes the proxy's file system as large as it may want.
fn grow(proxy: &Proxy) {
    let pid = proxy.pid().as_raw_nonzero().to_string();
    let folder = proxy.database();
    let folder = folder.parent().map(Path::as_os_str).unwrap();
    let mut remount = Command::new("nsenter");
    remount
        .args(["--mount", "--target", &pid])
        .args(["mount", "-o", "remount,size=64m"])
        .arg(folder);
    assert!(remount.status().unwrap().success());
}

fn prompt(number: usize) -> String {
    format!("prompt {number}")
}

/// Returns an answer of 100 KB that shrinks to half of that, the same for the same number.
fn noise(number: usize) -> Reply {
    let mut dice = Dice::of(number as u64);
    let words = (0..12_500).map(|_| format!("{:08x}", dice.below(1 << 32)));
    completion(&words.collect::<String>())
}

const CALLS: usize = 60;
