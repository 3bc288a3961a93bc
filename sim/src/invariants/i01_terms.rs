//! I1, of the metadata group: a voter never forgets a term that it was in, not by a loss
//! of power either: it might vote twice in one (S-42). With its disk it forgets them all:
//! on another data directory than the one its id is known by, it has no part in any term.

use std::collections::BTreeMap;

use weir_base::{NodeId, Uuid};

use super::{Check, Told};
use crate::probe::Seen;

pub(super) struct Terms {
    highest: BTreeMap<(NodeId, Uuid), u64>,
    forgetful: Option<NodeId>,
}

impl Terms {
    pub(super) fn new(forgetful: Option<NodeId>) -> Self {
        Self {
            highest: BTreeMap::new(),
            forgetful,
        }
    }
}

impl Check for Terms {
    fn look(&mut self, seen: &Seen, _: &Told) -> Vec<String> {
        let mut broken = Vec::new();
        for (node, inside) in &seen.nodes {
            let Some(term) = inside.term else {
                continue;
            };
            let before = self.highest.insert((*node, inside.directory), term);
            if let Some(before) = before.filter(|before| *before > term)
                && self.forgetful != Some(*node)
            {
                broken.push(format!(
                    "I1: voter {node} was in term {before} and is in term {term} after its start"
                ));
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::Scene;

    const KNOWN: Uuid = Uuid::ZERO;

    fn look(check: &mut Terms, directory: Uuid, term: Option<u64>) -> usize {
        let mut seen = Scene::new().leader(1, 1, 5).seen();
        let inside = seen.nodes.entry(NodeId(1)).or_default();
        (inside.directory, inside.term) = (directory, term);
        check.look(&seen, &Told::new()).len()
    }

    #[test]
    fn a_term_that_is_forgotten_is_flagged() {
        let mut check = Terms::new(None);
        let good = [Some(3), None, Some(3), Some(4)];
        assert_eq!(good.map(|term| look(&mut check, KNOWN, term)), [0; 4]);
        assert_eq!(look(&mut check, KNOWN, Some(3)), 1);
    }

    #[test]
    fn a_voter_with_another_disk_is_flagged_when_it_takes_part() {
        let mut check = Terms::new(None);
        let other = Uuid([7; 16]);
        assert_eq!(look(&mut check, KNOWN, Some(3)), 0);
        assert_eq!(look(&mut check, other, Some(0)), 0);
        assert_eq!(look(&mut check, other, Some(3)), 1);
    }
}
