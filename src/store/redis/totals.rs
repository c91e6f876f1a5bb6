//! Counters in Redis: a hash for each day, to which all replicas add.
//!
//! ```text
//! refrain:totals:20261121    hit:chat:5:gpt-4teamA    1207       what, dialect, length of the model, model, namespace
//!                            seq:9f3a6c0d11e28b74       42       the last batch of a replica
//! ```
//!
//! # Scope
//! A batch is one script: it is added whole or not at all, and once, as the replica's number is raised with it. Fields that
//! are none of ours are passed over, and a key of another type is deleted. Reading goes by pages, of several days at once,
//! and is bounded. A day does not expire: what does gives way when Redis is full, and nobody uses the past. So the first
//! batch of a day has those deleted that are older than [`KEPT`].

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use redis::{Script, cmd};

use super::{
    Kind, Link, Redis, Trouble,
    layout::Layout,
    page::{Bounds, Page, Pages},
};
use crate::{
    config::MAX_NAME,
    store::totals::{Batch, Counts, Day, KEPT, MOST_A_DAY, MOST_READ, Place, Stored, What},
};

/// The counters of all replicas; clones share them.
#[derive(Clone, Debug)]
pub struct Totals {
    link: Link,
    layout: Layout,
    script: Arc<Script>,
    pages: Arc<Pages>,
}

/// What a field of a day's hash is.
#[derive(Debug, PartialEq, Eq)]
enum Field<'a> {
    /// A count.
    Count(What, Place<'a>),
    /// The number of a writer's last batch.
    Last(u64),
}

impl Redis {
    /// Returns the counters that lie beside the entries.
    pub fn totals(&self) -> Totals {
        Totals {
            link: self.0.link.clone(),
            layout: self.0.layout.clone(),
            script: Arc::new(Script::new(ADD)),
            pages: Arc::default(),
        }
    }
}

impl Totals {
    /// Adds a batch, unless it was added before. The first one of a day makes room for it.
    pub async fn keep(&self, batch: &Batch) -> Result<(), Trouble> {
        let key = self.key(batch.day);
        let mut call = self.script.key(&key);
        call.arg(last_of(batch.writer)).arg(batch.number);
        call.arg(MOST_A_DAY);
        for row in &batch.rows {
            for (what, count) in row.counts.iter() {
                let other = Place::other(&row.dialect);
                call.arg(field(what, row.place())).arg(field(what, other));
                call.arg(count);
            }
        }
        if self.link.run::<bool>(&key, &call, PATIENCE).await? {
            self.forget_before(batch.day).await;
        }
        Ok(())
    }

    /// Deletes the days that are too old on `day`. What cannot be deleted now is when the next day begins.
    async fn forget_before(&self, day: Day) {
        let deleting = stream::iter(outdated(day)).for_each_concurrent(AT_ONCE, |day| async move {
            let key = self.key(day);
            let mut unlink = cmd("UNLINK");
            let deleted: Result<(), _> = self.link.ask(&key, unlink.arg(&key), PATIENCE).await;
            if let Err(trouble) = deleted {
                tracing::debug!(error = %trouble, reason = trouble.kind.as_str(), "old counters stay");
            }
        });
        deleting.await;
    }

    /// Returns what was counted from `first` to `last`, the latest first, and which batch of `writer` is the last in it.
    pub async fn read(&self, first: Day, last: Day, writer: u64) -> Result<Stored, Trouble> {
        let room = AtomicU64::new(MOST_READ);
        let days = stream::iter(first.to(last).rev());
        let days = days.map(|day| self.read_day(day, writer, &room));
        let mut days = days.buffered(AT_ONCE);
        let mut stored = Stored::default();
        while let Some(day) = days.try_next().await? {
            stored.append(day);
        }
        Ok(stored)
    }

    /// Reads what was counted on `day`, as far as there is `room` for it, which days share.
    async fn read_day(&self, day: Day, writer: u64, room: &AtomicU64) -> Result<Stored, Trouble> {
        let key = self.key(day);
        let mut stored = Stored::default();
        // While Redis makes room it may tell a field twice.
        let mut fields = BTreeMap::<Vec<u8>, u64>::new();
        let mut cursor = 0_u64;
        loop {
            let mut page = self.pages.of(&key, BOUNDS, "HSCAN");
            page.arg(cursor).arg("COUNT").arg(PAGE);
            let page = self.link.run(&key, &page, PATIENCE).await;
            let (next, page, left_out): Page<Vec<u8>> = match page {
                Err(trouble) if trouble.kind == Kind::Type => {
                    tracing::warn!(error = %trouble.about(&key), "counters of a day not read");
                    stored.is_cut = true;
                    break;
                }
                page => page?,
            };
            // What is none of ours takes room, too: there may be no end of it.
            let seen = left_out.saturating_add(page.len() as u64);
            let takes = |left: u64| left.checked_sub(seen);
            let fits = room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, takes);
            stored.is_cut |= fits.is_err();
            for (name, value) in page {
                fields.extend(count(&value).map(|count| (name, count)));
            }
            cursor = next;
            if cursor == 0 || stored.is_cut {
                break;
            }
        }
        add_up(day, &fields, writer, &mut stored);
        Ok(stored)
    }

    fn key(&self, day: Day) -> String {
        let date = day.to_string().replace('-', "");
        self.layout.fact(&format!("totals:{date}"))
    }
}

/// Returns the days that are too old on `day`, as far back as one looks.
fn outdated(day: Day) -> impl Iterator<Item = Day> {
    let first = day.back(KEPT + OUTDATED - 1);
    first
        .to(day.back(KEPT))
        .filter(move |old| *old < day.back(KEPT - 1))
}

/// Adds the fields of a day to what is stored.
fn add_up(day: Day, fields: &BTreeMap<Vec<u8>, u64>, writer: u64, stored: &mut Stored) {
    let mut places = BTreeMap::<Place<'_>, Counts>::new();
    for (name, count) in fields {
        match read(name) {
            Some(Field::Count(what, place)) => {
                places.entry(place).or_default().add(what, *count);
            }
            Some(Field::Last(of)) if of == writer => stored.last = stored.last.max(*count),
            Some(Field::Last(_)) | None => {}
        }
    }
    let rows = places.into_iter();
    let rows = rows.map(|(place, counts)| place.row(day, counts));
    stored.rows.extend(rows);
}

/// Returns the name of the field that counts `what` in `place`.
fn field(what: What, place: Place<'_>) -> String {
    let Place {
        dialect,
        model,
        namespace,
    } = place;
    format!(
        "{}:{dialect}:{}:{model}{namespace}",
        what.as_str(),
        model.len()
    )
}

/// Returns the name of the field with the last number of `writer`.
fn last_of(writer: u64) -> String {
    format!("{LAST}{writer:016x}")
}

/// Reads the name of a field; `None` where it is none of ours.
fn read(name: &[u8]) -> Option<Field<'_>> {
    let name = std::str::from_utf8(name).ok()?;
    if let Some(writer) = name.strip_prefix(LAST) {
        return Some(Field::Last(u64::from_str_radix(writer, 16).ok()?));
    }
    let mut parts = name.splitn(4, ':');
    let what = What::named(parts.next()?)?;
    let dialect = parts.next()?;
    let length: usize = parts.next()?.parse().ok()?;
    let (model, namespace) = parts.next()?.split_at_checked(length)?;
    let fits = [dialect, model, namespace].map(|name| name.len() <= MAX_NAME);
    let place = Place::new(dialect, model, namespace);
    (fits == [true; 3]).then_some(Field::Count(what, place))
}

fn count(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Adds a batch: the key; the field of the writer's last number, this number, fields that a day may have; then for each
/// count its field, the one that takes its place where there are too many, and the amount. Tells whether it is the day's
/// first.
///
/// The number goes first: where Redis takes no writes, that fails, and nothing is half done. What cannot be raised is no
/// number, and gives way.
const ADD: &str = r"
local key, writer, number = KEYS[1], ARGV[1], tonumber(ARGV[2])
local kind = redis.call('TYPE', key).ok
if kind ~= 'hash' and kind ~= 'none' then redis.call('UNLINK', key) end
local last = tonumber(redis.call('HGET', key, writer) or '0') or 0
if last >= number then return 0 end
redis.call('HSET', key, writer, ARGV[2])
local is_full = redis.call('HLEN', key) >= tonumber(ARGV[3])
for at = 4, #ARGV, 3 do
  local field = ARGV[at]
  if is_full and redis.call('HEXISTS', key, field) == 0 then field = ARGV[at + 1] end
  local raised = redis.pcall('HINCRBY', key, field, ARGV[at + 2])
  if type(raised) == 'table' and raised.err then redis.call('HSET', key, field, ARGV[at + 2]) end
end
return kind == 'none' and 1 or 0
";

/// What the fields begin with that have the last numbers.
const LAST: &str = "seq:";
/// For Redis to add a batch, or to return a page: no call waits for that.
const PATIENCE: Duration = Duration::from_millis(500);
/// Fields of a page.
const PAGE: usize = 500;
/// Days that are asked for at once.
const AT_ONCE: usize = 20;
/// Days before those that are kept that are deleted with each new one: so long may nobody have called.
const OUTDATED: u32 = 100;
/// The longest that a field of ours can be.
const BOUNDS: Bounds = Bounds {
    name: LONGEST,
    value: 32,
};
/// Bytes of the longest name of a field.
const LONGEST: usize = 4 * MAX_NAME;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::totals::OTHER;

    proptest! {
        #[test]
        fn a_field_says_what_it_counts_whatever_callers_call_things(
            index in 0..What::ALL.len(), model in "\\PC{0,32}", namespace in "[:a-z0-9]{0,32}",
        ) {
            let what = What::ALL[index];
            let place = Place::new("chat", &model, &namespace);
            let name = field(what, place);
            prop_assert!(name.len() <= LONGEST);
            prop_assert_eq!(read(name.as_bytes()), Some(Field::Count(what, place)));
        }

        #[test]
        fn any_bytes_are_a_field_or_none(name in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&name);
            let _ = count(&name);
        }
    }

    #[test]
    fn what_is_no_field_of_ours_is_passed_over() {
        for name in [
            "",
            "hit",
            "hit:chat",
            "hit:chat:1",
            "hit:chat:9:short",
            "hit:chat:-1:a",
            "hit:chat:1:ü",
            "guesses:chat:1:a",
            "seq:",
            "seq:xyz",
        ] {
            assert_eq!(read(name.as_bytes()), None, "{name}");
        }
        assert_eq!(read(&[b'h', 0xff]), None);
        for value in ["", "-1", "1.5", "a", "99999999999999999999"] {
            assert_eq!(count(value.as_bytes()), None, "{value}");
        }
        assert_eq!(read(last_of(7).as_bytes()), Some(Field::Last(7)));
    }

    #[test]
    fn no_day_that_is_kept_is_ever_too_old() {
        let today = Day::new(20_000).unwrap();
        let first = today.back(KEPT - 1);
        let old: Vec<_> = outdated(today).collect();
        assert_eq!(old.len(), OUTDATED as usize);
        assert!(old.iter().all(|day| *day < first));
        assert!(
            old.contains(&today.back(KEPT)),
            "it was the first yesterday"
        );
        let at_the_beginning = Day::new(3).unwrap();
        assert_eq!(outdated(at_the_beginning).count(), 0);
    }

    #[test]
    fn the_fields_of_a_day_become_rows() {
        let day = Day::new(20_000).unwrap();
        let place = Place::new("chat", "a", "n");
        let fields = [
            (field(What::Hit, place), 3),
            (field(What::Miss, place), 2),
            (field(What::Hit, Place::other("chat")), 1),
            (last_of(7), 5),
            (last_of(8), 9),
            ("rubbish".to_owned(), 1),
        ];
        let fields = fields.map(|(name, count)| (name.into_bytes(), count));
        let mut stored = Stored::default();
        add_up(day, &BTreeMap::from(fields), 7, &mut stored);
        assert_eq!(stored.last, 5);
        let rows = stored.rows.iter();
        let rows: Vec<_> = rows.map(|row| (&*row.model, row.counts.calls())).collect();
        assert_eq!(rows, [("a", 5), (OTHER, 1)]);
    }
}
