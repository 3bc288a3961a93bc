//! I2 of who follows: since it knows of an epoch, it takes in nothing but what the leader of
//! that epoch has. What an older leader sent comes too late, and would be taken for part of
//! the log that the new one counts (S-03).

use std::collections::BTreeMap;

use weir_base::{LeaderEpoch, NodeId, Offset, TopicPartition};

use super::{Check, Told};
use crate::probe::{ReplicaSeen, Seen};

/// One follower in one epoch, and in one run of its node.
type Follower = (NodeId, u64, LeaderEpoch);

/// Where each log ended at the look before.
#[derive(Default)]
pub(super) struct Follows(BTreeMap<(TopicPartition, NodeId), (Follower, Offset)>);

impl Check for Follows {
    fn look(&mut self, seen: &Seen, _: &Told) -> Vec<String> {
        let mut broken = Vec::new();
        for (node, inside) in &seen.nodes {
            for (at, replica) in &inside.replicas {
                let Some((epoch, end)) = replica.tail.filter(|_| !replica.is_failed) else {
                    self.0.remove(&(*at, *node));
                    continue;
                };
                let follower = (*node, inside.start, replica.leader_epoch);
                let before = self.0.insert((*at, *node), (follower, end));
                let grew = before.is_some_and(|(known, was)| known == follower && end > was);
                if !grew || replica.is_leader || epoch >= replica.leader_epoch {
                    continue;
                }
                let leaders = seen.replicas(*at).filter(|(_, leader)| {
                    leader.is_leader && leader.leader_epoch == replica.leader_epoch
                });
                for (leader, lead) in leaders {
                    if let Some(theirs) = end_of(lead, epoch).filter(|theirs| *theirs < end) {
                        broken.push(format!(
                            "I2: {at}: node {node} follows node {leader} in epoch {} and took in data of epoch {epoch} up to {end}, which ends there at {theirs}",
                            replica.leader_epoch
                        ));
                    }
                }
            }
        }
        broken
    }
}

fn end_of(leader: &ReplicaSeen, epoch: LeaderEpoch) -> Option<Offset> {
    let mut epochs = leader.epochs.iter();
    epochs
        .find(|(known, _)| *known == epoch)
        .map(|(_, end)| *end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::Scene;

    /// Node 1 leads in epoch 2, and epoch 1 ends there at 5. Node 2 follows, and its log
    /// ends so at two looks.
    fn is_flagged(epochs: [u64; 2], tails: [(u32, u64); 2]) -> bool {
        let mut check = Follows::default();
        epochs.into_iter().zip(tails).any(|(knows, (epoch, end))| {
            let mut scene = Scene::new().leader(1, 2, 9).follower(2, knows, end);
            scene.replica(1).epochs =
                vec![(LeaderEpoch(2), Offset(9)), (LeaderEpoch(1), Offset(5))];
            scene.replica(2).tail = Some((LeaderEpoch(epoch), Offset(end)));
            !check.look(&scene.seen(), &Told::new()).is_empty()
        })
    }

    #[test]
    fn a_follower_that_takes_in_what_its_leader_lacks_is_flagged() {
        assert!(is_flagged([2, 2], [(1, 5), (1, 6)]));
        assert!(!is_flagged([2, 2], [(1, 4), (1, 5)]), "it catches up");
        assert!(!is_flagged([2, 2], [(1, 5), (2, 6)]));
        assert!(!is_flagged([1, 2], [(1, 5), (1, 6)]), "before it knew");
        assert!(!is_flagged([2, 2], [(1, 7), (1, 7)]), "to be cut");
        assert!(!is_flagged([2, 2], [(1, 7), (1, 5)]));
    }
}
