//! I4 with async flush: what a member had only in its memory is gone after a loss of
//! power, so from its registration on it is no member before it caught up (S-15).

use std::collections::BTreeMap;

use weir_base::image::FlushMode;
use weir_base::{Offset, TopicPartition};

use super::i03_watermark::highest;
use super::{Check, Told};
use crate::probe::Seen;

#[derive(Default)]
pub(super) struct ReturnedMembers {
    highest: BTreeMap<TopicPartition, Offset>,
}

impl Check for ReturnedMembers {
    fn look(&mut self, seen: &Seen, _: &Told) -> Vec<String> {
        let mut broken = Vec::new();
        for (at, record) in seen.replicated(FlushMode::Async) {
            // As for sync flush: a member may learn in this look that more is committed.
            let needed = self.highest.get(&at).copied().unwrap_or_default();
            self.highest.insert(at, highest(seen, at, Some(&needed)));
            for (node, replica) in seen.replicas(at) {
                let agreed = seen.newest.nodes.get(&node).map(|agreed| agreed.epoch);
                let registered = seen.nodes.get(&node).and_then(|inside| inside.registered);
                // Before, the record speaks of the run before this one.
                let is_known = registered.is_some() && registered == agreed;
                let is_member = record.isr.contains(&node) || record.elr.contains(&node);
                if is_known && is_member && !replica.is_failed && replica.log_end < needed {
                    broken.push(format!(
                        "I4: {at}: node {node} came back, is a member (isr {:?}, elr {:?}) and has {}; committed is {needed}",
                        record.isr, record.elr, replica.log_end
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
    use crate::invariants::testing::{AT, Scene};
    use weir_base::{NodeEpoch, NodeId};

    #[test]
    fn a_member_that_came_back_without_its_tail_is_flagged_once_it_is_registered() {
        let mut check = ReturnedMembers::default();
        let mut look = |registered, end| {
            let scene = Scene::new().leader(1, 1, 5).follower(2, 1, end);
            let mut seen = scene.isr(&[1, 2]).seen();
            let image = Arc::make_mut(&mut seen.newest);
            let topic = image.topics.values_mut().next().unwrap();
            assert_eq!(topic.id, AT.topic);
            Arc::make_mut(topic).partitions[0].durability.flush = FlushMode::Async;
            seen.nodes.entry(NodeId(2)).or_default().registered = registered;
            check.look(&seen, &Told::new()).len()
        };
        assert_eq!(look(Some(NodeEpoch(1)), 5), 0);
        assert_eq!(look(None, 4), 0, "the record speaks of the run before");
        assert_eq!(
            look(Some(NodeEpoch(2)), 4),
            0,
            "the image does not know it yet"
        );
        assert_eq!(look(Some(NodeEpoch(1)), 4), 1);
    }
}
