//! I10, of async replication: a leader whose lease ran out acknowledges nothing alone, so
//! it takes nothing in either. Another may lead already, and what it takes is lost (S-08).

use std::collections::BTreeMap;

use weir_base::image::ReplicationMode;
use weir_base::{LeaderEpoch, NodeId, Offset, TopicPartition};

use super::{Check, Told};
use crate::probe::Seen;

/// Looks, 6 ms apart, within which what was under way may still be written.
const UNDER_WAY: u32 = 400;
/// Looks between two writes that are no single one any more.
const APART: u32 = 200;

/// One epoch of a leader, in one run of its node.
type Leader = (NodeId, u64, TopicPartition, LeaderEpoch);

/// How long it has been without a lease, and what it did.
#[derive(Default)]
struct Spell {
    looks: u32,
    end: Offset,
    first_growth: Option<u32>,
}

#[derive(Default)]
pub(super) struct Lease(BTreeMap<Leader, Spell>);

impl Check for Lease {
    fn look(&mut self, seen: &Seen, _: &Told) -> Vec<String> {
        let mut broken = Vec::new();
        for (node, inside) in &seen.nodes {
            for (at, replica) in &inside.replicas {
                let mode = inside
                    .image
                    .partition(*at)
                    .map(|p| p.durability.replication);
                let leader = (*node, inside.start, *at, replica.leader_epoch);
                let is_without = replica.is_leader && replica.is_ready && !replica.may_answer;
                if !is_without || mode != Some(ReplicationMode::Async) {
                    self.0.remove(&leader);
                    continue;
                }
                let spell = self.0.entry(leader).or_default();
                spell.looks += 1;
                let grew = replica.log_end > spell.end && spell.looks > UNDER_WAY;
                spell.end = replica.log_end;
                // A process that was stopped ends what it was at when it goes on: once.
                let first = grew.then(|| *spell.first_growth.get_or_insert(spell.looks));
                if first.is_some_and(|first| spell.looks - first > APART) {
                    broken.push(format!(
                        "I10: node {node} has had no lease for {} looks, leads {at} in epoch {} and goes on to take in what it may acknowledge alone, up to {}",
                        spell.looks, replica.leader_epoch, replica.log_end
                    ));
                }
            }
        }
        broken
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::invariants::testing::Scene;

    /// Looks at a leader whose log grows at these looks; says whether one was flagged.
    fn is_flagged(mode: ReplicationMode, has_lease: bool, grows: &[u32]) -> bool {
        let mut check = Lease::default();
        (0..UNDER_WAY * 3).any(|look| {
            let grown = grows.iter().filter(|grow| **grow <= look).count();
            let mut scene = Scene::new().leader(1, 1, grown as u64);
            scene.replica(1).may_answer = has_lease;
            let mut seen = scene.seen();
            let inside = seen.nodes.values_mut().next().unwrap();
            let image = Arc::make_mut(&mut inside.image);
            let topic = image.topics.values_mut().next().unwrap();
            Arc::make_mut(topic).partitions[0].durability.replication = mode;
            !check.look(&seen, &Told::new()).is_empty()
        })
    }

    #[test]
    fn a_leader_that_goes_on_without_its_lease_is_flagged() {
        let (later, much_later) = (UNDER_WAY + 10, UNDER_WAY + 20 + APART);
        let both = [later, much_later];
        assert!(is_flagged(ReplicationMode::Async, false, &both));
        assert!(!is_flagged(ReplicationMode::Async, true, &both));
        assert!(!is_flagged(ReplicationMode::Sync, false, &both));
        assert!(!is_flagged(ReplicationMode::Async, false, &[10, later]));
    }
}
