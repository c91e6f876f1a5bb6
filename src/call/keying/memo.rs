//! What bodies said that came before: the same bytes of the same sender need not be read again.
//!
//! # Scope
//! Remembers, and decides nothing: what it gives back is what reading the very same bytes gave. A body is taken for the same when
//! every byte of it is, whatever its hash. It is remembered from its second time on, so that what comes once costs a hash. Nobody's
//! time tells what others have asked: of who did not send a body, it is read like a new one. What senders have in common is a
//! model and its settings ([`Alike`]), never anything of a prompt. Whether a body may be
//! remembered at all is decided by whoever asks.

mod alike;

use std::{
    fmt,
    hash::{BuildHasher, Hasher as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use quick_cache::{
    DefaultHashBuilder, OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};

use self::alike::Alike;
use crate::{
    call::{
        canon::Canonical,
        key::{Digest, Fingerprint},
    },
    dialect::{Dialect, chat::request::Request},
};

/// What a body says, as far as keying goes. It is not shown, `Debug` included: it may hold parts of a prompt.
#[derive(PartialEq, Eq)]
pub(super) struct Gist {
    /// Stands for its canonical form.
    pub(super) digest: Digest,
    /// As [`Canonical::delivery`].
    pub(super) delivery: Vec<u8>,
    /// What it asks for.
    pub(super) request: Arc<Request>,
}

/// The gists of bodies that came more than once, bounded in bytes; clones share them.
#[derive(Clone)]
pub struct Memo<H = DefaultHashBuilder>(Arc<Inner<H>>);

struct Inner<H> {
    hasher: H,
    alike: Alike,
    /// Hashes that came last, each in a place of its own.
    seen: Box<[AtomicU64]>,
    known: Cache<u64, Arc<Known>, Weight>,
    /// Longer bodies are not remembered.
    longest: usize,
}

/// A body in full, who sent it, and what it says; not shown, as a [`Gist`].
pub(super) struct Known {
    sender: Fingerprint,
    dialect: Dialect,
    body: Box<[u8]>,
    gist: Gist,
}

/// A body that is looked for.
#[derive(Clone, Copy)]
pub(super) struct Sought<'a> {
    /// Who sent it.
    pub(super) sender: Fingerprint,
    pub(super) dialect: Dialect,
    pub(super) body: &'a [u8],
}

/// What was found.
pub(super) enum Found {
    /// What it said when it was read.
    Known(Arc<Known>),
    /// It came before, and its place is free.
    Seen(u64),
    /// It has not come before, as far as that is remembered, or is too long.
    New,
}

#[derive(Clone, Debug)]
struct Weight;

impl Gist {
    /// Takes it from the canonical form.
    pub(super) fn of(canonical: Canonical) -> Self {
        Self {
            digest: Digest::of(&canonical.body),
            delivery: canonical.delivery,
            request: Arc::new(canonical.request),
        }
    }
}

impl Memo {
    /// Makes one that holds at most `bytes`.
    pub(super) fn new(bytes: u64) -> Self {
        Self::with_hasher(bytes, DefaultHashBuilder::default())
    }
}

impl<H: BuildHasher> Memo<H> {
    fn with_hasher(bytes: u64, hasher: H) -> Self {
        let items = usize::try_from(bytes / TYPICAL).unwrap_or(usize::MAX);
        // Their number is rounded up to a power of two, if it is none.
        let shards = (bytes / (LONGEST * ROOM)).clamp(1, MOST_SHARDS);
        let shards = 1 << shards.ilog2();
        let longest = (bytes / shards / ROOM).min(LONGEST);
        let options = OptionsBuilder::new()
            .estimated_items_capacity(items)
            .weight_capacity(bytes)
            .shards(usize::try_from(shards).unwrap_or(1))
            .build();
        let (map, life) = (DefaultHashBuilder::default(), DefaultLifecycle::default());
        // Building fails only where one of the capacities is missing; both were given.
        let known = match options {
            Ok(options) => Cache::with_options(options, Weight, map, life),
            Err(_) => Cache::with(items, bytes, Weight, map, life),
        };
        let places = items.saturating_mul(PLACES).clamp(1, MOST_PLACES);
        Self(Arc::new(Inner {
            hasher,
            alike: Alike::default(),
            seen: (0..places).map(|_| AtomicU64::default()).collect(),
            known,
            longest: usize::try_from(longest).unwrap_or(usize::MAX),
        }))
    }

    /// Looks for a body.
    pub(super) fn find(&self, sought: &Sought<'_>) -> Found {
        let inner = &*self.0;
        if sought.body.len() > inner.longest {
            return Found::New;
        }
        let hash = inner.hash(sought);
        match inner.known.get(&hash) {
            Some(known) if known.is(sought) => Found::Known(known),
            _ if inner.has_seen(hash) => Found::Seen(hash),
            _ => Found::New,
        }
    }

    /// Remembers the gist of a body that was [`Found::Seen`].
    pub(super) fn remember(&self, hash: u64, sought: &Sought<'_>, gist: &Gist) {
        let known = Known {
            sender: sought.sender,
            dialect: sought.dialect,
            body: sought.body.into(),
            gist: Gist {
                digest: gist.digest,
                delivery: gist.delivery.clone(),
                request: self.0.alike.one_of(&gist.request),
            },
        };
        self.0.known.insert(hash, Arc::new(known));
    }
}

impl<H> Memo<H> {
    /// Returns the bytes that the bodies take.
    pub fn bytes(&self) -> u64 {
        self.0.known.weight()
    }
}

impl<H: BuildHasher> Inner<H> {
    fn hash(&self, sought: &Sought<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(sought.sender.as_bytes());
        hasher.write_u8(sought.dialect as u8);
        hasher.write(sought.body);
        // Zero is an empty place.
        hasher.finish().max(1)
    }

    /// Returns whether `hash` came before, as far as that is remembered, which it is from now on.
    fn has_seen(&self, hash: u64) -> bool {
        let place = usize::try_from(hash % self.seen.len().max(1) as u64).ok();
        let place = place.and_then(|place| self.seen.get(place));
        place.is_some_and(|place| place.swap(hash, Ordering::Relaxed) == hash)
    }
}

impl Known {
    /// Returns what it says.
    pub(super) fn gist(&self) -> &Gist {
        &self.gist
    }

    fn is(&self, sought: &Sought<'_>) -> bool {
        self.sender == sought.sender && self.dialect == sought.dialect && *self.body == *sought.body
    }
}

impl Weighter<u64, Arc<Known>> for Weight {
    fn weight(&self, _: &u64, known: &Arc<Known>) -> u64 {
        let gist = &known.gist;
        (known.body.len() + gist.delivery.len() + gist.request.model.len()) as u64 + FIXED
    }
}

impl fmt::Debug for Gist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gist(..)")
    }
}

impl<H> fmt::Debug for Memo<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memo({} bytes)", self.bytes())
    }
}

/// Bytes of the longest body that is remembered, where there is room for it.
const LONGEST: u64 = 1 << 20;
/// How many of the longest fit into a shard. The bound is split over the shards, and what a shard cannot hold is not kept.
const ROOM: u64 = 4;
const MOST_SHARDS: u64 = 16;
/// Bytes of a typical body, to size the map.
const TYPICAL: u64 = 2 << 10;
/// Places for hashes that came last, for each body that there is room for; at most 8 MiB.
const PLACES: usize = 4;
const MOST_PLACES: usize = 1 << 20;
/// What a body takes beside its bytes: the gist, the place in the map, what the allocator rounds up.
const FIXED: u64 = 384;

#[cfg(test)]
mod tests {
    use std::hash::Hasher;

    use proptest::prelude::*;

    use super::*;
    use crate::call::key::Secret;

    /// Gives hashes that many have in common.
    #[derive(Clone, Copy)]
    struct Coarse(u64);

    struct CoarseHasher {
        sum: u64,
        modulus: u64,
    }

    impl BuildHasher for Coarse {
        type Hasher = CoarseHasher;

        fn build_hasher(&self) -> CoarseHasher {
            CoarseHasher {
                sum: 0,
                modulus: self.0,
            }
        }
    }

    impl Hasher for CoarseHasher {
        fn finish(&self) -> u64 {
            self.sum % self.modulus
        }

        fn write(&mut self, bytes: &[u8]) {
            self.sum += bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        }
    }

    fn sender(name: &str) -> Fingerprint {
        Secret::from_bytes([7; 32]).fingerprint("sender", &[name.as_bytes()])
    }

    fn sought<'a>(name: &str, body: &'a [u8]) -> Sought<'a> {
        Sought {
            sender: sender(name),
            dialect: Dialect::Chat,
            body,
        }
    }

    /// Reads what was sent: whose gist it is can be told by the model.
    fn read(sought: &Sought<'_>) -> Gist {
        let body = String::from_utf8_lossy(sought.body);
        let model = format!("{} {:?} {body}", sought.sender, sought.dialect);
        Gist {
            digest: Digest::of(model.as_bytes()),
            delivery: Vec::new(),
            request: Arc::new(Request {
                model,
                ..Request::default()
            }),
        }
    }

    /// Asks for a gist; returns whether the body was read for that.
    fn ask<H: BuildHasher>(memo: &Memo<H>, sought: &Sought<'_>) -> bool {
        match memo.find(sought) {
            Found::Known(known) => {
                assert_eq!(*known.gist(), read(sought));
                return false;
            }
            Found::Seen(hash) => memo.remember(hash, sought, &read(sought)),
            Found::New => {}
        }
        true
    }

    #[test]
    fn what_came_twice_is_not_read_a_third_time() {
        let memo = Memo::new(1 << 20);
        let asked = [(); 4].map(|()| ask(&memo, &sought("a", b"body")));
        assert_eq!(asked, [true, true, false, false]);
    }

    #[test]
    fn nobodys_time_tells_what_others_have_asked() {
        let memo = Memo::new(1 << 20);
        for name in ["a", "b"] {
            let asked = [(); 3].map(|()| ask(&memo, &sought(name, b"body")));
            assert_eq!(asked, [true, true, false], "{name}");
        }
    }

    #[test]
    fn what_only_has_the_hash_of_another_is_read() {
        let memo = Memo::with_hasher(1 << 20, Coarse(1));
        let known = sought("a", b"body");
        let asked = [(); 3].map(|()| ask(&memo, &known));
        assert_eq!(asked, [true, true, false]);
        let others = [
            sought("a", b"another"),
            sought("a", b"bodz"),
            sought("a", b"bod"),
            sought("a", b"body "),
            sought("b", b"body"),
        ];
        for other in others {
            // It would take the place of the other, and is not asked to.
            assert!(matches!(memo.find(&other), Found::Seen(1)));
        }
        assert!(!ask(&memo, &known));
    }

    #[test]
    fn it_holds_no_more_than_it_may() {
        let memo = Memo::new(1 << 20);
        for number in 0..4_000_u32 {
            let body = [number.to_be_bytes(); 300].concat();
            let sought = sought("a", &body);
            ask(&memo, &sought);
            ask(&memo, &sought);
            assert!(memo.bytes() <= 1 << 20);
        }
        assert!(memo.bytes() > 1 << 19);
    }

    #[test]
    fn the_longest_is_kept_whatever_the_bound_and_a_longer_one_is_not_looked_for() {
        for bytes in [128 << 10, 1 << 20, 4 << 20, 32 << 20, 36 << 20, 1 << 30] {
            let memo = Memo::new(bytes);
            assert!(
                memo.0.known.shard_capacity() >= ROOM * memo.0.longest as u64,
                "{bytes}"
            );
            let longest = memo.0.longest;
            assert!(longest as u64 >= (bytes / 4).min(LONGEST), "{bytes}");
            let body = vec![b'x'; longest + 1];
            let asked = [(); 3].map(|()| ask(&memo, &sought("a", &body)));
            assert_eq!(asked, [true; 3], "{bytes}");
            assert_eq!(memo.bytes(), 0, "{bytes}");
            let body = &body[..longest];
            let asked = [(); 3].map(|()| ask(&memo, &sought("a", body)));
            assert_eq!(asked, [true, true, false], "{bytes}");
        }
    }

    #[test]
    fn it_shows_nothing_of_what_it_remembers() {
        let memo = Memo::new(1 << 20);
        let sought = sought("a", b"body");
        ask(&memo, &sought);
        ask(&memo, &sought);
        assert_eq!(format!("{:?}", read(&sought)), "Gist(..)");
        assert!(!format!("{memo:?}").contains("body)"), "{memo:?}");
    }

    proptest! {
        #[test]
        fn whatever_comes_in_whatever_order_is_told_as_if_it_were_read(
            asked in prop::collection::vec((0..3_usize, prop::collection::vec(0..3_u8, 0..3)), 0..200),
            modulus in 1..4_u64,
        ) {
            let memo = Memo::with_hasher(4 << 10, Coarse(modulus));
            for (name, body) in asked {
                ask(&memo, &sought(["a", "b", "c"][name], &body));
            }
        }
    }
}
