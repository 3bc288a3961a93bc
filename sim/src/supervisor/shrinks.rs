//! Waits for the ISR of a partition to become smaller, and then for its leader to be killed:
//! what it held back is committed all at once, and its followers have not heard of that.

use std::collections::BTreeMap;

use weir_base::image::ClusterImage;
use weir_base::{NodeId, TopicPartition};

/// How long after, and for how long, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blow {
    pub(super) after: u64,
    pub(super) down: u64,
}

#[derive(Default)]
pub(super) struct Shrinks {
    /// Waiting to be dealt.
    armed: Option<Blow>,
    /// Dealt at this time.
    due: Option<(u64, NodeId, u64)>,
    version: u64,
    sizes: BTreeMap<TopicPartition, usize>,
}

impl Shrinks {
    pub(super) fn arm(&mut self, blow: Blow) {
        self.armed = Some(blow);
        self.sizes.clear();
    }

    pub(super) fn disarm(&mut self) {
        (self.armed, self.due) = (None, None);
    }

    pub(super) fn is_armed(&self) -> bool {
        self.armed.is_some() || self.due.is_some()
    }

    /// Looks at the newest image. Gives who is to be killed now, and for how long.
    pub(super) fn look(&mut self, now: u64, image: &ClusterImage) -> Option<(NodeId, u64)> {
        if let Some(blow) = self.armed
            && (self.version != image.version || self.sizes.is_empty())
        {
            self.version = image.version;
            for (at, record) in image.partitions() {
                let before = self.sizes.insert(at, record.isr.len());
                let is_smaller = before.is_some_and(|before| record.isr.len() < before);
                if let Some(leader) = record.leader.filter(|_| is_smaller) {
                    self.due
                        .get_or_insert((now + blow.after, leader, blow.down));
                    self.armed = None;
                }
            }
        }
        let (_, leader, down) = self.due.take_if(|(at, ..)| *at <= now)?;
        Some((leader, down))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::Scene;

    #[test]
    fn the_leader_is_named_a_while_after_its_isr_shrank_and_once() {
        let image = |version, isr: &[u32]| {
            let scene = Scene::new().leader(1, 1, 5).isr(isr).version(version);
            scene.seen().newest
        };
        let mut shrinks = Shrinks::default();
        let blow = Blow { after: 4, down: 9 };
        assert_eq!(shrinks.look(0, &image(1, &[1, 2, 3])), None);
        shrinks.arm(blow);
        assert_eq!(shrinks.look(2, &image(2, &[1, 2])), None);
        assert_eq!(shrinks.look(4, &image(3, &[1, 2, 3])), None, "it grew");
        assert_eq!(shrinks.look(6, &image(4, &[1, 2])), None, "too soon");
        assert!(shrinks.is_armed());
        assert_eq!(shrinks.look(10, &image(4, &[1, 2])), Some((NodeId(1), 9)));
        assert!(!shrinks.is_armed());
        assert_eq!(shrinks.look(12, &image(5, &[1])), None);
    }
}
