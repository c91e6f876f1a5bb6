//! What is to become of what lies there.

use std::time::UNIX_EPOCH;

use super::*;
use crate::{
    call::{Slot, key::Key},
    store::{
        Label,
        codec::Card,
        generations::{Purge, Selector},
    },
};

fn lying(softened: bool) -> Lying {
    Lying {
        slot: Slot {
            key: Key::from_bytes([7; 32]),
            delivery: 0,
        },
        card: Card {
            made: 1,
            upstream: b"openai".to_vec(),
            label: Label::default(),
            tags: vec!["a".to_owned()],
            generations: Vec::new(),
        },
        softened,
    }
}

fn purged(tag: &str, soft: bool) -> Generations {
    let generations = Generations::new(UNIX_EPOCH);
    let purge = Purge {
        selector: Selector::Tag(tag.to_owned()),
        within: None,
        soft,
    };
    generations.purge(&purge).unwrap();
    generations
}

#[test]
fn what_is_dead_is_deleted_and_what_is_stale_is_marked_once() {
    for (purged, softened, wanted) in [
        (purged("b", false), false, Fate::Keep),
        (purged("a", false), false, Fate::Delete),
        (purged("a", false), true, Fate::Delete),
        (purged("a", true), false, Fate::Soften),
        (purged("a", true), true, Fate::Keep),
    ] {
        assert_eq!(fate(&Ok(lying(softened)), &purged), wanted, "{purged:?}");
    }
}

#[test]
fn what_is_not_ours_is_left_alone_and_what_is_spoilt_is_deleted() {
    let generations = Generations::new(UNIX_EPOCH);
    for damage in Damage::ALL {
        let is_others = matches!(damage, Damage::Magic | Damage::Version);
        let wanted = if is_others { Fate::Keep } else { Fate::Delete };
        assert_eq!(fate(&Err(damage), &generations), wanted, "{damage:?}");
    }
}
