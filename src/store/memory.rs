//! The memory tier: entries as they are served, bounded in bytes.
//!
//! The least useful entry gives way when room is needed (`quick_cache`: Clock-PRO); what is past its lifetime stays
//! until then, as it may still stand in for a failed upstream.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quick_cache::{
    DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter,
    sync::{Cache, EntryAction},
};

use super::Entry;
use crate::{answer::retold::Retold, call::Slot};

/// The memory tier; clones share it.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    entries: Cache<Slot, Arc<Entry>, Weight, DefaultHashBuilder, Evictions>,
    evicted: Arc<AtomicU64>,
}

#[derive(Clone, Debug)]
struct Weight;

/// Counts what gives way.
#[derive(Clone, Debug)]
struct Evictions(Arc<AtomicU64>);

impl Memory {
    /// Makes a tier that holds at most `bytes`, and entries of up to `max_entry` bytes.
    pub fn new(bytes: u64, max_entry: u64) -> Self {
        let evicted = Arc::new(AtomicU64::new(0));
        let options = OptionsBuilder::new()
            .estimated_items_capacity(usize::try_from(bytes / TYPICAL).unwrap_or(usize::MAX))
            .weight_capacity(bytes)
            .shards(shards(bytes, max_entry))
            .build();
        // Building fails only where one of the capacities is missing; both were given.
        let entries = match options {
            Ok(options) => Cache::with_options(
                options,
                Weight,
                DefaultHashBuilder::default(),
                Evictions(evicted.clone()),
            ),
            Err(_) => Cache::with(
                usize::try_from(bytes / TYPICAL).unwrap_or(usize::MAX),
                bytes,
                Weight,
                DefaultHashBuilder::default(),
                Evictions(evicted.clone()),
            ),
        };
        Self(Arc::new(Inner { entries, evicted }))
    }

    /// Returns the entry at `slot`.
    pub fn get(&self, slot: &Slot) -> Option<Arc<Entry>> {
        self.0.entries.get(slot).filter(|entry| entry.slot == *slot)
    }

    /// Keeps `entry`, in place of an older one.
    pub fn put(&self, entry: Arc<Entry>) {
        self.0.entries.insert(entry.slot, entry);
    }

    /// Keeps `entry`, which was read back from another tier, unless its place is taken by one that is as new: by itself, or by
    /// what a call of this process put there meanwhile. Returns what is there now.
    pub fn promote(&self, entry: &Arc<Entry>) -> Arc<Entry> {
        let entries = &self.0.entries;
        loop {
            let kept =
                entries.get_or_insert_with(&entry.slot, || Ok::<_, Infallible>(entry.clone()));
            let kept = match kept {
                Ok(kept) => kept,
                Err(never) => match never {},
            };
            if !entry.supersedes(&kept) {
                return kept;
            }
            entries.remove_if(&entry.slot, |there| Arc::ptr_eq(there, &kept));
        }
    }

    /// Has the entry at `slot` count for what was told of it meanwhile, if it is the one of `retold`; others may have to
    /// give way.
    pub fn recount(&self, slot: &Slot, retold: &Retold) {
        let entries = &self.0.entries;
        // An entry's weight changes in here only, where the cache compares it before and after.
        entries.entry(slot, Some(Duration::ZERO), |_, entry| {
            if entry.retold.is(retold) {
                retold.count();
            }
            EntryAction::Retain(())
        });
        if entries.weight() > entries.capacity() {
            // Room is made when an entry comes or the bound changes, not when one grows.
            entries.set_capacity(entries.capacity());
        }
    }

    /// Drops `entry`, unless another has taken its place.
    pub fn remove(&self, entry: &Arc<Entry>) {
        let is_there = |there: &Arc<Entry>| Arc::ptr_eq(there, entry);
        drop(self.0.entries.remove_if(&entry.slot, is_there));
    }

    /// Drops what is at `slot`.
    pub fn clear(&self, slot: &Slot) {
        drop(self.0.entries.remove(slot));
    }

    /// Returns the entries one by one; what comes or goes meanwhile may be among them.
    pub fn iter(&self) -> impl Iterator<Item = Arc<Entry>> {
        self.0.entries.iter().map(|(_, entry)| entry)
    }

    /// Returns the number of entries.
    pub fn entries(&self) -> u64 {
        self.0.entries.len() as u64
    }

    /// Returns the bytes that the entries take.
    pub fn bytes(&self) -> u64 {
        self.0.entries.weight()
    }

    /// Returns how many entries have given way since the start.
    pub fn evicted(&self) -> u64 {
        self.0.evicted.load(Ordering::Relaxed)
    }
}

impl Weighter<Slot, Arc<Entry>> for Weight {
    fn weight(&self, _: &Slot, entry: &Arc<Entry>) -> u64 {
        entry.weight()
    }
}

impl Lifecycle<Slot, Arc<Entry>> for Evictions {
    type RequestState = ();

    fn on_evict(&self, (): &mut Self::RequestState, _: Slot, _: Arc<Entry>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The bound is split evenly over the shards, and an entry larger than its shard's part would not be taken: so only as
/// many shards as leave room for four of the largest entries in each.
fn shards(bytes: u64, max_entry: u64) -> usize {
    let fit = bytes / max_entry.saturating_mul(4).max(1);
    usize::try_from(fit.clamp(1, 16)).unwrap_or(1)
}

/// Bytes of a typical entry, to size the map.
const TYPICAL: u64 = 4 << 10;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode};
    use tokio::time::Instant;

    use super::*;
    use crate::{
        call::key::Key,
        dialect::chat::form::Form,
        store::{Label, generations::Seen},
    };

    fn entry(number: u64, size: usize) -> Arc<Entry> {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        Arc::new(Entry {
            slot: Slot {
                key: Key::from_bytes(key),
                delivery: 0,
            },
            form: Form::Plain,
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from(vec![b'x'; size]),
            upstream: HeaderValue::from_static("up"),
            usage: None,
            made: Instant::now(),
            lifetime: Duration::from_secs(60),
            tags: Vec::new(),
            label: Label::default(),
            retold: Retold::default(),
            seen: Seen::default(),
        })
    }

    #[test]
    fn ten_thousand_large_entries_stay_within_the_bound() {
        let memory = Memory::new(32 << 20, 8 << 20);
        for number in 0..10_001 {
            memory.put(entry(number, 100_000));
        }
        assert!(memory.bytes() <= 32 << 20, "{}", memory.bytes());
        assert!(memory.evicted() > 9_000, "{}", memory.evicted());
        assert!(memory.entries() > 100, "{}", memory.entries());
    }

    #[test]
    fn an_entry_of_the_greatest_size_is_taken() {
        let memory = Memory::new(256 << 20, 8 << 20);
        let large = entry(1, 8 << 20);
        memory.put(large.clone());
        assert!(memory.get(&large.slot).is_some());
    }

    #[test]
    fn what_is_promoted_does_not_replace_what_is_there() {
        let memory = Memory::new(1 << 20, 1 << 10);
        let (older, newer) = (entry(1, 20), entry(1, 10));
        assert_eq!(memory.promote(&older).body.len(), 20);
        memory.put(newer);
        assert_eq!(memory.promote(&older).body.len(), 10);
        assert_eq!(memory.entries(), 1);
    }

    #[test]
    fn of_two_answers_within_half_a_second_the_newer_one_is_kept() {
        let memory = Memory::new(1 << 20, 1 << 10);
        let now = Instant::now();
        let later = |size, after| {
            let mut entry = Arc::into_inner(entry(1, size)).unwrap();
            entry.made = now + Duration::from_millis(after);
            Arc::new(entry)
        };
        memory.put(later(10, 0));
        // The same one, read back: dates are not quite the same.
        let kept = memory.promote(&later(10, 100));
        assert!(Arc::ptr_eq(&kept, &memory.get(&kept.slot).unwrap()));
        assert_eq!(memory.promote(&later(20, 200)).body.len(), 20);
        assert_eq!(memory.promote(&later(10, 100)).body.len(), 20);
        assert_eq!(memory.promote(&later(20, 800)).body.len(), 20);
    }

    /// Tells an entry of this size in another form.
    fn retold(entry: &Entry) -> usize {
        let completion = format!(
            r#"{{"choices":[{{"index":0,"message":{{"content":"{}"}},"finish_reason":"stop"}}]}}"#,
            "x".repeat(entry.body.len())
        );
        let form = Form::Stream { usage: false };
        let telling = entry
            .retold
            .at_once(&completion.into(), Form::Plain, form)
            .unwrap();
        telling.unwrap().len()
    }

    #[test]
    fn what_is_told_of_an_entry_weighs_as_much_as_it_takes() {
        let memory = Memory::new(1 << 20, 1 << 10);
        let entry = entry(1, 1_000);
        memory.put(entry.clone());
        let before = memory.bytes();
        let length = retold(&entry) as u64;
        assert_eq!(memory.bytes(), before, "not yet");
        memory.recount(&entry.slot, &entry.retold);
        assert_eq!(memory.bytes(), before + length);
        memory.recount(&entry.slot, &Retold::default());
        assert_eq!(memory.bytes(), before + length, "of another entry");
    }

    #[test]
    fn entries_told_in_two_forms_stay_within_the_bound_though_nothing_new_comes() {
        let memory = Memory::new(1 << 20, 16 << 10);
        let entries: Vec<_> = (0..80).map(|number| entry(number, 10_000)).collect();
        for entry in &entries {
            memory.put(entry.clone());
        }
        for entry in &entries {
            retold(entry);
            memory.recount(&entry.slot, &entry.retold);
            assert!(memory.bytes() <= 1 << 20, "{}", memory.bytes());
        }
        assert!(memory.evicted() > 0);
    }

    #[test]
    fn another_delivery_of_the_same_key_is_another_entry() {
        let memory = Memory::new(1 << 20, 1 << 10);
        let plain = entry(1, 10);
        memory.put(plain.clone());
        let stream = Slot {
            delivery: 7,
            ..plain.slot
        };
        assert!(memory.get(&stream).is_none());
        assert!(memory.get(&plain.slot).is_some());
    }
}
