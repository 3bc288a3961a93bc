//! I9: at every observer, epochs never fall.
//!
//! A copy that is opened again in the life of its process, made anew as a rule, has seen no
//! record until it is given one; that must not be older than what was seen before.

use std::collections::BTreeMap;

use weir_base::{LeaderEpoch, NodeId, PartitionEpoch, TopicPartition};

use super::{Check, Told};
use crate::probe::Seen;

/// One replica of one run of a node.
type Observer = (NodeId, u64, TopicPartition);

/// Records begin with 1.
const NO_RECORD: PartitionEpoch = PartitionEpoch(0);

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
            let told = inside.replicas.iter();
            for (at, replica) in told.filter(|(_, replica)| replica.partition_epoch != NO_RECORD) {
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

    /// Leader and partition epochs of each look; only the last may be wrong.
    #[test]
    fn an_epoch_that_falls_is_flagged() {
        let histories = [
            ([(1, 1), (2, 1), (2, 1), (1, 1)], 1),
            ([(1, 1), (2, 2), (2, 3), (2, 2)], 1),
            ([(1, 1), (2, 2), (0, 0), (2, 2)], 0),
            ([(1, 1), (2, 2), (0, 0), (1, 1)], 1),
            ([(1, 1), (2, 2), (0, 0), (2, 1)], 1),
        ];
        for (history, expected) in histories {
            let mut check = Epochs::default();
            let mut found = history.map(|(epoch, of_record)| {
                let mut scene = Scene::new().leader(1, epoch, 5);
                scene.replica(1).partition_epoch = PartitionEpoch(of_record);
                check.look(&scene.seen(), &Told::new()).len()
            });
            let last = std::mem::take(&mut found[3]);
            assert_eq!((last, found), (expected, [0; 4]), "{history:?}");
        }
    }
}
