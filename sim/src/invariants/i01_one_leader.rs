//! I1: one leader per partition and leader epoch.

use std::collections::BTreeMap;

use weir_base::{LeaderEpoch, NodeId, TopicPartition};

use super::{Check, Told};
use crate::probe::Seen;

#[derive(Default)]
pub(super) struct OneLeader(BTreeMap<(TopicPartition, LeaderEpoch), (NodeId, u64)>);

impl Check for OneLeader {
    fn look(&mut self, seen: &Seen, _: &Told) -> Vec<String> {
        let mut broken = Vec::new();
        for (node, inside) in &seen.nodes {
            let leads = inside.replicas.iter().filter(|(_, r)| r.is_leader);
            for (at, replica) in leads {
                let epoch = replica.leader_epoch;
                let me = (*node, inside.start);
                let first = *self.0.entry((*at, epoch)).or_insert(me);
                if first != me {
                    broken.push(format!(
                        "I1: {at} was led in epoch {epoch} by node {} (start {}) and by node {node} (start {})",
                        first.0, first.1, inside.start
                    ));
                }
            }
        }
        broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{AT, Scene};

    #[test]
    fn two_leaders_of_one_epoch_are_flagged_and_of_two_are_not() {
        let mut check = OneLeader::default();
        let scene = |node, epoch| Scene::new().leader(node, epoch, 5).seen();
        assert!(check.look(&scene(1, 1), &Told::new()).is_empty());
        assert!(check.look(&scene(2, 2), &Told::new()).is_empty());
        assert!(check.look(&scene(2, 2), &Told::new()).is_empty());
        let broken = check.look(&scene(1, 2), &Told::new());
        assert!(
            broken.len() == 1 && broken[0].contains(&AT.to_string()),
            "{broken:?}"
        );
    }
}
