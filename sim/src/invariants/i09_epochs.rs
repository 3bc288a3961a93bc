//! I9: at every observer, epochs never fall.

use std::collections::BTreeMap;

use weir_base::{LeaderEpoch, NodeId, PartitionEpoch, TopicPartition};

use super::{Check, Told};
use crate::probe::Seen;

/// One replica of one run of a node.
type Observer = (NodeId, u64, TopicPartition);

#[derive(Default)]
pub(super) struct Epochs {
    replicas: BTreeMap<Observer, (LeaderEpoch, PartitionEpoch)>,
    images: BTreeMap<(NodeId, u64), u64>,
}

impl Check for Epochs {
    fn look(&mut self, seen: &Seen, _: &Told) -> Vec<String> {
        let mut broken = Vec::new();
        for (node, inside) in &seen.nodes {
            let version = inside.image.version;
            let before = self.images.insert((*node, inside.start), version);
            if before.is_some_and(|before| before > version) {
                broken.push(format!(
                    "I9: the image of node {node} fell from {before:?} to {version}"
                ));
            }
            for (at, replica) in &inside.replicas {
                let now = (replica.leader_epoch, replica.partition_epoch);
                let before = self.replicas.insert((*node, inside.start, *at), now);
                if before.is_some_and(|before| before.0 > now.0 || before.1 > now.1) {
                    broken.push(format!(
                        "I9: {at} on node {node}: epochs fell from {before:?} to {now:?}"
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
    use crate::invariants::testing::Scene;

    #[test]
    fn an_epoch_that_falls_is_flagged() {
        let mut check = Epochs::default();
        let mut look = |epoch| {
            let scene = Scene::new().leader(1, epoch, 5);
            check.look(&scene.seen(), &Told::new()).len()
        };
        assert_eq!([look(1), look(2), look(2), look(1)], [0, 0, 0, 1]);
    }
}
