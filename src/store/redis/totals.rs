//! Counters in Redis: a hash for each day, to which all replicas add.
//!
//! ```text
//! refrain:totals:20261121    hit:chat:5:gpt-4teamA    1207       what, dialect, length of the model, model, namespace
//!                            seq:9f3a6c0d11e28b74       42       the last batch of a replica
//! ```
//!
//! # Scope
//! A batch is one script: it is added whole or not at all, and once, as the replica's number is raised with it. Fields that
//! are none of ours are passed over, and a key of another type is deleted. Reading goes by pages and is bounded.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use redis::Script;

use super::{
    Kind, Link, Redis, Trouble,
    layout::Layout,
    page::{Bounds, Page, Pages},
};
use crate::{
    config::MAX_NAME,
    store::totals::{Batch, Counts, Day, KEPT, MOST_A_DAY, Place, Stored, What},
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
    /// Adds a batch, unless it was added before.
    pub async fn keep(&self, batch: &Batch) -> Result<(), Trouble> {
        let key = self.key(batch.day);
        let mut call = self.script.key(&key);
        call.arg(last_of(batch.writer)).arg(batch.number);
        call.arg(u64::from(KEPT) * DAY).arg(MOST_A_DAY);
        for row in &batch.rows {
            for (what, count) in row.counts.iter() {
                let other = Place::other(&row.dialect);
                call.arg(field(what, row.place())).arg(field(what, other));
                call.arg(count);
            }
        }
        self.link.run::<()>(&key, &call, PATIENCE).await
    }

    /// Returns what was counted from `first` to `last`, the latest first, and which batch of `writer` is the last in it.
    pub async fn read(&self, first: Day, last: Day, writer: u64) -> Result<Stored, Trouble> {
        let mut stored = Stored::default();
        let mut room = MOST_READ;
        for number in (first.number()..=last.number()).rev() {
            let Some(day) = Day::new(i64::from(number)) else {
                continue;
            };
            self.read_day(day, writer, &mut room, &mut stored).await?;
        }
        Ok(stored)
    }

    async fn read_day(
        &self,
        day: Day,
        writer: u64,
        room: &mut usize,
        stored: &mut Stored,
    ) -> Result<(), Trouble> {
        let key = self.key(day);
        // While Redis makes room it may tell a field twice.
        let mut fields = BTreeMap::<Vec<u8>, u64>::new();
        let (mut cursor, mut seen) = (0_u64, 0_usize);
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
            seen = seen.saturating_add(page.len());
            seen = seen.saturating_add(usize::try_from(left_out).unwrap_or(usize::MAX));
            for (name, value) in page {
                fields.extend(count(&value).map(|count| (name, count)));
            }
            cursor = next;
            stored.is_cut |= seen > *room;
            if cursor == 0 || seen > *room {
                break;
            }
        }
        *room = room.saturating_sub(seen);
        add_up(day, &fields, writer, stored);
        Ok(())
    }

    fn key(&self, day: Day) -> String {
        let date = day.to_string().replace('-', "");
        self.layout.fact(&format!("totals:{date}"))
    }
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

/// Adds a batch: the key; the field of the writer's last number, this number, seconds to live, fields that a day may have;
/// then for each count its field, the one that takes its place where there are too many, and the amount.
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
redis.call('EXPIRE', key, ARGV[3])
local is_full = redis.call('HLEN', key) >= tonumber(ARGV[4])
for at = 5, #ARGV, 3 do
  local field = ARGV[at]
  if is_full and redis.call('HEXISTS', key, field) == 0 then field = ARGV[at + 1] end
  local raised = redis.pcall('HINCRBY', key, field, ARGV[at + 2])
  if type(raised) == 'table' and raised.err then redis.call('HSET', key, field, ARGV[at + 2]) end
end
return 1
";

/// What the fields begin with that have the last numbers.
const LAST: &str = "seq:";
/// For Redis to add a batch, or to return a page: no call waits for that.
const PATIENCE: Duration = Duration::from_millis(500);
/// Fields of a page.
const PAGE: usize = 500;
/// Fields that are read at once.
const MOST_READ: usize = 100_000;
/// The longest that a field of ours can be.
const BOUNDS: Bounds = Bounds {
    name: LONGEST,
    value: 32,
};
/// Bytes of the longest name of a field.
const LONGEST: usize = 4 * MAX_NAME;
/// Seconds of a day.
const DAY: u64 = 86_400;

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
