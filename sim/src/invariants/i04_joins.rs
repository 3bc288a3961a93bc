//! I4 of who joins: it holds all that was there when its leader was elected. What is
//! committed of that the leader may not know yet, so its own watermark is no measure (S-07).

use std::sync::Arc;

use weir_base::image::ClusterImage;
use weir_base::{LeaderEpoch, Offset};

use super::{Check, Told};
use crate::probe::{ReplicaSeen, Seen};

#[derive(Default)]
pub(super) struct Joins(Arc<ClusterImage>);

/// Where an epoch began in a log.
fn start_of(epoch: LeaderEpoch, replica: &ReplicaSeen) -> Option<Offset> {
    let mut epochs = replica.epochs.iter();
    let (newest, _) = epochs.next()?;
    let (_, end) = epochs.next()?;
    (*newest == epoch).then_some(*end)
}

impl Check for Joins {
    fn look(&mut self, seen: &Seen, _: &Told) -> Vec<String> {
        let mut broken = Vec::new();
        let before = std::mem::replace(&mut self.0, Arc::clone(&seen.newest));
        if before.version == seen.newest.version {
            return broken;
        }
        for (at, record) in seen.strict() {
            let Some(known) = before.partition(at) else {
                continue;
            };
            let leader = seen.replicas(at).find(|(node, replica)| {
                record.leader == Some(*node) && replica.leader_epoch == record.leader_epoch
            });
            let start = leader.and_then(|(_, leader)| start_of(record.leader_epoch, leader));
            let Some(start) = start.filter(|_| known.leader_epoch == record.leader_epoch) else {
                continue;
            };
            for (node, replica) in seen.replicas(at) {
                let joins = record.isr.contains(&node) && !known.isr.contains(&node);
                if joins && !replica.is_failed && replica.durable_end < start {
                    broken.push(format!(
                        "I4: {at}: node {node} joined the ISR in epoch {} with {} on its disk; the epoch began at {start}",
                        record.leader_epoch, replica.durable_end
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

    /// Node 2 joins the ISR of node 1, which leads in epoch 2 since offset 5.
    fn is_flagged(known: &[u32], epoch_before: u64, end: u64) -> bool {
        let mut check = Joins::default();
        let before = Scene::new()
            .leader(1, epoch_before, 9)
            .isr(known)
            .version(3);
        assert!(check.look(&before.seen(), &Told::new()).is_empty());
        let mut scene = Scene::new().leader(1, 2, 9).follower(2, 2, end);
        scene.replica(1).epochs = vec![(LeaderEpoch(2), Offset(9)), (LeaderEpoch(1), Offset(5))];
        let after = scene.isr(&[1, 2]).version(4);
        !check.look(&after.seen(), &Told::new()).is_empty()
    }

    #[test]
    fn who_joins_before_it_reached_the_start_of_the_epoch_is_flagged() {
        assert!(is_flagged(&[1], 2, 4));
        assert!(!is_flagged(&[1], 2, 5));
        assert!(
            !is_flagged(&[1, 2], 2, 4),
            "it was a member when this began"
        );
        assert!(
            !is_flagged(&[1], 1, 4),
            "it may have joined in the epoch before"
        );
    }
}
