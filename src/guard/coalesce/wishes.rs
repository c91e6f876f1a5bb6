//! What the members of a flight want of its storing. Pure.
//!
//! # Who counts
//! A flight is stored iff a member wants it, with the least lifetime and all tags of its members. A call that follows between
//! a stream and a plain answer is a member only if the recording can be told in its form, which is known at the end: until
//! then its wishes wait, together with those of its like.

use std::{collections::HashMap, time::Duration};

use crate::{call::plan::Plan, dialect::chat::form::Form};

/// What the members of a flight that want it stored want together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The least of their lifetimes.
    pub lifetime: Option<Duration>,
    /// All their tags, sorted.
    pub tags: Vec<String>,
}

/// The wishes for one flight, from its start to its end.
#[derive(Debug, Default)]
pub(super) struct Wishing {
    members: Wishes,
    /// The wishes of those who may turn out to be none, by the form that they asked for.
    waiting: HashMap<Form, Wishes>,
    /// The entry has been made of them: they cannot change any more.
    granted: bool,
}

impl Wishing {
    /// Adds what a call wants that asked for `asked` and joins a flight of the form `flown`; returns whether it will be heard.
    pub(super) fn wish(&mut self, plan: &Plan, flown: Form, asked: Form) -> bool {
        if !plan.store {
            return true;
        }
        if self.granted {
            return self.members.cover(plan);
        }
        if flown.is_stream() == asked.is_stream() {
            self.members.add(plan.lifetime, &plan.tags);
        } else {
            let others = self.waiting.entry(asked).or_default();
            others.add(plan.lifetime, &plan.tags);
        }
        true
    }

    /// Returns all tags that the entry may have, and these.
    pub(super) fn tags_with(&self, tags: &[String]) -> Vec<String> {
        let waiting = self.waiting.values().flat_map(|wishes| &wishes.tags);
        let all = self.members.tags.iter().chain(waiting).chain(tags);
        all.cloned().collect()
    }

    /// Grants the wishes of the members; those who asked for another form are members if it `serves` them.
    pub(super) fn grant(&mut self, serves: impl Fn(Form) -> bool) -> &Wishes {
        self.granted = true;
        for (asked, wishes) in std::mem::take(&mut self.waiting) {
            if let Some(lifetime) = wishes.lifetime
                && serves(asked)
            {
                self.members.add(lifetime, &wishes.tags);
            }
        }
        &self.members
    }
}

impl Wishes {
    fn add(&mut self, lifetime: Duration, tags: &[String]) {
        self.lifetime = Some(self.lifetime.map_or(lifetime, |known| known.min(lifetime)));
        self.tags.extend_from_slice(tags);
        self.tags.sort_unstable();
        self.tags.dedup();
    }

    /// Returns whether an entry made of these is what a call wants, too.
    fn cover(&self, plan: &Plan) -> bool {
        let lives_as_long = self.lifetime.is_some_and(|least| least <= plan.lifetime);
        lives_as_long && plan.tags.iter().all(|tag| self.tags.contains(tag))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::{call::plan::Policy, config::Config};

    const TELLING: Form = Form::Stream { usage: true };

    fn plan(seconds: u64, tag: &str) -> Plan {
        let config = Config::default();
        let lifetime = Duration::from_secs(seconds);
        let policy = Policy::new(&config.cache, &config.first_upstream().base_url, lifetime);
        let plan = policy.plan(&HeaderMap::new()).unwrap();
        Plan {
            lifetime,
            tags: vec![tag.to_owned()],
            ..plan
        }
    }

    fn wishes(seconds: u64, tags: &[&str]) -> Wishes {
        Wishes {
            lifetime: Some(Duration::from_secs(seconds)),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        }
    }

    #[test]
    fn a_wish_that_comes_too_late_is_not_taken_for_heard() {
        let mut wishing = Wishing::default();
        let mut wish = |seconds, tag| wishing.wish(&plan(seconds, tag), TELLING, TELLING);
        assert!(wish(60, "a"));
        assert!(wish(90, "b"));
        assert_eq!(*wishing.grant(|_| false), wishes(60, &["a", "b"]));
        for (seconds, tag, heard, why) in [
            (60, "a", true, "the entry is what this one wants"),
            (30, "a", false, "it would live too long"),
            (60, "c", false, "a purge by this tag would miss it"),
        ] {
            for asked in [TELLING, Form::Plain] {
                let late = wishing.wish(&plan(seconds, tag), TELLING, asked);
                assert_eq!(late, heard, "{why}");
            }
        }
    }

    #[test]
    fn whom_the_recording_does_not_serve_has_no_say_in_its_storing() {
        for (serves, expected) in [(true, wishes(30, &["a", "b"])), (false, Wishes::default())] {
            let mut wishing = Wishing::default();
            wishing.wish(&plan(60, "a"), TELLING, Form::Plain);
            wishing.wish(&plan(30, "b"), TELLING, Form::Plain);
            let granted = wishing.grant(|asked| serves && asked == Form::Plain);
            assert_eq!(*granted, expected);
        }
    }

    #[test]
    fn a_stream_that_follows_a_stream_is_a_member_at_once() {
        let mut wishing = Wishing::default();
        wishing.wish(&plan(60, "a"), TELLING, Form::Stream { usage: false });
        assert_eq!(*wishing.grant(|_| false), wishes(60, &["a"]));
    }

    #[test]
    fn who_wants_nothing_stored_is_always_heard_and_wishes_nothing() {
        let mut wishing = Wishing::default();
        let plan = Plan {
            store: false,
            ..plan(60, "a")
        };
        assert!(wishing.wish(&plan, TELLING, TELLING));
        assert_eq!(*wishing.grant(|_| true), Wishes::default());
        assert!(wishing.wish(&plan, TELLING, TELLING));
    }
}
