//! I3: what was committed stays: the newest leader's log reaches as far as any watermark
//! ever did, and as far as anything acknowledged; once it is ready, so does its watermark.

use std::collections::BTreeMap;

use weir_base::{Offset, TopicPartition};

use super::{Check, Told};
use crate::probe::Seen;

#[derive(Default)]
pub(super) struct Watermark {
    highest: BTreeMap<TopicPartition, Offset>,
}

/// The highest watermark that any replica of `at` has, or had by `before`.
pub(super) fn highest(seen: &Seen, at: TopicPartition, before: Option<&Offset>) -> Offset {
    let marks = seen.replicas(at).map(|(_, replica)| replica.high_watermark);
    let now = marks.max().unwrap_or_default();
    before.copied().unwrap_or_default().max(now)
}

impl Check for Watermark {
    fn look(&mut self, seen: &Seen, told: &Told) -> Vec<String> {
        let mut broken = Vec::new();
        for (at, record) in seen.strict() {
            let highest = highest(seen, at, self.highest.get(&at));
            self.highest.insert(at, highest);
            let acknowledged = Offset(told.get(&at).copied().unwrap_or(0));
            let needed = highest.max(acknowledged);
            for (node, replica) in seen.replicas(at) {
                // Who leads in an older epoch knows no better yet.
                if !replica.is_leader || replica.leader_epoch != record.leader_epoch {
                    continue;
                }
                if replica.log_end < needed {
                    broken.push(format!(
                        "I3: {at}: node {node} leads epoch {} with a log that ends at {}; committed was {highest}, acknowledged {acknowledged}",
                        replica.leader_epoch, replica.log_end
                    ));
                }
                if replica.is_ready && replica.high_watermark < highest {
                    broken.push(format!(
                        "I3: {at}: node {node} is ready in epoch {} with watermark {}; it was {highest}",
                        replica.leader_epoch, replica.high_watermark
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
    fn a_leader_that_lacks_what_was_committed_or_acknowledged_is_flagged() {
        let mut check = Watermark::default();
        let good = Scene::new().leader(1, 1, 5).seen();
        assert!(check.look(&good, &Told::from([(AT, 5)])).is_empty());
        assert_eq!(check.look(&good, &Told::from([(AT, 6)])).len(), 1);
        let mut shorter = Scene::new().leader(2, 2, 4);
        assert_eq!(check.look(&shorter.clone().seen(), &Told::new()).len(), 2);
        // Not ready yet, and its log is long enough: its watermark may lag.
        shorter.replica(2).is_ready = false;
        shorter.replica(2).log_end = Offset(5);
        assert!(check.look(&shorter.seen(), &Told::new()).is_empty());
    }
}
