//! What must be so when faults are over, beyond what clients notice.

use std::fmt::Write;

use weir_base::image::PartitionRecord;
use weir_base::{NodeId, TopicPartition};

use super::stranded::{Membership, can_do_without, is_stranded};
use crate::plan::VOTERS;
use crate::probe::Seen;
use crate::supervisor::Supervisor;

/// Where a cluster stands: what its nodes believe, and what happened to their machines.
pub(super) struct Standing<'r> {
    pub(super) seen: &'r Seen,
    pub(super) supervisor: &'r Supervisor,
    pub(super) membership: &'r Membership,
}

impl Standing<'_> {
    /// Whether every partition and the metadata group can do without a node.
    pub(super) fn can_do_without(&self, node: NodeId) -> bool {
        let enough = |at, record: &PartitionRecord| {
            can_do_without(record, node, |node| self.lost_power(at, node))
                || self.is_stranded(at, record)
        };
        let votes = VOTERS
            .iter()
            .filter(|voter| **voter != node && self.seen.nodes.contains_key(voter));
        let mut partitions = self.seen.newest.partitions();
        votes.count() >= 2 && partitions.all(|(at, record)| enough(at, record))
    }

    /// Whether only an operator can bring a partition back.
    pub(super) fn is_stranded(&self, at: TopicPartition, record: &PartitionRecord) -> bool {
        is_stranded(
            record,
            self.membership.min_isr(at, record),
            |node| self.lost_power(at, node),
            |node| self.lost_disk(at, node),
        )
    }

    /// Whether a node's machine lost its power since its copy of a partition joined.
    fn lost_power(&self, at: TopicPartition, node: NodeId) -> bool {
        let joined = self.membership.joined(at, node);
        joined.is_some_and(|since| self.supervisor.lost_power_since(node, since))
    }

    /// Whether a node's disk was spoilt under its copy of a partition, and that copy is not
    /// in use.
    fn lost_disk(&self, at: TopicPartition, node: NodeId) -> bool {
        let (supervisor, membership) = (self.supervisor, self.membership);
        let joined = membership.joined(at, node);
        let begun = membership.begun(at, node);
        let is_spoilt = joined.is_some_and(|since| supervisor.was_spoilt_since(node, since))
            || begun.is_some_and(|since| supervisor.has_rotted_since(node, since));
        is_spoilt && (membership.is_renewed(at, node) || !self.is_usable(at, node))
    }

    /// Whether a node is there and its copy of a partition is in use.
    fn is_usable(&self, at: TopicPartition, node: NodeId) -> bool {
        let inside = self.seen.nodes.get(&node);
        let replica = inside.and_then(|inside| inside.replicas.get(&at));
        replica.is_some_and(|replica| !replica.is_failed)
    }

    /// What is not in order yet: a leader that is not there, a move that is not done, a
    /// replica that is there and not in the ISR. `None` if all is.
    pub(super) fn what_is_missing(&self) -> Option<String> {
        let present = self.supervisor.present();
        let partitions = self.seen.newest.partitions();
        let mut partitions = partitions.filter(|(at, record)| !self.is_stranded(*at, record));
        partitions.find_map(|(at, record)| {
            let name = self.seen.newest.topic_names.get(&at.topic);
            let name = format!("{}-{}", name.map_or("?", |name| name), at.index);
            if record.leader.is_none() {
                return Some(format!("{name} has no leader: {record:?}"));
            }
            let all_are_there = record.replicas.iter().all(|r| present.contains(&r.node));
            let is_moving = !record.adding.is_empty() || !record.removing.is_empty();
            if is_moving && all_are_there {
                return Some(format!("{name} is still being moved: {record:?}"));
            }
            let mut nodes = record.replicas.iter().map(|replica| replica.node);
            let missing = nodes.find(|node| present.contains(node) && !record.isr.contains(node));
            missing.map(|node| format!("node {node} is not in the ISR of {name}: {record:?}"))
        })
    }

    /// Where every partition stands, as each node sees it.
    pub(super) fn describe(&self) -> String {
        let mut text = String::new();
        for (at, record) in self.seen.newest.partitions() {
            write!(text, "\n  {at} {record:?}").unwrap_or_default();
            for (node, replica) in self.seen.replicas(at) {
                write!(
                    text,
                    "\n    node {node}: epoch {} leads {} ready {} answers {} failed {} watermark {} end {} durable {}",
                    replica.leader_epoch,
                    replica.is_leader,
                    replica.is_ready,
                    replica.may_answer,
                    replica.is_failed,
                    replica.high_watermark,
                    replica.log_end,
                    replica.durable_end
                )
                .unwrap_or_default();
            }
        }
        text
    }
}
