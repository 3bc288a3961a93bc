//! Moving partitions between nodes: grow, catch up, shrink (S-18, S-25).

use weir_base::image::{ClusterImage, NodeState, PartitionRecord};
use weir_base::{NodeId, TopicPartition};

use crate::apply::{check_assignment, is_ready};
use crate::command::{Command, Refusal};

/// Begins a move to `target`; ends it at once if nothing is to be copied.
///
/// # Errors
/// If the target is no list of registered nodes, or its new nodes are not active.
pub fn plan_start(
    image: &ClusterImage,
    at: TopicPartition,
    target: &[NodeId],
) -> Result<Vec<Command>, Refusal> {
    let record = image.partition(at).ok_or(Refusal::UnknownPartition(at))?;
    check_assignment(image, target)?;
    let is_active = |node: &NodeId| {
        image
            .nodes
            .get(node)
            .is_some_and(|n| n.state == NodeState::Active)
    };
    if let Some(node) = target
        .iter()
        .find(|node| !record.has_replica(**node) && !is_active(node))
    {
        return Err(Refusal::InvalidAssignment(format!(
            "node {node} is not active"
        )));
    }
    Ok(vec![Command::StartReassignment {
        at,
        partition_epoch: record.partition_epoch,
        target: target.to_vec(),
    }])
}

/// Gives a move up.
///
/// # Errors
/// If none is under way.
pub fn plan_cancel(image: &ClusterImage, at: TopicPartition) -> Result<Vec<Command>, Refusal> {
    let record = image.partition(at).ok_or(Refusal::UnknownPartition(at))?;
    if record.adding.is_empty() && record.removing.is_empty() {
        return Err(Refusal::NoReassignment);
    }
    Ok(vec![Command::CancelReassignment {
        at,
        partition_epoch: record.partition_epoch,
    }])
}

/// Ends a move if it can end now: that of a partition and its companion is one, and
/// ends when both have caught up. Asked after every change of an ISR.
#[must_use]
pub fn plan_progress(image: &ClusterImage, at: TopicPartition) -> Vec<Command> {
    let is_done = |record: &PartitionRecord| {
        let moves = !record.adding.is_empty() || !record.removing.is_empty();
        moves && is_ready(record).is_ok()
    };
    let partner = image.partner(at);
    let own = match partner {
        Some(parent) if image.is_companion(at) => Some(parent),
        Some(_) | None => image.partition(at).map(|record| (at, record)),
    };
    own.filter(|(_, record)| is_done(record))
        .filter(|(at, _)| image.partner(*at).is_none_or(|(_, other)| is_done(other)))
        .map(|(at, record)| Command::CompleteReassignment {
            at,
            partition_epoch: record.partition_epoch,
        })
        .into_iter()
        .collect()
}
