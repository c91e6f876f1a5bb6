//! Where everything lies, for who has to see all of it.
//!
//! # Scope
//! A look at everything goes from server to server, while a cluster may move keys from one that is still to come to one that
//! was looked at. So it is asked for a survey before and behind: if the two are the same, nothing was moved meanwhile.
//! There is none where hash slots lie nowhere, or are just being moved.

use std::sync::atomic::Ordering;

use futures_util::future::try_join_all;
use redis::Cmd;

use super::{Inner, Master, Question, hash_slot::SLOTS, node::Entrance};
use crate::{
    config::Host,
    store::redis::trouble::{Kind, Trouble},
};

/// Which hash slots lie on which server, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey(Vec<(u16, u16, Master)>);

impl Survey {
    /// Returns every server, each once.
    pub fn masters(&self) -> Vec<&Master> {
        let mut masters = Vec::new();
        for (_, _, master) in &self.0 {
            if !masters.contains(&master) {
                masters.push(master);
            }
        }
        masters
    }

    /// Returns the survey of a server that has everything.
    fn of_one() -> Self {
        Self(vec![(0, SLOTS - 1, Master(None))])
    }

    /// Returns the survey of a cluster that tells this, first and last slot of each range and where its master is; `None`
    /// if slots lie nowhere, or on two.
    fn told(mut slots: Vec<(u16, u16, Host)>) -> Option<Self> {
        slots.sort_by_key(|(first, ..)| *first);
        let mut next = 0;
        for (first, last, _) in &slots {
            if *first != next {
                return None;
            }
            next = last.saturating_add(1);
        }
        let ranges = slots.into_iter();
        let ranges = ranges.map(|(first, last, host)| (first, last, Master(Some(host))));
        (next == SLOTS).then(|| Self(ranges.collect()))
    }
}

impl Inner {
    /// Finds out what lies where.
    pub(super) async fn survey(&self) -> Result<Survey, Trouble> {
        if !self.in_cluster.load(Ordering::Relaxed) {
            return Ok(Survey::of_one());
        }
        let incomplete = || Trouble::new(Kind::Refused, "a part of the cluster is missing");
        let survey = Survey::told(self.ask_around().await?).ok_or_else(incomplete)?;
        try_join_all(
            survey
                .masters()
                .into_iter()
                .map(|master| self.rests(master)),
        )
        .await?;
        Ok(survey)
    }

    /// Fails where `master` gives slots to another, or takes some over.
    async fn rests(&self, master: &Master) -> Result<(), Trouble> {
        let node = self.table.load().at(master.0.as_ref()).cloned();
        let mut command = Cmd::new();
        command.arg("CLUSTER").arg("NODES");
        let question = Question::Command(&command);
        let patience = super::connect::MOST_PATIENCE;
        let told: String = self.put(node, question, patience, Entrance::Main).await?;
        if moves(&told) {
            return Err(Trouble::new(Kind::Refused, "slots are being moved"));
        }
        Ok(())
    }
}

/// Returns whether a node that tells this of its cluster gives slots to another, or takes some over: of those, and in
/// brackets, it tells in its own line alone.
fn moves(told: &str) -> bool {
    let slots = |line: &str| line.split(' ').skip(8).any(|slots| slots.starts_with('['));
    told.lines().any(slots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(port: u16) -> Host {
        Host {
            name: "h".to_owned(),
            port,
        }
    }

    #[test]
    fn a_part_is_not_taken_for_the_whole() {
        let whole = vec![
            (8_000, 16_383, host(2)),
            (0, 99, host(1)),
            (100, 7_999, host(2)),
        ];
        let survey = Survey::told(whole).unwrap();
        let masters = [host(1), host(2)].map(|host| Master(Some(host)));
        assert_eq!(survey.masters(), masters.each_ref());
        for part in [
            vec![],
            vec![(0, 16_382, host(1))],
            vec![(1, 16_383, host(1))],
            vec![(0, 99, host(1)), (101, 16_383, host(2))],
            vec![(0, 100, host(1)), (100, 16_383, host(2))],
            vec![(0, 65_535, host(1))],
        ] {
            assert_eq!(Survey::told(part.clone()), None, "{part:?}");
        }
    }

    #[test]
    fn a_server_with_everything_is_the_whole() {
        assert_eq!(Survey::of_one().masters(), [&Master(None)]);
    }

    #[test]
    fn slots_that_are_being_moved_are_noticed() {
        // As redis-server 7.0.15 says while slot 5 goes from one to the other.
        let mine = "a1 127.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-5460";
        let other = "b2 127.0.0.1:7002@17002 master - 0 1700000000000 2 connected 5461-16383";
        for (marks, wanted) in [("", false), (" [5->-b2]", true), (" [5-<-b2]", true)] {
            assert_eq!(
                moves(&format!("{mine}{marks}\n{other}\n")),
                wanted,
                "{marks}"
            );
        }
        assert!(!moves(""));
        let unnamed = "a1 [::1]:7001@17001 myself,master - 0 0 1 connected 0-16383";
        assert!(!moves(unnamed), "an address in brackets");
    }
}
