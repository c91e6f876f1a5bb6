//! What was answered once is answered after a restart, a crash included; whatever is wrong with the disk costs no call,
//! and nothing that is damaged is ever served.

mod faults;

use std::{
    collections::hash_map::RandomState,
    fs::{self, Permissions},
    hash::BuildHasher,
    os::unix::fs::PermissionsExt as _,
    time::Instant,
};

use rustix::process::{Resource, Rlimit, geteuid, prlimit};
use tokio::task::JoinHandle;

use crate::support::{
    client::{Answer, assert_verdict, chat, chat_stream},
    proxy::{Proxy, Setup, proxy},
    spawn,
    upstream::{Reply, Seen, Upstream, completion, stream, upstream},
};

/// Answers each call by a text of the call's own, so that a mix-up shows.
async fn echo() -> Upstream {
    upstream().by(|seen, _| reply_to(seen)).start().await
}

fn reply_to(seen: &Seen) -> Reply {
    let body: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
    let prompt = body["messages"][0]["content"].as_str().unwrap();
    long(prompt)
}

/// Returns the answer to `prompt`: some kilobytes.
fn long(prompt: &str) -> Reply {
    completion(&format!("{prompt}: {}", prompt.repeat(500)))
}

async fn ask(proxy: &Proxy, prompt: &str) -> Answer {
    proxy.send(&chat(prompt)).await
}

fn assert_hit(answer: &Answer, tier: &str) {
    assert_verdict(answer, "HIT");
    assert_eq!(answer.expect("x-cache-tier"), tier);
}

/// Starts a proxy where `old` lived, which has ended.
async fn again(up: &Upstream, old: &Proxy) -> Proxy {
    proxy(up).in_home_of(old).start().await
}

#[tokio::test]
async fn after_a_crash_an_entry_is_still_a_hit() {
    let up = upstream()
        .answers(completion("plain"))
        .answers(stream(&["a", "b"]))
        .start()
        .await;
    let mut old = proxy(&up).start().await;
    let cold = [
        old.send(&chat("hi")).await,
        old.send(&chat_stream("ho")).await,
    ];
    old.counted("refrain_disk_written_total", 2.0).await;
    old.kill().await;
    let new = again(&up, &old).await;
    let warm = [
        new.send(&chat("hi")).await,
        new.send(&chat_stream("ho")).await,
    ];
    for (cold, warm) in cold.iter().zip(&warm) {
        assert_hit(warm, "disk");
        assert_eq!(warm.body, cold.body);
        assert_eq!(warm.expect("x-cache-key"), cold.expect("x-cache-key"));
        assert_eq!(warm.header("content-type"), cold.header("content-type"));
        assert_eq!(warm.expect("x-upstream"), "openai");
        assert!(warm.expect("cache-status").ends_with("detail=disk"));
    }
    assert_hit(&new.send(&chat("hi")).await, "memory");
    assert_eq!(up.count(), 2);
}

#[tokio::test]
async fn a_shutdown_keeps_what_was_answered_at_its_very_end() {
    let up = echo().await;
    let mut old = proxy(&up).start().await;
    ask(&old, "last words").await;
    old.terminate();
    old.ended().await;
    let new = again(&up, &old).await;
    assert_hit(&ask(&new, "last words").await, "disk");
}

#[tokio::test]
async fn age_and_lifetime_go_on_over_a_restart() {
    let up = echo().await;
    let mut old = proxy(&up).start().await;
    let short = chat("hi").header("X-Cache-TTL", "1h");
    old.send(&short).await;
    old.counted("refrain_disk_written_total", 1.0).await;
    old.kill().await;
    let warm = again(&up, &old).await.send(&chat("hi")).await;
    let ttl: u64 = warm.expect("x-cache-ttl").parse().unwrap();
    assert!((3_500..=3_600).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn an_entry_on_the_disk_belongs_to_its_caller() {
    let up = echo().await;
    let mut old = proxy(&up).start().await;
    ask(&old, "hi").await;
    old.counted("refrain_disk_written_total", 1.0).await;
    old.kill().await;
    let new = again(&up, &old).await;
    let other = chat("hi").with_bearer("sk-test-bob");
    assert_verdict(&new.send(&other).await, "MISS");
    assert_hit(&ask(&new, "hi").await, "disk");
}

#[tokio::test]
async fn a_refresh_replaces_what_lies_on_the_disk() {
    let up = upstream()
        .answers(completion("old"))
        .answers(completion("new"))
        .start()
        .await;
    let mut old = proxy(&up).start().await;
    ask(&old, "hi").await;
    old.counted("refrain_disk_written_total", 1.0).await;
    old.kill().await;
    let mut new = again(&up, &old).await;
    let refresh = chat("hi").header("Cache-Control", "no-cache");
    assert_verdict(&new.send(&refresh).await, "MISS");
    new.counted("refrain_disk_written_total", 1.0).await;
    new.kill().await;
    let warm = ask(&again(&up, &new).await, "hi").await;
    assert_hit(&warm, "disk");
    assert_eq!(warm.body, completion("new").bytes());
}

#[tokio::test]
async fn nothing_is_written_where_the_disk_is_off() {
    let up = echo().await;
    let off = proxy(&up).with("[store]\npath = \"off\"").start().await;
    ask(&off, "hi").await;
    assert_hit(&ask(&off, "hi").await, "memory");
    assert!(!off.database().parent().unwrap().exists());
    assert!(off.metric("refrain_disk_up", &[]).await < 0.5);
    assert!(!off.printed().contains("disk"), "{}", off.printed());
}

#[tokio::test]
async fn neither_credential_nor_prompt_lies_in_the_file() {
    let up = upstream().answers(completion("hello")).start().await;
    let mut proxy = proxy(&up).start().await;
    proxy
        .send(&chat("canary-prompt").with_bearer("sk-canary-key"))
        .await;
    proxy.counted("refrain_disk_written_total", 1.0).await;
    proxy.kill().await;
    for name in ["refrain.db", "refrain.db-wal"] {
        let bytes = fs::read(proxy.database().with_file_name(name)).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("canary"), "{name}");
    }
}

/// A proxy that answers as usual, but keeps nothing on the disk, and said so once.
async fn assert_memory_only(proxy: &Proxy, reason: &str) {
    assert_verdict(&ask(proxy, "hi").await, "MISS");
    assert_hit(&ask(proxy, "hi").await, "memory");
    let line = proxy.logged("no disk store").await.to_string();
    assert!(line.contains(&format!("\"{reason}\"")), "{line}");
    assert_eq!(proxy.printed().matches("\"WARN\"").count(), 1);
    let kind = format!("kind=\"{reason}\"");
    let errors = proxy.metric("refrain_disk_errors_total", &[&kind]).await;
    assert!((errors - 1.0).abs() < 0.1, "{errors}");
    assert!(proxy.metric("refrain_disk_up", &[]).await < 0.5);
    assert!(proxy.printed().contains("does not work"));
}

#[tokio::test]
async fn a_second_process_leaves_the_file_to_the_first() {
    let up = echo().await;
    let first = proxy(&up).start().await;
    let second = again(&up, &first).await;
    assert_memory_only(&second, "locked").await;
    ask(&first, "hi").await;
    first.counted("refrain_disk_written_total", 1.0).await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_to_costs_no_call() {
    const NOBODY: u32 = 65_534;
    let up = echo().await;
    let mut before = proxy(&up).with("[store]\npath = \"off\"").start().await;
    before.kill().await;
    let state = before.database().parent().unwrap().to_owned();
    fs::create_dir(&state).unwrap();
    let home = state.parent().unwrap();
    fs::set_permissions(home, Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&state, Permissions::from_mode(0o555)).unwrap();
    let mut setup: Setup = proxy(&up).in_home_of(&before);
    // Root may write anywhere.
    if geteuid().is_root() {
        setup = setup.run_by(NOBODY);
    }
    assert_memory_only(&setup.start().await, "read_only").await;
}

#[tokio::test]
async fn a_file_that_is_no_database_is_moved_aside_and_said_so() {
    let up = echo().await;
    let mut old = proxy(&up).start().await;
    old.kill().await;
    fs::write(old.database(), vec![b'x'; 50_000]).unwrap();
    // The write-ahead log alone would make it whole again.
    fs::remove_file(old.database().with_file_name("refrain.db-wal")).unwrap();
    let mut new = again(&up, &old).await;
    let line = new.logged("damaged database moved aside").await.to_string();
    assert!(line.contains("refrain.db.damaged"), "{line}");
    ask(&new, "hi").await;
    new.counted("refrain_disk_written_total", 1.0).await;
    new.kill().await;
    assert_hit(&ask(&again(&up, &new).await, "hi").await, "disk");
}

#[tokio::test]
async fn a_damaged_file_costs_entries_and_no_call() {
    const ENTRIES: usize = 20;
    let up = echo().await;
    let mut proxy = proxy(&up).start().await;
    for number in 0..ENTRIES {
        ask(&proxy, &format!("prompt {number}")).await;
    }
    proxy.terminate();
    proxy.ended().await;
    let whole = fs::read(proxy.database()).unwrap();
    let mut dice = Dice::thrown();
    for round in 0..6 {
        let mut bytes = whole.clone();
        if round % 2 == 0 {
            bytes.truncate(dice.below(whole.len()));
        } else {
            for _ in 0..20 {
                let at = dice.below(whole.len());
                bytes[at] ^= 1 << dice.below(8);
            }
        }
        fs::write(proxy.database(), bytes).unwrap();
        proxy = again(&up, &proxy).await;
        for number in 0..ENTRIES {
            let prompt = format!("prompt {number}");
            let answer = ask(&proxy, &prompt).await;
            assert_eq!(answer.body, long(&prompt).bytes(), "seed {}", dice.seed);
        }
        proxy.kill().await;
    }
}

/// A file that may not grow stands for a disk that is full; the signal that goes with it is ignored.
#[tokio::test]
async fn a_disk_without_room_costs_no_call_and_is_used_again_when_there_is_room() {
    let up = echo().await;
    let mut proxy = proxy(&up)
        .by_shell("trap '' XFSZ; exec \"$0\" \"$@\"")
        .start()
        .await;
    ask(&proxy, "before").await;
    proxy.counted("refrain_disk_written_total", 1.0).await;
    limit_files(&proxy, Some(1));
    for number in 0..5 {
        let prompt = format!("prompt {number}");
        assert_verdict(&ask(&proxy, &prompt).await, "MISS");
        assert_hit(&ask(&proxy, &prompt).await, "memory");
    }
    proxy.counted("refrain_disk_dropped_total", 5.0).await;
    proxy.logged("disk store failed").await;
    assert_eq!(proxy.printed().matches("\"WARN\"").count(), 1);
    limit_files(&proxy, None);
    ask(&proxy, "after").await;
    proxy.counted("refrain_disk_written_total", 2.0).await;
    proxy.logged("disk store works again").await;
    assert!(proxy.metric("refrain_disk_up", &[]).await > 0.5);
    proxy.kill().await;
    let new = again(&up, &proxy).await;
    assert_hit(&ask(&new, "before").await, "disk");
    assert_hit(&ask(&new, "after").await, "disk");
    assert_verdict(&ask(&new, "prompt 1").await, "MISS");
}

fn limit_files(proxy: &Proxy, bytes: Option<u64>) {
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(Some(proxy.pid()), Resource::Fsize, limit).expect("a child of ours can be limited");
}

/// `REFRAIN_TEST_KILLS=100` for the long run, `REFRAIN_TEST_SEED` for the same dice again.
#[tokio::test]
async fn a_process_killed_at_any_moment_serves_nothing_that_is_damaged_or_anothers() {
    let kills = number_from("REFRAIN_TEST_KILLS").unwrap_or(20);
    let mut dice = Dice::thrown();
    let up = echo().await;
    let mut proxy = proxy(&up).start().await;
    let (mut served, mut from_disk, mut damaged, mut slowest) = (0, 0, 0.0, 0);
    for _ in 0..kills {
        let loads: Vec<_> = (0..LOADS)
            .map(|_| load(&proxy, dice.below(1 << 20)))
            .collect();
        // Some answers later, wherever the writer then is.
        let calls = 1 + dice.below(PROMPTS);
        up.arrived(up.count() + calls).await;
        proxy.kill().await;
        loads.iter().for_each(JoinHandle::abort);
        let start = Instant::now();
        proxy = again(&up, &proxy).await;
        slowest = slowest.max(start.elapsed().as_millis());
        for _ in 0..20 {
            let prompt = format!("prompt {}", dice.below(PROMPTS));
            let answer = ask(&proxy, &prompt).await;
            assert_eq!(answer.body, long(&prompt).bytes(), "seed {}", dice.seed);
            served += 1;
            from_disk += usize::from(answer.header("x-cache-tier") == Some("disk"));
        }
        damaged += proxy.metric("refrain_disk_damaged_total", &[]).await;
    }
    #[expect(clippy::print_stdout, reason = "the long run is read by people")]
    {
        println!(
            "{kills} kills, seed {}: {served} answers compared, {from_disk} of them from disk, none another's; \
             {damaged} entries damaged; slowest start {slowest} ms",
            dice.seed
        );
    }
    assert!(damaged < 0.5, "seed {}: {damaged} damaged", dice.seed);
    assert!(from_disk > kills, "seed {}: {from_disk}", dice.seed);
}

/// Asks all kinds of things, again and again, until the proxy is gone.
fn load(proxy: &Proxy, offset: usize) -> JoinHandle<()> {
    let addr = proxy.addr;
    spawn(async move {
        for number in (0..).map(|number| (number + offset) % PROMPTS) {
            let request = chat(&format!("prompt {number}")).header("Cache-Control", "no-cache");
            if request.try_send(addr).await.is_err() {
                break;
            }
        }
    })
}

/// More than are in a batch, so that the writer is not always gathering when it is killed.
const PROMPTS: usize = 200;
/// So many at once that batches fill before they have been gathered for long enough.
const LOADS: usize = 8;

/// Random numbers that can be had again (`SplitMix64`).
struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    fn thrown() -> Self {
        let seed = number_from("REFRAIN_TEST_SEED");
        Self::of(seed.map_or_else(|| RandomState::new().hash_one(()), |seed| seed as u64))
    }

    fn of(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from(mixed >> 33).unwrap() % bound
    }
}

fn number_from(variable: &str) -> Option<usize> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}
