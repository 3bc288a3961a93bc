//! I11: what a log knows of its producers follows from what is in it. Logs that end at one
//! offset with the same epoch are the same, so they know the same of every producer: one
//! that was cut knows no more than those that never went further (S-19).

use std::collections::BTreeMap;

use weir_base::{LeaderEpoch, NodeId, Offset, TopicPartition};

use super::{Check, Told};
use crate::probe::{ProducerSeen, Seen};

/// Ends of logs that are remembered for each partition.
const ENDS: usize = 1_000;

/// Where a log ends: the epoch that wrote last, and the offset.
type Tail = (LeaderEpoch, Offset);

#[derive(Default)]
pub(super) struct Producers(BTreeMap<TopicPartition, BTreeMap<Tail, (NodeId, Vec<ProducerSeen>)>>);

impl Check for Producers {
    fn look(&mut self, seen: &Seen, _: &Told) -> Vec<String> {
        let mut broken = Vec::new();
        for (node, inside) in &seen.nodes {
            for (at, replica) in &inside.replicas {
                // A log that begins later never saw those who were silent since; nor does
                // one that was copied when others were compacted.
                let is_whole = replica.log_start == Offset::ZERO && !is_internal(seen, *at);
                if replica.is_failed || !is_whole {
                    continue;
                }
                let Some(tail) = replica.tail else {
                    continue;
                };
                let ends = self.0.entry(*at).or_default();
                let known = ends
                    .entry(tail)
                    .or_insert_with(|| (*node, replica.producers.clone()));
                let (by, producers) = known;
                if *producers != replica.producers {
                    broken.push(format!(
                        "I11: {at}: the log of node {node} ends at {} in epoch {} and knows of producers {:?}; that of node {by} ended there and knew {producers:?}",
                        tail.1, tail.0, replica.producers
                    ));
                }
                if ends.len() > ENDS {
                    ends.pop_first();
                }
            }
        }
        broken
    }
}

fn is_internal(seen: &Seen, at: TopicPartition) -> bool {
    let name = seen.newest.topic_names.get(&at.topic);
    let topic = name.and_then(|name| seen.newest.topics.get(name));
    topic.is_none_or(|topic| topic.internal)
}

#[cfg(test)]
mod tests {
    use weir_base::{ProducerEpoch, ProducerId};

    use super::*;
    use crate::invariants::testing::Scene;

    /// Node 1 ends in epoch 1 at 5 and knows of sequence 4; says whether node 2 is flagged.
    fn is_flagged(tail: (u32, u64), sequence: i32, change: impl Fn(&mut Scene)) -> bool {
        let knows = |scene: &mut Scene, node, (epoch, end), sequence| {
            let replica = scene.replica(node);
            replica.tail = Some((LeaderEpoch(epoch), Offset(end)));
            replica.producers = vec![(ProducerId(7), ProducerEpoch(0), sequence)];
        };
        let mut check = Producers::default();
        let mut first = Scene::new().leader(1, 1, 5);
        knows(&mut first, 1, (1, 5), 4);
        assert!(check.look(&first.seen(), &Told::new()).is_empty());
        let mut second = Scene::new().follower(2, 1, 5);
        knows(&mut second, 2, tail, sequence);
        change(&mut second);
        !check.look(&second.seen(), &Told::new()).is_empty()
    }

    #[test]
    fn a_log_that_knows_of_what_was_cut_is_flagged() {
        assert!(is_flagged((1, 5), 5, |_| {}));
        assert!(!is_flagged((1, 5), 4, |_| {}));
        assert!(!is_flagged((1, 6), 5, |_| {}), "it goes on further");
        assert!(!is_flagged((2, 5), 5, |_| {}), "another wrote its end");
        let later = |scene: &mut Scene| scene.replica(2).log_start = Offset(2);
        assert!(!is_flagged((1, 5), 5, later));
        let failed = |scene: &mut Scene| scene.replica(2).is_failed = true;
        assert!(!is_flagged((1, 5), 5, failed));
    }
}
