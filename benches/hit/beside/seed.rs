//! A database of many entries, written by Refrain's own disk store.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use bytes::Bytes;
use refrain::{
    call::{Slot, key::Key},
    ledger::clock,
    store::{
        disk::{Disk, Options},
        generations::Generations,
    },
};
use tokio::time::sleep;

use crate::{bare, script};

/// Writes `count` entries, as no call will ask for them, into the store of the state directory `home`.
pub(super) async fn fill(home: &Path, count: u64) -> Result<()> {
    let options = Options {
        path: home.join("refrain.db"),
        max_size: 16 << 30,
        max_entry: 8 << 20,
        memory: 1 << 30,
        max_ttl: Duration::MAX,
        keep_stale: Duration::ZERO,
        budget: Duration::from_millis(50),
        clock: Arc::new(clock::wall),
        generations: Generations::new(clock::wall()),
    };
    let (disk, _) = Disk::open(options).await?;
    let body = Bytes::from(script::completion(script::ANSWER));
    for number in 0..count {
        disk.put(Arc::new(bare::entry(slot(number), body.clone())));
        // The queue is bounded, and what it does not take is lost.
        while number >= disk.counts().written + AHEAD {
            sleep(Duration::from_millis(1)).await;
        }
    }
    while disk.counts().written < count {
        sleep(Duration::from_millis(1)).await;
    }
    ensure!(disk.counts().dropped == 0, "the disk dropped entries");
    ensure!(
        disk.close(Duration::from_secs(60)).await,
        "the disk does not close"
    );
    Ok(())
}

/// Returns the place of an entry: spread over all keys, as an HMAC would be.
fn slot(number: u64) -> Slot {
    let mut key = [0; 32];
    for (at, bytes) in key.chunks_exact_mut(8).enumerate() {
        bytes.copy_from_slice(&mixed(number * 4 + at as u64).to_le_bytes());
    }
    Slot {
        key: Key::from_bytes(key),
        delivery: 0,
    }
}

/// `SplitMix64`.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Entries that may wait.
const AHEAD: u64 = 512;
