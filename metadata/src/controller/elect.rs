//! Who leads.

use weir_base::image::{ClusterImage, NodeState, PartitionRecord};
use weir_base::{NodeId, TopicPartition};

use crate::command::{Command, PartitionChange, Refusal};

/// What an election found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elected {
    /// A member of the ISR.
    InSync(NodeId),
    /// An eligible leader outside the ISR, which becomes the whole ISR.
    Eligible(NodeId),
}

/// Elects from `isr` in replica order, else from `elr`, never from elsewhere. A node
/// that is draining is taken only if nobody else is left.
#[must_use]
pub fn elect(
    image: &ClusterImage,
    record: &PartitionRecord,
    isr: &[NodeId],
    elr: &[NodeId],
) -> Option<Elected> {
    let state = |node: NodeId| image.nodes.get(&node).map(|n| n.state);
    let first = |set: &[NodeId], wanted: NodeState| {
        record
            .replicas
            .iter()
            .map(|r| r.node)
            .find(|node| set.contains(node) && state(*node) == Some(wanted))
    };
    [NodeState::Active, NodeState::Draining]
        .into_iter()
        .find_map(|wanted| {
            first(isr, wanted)
                .map(Elected::InSync)
                .or_else(|| first(elr, wanted).map(Elected::Eligible))
        })
}

/// A change to `record` with these sets, electing anew if the leader is not in the ISR.
/// `None` if nothing would change.
pub(crate) fn change_with(
    image: &ClusterImage,
    at: TopicPartition,
    record: &PartitionRecord,
    isr: Vec<NodeId>,
    elr: Vec<NodeId>,
    last_known_elr: Vec<NodeId>,
) -> Option<PartitionChange> {
    let mut next = record.clone();
    next.isr = isr;
    next.elr = elr;
    next.last_known_elr = last_known_elr;
    if next.leader.is_none_or(|leader| !next.isr.contains(&leader)) {
        next.leader = match elect(image, &next, &next.isr, &next.elr) {
            Some(Elected::InSync(node)) => Some(node),
            Some(Elected::Eligible(node)) => {
                next.isr = vec![node];
                Some(node)
            }
            None => None,
        };
    }
    crate::apply::settle(&mut next);
    (next != *record).then_some(PartitionChange {
        at,
        partition_epoch: record.partition_epoch,
        leader: next.leader,
        elect: false,
        isr: next.isr,
        elr: next.elr,
        last_known_elr: next.last_known_elr,
    })
}

/// Lets `leader`, an active member of the ISR, lead.
fn hand_over(at: TopicPartition, record: &PartitionRecord, leader: NodeId) -> Command {
    Command::ChangePartition(PartitionChange {
        at,
        partition_epoch: record.partition_epoch,
        leader: Some(leader),
        elect: true,
        isr: record.isr.clone(),
        elr: record.elr.clone(),
        last_known_elr: record.last_known_elr.clone(),
    })
}

/// The preferred leader, if it may lead now.
fn preferred(image: &ClusterImage, record: &PartitionRecord) -> Option<NodeId> {
    let node = record.replicas.first()?.node;
    let is_able = image.nodes.get(&node)?.state == NodeState::Active;
    (is_able && record.isr.contains(&node)).then_some(node)
}

/// Makes the preferred replica lead.
///
/// # Errors
/// If it leads already, or is not in the ISR of an active node.
pub fn plan_preferred(image: &ClusterImage, at: TopicPartition) -> Result<Vec<Command>, Refusal> {
    let record = image.partition(at).ok_or(Refusal::UnknownPartition(at))?;
    let first = record.replicas.first().map(|r| r.node);
    if record.leader.is_some() && record.leader == first {
        return Err(Refusal::ElectionNotNeeded);
    }
    let leader = preferred(image, record).ok_or(Refusal::PreferredLeaderNotAvailable)?;
    Ok(vec![hand_over(at, record, leader)])
}

/// Gives up to `most` partitions back to their preferred leaders.
#[must_use]
pub fn plan_rebalance(image: &ClusterImage, most: usize) -> Vec<Command> {
    image
        .partitions()
        .filter_map(|(at, record)| {
            let leader = preferred(image, record)?;
            (record.leader != Some(leader)).then(|| hand_over(at, record, leader))
        })
        .take(most)
        .collect()
}

/// Moves up to `most` leaderships away from `node`, where another in-sync replica can
/// take them.
#[must_use]
pub fn plan_hand_over(image: &ClusterImage, node: NodeId, most: usize) -> Vec<Command> {
    image
        .partitions()
        .filter(|(_, record)| record.leader == Some(node))
        .filter_map(|(at, record)| {
            let others: Vec<NodeId> = record
                .isr
                .iter()
                .copied()
                .filter(|member| *member != node)
                .collect();
            match elect(image, record, &others, &[]) {
                Some(Elected::InSync(leader)) => Some(hand_over(at, record, leader)),
                Some(Elected::Eligible(_)) | None => None,
            }
        })
        .take(most)
        .collect()
}
