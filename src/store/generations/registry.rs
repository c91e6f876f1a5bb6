//! The registry behind [`Generations`](super::Generations): names and their present values, within bounds.

use std::{collections::HashMap, time::Duration};

use sha2::{Digest, Sha256};

use super::{
    Inscription, Standing, Unpurged,
    name::{self, Predicate, Purge, Traits},
    shared::{Ours, State},
};

/// Names and their present values.
#[derive(Debug, Default)]
pub(super) struct Registry {
    named: HashMap<Vec<u8>, Mark>,
    predicates: Vec<(Vec<u8>, Predicate, Mark)>,
    epoch: u64,
    /// The last change that was no doubt: a doubt leaves nothing dead for a sweep to find.
    changed: u64,
    /// The epoch up to which a sweep has found nothing dead any more.
    settled: u64,
    /// The last purge that was forgotten: what has not seen it is dead, concerned or not.
    floor: u64,
    /// The last purge that was about upstreams: it concerns whatever does not know its own yet.
    upstreams: u64,
    /// The last doubt: what has not been looked up since may have been replaced elsewhere.
    doubted: u64,
    /// Whether there are names of soft purges.
    softens: bool,
    era: Era,
    /// Whatever was made before is dead, milliseconds of Unix time: there was no room for a purge of this moment.
    before: u64,
}

/// The life of the registry that replicas share. What was written in another one may have seen purges that this one does
/// not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Era {
    /// Nothing is shared.
    #[default]
    Own,
    /// It is not known yet: no purge is either, so that nothing may be taken in.
    Unknown,
    /// This one.
    Of(u64),
}

/// A purge as it is kept behind the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: Vec<u8>,
    /// Its value.
    pub value: u64,
    /// When it was done, milliseconds of Unix time.
    pub at: u64,
}

/// What became of a purge that others have told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenIn {
    /// It is known.
    Fully,
    /// There was no room: behind it, all is purged that was made before.
    Unfit,
    /// Another of its name is, which is later or still to be written.
    Not,
}

/// The last purge of a name.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// Chosen at random.
    value: u64,
    /// Its count.
    count: u64,
    /// When it was done, milliseconds of Unix time.
    at: u64,
    /// When others could hear of it, by what is known here, milliseconds of the registry's time: whoever did it may have another
    /// clock.
    heard: u64,
    /// How it stands with the replicas that share it.
    state: State,
}

impl Registry {
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn len(&self) -> usize {
        self.named.len() + self.predicates.len()
    }

    /// Does a purge, `at` a time of day that is `uptime` of the registry.
    pub(super) fn purge(
        &mut self,
        purge: &Purge,
        value: u64,
        at: u64,
        uptime: u64,
    ) -> Result<(), Unpurged> {
        let name = purge.name();
        let is_known = self.named.contains_key(&name)
            || self.predicates.iter().any(|(known, ..)| *known == name);
        let is_full = if purge.selector.is_tried() {
            self.predicates.len() >= MOST_PREDICATES
        } else {
            let most = if purge.within.is_some() {
                MOST_OF_CALLERS
            } else {
                MOST_NAMES
            };
            self.named.len() >= most
        };
        if is_full && !is_known {
            return Err(Unpurged::Full);
        }
        let before = self.mark(&name).filter(|_| self.is_shared());
        let at = before.map_or(at, |before| at.max(before.at.saturating_add(1)));
        self.set(Row { name, value, at }, State::Pending, uptime);
        Ok(())
    }

    /// Purges the name of a purge again, later than that; unless it was meanwhile.
    pub(super) fn renew(&mut self, row: Row, value: u64, now: u64, uptime: u64) {
        let mark = self.mark(&row.name);
        if mark.is_some_and(|mark| mark.value == row.value) {
            let at = now.max(row.at.saturating_add(1));
            self.set(Row { value, at, ..row }, State::Pending, uptime);
        }
    }

    /// Takes in purges that were written by others, or earlier; `now` is the time of day, `uptime` that of the registry. What is known already changes
    /// nothing, and neither does another purge of a name that is still to be written, or was purged later. Returns how many found no room: behind
    /// each, all is purged that was made before.
    pub(super) fn load(
        &mut self,
        rows: impl IntoIterator<Item = Row>,
        now: u64,
        uptime: u64,
    ) -> u64 {
        let taken = rows.into_iter().map(|row| self.take_in(row, now, uptime));
        let unfit = taken.filter(|taken| *taken == TakenIn::Unfit);
        unfit.count() as u64
    }

    /// Takes in one of them.
    pub(super) fn take_in(&mut self, row: Row, now: u64, uptime: u64) -> TakenIn {
        match self.mark(&row.name) {
            Some(mark) if mark.value == row.value => self.note(&row, State::Written, uptime),
            Some(mark) if mark.state == State::Pending || row.at <= mark.at => {
                return TakenIn::Not;
            }
            None if !self.has_room(&row.name) => {
                // A moment to come would let nothing be kept any more.
                self.purge_before(row.at.min(now));
                return TakenIn::Unfit;
            }
            _ => self.set(row, State::Written, uptime),
        }
        TakenIn::Fully
    }

    /// Returns whether others may know of purges that are not known here.
    fn is_shared(&self) -> bool {
        self.era != Era::Own
    }

    fn mark(&self, name: &[u8]) -> Option<Mark> {
        let tried = || self.predicates.iter().find(|(known, ..)| known == name);
        let named = self.named.get(name).copied();
        named.or_else(|| tried().map(|(.., mark)| *mark))
    }

    fn has_room(&self, name: &[u8]) -> bool {
        let room = if name::is_tried(name) {
            self.predicates.len() < MOST_PREDICATES
        } else {
            self.named.len() < MOST_NAMES
        };
        room && name.len() <= LONGEST
    }

    fn purge_before(&mut self, moment: u64) {
        if moment > self.before {
            self.before = moment;
            self.raise();
        }
    }

    /// Has everything be dead that was seen up to now.
    pub(super) fn raise(&mut self) {
        self.floor = self.turn();
    }

    /// Counts a change that may leave something dead; returns its count.
    fn turn(&mut self) -> u64 {
        self.epoch += 1;
        self.changed = self.epoch;
        self.epoch
    }

    /// Has everything be doubted that was seen up to now.
    pub(super) fn doubt(&mut self) {
        self.epoch += 1;
        self.doubted = self.epoch;
    }

    /// Returns whether what was seen at epoch `seen` is doubted.
    pub(super) fn doubts(&self, seen: u64) -> bool {
        seen < self.doubted
    }

    pub(super) fn era(&self) -> Era {
        self.era
    }

    /// Begins another era: what was written in the one before is dead.
    pub(super) fn begin(&mut self, era: Era) {
        if self.era != era {
            self.era = era;
            self.turn();
        }
    }

    /// Returns all purges, and how it stands with them.
    pub(super) fn ours(&self) -> Vec<Ours> {
        let all = self.all().map(|(name, mark)| Ours {
            row: row((name, mark)),
            state: mark.state,
        });
        all.collect()
    }

    /// Returns the purges that stand like this with the others.
    pub(super) fn in_state(&self, state: State) -> Vec<Row> {
        let all = self.all().filter(|(_, mark)| mark.state == state);
        all.map(row).collect()
    }

    /// Returns the purges up to epoch `swept` that the others have forgotten.
    pub(super) fn released(&self, swept: u64) -> Vec<Row> {
        let is_released = |mark: &Mark| mark.state == State::Released && mark.count <= swept;
        let all = self.all().filter(|(_, mark)| is_released(mark));
        all.map(row).collect()
    }

    /// Notes how it stands with these purges, unless their names were purged again.
    pub(super) fn note_all(&mut self, rows: &[Row], state: State, uptime: u64) {
        for row in rows {
            self.note(row, state, uptime);
        }
    }

    fn note(&mut self, row: &Row, state: State, uptime: u64) {
        let Row { name, value, .. } = row;
        let mark = if let Some(mark) = self.named.get_mut(name) {
            Some(mark)
        } else {
            let mut tried = self.predicates.iter_mut();
            let tried = tried.find(|(known, ..)| known == name);
            tried.map(|(.., mark)| mark)
        };
        let Some(mark) = mark.filter(|mark| mark.value == *value) else {
            return;
        };
        if state == State::Written && mark.state != state {
            // Others hear of it only now. What they have written until then no sweep has seen.
            mark.heard = uptime;
            self.settled = self.settled.min(mark.count.saturating_sub(1));
        }
        mark.state = state;
    }

    fn all(&self) -> impl Iterator<Item = (&Vec<u8>, &Mark)> {
        let predicates = self.predicates.iter().map(|(name, _, mark)| (name, mark));
        self.named.iter().chain(predicates)
    }

    fn set(&mut self, row: Row, state: State, heard: u64) {
        let Row { name, value, at } = row;
        let mark = Mark {
            value,
            count: self.turn(),
            at,
            heard,
            state,
        };
        self.softens |= name::is_soft(&name);
        if name::is_about_upstreams(&name) {
            self.upstreams = self.epoch;
        }
        if let Some(predicate) = Predicate::of(&name) {
            self.predicates.retain(|(known, ..)| *known != name);
            self.predicates.push((name, predicate, mark));
        } else {
            self.named.insert(name, mark);
        }
    }

    /// Calls `each` with the name and mark of every purge that concerns what has these traits.
    fn concerning(&self, traits: &Traits<'_>, mut each: impl FnMut(&[u8], Mark)) {
        if !self.named.is_empty() {
            for soft in [false, true]
                .into_iter()
                .take(1 + usize::from(self.softens))
            {
                traits.names(soft, |name| {
                    if let Some(mark) = self.named.get(name) {
                        each(name, *mark);
                    }
                });
            }
        }
        for (name, predicate, mark) in &self.predicates {
            if predicate.concerns(traits) {
                each(name, *mark);
            }
        }
    }

    /// Returns what purges after epoch `seen` have made of something with these traits.
    pub(super) fn standing(&self, traits: &Traits<'_>, seen: u64) -> Standing {
        let unknown = traits.upstream.is_none() && self.upstreams > seen;
        if seen < self.floor || unknown {
            return Standing::Dead;
        }
        let mut standing = Standing::Alive;
        self.concerning(traits, |name, mark| {
            if mark.count > seen {
                standing = standing.and(name);
            }
        });
        standing
    }

    /// Returns the pairs of what has seen all purges.
    pub(super) fn pairs(&self, traits: &Traits<'_>) -> Vec<(u64, u64)> {
        let mut pairs = Vec::new();
        pairs.extend(self.era.pair());
        self.concerning(traits, |name, mark| {
            pairs.push((fingerprint(name), mark.value));
        });
        pairs
    }

    /// Returns what purges have made of what was written with this inscription. A name that is not known any more has
    /// been forgotten, and so has not been purged since.
    pub(super) fn judge(&self, traits: &Traits<'_>, inscription: &Inscription) -> Standing {
        let is_before = self.before > 0 && traits.made.is_some_and(|made| made <= self.before);
        if is_before || !self.era.admits(inscription) {
            return Standing::Dead;
        }
        let mut standing = if inscription.softened {
            Standing::Stale
        } else {
            Standing::Alive
        };
        self.concerning(traits, |name, mark| {
            let pair = (fingerprint(name), mark.value);
            if !inscription.pairs.contains(&pair) {
                standing = standing.and(name);
            }
        });
        standing
    }

    pub(super) fn after(&self, seen: u64) -> Vec<Row> {
        let mut marks: Vec<_> = self.all().filter(|(_, mark)| mark.count > seen).collect();
        marks.sort_unstable_by_key(|(_, mark)| mark.count);
        marks.into_iter().map(row).collect()
    }

    /// Returns up to which epoch a sweep that begins at `uptime` can settle: all replicas know those purges by then, and what
    /// they have written before is found by it.
    pub(super) fn settleable(&self, uptime: u64) -> u64 {
        if self.era == Era::Own {
            return self.changed;
        }
        let recent = uptime.saturating_sub(millis(HEARD));
        let is_news = |mark: &Mark| mark.state == State::Pending || mark.heard >= recent;
        let news = self.all().filter(|(_, mark)| is_news(mark));
        let first = news.map(|(_, mark)| mark.count).min();
        first.map_or(self.changed, |count| count.saturating_sub(1))
    }

    /// Returns the purges up to epoch `last`, by name.
    pub(super) fn until(&self, last: u64) -> Vec<Row> {
        let marks = self.all().filter(|(_, mark)| mark.count <= last);
        let mut rows: Vec<_> = marks.map(row).collect();
        rows.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        rows
    }

    /// Notes that a sweep up to epoch `swept` has found nothing dead, which is over at `uptime`: of what was written meanwhile it
    /// says nothing.
    pub(super) fn settle(&mut self, swept: u64, uptime: u64) {
        let swept = swept.min(self.settleable(uptime));
        self.settled = self.settled.max(swept);
    }

    pub(super) fn settled(&self) -> u64 {
        self.settled
    }

    /// Returns what may be forgotten, as nothing dead is left of it. It is kept a little longer for the flights that began before,
    /// unless room is scarce; where it is shared, for those that began before it was heard of, and in any case until it is written.
    pub(super) fn forgettable(&self, now: u64, uptime: u64) -> Vec<Row> {
        let old = now.saturating_sub(KEPT);
        let is_shared = self.era != Era::Own;
        let is_old =
            |mark: &Mark| mark.at < old && (!is_shared || mark.heard.saturating_add(KEPT) < uptime);
        let others_know = |mark: &Mark| !is_shared || mark.state != State::Pending;
        let may_go = |mark: &Mark, scarce: bool| {
            mark.count <= self.settled && others_know(mark) && (scarce || is_old(mark))
        };
        let scarce = self.named.len() > MOST_NAMES / 2;
        let named = self.named.iter().filter(|(_, mark)| may_go(mark, scarce));
        let scarce = self.predicates.len() > MOST_PREDICATES / 2;
        let predicates = self.predicates.iter();
        let predicates = predicates.filter(|(_, _, mark)| may_go(mark, scarce));
        let predicates = predicates.map(|(name, _, mark)| (name, mark));
        named.chain(predicates).map(row).collect()
    }

    /// Forgets these purges, except for those whose names were purged again.
    pub(super) fn forget(&mut self, rows: &[Row]) {
        for Row { name, value, .. } in rows {
            let mark = self.mark(name).filter(|mark| mark.value == *value);
            if let Some(mark) = mark {
                self.named.remove(name);
                self.predicates.retain(|(known, ..)| known != name);
                self.floor = self.floor.max(mark.count);
            }
        }
        self.softens = self.named.keys().any(|name| name::is_soft(name));
    }
}

impl Row {
    /// Returns whether replicas may have written it. Behind what is dated beyond all reason no purge of the name could be done.
    pub fn is_sound(&self) -> bool {
        name::is_name(&self.name) && self.name.len() <= LONGEST_READ && self.at < u64::MAX / 4
    }

    /// Returns whether it may be believed if it was only told: there is room behind its moment for all purges of the name to come,
    /// which have to be sound.
    pub fn is_credible(&self) -> bool {
        self.is_sound() && self.at < u64::MAX / 8
    }
}

impl Era {
    /// Returns what stands for it in an entry.
    fn pair(self) -> Option<(u64, u64)> {
        match self {
            Self::Of(era) => Some((fingerprint(ERA), era)),
            Self::Own | Self::Unknown => None,
        }
    }

    fn admits(self, inscription: &Inscription) -> bool {
        match self {
            Self::Own => true,
            Self::Unknown => false,
            Self::Of(_) => self
                .pair()
                .is_some_and(|pair| inscription.pairs.contains(&pair)),
        }
    }
}

impl Standing {
    /// Returns what a purge of this name makes of it.
    fn and(self, name: &[u8]) -> Self {
        match self {
            Self::Alive | Self::Stale if name::is_soft(name) => Self::Stale,
            _ => Self::Dead,
        }
    }
}

fn row((name, mark): (&Vec<u8>, &Mark)) -> Row {
    Row {
        name: name.clone(),
        value: mark.value,
        at: mark.at,
    }
}

/// Returns what stands for a name in an entry; only its own names are ever compared.
fn fingerprint(name: &[u8]) -> u64 {
    let digest: [u8; 32] = Sha256::digest(name).into();
    u64::from_le_bytes(digest.first_chunk().copied().unwrap_or_default())
}

/// Stands for the era among names, of which none begins like it.
pub(super) const ERA: &[u8] = b"era";
/// Longest name that is taken in, bytes.
const LONGEST: usize = 4 << 10;
/// Longest name that is read, bytes; one that is longer than is taken in counts as a purge of all before.
pub const LONGEST_READ: usize = 8 << 10;
/// Names that are remembered; each takes some 150 bytes.
const MOST_NAMES: usize = 1 << 16;
/// Beyond so many, purges that are bound to a scope find no room: callers do not keep the operator from purging.
const MOST_OF_CALLERS: usize = MOST_NAMES / 4 * 3;
/// Patterns and ages that are remembered: each is tried on every entry that is looked at anew.
const MOST_PREDICATES: usize = 64;
fn millis(duration: Duration) -> u64 {
    crate::store::codec::millis(duration)
}

/// How long others may take to hear of a purge, and what they write meanwhile to arrive, with much to spare.
pub const HEARD: Duration = Duration::from_secs(60);
/// How long a purge is remembered at least for flights under way, milliseconds.
const KEPT: u64 = 60 * 60 * 1000;
