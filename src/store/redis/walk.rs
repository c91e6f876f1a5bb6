//! Finding the entries in Redis, and reading what they are.
//!
//! # Scope
//! All entries are found by SCAN on every master, those of a key or with a tag by an index; in small pages, with a pause
//! between two, so that Redis is never busy with it. Of each entry only the head is read, which is not verified: it is good
//! for deleting and counting. A node that fails ends the walk.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::{
    Kind, Trouble,
    entries::{Redis, Shared},
    link::Master,
    page::{Bounds, Page},
    value,
};
use crate::{
    call::{Slot, key::Key},
    store::{codec::Damage, record::Lying},
};

/// Which entries are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among<'a> {
    /// Every one.
    All,
    /// Those with this tag, as far as its index knows them.
    Tag(&'a str),
    /// Those of this key: the usual one, and those of other deliveries as far as their index knows them.
    Key(Key),
}

/// Where keys of entries are listed.
#[derive(Clone)]
pub(super) enum List<'a> {
    /// On this server, among all others.
    Master(Master),
    /// In the index of a tag.
    Tag(&'a str),
    /// In that of a key.
    Key(Key),
}

/// A walk through a list.
pub(super) struct Walk<'a> {
    shared: &'a Shared,
    list: List<'a>,
    /// Where to go on; `None` at the end.
    cursor: Option<u64>,
}

/// The head of an entry.
#[derive(Debug)]
pub(super) struct Head {
    /// Where it lies.
    pub(super) key: String,
    /// What tells it from others that may lie under its key.
    pub(super) identity: Vec<u8>,
    /// What it says.
    pub(super) lying: Result<Lying, Damage>,
}

impl Redis {
    /// Calls `each` with each of these entries; `None` if not all of them were seen.
    pub(in crate::store) async fn look_through(
        &self,
        among: Among<'_>,
        mut each: impl FnMut(&Lying),
    ) -> Option<()> {
        for list in self.0.lists(among).ok()? {
            let mut walk = self.0.walk(list);
            while let Some(heads) = walk.next().await.ok()? {
                heads
                    .iter()
                    .flat_map(|head| &head.lying)
                    .for_each(&mut each);
            }
        }
        Some(())
    }
}

impl Shared {
    /// Returns where these entries are listed.
    pub(super) fn lists<'a>(&self, among: Among<'a>) -> Result<Vec<List<'a>>, Trouble> {
        Ok(match among {
            Among::All => self.link.masters()?.into_iter().map(List::Master).collect(),
            Among::Tag(tag) => vec![List::Tag(tag)],
            Among::Key(key) => vec![List::Key(key)],
        })
    }

    /// Begins a walk through `list`.
    pub(super) fn walk<'a>(&'a self, list: List<'a>) -> Walk<'a> {
        Walk {
            shared: self,
            list,
            cursor: Some(0),
        }
    }

    async fn heads(&self, keys: &[String]) -> Result<Vec<Head>, Trouble> {
        let mut heads = Vec::with_capacity(keys.len());
        for some in keys.chunks(AT_ONCE) {
            for head in join_all(some.iter().map(|key| self.head(key))).await {
                heads.push(head?);
            }
        }
        Ok(heads)
    }

    /// Reads the head of what lies under `key`.
    async fn head(&self, key: &str) -> Result<Head, Trouble> {
        let mut front = self.front(key, FRONT).await?;
        let mut lying = value::decode_head(&front);
        if lying.is_err() && front.len() > FRONT {
            front = self.front(key, LONG_FRONT).await?;
            lying = value::decode_head(&front);
        }
        let is_there = |lying: &Lying| self.layout.entry(&lying.slot) == key;
        Ok(Head {
            key: key.to_owned(),
            identity: value::identity(&front).to_vec(),
            lying: lying.and_then(|lying| is_there(&lying).then_some(lying).ok_or(Damage::Key)),
        })
    }

    /// Returns the first bytes of what lies under `key`, one more than `most`; none where there are none.
    async fn front(&self, key: &str, most: usize) -> Result<Vec<u8>, Trouble> {
        let mut command = redis::cmd("GETRANGE");
        command.arg(key).arg(0).arg(most);
        match self.link.ask(key, &command, PATIENCE).await {
            // Another program's.
            Err(trouble) if trouble.kind == Kind::Type => Ok(Vec::new()),
            front => front,
        }
    }
}

impl Walk<'_> {
    /// Returns the heads of the next page; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Head>>, Trouble> {
        let Some(cursor) = self.cursor else {
            return Ok(None);
        };
        if cursor != 0 {
            sleep(PAUSE).await;
        }
        let layout = &self.shared.layout;
        let (next, mut keys) = match &self.list {
            List::Master(master) => self.scan(master, cursor).await?,
            List::Tag(tag) => self.indexed(&layout.tag(tag), cursor).await?,
            List::Key(key) => {
                let (next, mut keys) = self.indexed(&layout.deliveries(key), cursor).await?;
                let usual = Slot {
                    key: *key,
                    delivery: 0,
                };
                keys.push(layout.entry(&usual));
                (next, keys)
            }
        };
        self.cursor = Some(next).filter(|next| *next != 0);
        // While its table changes in size, Redis may say the same twice.
        keys.sort_unstable();
        keys.dedup();
        self.shared.heads(&keys).await.map(Some)
    }

    async fn scan(&self, master: &Master, cursor: u64) -> Result<(u64, Vec<String>), Trouble> {
        let Shared { link, layout, .. } = self.shared;
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(layout.entries());
        command.arg("COUNT").arg(PAGE).arg("TYPE").arg("string");
        let (next, keys): (u64, Vec<Vec<u8>>) = link.ask_master(master, &command, PATIENCE).await?;
        let keys = keys.into_iter().flat_map(String::from_utf8);
        Ok((next, keys.collect()))
    }

    /// Returns the next keys of the index at `key`; none where something else lies there.
    async fn indexed(&self, key: &str, cursor: u64) -> Result<(u64, Vec<String>), Trouble> {
        let Shared {
            link,
            layout,
            scripts,
            ..
        } = self.shared;
        let mut page = scripts.pages.of(key, MEMBERS, "ZSCAN");
        page.arg(cursor).arg("COUNT").arg(PAGE);
        let (next, members, _): Page<Vec<u8>> = match link.run(key, &page, PATIENCE).await {
            Err(trouble) if trouble.kind == Kind::Type => return Ok((0, Vec::new())),
            page => page?,
        };
        let slots = members.iter().filter_map(|(member, _)| layout.slot(member));
        Ok((next, slots.map(|slot| layout.entry(&slot)).collect()))
    }
}

/// Keys of a page, about.
const PAGE: usize = 200;
/// Members of an index are shorter.
const MEMBERS: Bounds = Bounds {
    name: 64,
    value: 32,
};
/// Questions that are put at once.
pub(super) const AT_ONCE: usize = 64;
/// Bytes that a head usually has at most.
const FRONT: usize = 1 << 10;
/// Bytes that a head has at most.
const LONG_FRONT: usize = 64 << 10;
/// Between two pages.
const PAUSE: Duration = Duration::from_millis(5);
/// For one question.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
