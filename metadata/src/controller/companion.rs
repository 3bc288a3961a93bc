//! Keeps the leader of a companion partition where its parent is led.
//!
//! A queue serves where both are led by the same node; until then its calls wait. Only a
//! member of the companion's own ISR is ever given its lead, so nothing that was
//! acknowledged is lost for it: a parent's leader that has not caught up leads the
//! companion as soon as the ISR takes it in.

use std::collections::BTreeSet;

use weir_base::image::{ClusterImage, PartitionRecord};
use weir_base::{NodeId, TopicPartition};

use super::elect::hand_over;
use crate::command::Command;

/// Nodes that an election of `at` takes first among equals: for a companion its parent's
/// leader, for a parent who could lead the companion as well. Empty without a partner.
pub(crate) fn favourites(image: &ClusterImage, at: TopicPartition) -> &[NodeId] {
    match image.partner(at) {
        Some((_, parent)) if image.is_companion(at) => parent.leader.as_slice(),
        Some((_, companion)) => &companion.isr,
        None => &[],
    }
}

/// Gives companions to their parents' leaders, wherever `changed` just made that
/// possible or needful.
#[must_use]
pub fn plan_align(image: &ClusterImage, changed: &[Command]) -> Vec<Command> {
    let mut touched = BTreeSet::new();
    for command in changed {
        match command {
            Command::AlterPartition(proposal) => drop(touched.insert(proposal.at)),
            Command::ChangePartition(change) => drop(touched.insert(change.at)),
            Command::StartReassignment { at, .. }
            | Command::CancelReassignment { at, .. }
            | Command::CompleteReassignment { at, .. } => drop(touched.insert(*at)),
            Command::CreateTopic { id, .. } | Command::CreatePartitions { id, .. } => {
                let partitions = image.topic(*id).map_or(0, |topic| topic.partitions.len());
                let indexes = (0..).take(partitions);
                touched.extend(indexes.map(|index| TopicPartition::new(*id, index)));
            }
            Command::FormCluster { .. }
            | Command::RegisterNode(_)
            | Command::FenceNode { .. }
            | Command::UnfenceNode { .. }
            | Command::DrainNode { .. }
            | Command::DeleteTopic { .. }
            | Command::SetTopicConfigs { .. }
            | Command::SetClusterConfigs { .. }
            | Command::SetDurability { .. }
            | Command::AllocateProducerIds { .. }
            | Command::PutDocument { .. }
            | Command::DeleteDocument { .. }
            | Command::RenewReplica { .. } => {}
        }
    }
    let companions: BTreeSet<TopicPartition> = touched
        .into_iter()
        .filter_map(|at| match image.is_companion(at) {
            true => Some(at),
            false => image.partner(at).map(|(companion, _)| companion),
        })
        .collect();
    let companions = companions.into_iter();
    companions
        .filter_map(|at| align(image, at, image.partition(at)?))
        .collect()
}

/// The same for all there are, up to `most`.
#[must_use]
pub fn plan_align_all(image: &ClusterImage, most: usize) -> Vec<Command> {
    image
        .partitions()
        .filter(|(at, _)| image.is_companion(*at))
        .filter_map(|(at, record)| align(image, at, record))
        .take(most)
        .collect()
}

fn align(image: &ClusterImage, at: TopicPartition, record: &PartitionRecord) -> Option<Command> {
    let (_, parent) = image.partner(at)?;
    let leader = parent.leader?;
    let may_lead = record.isr.contains(&leader) && image.nodes.get(&leader)?.is_active();
    (may_lead && record.leader != Some(leader)).then(|| hand_over(at, record, leader))
}

/// Whether a planner that moves leaderships in peace may choose for `at` by itself: not
/// for a companion that stands where its parent does, which it follows.
pub(crate) fn leads_itself(
    image: &ClusterImage,
    at: TopicPartition,
    record: &PartitionRecord,
) -> bool {
    let partner = image.partner(at).filter(|_| image.is_companion(at));
    partner.is_none_or(|(_, parent)| parent.leader != record.leader)
}

/// Whether `node` could lead the companion of `at`, or there is none.
pub(crate) fn takes_both(image: &ClusterImage, at: TopicPartition, node: NodeId) -> bool {
    let partner = image.partner(at).filter(|_| !image.is_companion(at));
    partner.is_none_or(|(_, companion)| companion.isr.contains(&node))
}

#[cfg(test)]
mod tests;
