//! The matrix of joins: what becomes of a call that finds another one under way, whatever the two ask for.

use std::sync::{Arc, Mutex};

use crate::support::{
    Gate,
    client::{Request, assert_refused, assert_verdict, chat_stream},
    gate,
    proxy::{Proxy, proxy},
    upstream::{Upstream, stream, upstream},
};

/// What a call asks of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Nothing,
    NoStore,
    ShortLife,
    MaxAge,
    Refresh,
    Bypass,
    OnlyIfCached,
}

/// What becomes of the second of two calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Joins,
    GoesAlone,
    IsRefused,
}

impl Wish {
    const ALL: [Self; 7] = [
        Self::Nothing,
        Self::NoStore,
        Self::ShortLife,
        Self::MaxAge,
        Self::Refresh,
        Self::Bypass,
        Self::OnlyIfCached,
    ];
    /// Those of a call that gets as far as the upstream on an empty cache.
    const LEADING: [Self; 6] = [
        Self::Nothing,
        Self::NoStore,
        Self::ShortLife,
        Self::MaxAge,
        Self::Refresh,
        Self::Bypass,
    ];

    fn header(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Nothing => None,
            Self::NoStore => Some(("Cache-Control", "no-store")),
            Self::ShortLife => Some(("X-Cache-TTL", "90")),
            Self::MaxAge => Some(("Cache-Control", "max-age=600")),
            Self::Refresh => Some(("Cache-Control", "no-cache")),
            Self::Bypass => Some(("X-Cache-Bypass", "true")),
            Self::OnlyIfCached => Some(("Cache-Control", "only-if-cached")),
        }
    }

    /// Returns whether the answer may be stored for this call.
    fn stores(self) -> bool {
        !matches!(self, Self::NoStore | Self::Bypass | Self::OnlyIfCached)
    }

    fn fate_behind(self, leader: Self) -> Fate {
        match self {
            Self::OnlyIfCached => Fate::IsRefused,
            Self::Refresh | Self::Bypass => Fate::GoesAlone,
            _ if leader == Self::Bypass => Fate::GoesAlone,
            _ => Fate::Joins,
        }
    }

    fn call(self, prompt: &str) -> Request {
        let call = chat_stream(prompt);
        match self.header() {
            Some((name, value)) => call.header(name, value),
            None => call,
        }
    }
}

/// An upstream whose next answer pauses where a gate is set.
struct House {
    gate: Arc<Mutex<Option<Gate>>>,
    up: Upstream,
    proxy: Proxy,
}

async fn house() -> House {
    let next = Arc::<Mutex<Option<Gate>>>::default();
    let taken = next.clone();
    let up = upstream().by(move |_, _| match taken.lock().unwrap().take() {
        Some(gate) => stream(&["a", "b"]).pausing_after(2, &gate),
        None => stream(&["a", "b"]),
    });
    let up = up.start().await;
    let proxy = proxy(&up).start().await;
    House {
        gate: next,
        up,
        proxy,
    }
}

impl House {
    /// Has `second` come while `first` is under way; returns how many upstream calls that made.
    async fn meet(&self, first: Wish, second: Wish, prompt: &str) -> usize {
        let (before, gate, reply) = (self.up.count(), gate(), stream(&["a", "b"]));
        *self.gate.lock().unwrap() = Some(gate.clone());
        let mut leader = self.proxy.open(&first.call(prompt)).await;
        let prefix = reply.first(2);
        assert_eq!(leader.body(prefix.len()).await, prefix);
        let mut other = self.proxy.open(&second.call(prompt)).await;
        match second.fate_behind(first) {
            Fate::Joins => {
                assert_eq!(other.body(prefix.len()).await, prefix);
                gate.open();
                let other = other.finish().await;
                assert_verdict(&other, "COLLAPSED");
                assert_eq!(other.body, reply.bytes());
            }
            Fate::GoesAlone => {
                let other = other.finish().await;
                let verdict = if second == Wish::Bypass {
                    "BYPASS"
                } else {
                    "MISS"
                };
                assert_verdict(&other, verdict);
                assert_eq!(other.body, reply.bytes());
                gate.open();
            }
            Fate::IsRefused => {
                assert_refused(&other.finish().await, 504, "not_cached");
                gate.open();
            }
        }
        assert_eq!(leader.finish().await.body, reply.bytes());
        self.up.count() - before
    }
}

#[tokio::test]
async fn whoever_meets_whom_joins_or_not_and_leaves_an_entry_or_not() {
    let house = house().await;
    let mut met = 0;
    for first in Wish::LEADING {
        for second in Wish::ALL {
            let pair = format!("{first:?} then {second:?}");
            let fate = second.fate_behind(first);
            let calls = house.meet(first, second, &pair).await;
            assert_eq!(calls, 1 + usize::from(fate == Fate::GoesAlone), "{pair}");
            met += 2;
            house.proxy.call_lines(met).await;
            let stored = first.stores() || second.stores();
            let later = Wish::OnlyIfCached.call(&pair);
            let later = house.proxy.send(&later).await;
            met += 1;
            let verdict = later.header("x-cache");
            assert_eq!(verdict == Some("HIT"), stored, "{pair}: {later:?}");
            if stored && fate == Fate::Joins && [first, second].contains(&Wish::ShortLife) {
                let ttl = later.expect("x-cache-ttl").parse::<u64>().unwrap();
                assert!(ttl <= 90, "{pair}: {ttl}");
            }
        }
    }
}
