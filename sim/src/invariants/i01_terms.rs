//! I1, of the metadata group: a voter never forgets a vote that it gave, nor the term of
//! it, not by a loss of power either: it might vote twice in one term (S-42). With its disk
//! it forgets them all: on another data directory than the one its id is known by, it has
//! no part in any term.
//!
//! What counts is the vote that was saved: every message about a term waits for that. The
//! term that openraft has in memory is ahead of it, and a voter may die before it is saved.

use std::collections::BTreeMap;

use weir_base::{NodeId, Uuid};

use super::{Check, Told};
use crate::probe::Seen;

/// A term, and for whom. They only grow: in a term, a vote goes from a node to one with a
/// higher id, as openraft orders them.
type Vote = (u64, Option<NodeId>);

pub(super) struct Terms {
    last: BTreeMap<(NodeId, Uuid), Vote>,
    forgetful: Option<NodeId>,
}

impl Terms {
    pub(super) fn new(forgetful: Option<NodeId>) -> Self {
        Self {
            last: BTreeMap::new(),
            forgetful,
        }
    }
}

impl Check for Terms {
    fn look(&mut self, seen: &Seen, _: &Told) -> Vec<String> {
        let mut broken = Vec::new();
        for (node, inside) in &seen.nodes {
            let Some(vote) = inside.vote else {
                continue;
            };
            let before = self.last.insert((*node, inside.directory), vote);
            if let Some(before) = before.filter(|before| *before > vote)
                && self.forgetful != Some(*node)
            {
                broken.push(format!(
                    "I1: voter {node} was in {} and is in {} after its start",
                    describe(before),
                    describe(vote)
                ));
            }
            let (term, _) = vote;
            let known = seen.newest.nodes.get(node).map(|known| known.storage);
            if term > 0 && known.is_some_and(|known| known != inside.directory) {
                broken.push(format!(
                    "I1: voter {node} came back with another disk and is in term {term}"
                ));
            }
        }
        broken
    }
}

fn describe((term, voted_for): Vote) -> String {
    match voted_for {
        Some(node) => format!("term {term} with its vote for {node}"),
        None => format!("term {term}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::Scene;

    const KNOWN: Uuid = Uuid::ZERO;

    /// Term and candidate; `None`: the voter does not run.
    type Vote = Option<(u64, u32)>;

    fn look(check: &mut Terms, directory: Uuid, vote: Vote) -> usize {
        let mut seen = Scene::new().leader(1, 1, 5).seen();
        let inside = seen.nodes.entry(NodeId(1)).or_default();
        let vote = vote.map(|(term, node)| (term, Some(NodeId(node))));
        (inside.directory, inside.vote) = (directory, vote);
        check.look(&seen, &Told::new()).len()
    }

    /// The last look is the one that is judged.
    #[test]
    fn a_vote_that_is_forgotten_is_flagged() {
        let histories: [(&str, &[Vote], usize); 6] = [
            ("the same", &[Some((3, 1)), None, Some((3, 1))], 0),
            ("a newer term", &[Some((3, 2)), None, Some((4, 1))], 0),
            ("another in its term", &[Some((3, 1)), Some((3, 2))], 0),
            ("a term", &[Some((4, 1)), None, Some((3, 3))], 1),
            ("a vote", &[Some((3, 2)), None, Some((3, 1))], 1),
            ("all", &[Some((3, 2)), None, Some((0, 0))], 1),
        ];
        for (what, looks, expected) in histories {
            let mut check = Terms::new(None);
            let found: Vec<usize> = looks
                .iter()
                .map(|vote| look(&mut check, KNOWN, *vote))
                .collect();
            let (last, before) = found.split_last().unwrap();
            assert_eq!((*last, before.iter().sum()), (expected, 0), "{what}");
            let mut forgiving = Terms::new(Some(NodeId(1)));
            for vote in looks {
                assert_eq!(
                    look(&mut forgiving, KNOWN, *vote),
                    0,
                    "{what}, its log rots"
                );
            }
        }
    }

    #[test]
    fn a_voter_with_another_disk_is_flagged_when_it_takes_part() {
        let mut check = Terms::new(None);
        let other = Uuid([7; 16]);
        assert_eq!(look(&mut check, KNOWN, Some((3, 1))), 0);
        assert_eq!(look(&mut check, other, Some((0, 0))), 0);
        assert_eq!(look(&mut check, other, Some((3, 1))), 1);
    }
}
