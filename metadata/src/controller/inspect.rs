//! Elections among copies whose logs may end too early.
//!
//! After a power loss a node may find the end of its write-ahead log torn or rotten: its
//! copies are *suspects* (`PartitionRecord::suspects`), and [`super::elect`] passes them
//! over. Where nobody else is left, every member of ISR and ELR tells where its log ends,
//! and the longest is elected: all of them once held all that was acknowledged under
//! sync flush, so one whole copy among them wins (reliability 3.4). Told what others of
//! them lack, one member too few might be the whole one: hence all or nobody.
//!
//! What was told is not in the Raft log. Nodes tell again until there is a leader, so a
//! new controller knows it soon.

use std::collections::BTreeMap;

use weir_base::image::{ClusterImage, PartitionRecord};
use weir_base::{NodeEpoch, NodeId, TopicPartition};

use super::elect::{change, lead_from_elr};
use crate::ask::LogEnd;
use crate::command::Command;

/// Ends of logs as told for the present records: at most one for each replica of a
/// partition that waits.
#[derive(Debug, Default)]
pub struct LogEnds(BTreeMap<TopicPartition, BTreeMap<NodeId, (NodeEpoch, LogEnd)>>);

impl LogEnds {
    /// Node `from`, in its boot `epoch`, told where one of its logs ends.
    pub fn tell(&mut self, from: NodeId, epoch: NodeEpoch, told: LogEnd) {
        let ends = self.0.entry(told.at).or_default();
        ends.insert(from, (epoch, told));
    }

    /// Forgets what is told of partitions that do not wait for it.
    pub fn prune(&mut self, image: &ClusterImage) {
        self.0
            .retain(|at, _| image.partition(*at).is_some_and(waits));
    }

    /// Elects for `at` if every member of ISR and ELR is there and told where its log ends
    /// as of the present record: nothing is written to any of them under this record, since
    /// nobody leads. The end of the newest epoch wins, then the largest end.
    #[must_use]
    pub fn plan(&self, image: &ClusterImage, at: TopicPartition) -> Vec<Command> {
        let Some(record) = image.partition(at).filter(|record| waits(record)) else {
            return Vec::new();
        };
        let end_of = |node: NodeId| {
            let known = image.nodes.get(&node).filter(|known| known.is_active())?;
            let (epoch, told) = self.0.get(&at)?.get(&node)?;
            let is_present =
                *epoch == known.epoch && told.partition_epoch == record.partition_epoch;
            is_present.then_some((told.last_epoch, told.end))
        };
        let members = record.replicas.iter().map(|replica| replica.node);
        let members = members.filter(|node| record.isr.contains(node) || record.elr.contains(node));
        let mut best = None;
        for node in members {
            let Some(end) = end_of(node) else {
                return Vec::new();
            };
            // Of equals the first, as the preferred leader.
            if best.is_none_or(|(_, most)| end > most) {
                best = Some((node, end));
            }
        }
        let Some((leader, _)) = best else {
            return Vec::new();
        };
        let mut next = record.clone();
        lead_from_elr(&mut next, leader);
        change(at, record, next)
            .map(Command::ChangePartition)
            .into_iter()
            .collect()
    }
}

/// Whether nobody leads and only suspects could.
#[must_use]
pub fn waits(record: &PartitionRecord) -> bool {
    record.leader.is_none() && !record.suspects.is_empty()
}

#[cfg(test)]
mod tests;
