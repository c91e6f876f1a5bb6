//! What bodies said that came before: the same bytes of the same caller need not be read again.
//!
//! # Scope
//! Remembers, and decides nothing: what it gives back is what reading the very same bytes gave. A body is taken for the same when
//! every byte of it is, whatever its hash. It is remembered from its second time on, so that what comes once costs a hash. Nobody's
//! time tells what others have asked: who did not send a body has it read like a new one.

use std::{
    hash::{BuildHasher as _, Hasher as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use quick_cache::{
    DefaultHashBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};

use crate::{
    call::{canon::Canonical, key::Digest, scope::Scope},
    dialect::{Dialect, chat::request::Request},
};

/// What a body says, as far as keying goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gist {
    /// Stands for its canonical form.
    pub(super) digest: Digest,
    /// As [`Canonical::delivery`].
    pub(super) delivery: Vec<u8>,
    /// What it asks for.
    pub(super) request: Arc<Request>,
}

/// The gists of bodies that came more than once, bounded in bytes.
#[derive(Debug)]
pub(super) struct Memo {
    hasher: DefaultHashBuilder,
    /// Hashes that came last, each in a place of its own.
    seen: Box<[AtomicU64]>,
    known: Cache<u64, Arc<Known>, Weight>,
}

/// A body in full, and who sent it.
#[derive(Debug)]
struct Known {
    scope: Scope,
    dialect: Dialect,
    body: Box<[u8]>,
    gist: Arc<Gist>,
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
        let items = usize::try_from(bytes / TYPICAL).unwrap_or(usize::MAX);
        Self {
            hasher: DefaultHashBuilder::default(),
            seen: (0..SEEN).map(|_| AtomicU64::default()).collect(),
            known: Cache::with(
                items,
                bytes,
                Weight,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
        }
    }

    /// Returns the gist of a `body` that the caller known as `scope` has sent: as it was read before, else as `read` says.
    pub(super) fn gist<E>(
        &self,
        scope: Scope,
        dialect: Dialect,
        body: &[u8],
        read: impl FnOnce() -> Result<Gist, E>,
    ) -> Result<Arc<Gist>, E> {
        let hash = self.hash(scope, dialect, body);
        if let Some(known) = self.known.get(&hash)
            && known.is(scope, dialect, body)
        {
            return Ok(known.gist.clone());
        }
        let gist = Arc::new(read()?);
        if self.has_seen(hash) {
            let known = Known {
                scope,
                dialect,
                body: body.into(),
                gist: gist.clone(),
            };
            self.known.insert(hash, Arc::new(known));
        }
        Ok(gist)
    }

    fn hash(&self, scope: Scope, dialect: Dialect, body: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(scope.as_bytes());
        hasher.write_u8(dialect as u8);
        hasher.write(body);
        hasher.finish()
    }

    /// Returns whether `hash` came before, as far as that is remembered, which it is from now on.
    fn has_seen(&self, hash: u64) -> bool {
        let place = usize::try_from(hash % SEEN).ok();
        let place = place.and_then(|place| self.seen.get(place));
        place.is_some_and(|place| place.swap(hash, Ordering::Relaxed) == hash)
    }
}

impl Known {
    fn is(&self, scope: Scope, dialect: Dialect, body: &[u8]) -> bool {
        self.scope == scope && self.dialect == dialect && *self.body == *body
    }
}

impl Weighter<u64, Arc<Known>> for Weight {
    fn weight(&self, _: &u64, known: &Arc<Known>) -> u64 {
        let gist = &known.gist;
        (known.body.len() + gist.delivery.len() + gist.request.model.len()) as u64 + FIXED
    }
}

/// Places for hashes that came last: 128 KiB.
const SEEN: u64 = 16 << 10;
/// Bytes of a typical body, to size the map.
const TYPICAL: u64 = 2 << 10;
/// What a body takes beside its bytes: the gist, the place in the map, what the allocator rounds up.
const FIXED: u64 = 384;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::call::key::Secret;

    fn scope(name: &str) -> Scope {
        Scope::of_named(&Scope::of_caller(name, &Secret::from_bytes([7; 32])))
    }

    /// Reads a body: whose gist it is can be told by the model.
    fn read(body: &[u8]) -> Gist {
        Gist {
            digest: Digest::of(body),
            delivery: Vec::new(),
            request: Arc::new(Request {
                model: String::from_utf8_lossy(body).into_owned(),
                ..Request::default()
            }),
        }
    }

    /// Asks for the gist of `body`; returns whether it was read for that.
    fn ask(memo: &Memo, scope: Scope, body: &[u8]) -> bool {
        let mut was_read = false;
        let gist = memo.gist(scope, Dialect::Chat, body, || {
            was_read = true;
            Ok::<_, ()>(read(body))
        });
        assert_eq!(*gist.unwrap(), read(body));
        was_read
    }

    #[test]
    fn what_came_twice_is_not_read_a_third_time() {
        let memo = Memo::new(1 << 20);
        let asked = [(); 4].map(|()| ask(&memo, scope("a"), b"body"));
        assert_eq!(asked, [true, true, false, false]);
    }

    #[test]
    fn nobodys_time_tells_what_others_have_asked() {
        let memo = Memo::new(1 << 20);
        let asked = [(); 3].map(|()| ask(&memo, scope("a"), b"body"));
        assert_eq!(asked, [true, true, false]);
        let asked = [(); 3].map(|()| ask(&memo, scope("b"), b"body"));
        assert_eq!(asked, [true, true, false]);
    }

    #[test]
    fn a_body_with_the_hash_of_another_is_read() {
        let memo = Memo::new(1 << 20);
        let known = Known {
            scope: scope("a"),
            dialect: Dialect::Chat,
            body: b"another".as_slice().into(),
            gist: Arc::new(read(b"another")),
        };
        let hash = memo.hash(scope("a"), Dialect::Chat, b"body");
        memo.known.insert(hash, Arc::new(known));
        assert!(ask(&memo, scope("a"), b"body"));
    }

    #[test]
    fn what_cannot_be_read_is_not_remembered() {
        let memo = Memo::new(1 << 20);
        let mut times = 0;
        for _ in 0..4 {
            let gist = memo.gist(scope("a"), Dialect::Chat, b"{", || {
                times += 1;
                Err("why")
            });
            assert_eq!(gist, Err("why"));
        }
        assert_eq!(times, 4);
    }

    #[test]
    fn it_holds_no_more_than_it_may() {
        let memo = Memo::new(1 << 20);
        for number in 0..4_000_u32 {
            let body = [number.to_be_bytes(); 300].concat();
            ask(&memo, scope("a"), &body);
            ask(&memo, scope("a"), &body);
            assert!(memo.known.weight() <= 1 << 20);
        }
        assert!(memo.known.weight() > 1 << 19);
        let large = vec![b'x'; 2 << 20];
        assert!((0..4).all(|_| ask(&memo, scope("a"), &large)));
        assert!(memo.known.weight() <= 1 << 20);
    }

    proptest! {
        #[test]
        fn whatever_comes_in_whatever_order_is_told_as_if_it_were_read(
            asked in prop::collection::vec((0..3_usize, prop::collection::vec(0..3_u8, 0..3)), 0..200),
        ) {
            let memo = Memo::new(4 << 10);
            let scopes = ["a", "b", "c"].map(scope);
            for (caller, body) in asked {
                ask(&memo, scopes[caller], &body);
            }
        }
    }
}
