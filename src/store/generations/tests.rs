//! The registry by itself, and against a model that remembers everything.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use proptest::prelude::*;
use tokio::time::advance;

use super::*;
use crate::{
    answer::retold::Retold,
    call::{Slot, key::Key},
    dialect::chat::form::Form,
    store::Label,
};

fn registry() -> Generations {
    Generations::new(UNIX_EPOCH + Duration::from_secs(1_000_000))
}

fn purge(selector: Selector) -> Purge {
    Purge {
        selector,
        within: None,
        soft: false,
    }
}

fn text(text: &str) -> String {
    text.to_owned()
}

/// An entry of a scope, with a tag, that has seen the purges up to `seen`.
fn entry(scope: u8, tag: &str, seen: u64) -> Entry {
    Entry {
        slot: Slot {
            key: Key::from_bytes([scope; 32]),
            delivery: 0,
        },
        form: Form::Plain,
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Bytes::new(),
        upstream: HeaderValue::from_static("up"),
        usage: None,
        made: Instant::now(),
        lifetime: Duration::from_secs(100),
        tags: vec![text(tag)],
        label: Label {
            scope: vec![scope],
            dialect: text("chat"),
            model: text("gpt"),
            namespace: text("n"),
        },
        seen: Seen::at(seen, false),
        retold: Retold::default(),
    }
}

#[test]
fn each_selector_concerns_what_it_says_and_nothing_else() {
    let key = Key::from_bytes([1; 32]);
    let of = |selector, scope: Option<u8>| Purge {
        within: scope.map(|scope| vec![scope]),
        ..purge(selector)
    };
    let concerned = [
        of(Selector::All, None),
        of(Selector::All, Some(1)),
        of(Selector::Dialect(text("chat")), None),
        of(Selector::Tag(text("a")), None),
        of(Selector::Tag(text("a")), Some(1)),
        of(Selector::Model(text("gpt")), None),
        of(Selector::Namespace(text("n")), None),
        of(Selector::Namespace(text("n")), Some(1)),
        of(Selector::Scope(vec![1]), None),
        of(Selector::Upstream(text("up")), None),
        of(Selector::Key(key), None),
        of(Selector::Pattern(text("up/chat/gpt/n/a")), None),
        of(Selector::Pattern(text("*/gpt/*")), None),
        of(Selector::MadeBefore(u64::MAX), None),
    ];
    let others = [
        of(Selector::All, Some(2)),
        of(Selector::Dialect(text("gpt")), None),
        of(Selector::Tag(text("b")), None),
        of(Selector::Tag(text("a")), Some(2)),
        of(Selector::Model(text("chat")), None),
        of(Selector::Namespace(text("")), None),
        of(Selector::Namespace(text("n")), Some(2)),
        of(Selector::Scope(vec![1, 1]), None),
        of(Selector::Upstream(text("n")), None),
        of(Selector::Key(Key::from_bytes([2; 32])), None),
        of(Selector::Pattern(text("up/chat/gpt")), None),
        of(Selector::MadeBefore(1), None),
    ];
    let all = concerned.iter().map(|purge| (purge, true));
    for (purge, expected) in all.chain(others.iter().map(|purge| (purge, false))) {
        for soft in [false, true] {
            let purge = Purge {
                soft,
                ..purge.clone()
            };
            let registry = registry();
            let entry = entry(1, "a", 0);
            let made = registry.wall(entry.made);
            registry.purge(&purge).unwrap();
            let standing = match (expected, soft) {
                (false, _) => Standing::Alive,
                (true, true) => Standing::Stale,
                (true, false) => Standing::Dead,
            };
            assert_eq!(purge.concerns(&Traits::of(&entry, made)), expected);
            assert_eq!(registry.standing(&entry), standing, "{purge:?}");
            assert_eq!(registry.standing(&entry), standing, "{purge:?}, again");
        }
    }
}

#[test]
fn what_was_written_before_a_purge_is_dead_when_it_is_read_after_it() {
    for forgotten in [false, true] {
        let registry = registry();
        let before = entry(1, "a", 0);
        let written = registry.inscribe(&before).unwrap();
        registry.purge(&purge(Selector::Tag(text("a")))).unwrap();
        assert_eq!(registry.inscribe(&before), None, "it was in the queue");
        let after = entry(1, "a", registry.epoch());
        let renewed = registry.inscribe(&after).unwrap();
        let traits = Traits::of(&after, 0);
        assert!(registry.admit(&traits, &written).is_none());
        assert!(registry.admit(&traits, &renewed).is_some());
        // Another process, which reads what this one has written.
        let next = self::registry();
        next.load(registry.after(0).0);
        assert!(next.admit(&traits, &written).is_none());
        assert!(next.admit(&traits, &renewed).is_some());
        if forgotten {
            next.settle(next.epoch());
            next.forget(&next.after(0).0);
            assert!(next.is_empty());
            assert!(next.admit(&traits, &renewed).is_some());
        }
    }
}

#[test]
fn a_soft_purge_stays_with_what_has_seen_it() {
    let registry = registry();
    let soft = Purge {
        soft: true,
        ..purge(Selector::All)
    };
    let old = entry(1, "a", 0);
    registry.purge(&soft).unwrap();
    assert_eq!(registry.standing(&old), Standing::Stale);
    assert!(old.seen.is_softened());
    registry.purge(&purge(Selector::Tag(text("b")))).unwrap();
    assert_eq!(registry.standing(&old), Standing::Stale);
    let written = registry.inscribe(&old).unwrap();
    assert!(written.softened);
    let read = registry.admit(&Traits::of(&old, 0), &written).unwrap();
    assert!(read.is_softened());
    registry.purge(&purge(Selector::All)).unwrap();
    assert_eq!(registry.standing(&old), Standing::Dead);
}

#[test]
fn what_was_not_looked_at_before_a_purge_was_forgotten_is_dead() {
    let registry = registry();
    let (unseen, seen) = (entry(1, "a", 0), entry(1, "a", 0));
    registry.purge(&purge(Selector::Tag(text("b")))).unwrap();
    assert_eq!(registry.standing(&seen), Standing::Alive);
    assert!(registry.forgettable().is_empty(), "nothing was swept");
    registry.settle(registry.epoch());
    assert!(
        registry.forgettable().is_empty(),
        "flights may be under way"
    );
    registry.forget(&registry.after(0).0);
    registry.purge(&purge(Selector::Tag(text("c")))).unwrap();
    assert_eq!(registry.standing(&seen), Standing::Alive);
    assert_eq!(registry.standing(&unseen), Standing::Dead);
}

#[test]
fn a_name_that_was_purged_again_is_not_forgotten() {
    let registry = registry();
    registry.purge(&purge(Selector::All)).unwrap();
    let (rows, _) = registry.after(0);
    registry.purge(&purge(Selector::All)).unwrap();
    registry.forget(&rows);
    assert_eq!(registry.len(), 1);
    assert_eq!(registry.standing(&entry(1, "a", 1)), Standing::Dead);
}

#[test]
fn patterns_are_bounded_and_make_room_once_swept() {
    let registry = registry();
    let pattern = |number: usize| purge(Selector::Pattern(format!("{number}/*")));
    let done = (0..1_000).take_while(|number| registry.purge(&pattern(*number)).is_ok());
    let done = done.count();
    assert!(done < 100, "{done}");
    assert_eq!(registry.purge(&pattern(done)), Err(Unpurged::Full));
    assert_eq!(registry.purge(&pattern(0)), Ok(()), "it is known");
    assert_eq!(registry.purge(&purge(Selector::All)), Ok(()));
    registry.settle(registry.epoch());
    registry.forget(&registry.forgettable());
    assert_eq!(registry.purge(&pattern(done)), Ok(()));
}

#[test]
fn callers_who_purge_without_end_leave_room_for_the_operator() {
    let registry = registry();
    let by_caller = |number: u32| Purge {
        within: Some(number.to_be_bytes().to_vec()),
        ..purge(Selector::All)
    };
    let done = (0..200_000).take_while(|number| registry.purge(&by_caller(*number)).is_ok());
    assert!(done.count() < 100_000);
    for number in 0..1_000 {
        let tag = Selector::Tag(format!("tag-{number}"));
        assert_eq!(registry.purge(&purge(tag)), Ok(()), "{number}");
    }
}

/// What happens to the entries of the property test, in any order.
#[derive(Clone, Debug)]
enum Event {
    /// A flight begins, for an entry of this scope and tag.
    Begin(u8, u8),
    /// A purge: of all, a tag, a scope, a tag in a scope.
    Purge(u8, u8, u8),
    /// The oldest flight lands.
    Land,
    /// An entry is written, and the one in memory dropped.
    Evict(usize),
    /// An entry is read.
    Read(usize),
    /// A sweep finds nothing more, and purges are forgotten.
    Sweep,
    /// The process dies, and another one takes over what was written.
    Restart,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => (0..3_u8, 0..3_u8).prop_map(|(scope, tag)| Event::Begin(scope, tag)),
        2 => (0..4_u8, 0..3_u8, 0..3_u8).prop_map(|(kind, scope, tag)| Event::Purge(kind, scope, tag)),
        3 => Just(Event::Land),
        2 => (0..8_usize).prop_map(Event::Evict),
        3 => (0..8_usize).prop_map(Event::Read),
        1 => Just(Event::Sweep),
        1 => Just(Event::Restart),
    ];
    prop::collection::vec(event, 1..60)
}

/// An entry, and whether anything that concerns it was purged since its flight began.
struct Modelled {
    entry: Entry,
    written: Option<Inscription>,
    scope: u8,
    tag: u8,
    purged: bool,
}

impl Modelled {
    /// Looks at the entry as a read does; takes it back in if only the disk has it.
    fn look(&mut self, registry: &Generations) -> Standing {
        if let Some(written) = &self.written {
            let Some(seen) = registry.admit(&Traits::of(&self.entry, 0), written) else {
                return Standing::Dead;
            };
            self.entry.seen = seen;
            self.written = None;
        }
        registry.standing(&self.entry)
    }
}

fn selected(kind: u8, scope: u8, tag: u8) -> Purge {
    let tag = Selector::Tag(tag.to_string());
    match kind {
        0 => purge(Selector::All),
        1 => purge(tag),
        2 => purge(Selector::Scope(vec![scope])),
        _ => Purge {
            within: Some(vec![scope]),
            ..purge(tag)
        },
    }
}

fn is_concerned(kind: u8, scope: u8, tag: u8, of: &Modelled) -> bool {
    match kind {
        0 => true,
        1 => of.tag == tag,
        2 => of.scope == scope,
        _ => of.tag == tag && of.scope == scope,
    }
}

proptest! {
    #[test]
    fn whatever_the_order_nothing_purged_is_ever_read(events in events()) {
        let mut registry = registry();
        let mut flights: Vec<Modelled> = Vec::new();
        let mut kept: Vec<Modelled> = Vec::new();
        for event in events {
            match event {
                Event::Begin(scope, tag) => flights.push(Modelled {
                    entry: entry(scope, &tag.to_string(), registry.epoch()),
                    written: None,
                    scope,
                    tag,
                    purged: false,
                }),
                Event::Purge(kind, scope, tag) => {
                    registry.purge(&selected(kind, scope, tag)).unwrap();
                    for one in flights.iter_mut().chain(&mut kept) {
                        one.purged |= is_concerned(kind, scope, tag, one);
                    }
                }
                Event::Land if !flights.is_empty() => {
                    let landed = flights.remove(0);
                    let standing = registry.standing(&landed.entry);
                    prop_assert!(!landed.purged || standing == Standing::Dead);
                    if standing != Standing::Dead {
                        kept.push(landed);
                    }
                }
                Event::Evict(index) => {
                    if let Some(one) = kept.get_mut(index)
                        && one.written.is_none()
                    {
                        let written = registry.inscribe(&one.entry);
                        prop_assert_eq!(written.is_none(), one.purged);
                        if written.is_none() {
                            kept.remove(index);
                        } else {
                            one.written = written;
                        }
                    }
                }
                Event::Read(index) => {
                    if let Some(one) = kept.get_mut(index) {
                        let standing = one.look(&registry);
                        prop_assert_eq!(standing == Standing::Dead, one.purged);
                    }
                }
                Event::Sweep => {
                    let dead = |one: &Modelled| match &one.written {
                        Some(written) => registry.judge(&Traits::of(&one.entry, 0), written),
                        None => registry.standing(&one.entry),
                    } == Standing::Dead;
                    kept.retain(|one| !dead(one));
                    registry.settle(registry.epoch());
                    registry.forget(&registry.after(0).0);
                }
                Event::Restart => {
                    let next = self::registry();
                    next.load(registry.after(0).0);
                    flights.clear();
                    kept.retain(|one| one.written.is_some());
                    registry = next;
                }
                Event::Land => {}
            }
        }
    }
}

fn row(name: &[u8], value: u64) -> Row {
    Row {
        name: name.to_vec(),
        value,
        at: 999 + value,
    }
}

fn follow(registry: &Generations, era: u64, theirs: &Theirs) -> Plan {
    let known = Known {
        era,
        changes: 0,
        forgotten: 0,
    };
    let plan = registry.plan(Some(&known), false, theirs);
    registry.follow(plan.clone()).unwrap();
    registry.begin(era);
    plan
}

/// What others share: these purges, in this era.
fn shared(era: u64, rows: &[Row]) -> Theirs {
    let rows = rows.iter().map(|row| (row.name.clone(), row.clone()));
    Theirs {
        era: Some(era),
        rows: rows.collect(),
        ..Theirs::default()
    }
}

#[test]
fn what_others_wrote_is_taken_in_only_in_the_era_that_it_was_written_in() {
    let registry = registry();
    let entry = entry(1, "a", registry.epoch());
    let traits = Traits::of(&entry, 5);
    registry.share();
    assert!(!registry.is_ready());
    assert_eq!(registry.inscribe(&entry), None, "nothing is known yet");
    follow(&registry, 7, &shared(7, &[]));
    let inscription = registry.inscribe(&entry).unwrap();
    assert!(registry.admit(&traits, &inscription).is_some());
    assert!(registry.admit(&traits, &Inscription::default()).is_none());
    follow(&registry, 8, &shared(8, &[]));
    assert!(registry.admit(&traits, &inscription).is_none());
    assert_eq!(
        registry.standing(&entry),
        Standing::Alive,
        "in memory it is"
    );
}

#[test]
fn a_purge_that_is_heard_of_kills_what_has_not_seen_it_and_again_kills_nothing() {
    let registry = registry();
    let name = purge(Selector::Tag(text("a"))).name();
    let (before, row) = (entry(1, "a", registry.epoch()), row(&name, 1));
    assert_eq!(registry.load([row.clone()]), 0);
    assert_eq!(registry.standing(&before), Standing::Dead);
    let after = entry(1, "a", registry.epoch());
    registry.load([row]);
    assert_eq!(registry.standing(&after), Standing::Alive);
    registry.load([self::row(&name, 2)]);
    assert_eq!(registry.standing(&after), Standing::Dead);
}

#[test]
fn a_purge_stays_to_be_written_until_it_is_and_gives_way_to_none_before() {
    let registry = registry();
    let all = purge(Selector::All);
    registry.purge(&all).unwrap();
    let pending = registry.pending();
    let other = row(&all.name(), 1);
    assert_eq!(registry.take_in(other.clone()), TakenIn::Not);
    assert_eq!(registry.pending(), pending);
    follow(&registry, 7, &shared(7, &[other]));
    assert_eq!(registry.pending(), pending);
    registry.confirm(&pending);
    assert_eq!(registry.pending(), []);
}

#[test]
fn an_older_copy_with_an_earlier_purge_of_the_name_does_not_bring_back_what_a_later_one_purged() {
    let registry = registry();
    let name = purge(Selector::Tag(text("a"))).name();
    let (first, second) = (row(&name, 1), row(&name, 2));
    follow(&registry, 7, &shared(7, std::slice::from_ref(&first)));
    let entry = entry(1, "a", registry.epoch());
    let inscription = registry.inscribe(&entry).unwrap();
    assert_eq!(registry.take_in(second.clone()), TakenIn::Fully);
    let traits = Traits::of(&entry, 5);
    assert_eq!(registry.judge(&traits, &inscription), Standing::Dead);
    // A message that comes late is no word against it, and neither is the copy.
    assert_eq!(registry.take_in(first.clone()), TakenIn::Not);
    let plan = follow(&registry, 7, &shared(7, std::slice::from_ref(&first)));
    assert_eq!(plan.anew, std::slice::from_ref(&second));
    assert_eq!(registry.judge(&traits, &inscription), Standing::Dead);
    let pending = registry.pending();
    let [fresh] = &pending[..] else {
        panic!("one purge is to be written: {pending:?}");
    };
    assert!(fresh.at > second.at && ![first.value, second.value].contains(&fresh.value));
}

#[test]
fn who_loses_against_another_replica_purges_anew_and_later() {
    let registry = registry();
    registry.share();
    registry.purge(&purge(Selector::All)).unwrap();
    let ours = registry.pending().remove(0);
    let entry = entry(1, "a", registry.epoch());
    let ahead = ours.at + 60_000;
    let beaten = Row {
        at: ahead,
        ..ours.clone()
    };
    registry.purge_anew(vec![beaten.clone()]).unwrap();
    registry.confirm(&[ours]);
    let fresh = registry.pending();
    assert_eq!(
        fresh.iter().map(|row| row.at).collect::<Vec<_>>(),
        [ahead + 1]
    );
    assert_eq!(registry.standing(&entry), Standing::Dead);
    registry.purge_anew(vec![beaten]).unwrap();
    assert_eq!(registry.pending(), fresh, "it was purged again since");
    // And the next is later than all that is known, whatever the clock says.
    registry.purge(&purge(Selector::All)).unwrap();
    assert_eq!(registry.pending().remove(0).at, ahead + 2);
}

#[test]
fn what_is_to_be_put_back_is_so_until_it_was_written() {
    let registry = registry();
    let row = row(&purge(Selector::All).name(), 1);
    follow(&registry, 7, &shared(7, std::slice::from_ref(&row)));
    for _ in 0..2 {
        follow(&registry, 7, &shared(7, &[]));
        assert_eq!(registry.pending(), std::slice::from_ref(&row));
    }
    registry.confirm(&[row]);
    assert_eq!(registry.pending(), []);
}

#[test]
fn what_others_have_forgotten_is_forgotten_once_memory_was_swept() {
    let registry = registry();
    let name = purge(Selector::All).name();
    registry.load([row(&name, 1)]);
    let mut theirs = shared(7, &[]);
    theirs.forgotten = 1;
    assert_eq!(follow(&registry, 7, &theirs).release, [row(&name, 1)]);
    assert_eq!(
        follow(&registry, 7, &theirs),
        Plan::default(),
        "not put back"
    );
    registry.forget_released(0);
    assert_eq!(registry.len(), 1, "not swept yet");
    let before = entry(1, "a", 0);
    registry.forget_released(registry.epoch());
    assert!(registry.is_empty());
    assert_eq!(registry.standing(&before), Standing::Dead);
}

#[test]
fn behind_a_purge_that_finds_no_room_all_is_purged_that_was_made_before() {
    let registry = registry();
    let entry = entry(1, "a", registry.epoch());
    let long = [&[0, 2, 0][..], &[b'x'; 5_000]].concat();
    assert_eq!(registry.load([row(&long, 1)]), 1);
    assert!(registry.is_empty());
    assert_eq!(registry.standing(&entry), Standing::Dead);
    let judged = |made| registry.judge(&Traits::of(&entry, made), &Inscription::default());
    assert_eq!(judged(1_000), Standing::Dead);
    assert_eq!(judged(1_001), Standing::Alive);
    let epoch = registry.epoch();
    assert_eq!(registry.load([row(&long, 1)]), 1);
    assert_eq!(
        registry.epoch(),
        epoch,
        "read again, it purges nothing more"
    );
    let ahead = Row {
        at: u64::MAX,
        ..row(&long, 1)
    };
    registry.load([ahead]);
    assert_eq!(
        judged(registry.now() + 1),
        Standing::Alive,
        "never what is to come"
    );
}

#[test]
fn a_replica_that_may_have_missed_purges_for_good_takes_its_memory_for_dead() {
    let registry = registry();
    let entry = entry(1, "a", registry.epoch());
    let plan = Plan {
        distrust: true,
        ..Plan::default()
    };
    registry.follow(plan).unwrap();
    assert_eq!(registry.standing(&entry), Standing::Dead);
}

#[tokio::test(start_paused = true)]
async fn a_purge_that_others_may_not_have_heard_of_is_not_settled_and_not_forgotten() {
    let registry = registry();
    follow(&registry, 7, &shared(7, &[]));
    let before = registry.epoch();
    registry.purge(&purge(Selector::All)).unwrap();
    registry.confirm(&registry.pending());
    let after = registry.epoch();
    assert!(registry.settleable() < after && registry.settleable() >= before);
    advance(HEARD + Duration::from_secs(1)).await;
    // One that is heard of now does not keep those before from being settled.
    registry.load([row(&purge(Selector::Tag(text("a"))).name(), 1)]);
    assert_eq!(registry.settleable(), after);
    advance(HEARD + Duration::from_secs(1)).await;
    assert_eq!(registry.settleable(), registry.epoch());
}

#[tokio::test(start_paused = true)]
async fn a_purge_of_a_replica_whose_clock_is_behind_is_kept_as_long_as_any_other() {
    let registry = registry();
    follow(&registry, 7, &shared(7, &[]));
    // By that replica's clock it was done years ago.
    registry.load([row(&purge(Selector::All).name(), 1)]);
    advance(HEARD + Duration::from_secs(1)).await;
    registry.settle(registry.epoch());
    assert_eq!(registry.forgettable(), []);
    advance(Duration::from_secs(2 * 60 * 60)).await;
    assert_eq!(registry.forgettable().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_shared_a_purge_is_settled_at_once() {
    let registry = registry();
    registry.purge(&purge(Selector::All)).unwrap();
    assert_eq!(registry.settleable(), registry.epoch());
}

#[tokio::test(start_paused = true)]
async fn replicas_whose_clocks_differ_go_by_one() {
    let hours = |count: u64| UNIX_EPOCH + Duration::from_secs(count * 60 * 60);
    let (slow, fast) = (Generations::new(hours(10)), Generations::new(hours(12)));
    let now = Instant::now();
    for registry in [&slow, &fast] {
        registry.set_clock(11 * 3_600_000, now, Duration::ZERO);
        // Told again, it does not add up.
        registry.set_clock(11 * 3_600_000, now, Duration::ZERO);
    }
    advance(Duration::from_secs(1)).await;
    assert_eq!(slow.now(), fast.now());
    assert_eq!(slow.now(), 11 * 3_600_000 + 1_000);
    assert_eq!(slow.wall(now), 11 * 3_600_000);
}

#[tokio::test(start_paused = true)]
async fn a_purge_that_is_written_late_is_kept_until_others_have_heard_of_it() {
    const HOURS: Duration = Duration::from_secs(2 * 60 * 60);
    let registry = registry();
    follow(&registry, 7, &shared(7, &[]));
    registry.purge(&purge(Selector::All)).unwrap();
    let (epoch, rows) = (registry.epoch(), registry.pending());
    advance(HOURS).await;
    registry.settle(registry.settleable());
    assert!(registry.settled() < epoch, "nobody else knows of it");
    let put_back = || assert_eq!(follow(&registry, 7, &shared(7, &[])).put_back, rows);
    for lost in [false, true] {
        if lost {
            put_back();
        }
        registry.confirm(&rows);
        registry.settle(epoch);
        assert!(registry.settled() < epoch, "others hear of it just now");
        advance(HEARD + Duration::from_secs(1)).await;
        assert_eq!(registry.settleable(), epoch);
        registry.settle(epoch);
        assert_eq!(registry.forgettable(), [], "flights are under way");
        advance(HOURS).await;
        assert_eq!(registry.forgettable(), rows);
    }
    put_back();
    assert_eq!(registry.forgettable(), [], "what is lost is not forgotten");
}

#[test]
fn doubts_during_a_sweep_leave_nothing_to_be_swept_again() {
    let registry = registry();
    registry.purge(&purge(Selector::All)).unwrap();
    let swept = registry.settleable();
    registry.doubt();
    registry.settle(swept);
    registry.doubt();
    assert_eq!(registry.settled(), registry.settleable());
    registry.purge(&purge(Selector::All)).unwrap();
    assert!(registry.settled() < registry.settleable());
}

#[test]
fn a_clock_that_is_read_late_does_not_move_one_that_may_be_right() {
    let (registry, now) = (registry(), Instant::now());
    let seconds = Duration::from_secs;
    registry.set_clock(50_000, now, Duration::ZERO);
    // It was read at once, and told here three seconds later.
    registry.set_clock(50_000, now, seconds(3));
    assert_eq!(registry.wall(now), 50_000);
    registry.set_clock(60_000, now, seconds(3));
    assert_eq!(registry.wall(now), 58_500, "that one was not right");
    registry.set_clock(58_400, now, Duration::from_millis(100));
    assert_eq!(registry.wall(now), 58_350, "what is prompt is exact");
}

#[test]
fn who_knows_of_the_same_purges_has_the_same_digest() {
    let [one, other] = [(); 2].map(|()| Generations::new(UNIX_EPOCH));
    let none = one.digest(u64::MAX);
    assert_eq!(other.digest(u64::MAX), none);
    let purge = |tag: &str| Purge {
        selector: Selector::Tag(tag.to_owned()),
        within: None,
        soft: false,
    };
    one.purge(&purge("a")).unwrap();
    let first = one.epoch();
    one.purge(&purge("b")).unwrap();
    let (mut rows, last) = one.after(0);
    rows.reverse();
    other.load(rows);
    assert_eq!(other.digest(u64::MAX), one.digest(last), "in another order");
    assert_ne!(one.digest(first), one.digest(last));
    one.purge(&purge("a")).unwrap();
    assert_ne!(other.digest(u64::MAX), one.digest(u64::MAX), "purged anew");
    assert_eq!(one.digest(0), none);
}
