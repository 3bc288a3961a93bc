//! I4 of suspects: a copy that may lack its tail is elected only in the presence of all
//! others that once held everything, and told where they end (S-14). One that is away may be
//! the only whole one.

use std::sync::Arc;

use weir_base::image::{ClusterImage, PartitionRecord};
use weir_base::{NodeId, TopicPartition};

use super::{Check, Told};
use crate::probe::Seen;

#[derive(Default)]
pub(super) struct Suspects(Arc<ClusterImage>);

impl Check for Suspects {
    fn look(&mut self, seen: &Seen, _: &Told) -> Vec<String> {
        let newest = &seen.newest;
        let before = std::mem::replace(&mut self.0, Arc::clone(newest));
        if before.version == newest.version {
            return vec![];
        }
        let changes = newest.partitions().filter_map(|(at, record)| {
            let known = before.partition(at)?;
            broken((&before, known), (newest, record)).map(|how| describe(at, known, record, how))
        });
        changes.collect()
    }
}

fn describe(
    at: TopicPartition,
    known: &PartitionRecord,
    record: &PartitionRecord,
    (leader, absent): (NodeId, NodeId),
) -> String {
    format!(
        "I4: {at}: node {leader}, a suspect, was elected without node {absent}: {known:?} then {record:?}"
    )
}

/// The suspect that was elected in one step, and a member that was away then.
fn broken(
    (before, known): (&ClusterImage, &PartitionRecord),
    (after, record): (&ClusterImage, &PartitionRecord),
) -> Option<(NodeId, NodeId)> {
    // What happened in several steps might have been in order.
    let is_one_step = record.partition_epoch == known.partition_epoch.next();
    let leader = record.leader.filter(|leader| {
        is_one_step && known.leader.is_none() && known.suspects.contains(leader)
    })?;
    let is_active = |image: &ClusterImage, node: &NodeId| {
        let node = image.nodes.get(node);
        node.is_some_and(|node| node.is_active())
    };
    let mut members = known.isr.iter().chain(&known.elr);
    let absent = members.find(|node| !is_active(before, node) && !is_active(after, node));
    absent.map(|absent| (leader, *absent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::Scene;

    /// Node 2 is elected by the record of `steps` steps later; says whether that is flagged.
    fn is_flagged(suspects: &[u32], absent: &[u32], steps: u64) -> bool {
        let fenced = |scene: Scene| absent.iter().fold(scene, |scene, node| scene.fenced(*node));
        let waits = Scene::new().elr(&[2, 3]).suspects(suspects).version(7);
        let led = Scene::new().leader(2, 2, 5).version(7 + steps);
        let mut check = Suspects::default();
        let first = fenced(waits).seen();
        assert!(check.look(&first, &Told::new()).is_empty());
        let second = fenced(led).seen();
        !check.look(&second, &Told::new()).is_empty()
    }

    #[test]
    fn a_suspect_that_is_elected_in_the_absence_of_another_is_flagged() {
        assert!(is_flagged(&[2], &[3], 1));
        assert!(is_flagged(&[2, 3], &[3], 1));
        assert!(!is_flagged(&[2], &[], 1), "all could be asked");
        assert!(!is_flagged(&[3], &[3], 1), "it is above suspicion");
        assert!(!is_flagged(&[2], &[1], 1), "that one is no member");
        assert!(!is_flagged(&[2], &[3], 2), "something came in between");
    }
}
