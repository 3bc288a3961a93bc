//! Waits for logs to be cut, so that their node is killed right then, and looks whether what
//! was behind a cut comes back (S-10).
//!
//! Nothing is written to a log between the kill and the first look at it when it is open
//! again: where it ends then is where the cut left it.

use std::collections::BTreeMap;

use weir_base::{NodeId, Offset, TopicPartition};

pub(super) type LogEnds = BTreeMap<TopicPartition, Offset>;

#[derive(Default)]
pub(super) struct Cuts {
    /// Of nodes that are to be killed at a cut: where their logs ended at the last look.
    awaited: BTreeMap<NodeId, LogEnds>,
    /// Where logs ended whose node was killed for that, until they are open again.
    made: BTreeMap<NodeId, LogEnds>,
}

/// What a look at a node shows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// One of its logs ends before where it ended at the last look: it is to be killed.
    pub(super) was_cut: bool,
    /// What is broken.
    pub(super) violations: Vec<String>,
}

impl Cuts {
    /// From now on waits for a cut at a node whose logs end there.
    pub(super) fn arm(&mut self, node: NodeId, ends: LogEnds) {
        self.awaited.insert(node, ends);
    }

    /// Waits for none any more.
    pub(super) fn disarm(&mut self) {
        self.awaited.clear();
    }

    /// Whether a node is to be looked at.
    pub(super) fn watch(&self, node: NodeId) -> bool {
        let of_use = |ends: &LogEnds| !ends.is_empty();
        self.awaited.contains_key(&node) || self.made.get(&node).is_some_and(of_use)
    }

    /// Looks where the logs of a running node end. First at what became of earlier cuts: one
    /// that is found now is not looked at before its log is opened again.
    pub(super) fn look(&mut self, node: NodeId, ends: &LogEnds) -> Look {
        let violations = self.look_behind(node, ends);
        let awaited = self.awaited.get_mut(&node);
        let before = awaited.map(|before| std::mem::replace(before, ends.clone()));
        let before = before.unwrap_or_default();
        let is_shorter = |at, end: &Offset| before.get(at).is_some_and(|before| before > end);
        let cut = ends.iter().filter(|(at, end)| is_shorter(at, end));
        let cut: LogEnds = cut.map(|(at, end)| (*at, *end)).collect();
        let was_cut = !cut.is_empty();
        if was_cut {
            self.awaited.remove(&node);
            self.made.insert(node, cut);
        }
        Look {
            was_cut,
            violations,
        }
    }

    fn look_behind(&mut self, node: NodeId, ends: &LogEnds) -> Vec<String> {
        let Some(made) = self.made.get_mut(&node) else {
            return Vec::new();
        };
        let mut violations = Vec::new();
        for (at, end) in ends.iter().filter(|(_, end)| **end != Offset::default()) {
            let cut_at = made.remove(at);
            if let Some(before) = cut_at.filter(|before| before < end) {
                violations.push(format!(
                    "I12: node {node} was killed when its log of {at} was cut and ended at {before}; opened again it ends at {end}"
                ));
            }
        }
        violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::AT;

    const NODE: NodeId = NodeId(1);

    fn ends(end: u64) -> LogEnds {
        [(AT, Offset(end))].into()
    }

    /// Looks at one node after the other end of its log; says at which looks it was cut, and
    /// how many looks found what must not be.
    fn looks(log_ends: &[u64]) -> (Vec<usize>, usize) {
        let mut cuts = Cuts::default();
        cuts.arm(NODE, ends(9));
        let looks: Vec<Look> = log_ends
            .iter()
            .map(|end| cuts.look(NODE, &ends(*end)))
            .collect();
        let cut = (0..).zip(&looks).filter(|(_, look)| look.was_cut);
        let broken = looks.iter().filter(|look| !look.violations.is_empty());
        (cut.map(|(index, _)| index).collect(), broken.count())
    }

    #[test]
    fn a_log_that_comes_back_longer_than_it_was_cut_to_is_flagged() {
        assert_eq!(looks(&[9, 12, 7, 0, 12]), (vec![2], 1));
    }

    #[test]
    fn one_that_comes_back_as_it_was_cut_is_not_and_may_grow_again() {
        assert_eq!(looks(&[9, 12, 7, 0, 7, 12]), (vec![2], 0));
        assert_eq!(looks(&[9, 12, 12]), (vec![], 0));
        let mut cuts = Cuts::default();
        assert!(!cuts.watch(NODE));
        cuts.arm(NODE, ends(9));
        assert!(cuts.watch(NODE));
        assert!(cuts.look(NODE, &ends(8)).was_cut && cuts.watch(NODE));
        assert_eq!(cuts.look(NODE, &ends(8)), Look::default());
        assert!(!cuts.watch(NODE), "it was looked behind");
    }
}
