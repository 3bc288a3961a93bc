//! I4: every running member of ISR or ELR holds everything below the true high
//! watermark, on its disk; but for suspects, which the cluster knows may lack some of it
//! and does not elect without a look at all others.

use std::collections::BTreeMap;

use weir_base::{Offset, TopicPartition};

use super::i03_watermark::highest;
use super::{Check, Told};
use crate::probe::Seen;

#[derive(Default)]
pub(super) struct MembersHoldIt {
    highest: BTreeMap<TopicPartition, Offset>,
}

impl Check for MembersHoldIt {
    fn look(&mut self, seen: &Seen, _: &Told) -> Vec<String> {
        let mut broken = Vec::new();
        for (at, record) in seen.strict() {
            // What was committed before this look: a member may learn in it that more is.
            let needed = self.highest.get(&at).copied().unwrap_or_default();
            self.highest.insert(at, highest(seen, at, Some(&needed)));
            for (node, replica) in seen.replicas(at) {
                let is_member = record.isr.contains(&node) || record.elr.contains(&node);
                let is_relied_on = is_member && !record.suspects.contains(&node);
                if is_relied_on && !replica.is_failed && replica.durable_end < needed {
                    broken.push(format!(
                        "I4: {at}: node {node} is a member (isr {:?}, elr {:?}) and has {} on its disk; committed is {needed}",
                        record.isr, record.elr, replica.durable_end
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
    fn a_member_without_what_is_committed_is_flagged() {
        let mut check = MembersHoldIt::default();
        let good = Scene::new().leader(1, 1, 5).follower(2, 1, 5).isr(&[1, 2]);
        assert!(check.look(&good.seen(), &Told::new()).is_empty());
        let short = || Scene::new().leader(1, 1, 5).follower(2, 1, 4);
        assert_eq!(
            check.look(&short().isr(&[1, 2]).seen(), &Told::new()).len(),
            1
        );
        assert!(
            check
                .look(&short().isr(&[1]).seen(), &Told::new())
                .is_empty()
        );
    }

    #[test]
    fn an_eligible_leader_is_flagged_too_unless_it_is_a_suspect() {
        let mut check = MembersHoldIt::default();
        let whole = Scene::new().leader(1, 1, 5).follower(2, 1, 5).isr(&[1, 2]);
        assert!(check.look(&whole.seen(), &Told::new()).is_empty());
        let short = || Scene::new().leader(1, 1, 5).follower(2, 1, 4).elr(&[2]);
        assert_eq!(check.look(&short().seen(), &Told::new()).len(), 1);
        let known = short().suspects(&[2]);
        assert!(check.look(&known.seen(), &Told::new()).is_empty());
        // A suspicion of one excuses no other.
        let other = short().suspects(&[3]);
        assert_eq!(check.look(&other.seen(), &Told::new()).len(), 1);
    }
}
