//! What replicas do to know the same purges. Pure.
//!
//! # Decisions
//! | purge | in Redis | here | |
//! |---|---|---|---|
//! | done here, not written yet | whatever | as it is | to be written |
//! | known since it was read or written | the same | as it is | nothing |
//! | known | another, done later | replaced | it took the place of ours |
//! | known | another, not done later | purged again, to be written | what keeps them is an older copy: ours took its place once |
//! | known | none, and none was forgotten since | to be written | put back: what keeps them was lost, or is an older copy |
//! | known | none, and some were forgotten since | released | forgotten there; here it is once the sweep is through |
//! | released | none | as it is | nothing |
//! | not known | there | loaded | |
//!
//! # The moments
//! Of one name, each purge is done later than all before it, whatever the clocks say: whoever knows one dates the next behind
//! it, and what is to be written gives way to one that lies there and is not earlier. Whoever gave way purges the name again,
//! later than that: what was written between the two has seen only one of them. So where an earlier one lies than is known,
//! it is that which is old, and not what is known.
//!
//! # The changes
//! They are numbered, and each message has its number. What was read and the run of messages heard since are all there is
//! if the run begins no later than behind what was read, and ends with the last change ([`Run`]). Else all is read again.
//!
//! # The era
//! Where there is none, what keeps the purges is new or was lost, and with it those of which only replicas knew that do
//! not run any more: another era begins, after what is known was put back, and nothing written before is alive. Where it is
//! another than before, somebody else has found it so. Where fewer purges were forgotten than before, what keeps them is an
//! older copy, and so may the entries be: those that a forgotten purge concerned lie there again. That ends the era, too.
//!
//! # Memory
//! What is in memory goes by what this replica knows. If it was cut off while purges were forgotten or an era began, it may
//! never learn of some: then it takes everything in memory for dead.

use std::collections::HashMap;

use super::Row;

/// A purge that this replica knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ours {
    /// The purge.
    pub row: Row,
    /// How it stands with the others.
    pub state: State,
}

/// How it stands with a purge where replicas share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was done here, and is not known to be written.
    Pending,
    /// It was read or written.
    Written,
    /// The others have forgotten it.
    Released,
}

/// What was last read of what replicas share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The era.
    pub era: u64,
    /// How many changes there were since it began.
    pub changes: u64,
    /// How many times purges were forgotten.
    pub forgotten: u64,
}

/// Changes that messages have told of, and that were taken in, without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    first: u64,
    last: u64,
}

/// What replicas share, as it was read now.
#[derive(Clone, Debug, Default)]
pub struct Theirs {
    /// The era, if there is one.
    pub era: Option<u64>,
    /// How many changes there were since it began.
    pub changes: u64,
    /// How many times purges were forgotten.
    pub forgotten: u64,
    /// The purges, by name.
    pub rows: HashMap<Vec<u8>, Row>,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// These are to be loaded here.
    pub load: Vec<Row>,
    /// These are to be purged again.
    pub anew: Vec<Row>,
    /// These are to be written once more.
    pub put_back: Vec<Row>,
    /// These are there as they are here.
    pub there: Vec<Row>,
    /// These were forgotten by the others.
    pub release: Vec<Row>,
    /// Whether everything in memory is to be taken for dead.
    pub distrust: bool,
}

/// Returns what is to be done where this replica knows `ours` and has last read what is `known`; `is_lost` tells whether it
/// may have missed changes since.
pub fn plan(ours: &[Ours], known: Option<&Known>, is_lost: bool, theirs: &Theirs) -> Plan {
    let is_same =
        known.is_some_and(|known| theirs.era == Some(known.era) && !theirs.is_older(known));
    let some_forgotten = known.is_some_and(|known| theirs.forgotten > known.forgotten);
    let mut plan = Plan {
        distrust: known.is_some() && is_lost && (!is_same || some_forgotten),
        ..Plan::default()
    };
    let mut news = theirs.rows.clone();
    for Ours { row, state } in ours {
        let there = theirs.rows.get(&row.name);
        if there.is_some_and(|there| there.value == row.value) {
            news.remove(&row.name);
            plan.there.push(row.clone());
        } else if *state == State::Pending {
            news.remove(&row.name);
        } else if there.is_some_and(|there| there.at <= row.at) {
            news.remove(&row.name);
            plan.anew.push(row.clone());
        } else if there.is_none() && *state == State::Written {
            let place = if is_same && some_forgotten {
                &mut plan.release
            } else {
                &mut plan.put_back
            };
            place.push(row.clone());
        }
    }
    plan.load = news.into_values().collect();
    // Old ones first: where there is no room for all, what is purged instead reaches no further than it has to.
    plan.load.sort_unstable_by_key(|row| row.at);
    plan
}

impl Known {
    /// Returns what is known with what was heard.
    #[must_use]
    pub fn with(self, heard: Option<Run>) -> Self {
        let changes = heard.map_or(self.changes, |heard| heard.since(self.changes));
        Self { changes, ..self }
    }
}

impl Run {
    /// Returns the run that has this change as well, of which a message has told; `before` is that which was heard so far.
    pub fn on(before: Option<Self>, change: u64) -> Self {
        let first = before.filter(|before| before.last.checked_add(1) == Some(change));
        Self {
            first: first.map_or(change, |before| before.first),
            last: change,
        }
    }

    /// Returns up to which change all are known, of which so many were read.
    fn since(self, read: u64) -> u64 {
        let is_joined = self.first <= read.saturating_add(1);
        if is_joined { self.last.max(read) } else { read }
    }
}

impl Theirs {
    /// Returns what is known from now on, where the era is this one.
    pub fn known(&self, era: u64) -> Known {
        Known {
            era,
            changes: self.changes,
            forgotten: self.forgotten,
        }
    }

    /// Returns whether this is a copy of before `known` was read, which has purges to come that were forgotten.
    pub fn is_older(&self, known: &Known) -> bool {
        self.era == Some(known.era) && self.forgotten < known.forgotten
    }

    /// Returns whether this is what `known` was read of, then or later.
    pub fn goes_on(&self, known: &Known) -> bool {
        self.era == Some(known.era)
            && self.changes >= known.changes
            && self.forgotten >= known.forgotten
    }

    /// Returns whether nothing has changed since `known` was read.
    pub fn is_as(&self, known: &Known) -> bool {
        self.era == Some(known.era)
            && self.changes == known.changes
            && self.forgotten == known.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, value: u64) -> Row {
        Row {
            name: name.into(),
            value,
            at: value,
        }
    }

    fn known(era: u64, forgotten: u64) -> Known {
        Known {
            era,
            changes: 5,
            forgotten,
        }
    }

    fn theirs(era: Option<u64>, forgotten: u64, rows: &[Row]) -> Theirs {
        let rows = rows.iter().map(|row| (row.name.clone(), row.clone()));
        Theirs {
            era,
            changes: 7,
            forgotten,
            rows: rows.collect(),
        }
    }

    #[test]
    fn each_row_of_the_table_is_as_it_says() {
        use State::{Pending, Released, Written};
        type Place = fn(&mut Plan) -> &mut Vec<Row>;
        let (one, other) = (row("a", 1), row("a", 2));
        let at_once = Row {
            at: 1,
            ..other.clone()
        };
        let earlier = Row {
            at: 0,
            ..other.clone()
        };
        let load: Place = |plan| &mut plan.load;
        let anew: Place = |plan| &mut plan.anew;
        let put_back: Place = |plan| &mut plan.put_back;
        let there: Place = |plan| &mut plan.there;
        let release: Place = |plan| &mut plan.release;
        // How ours stands, how many they have forgotten, what they have; what is to be done with which.
        let table = [
            (Some(Pending), 0, None, None),
            (Some(Pending), 0, Some(&other), None),
            (Some(Pending), 0, Some(&earlier), None),
            (Some(Pending), 1, None, None),
            (Some(Pending), 0, Some(&one), Some((there, &one))),
            (Some(Written), 0, Some(&one), Some((there, &one))),
            (Some(Written), 0, Some(&other), Some((load, &other))),
            (Some(Written), 0, Some(&at_once), Some((anew, &one))),
            (Some(Written), 0, Some(&earlier), Some((anew, &one))),
            (Some(Written), 1, Some(&earlier), Some((anew, &one))),
            (Some(Written), 0, None, Some((put_back, &one))),
            (Some(Written), 1, None, Some((release, &one))),
            (Some(Released), 0, None, None),
            (Some(Released), 1, None, None),
            (Some(Released), 0, Some(&one), Some((there, &one))),
            (Some(Released), 0, Some(&other), Some((load, &other))),
            (Some(Released), 0, Some(&earlier), Some((anew, &one))),
            (None, 0, Some(&one), Some((load, &one))),
            (None, 0, None, None),
        ];
        for (number, (state, forgotten, have, expected)) in table.into_iter().enumerate() {
            let ours = state.map(|state| Ours {
                row: one.clone(),
                state,
            });
            let have: Vec<_> = have.into_iter().cloned().collect();
            let theirs = theirs(Some(9), forgotten, &have);
            let ours: Vec<_> = ours.into_iter().collect();
            let mut wanted = Plan::default();
            if let Some((place, row)) = expected {
                place(&mut wanted).push(row.clone());
            }
            let plan = plan(&ours, Some(&known(9, 0)), false, &theirs);
            assert_eq!(plan, wanted, "row {number}");
        }
    }

    #[test]
    fn a_change_that_was_not_heard_of_is_never_made_up_for_by_one_heard_twice() {
        let heard = |changes: &[u64]| {
            let changes = changes.iter().copied();
            changes.fold(None, |run, change| Some(Run::on(run, change)))
        };
        // What was heard since five changes were read; how many are known.
        let table: [(&[u64], u64); 9] = [
            (&[], 5),
            (&[6], 6),
            (&[6, 7, 8], 8),
            (&[4, 5, 6], 6),
            (&[3, 4], 5),
            (&[5, 5], 5),
            (&[6, 6], 6),
            (&[7], 5),
            (&[6, 8], 5),
        ];
        for (changes, all) in table {
            let known = known(9, 0).with(heard(changes));
            assert_eq!(known.changes, all, "{changes:?}");
        }
        assert_eq!(Run::on(heard(&[u64::MAX]), 0).since(5), 5);
    }

    #[test]
    fn whatever_is_known_is_put_back_where_the_era_is_gone_or_another() {
        let ours = [Ours {
            row: row("a", 1),
            state: State::Written,
        }];
        for (era, forgotten) in [(None, 0), (Some(8), 0), (Some(8), 3)] {
            let theirs = theirs(era, forgotten, &[]);
            let plan = plan(&ours, Some(&known(9, 0)), false, &theirs);
            assert_eq!(plan.put_back, [row("a", 1)], "{era:?}");
            assert!(!plan.distrust);
        }
    }

    #[test]
    fn an_older_copy_is_told_from_a_life_that_goes_on() {
        let known = known(9, 2);
        for (era, forgotten, older) in [
            (Some(9), 1, true),
            (Some(9), 2, false),
            (Some(9), 3, false),
            (Some(8), 1, false),
            (None, 0, false),
        ] {
            let theirs = theirs(era, forgotten, &[]);
            assert_eq!(theirs.is_older(&known), older, "{era:?} {forgotten}");
        }
        let ours = [Ours {
            row: row("a", 1),
            state: State::Written,
        }];
        let older = theirs(Some(9), 1, &[]);
        assert_eq!(
            plan(&ours, Some(&known), false, &older).put_back,
            [row("a", 1)]
        );
        assert!(plan(&ours, Some(&known), true, &older).distrust);
    }

    #[test]
    fn who_was_cut_off_takes_its_memory_for_dead_if_it_may_never_learn_of_a_purge() {
        // Era and forgottings read now, whether anything was read before; whether memory is dead.
        let table = [
            (Some(9), 0, true, false),
            (Some(9), 1, true, true),
            (Some(8), 0, true, true),
            (None, 0, true, true),
            (None, 0, false, false),
            (Some(9), 1, false, false),
        ];
        for (era, forgotten, before, dead) in table {
            let theirs = theirs(era, forgotten, &[]);
            let known = before.then(|| known(9, 0));
            assert_eq!(plan(&[], known.as_ref(), true, &theirs).distrust, dead);
            assert!(!plan(&[], known.as_ref(), false, &theirs).distrust);
        }
    }

    #[test]
    fn purges_are_loaded_in_the_order_that_they_were_done_in() {
        let theirs = theirs(Some(9), 0, &[row("c", 3), row("a", 1), row("b", 2)]);
        let plan = plan(&[], None, false, &theirs);
        assert_eq!(plan.load, [row("a", 1), row("b", 2), row("c", 3)]);
    }
}
