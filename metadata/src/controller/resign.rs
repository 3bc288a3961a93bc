//! What a node gives up by itself: a copy whose data is bad, or a leadership.

use weir_base::image::ClusterImage;
use weir_base::{LeaderEpoch, NodeId, TopicPartition, Uuid};

use super::elect::{Elected, change_with, elect, hand_over};
use crate::command::{Command, Refusal};

/// Takes the bad copy `id` on `node` out of ISR and ELR, elects another leader if it
/// led, and gives it a new identity, so that nothing claimed under the old one can bring
/// it back: it is in sync again only after it was made anew from the leader. Where that
/// leaves too few that may hold everything (I7), it stays known as a former one.
/// Nothing to do if it has another identity already.
///
/// # Errors
/// [`Refusal::LastCopy`] if nobody else is in ISR or ELR: what is left of the data is
/// on this copy, so it keeps its place and the partition waits for an operator.
pub fn plan_replica(
    image: &ClusterImage,
    at: TopicPartition,
    node: NodeId,
    id: Uuid,
) -> Result<Vec<Command>, Refusal> {
    let record = image.partition(at).ok_or(Refusal::UnknownPartition(at))?;
    if record.replica(node).is_none_or(|replica| replica.id != id) {
        return Ok(Vec::new());
    }
    let (mut isr, mut elr) = (record.isr.clone(), record.elr.clone());
    isr.retain(|member| *member != node);
    elr.retain(|member| *member != node);
    if isr.is_empty() && elr.is_empty() {
        return Err(Refusal::LastCopy { at, node });
    }
    let is_member = isr.len() + elr.len() < record.isr.len() + record.elr.len();
    let mut last_known_elr = record.last_known_elr.clone();
    if is_member {
        last_known_elr.push(node);
        last_known_elr.sort_unstable();
        last_known_elr.dedup();
    }
    let change = change_with(image, at, record, isr, elr, last_known_elr);
    let partition_epoch = match &change {
        Some(_) => record.partition_epoch.next(),
        None => record.partition_epoch,
    };
    let mut commands: Vec<Command> = change.map(Command::ChangePartition).into_iter().collect();
    commands.push(Command::RenewReplica {
        at,
        partition_epoch,
        node,
    });
    Ok(commands)
}

/// Elects anew where `node` leads in `epoch` and cannot: another in-sync replica if
/// there is one, else the same in a higher epoch. The ISR stays as it is.
///
/// # Errors
/// If there is no such partition.
pub fn plan_leadership(
    image: &ClusterImage,
    at: TopicPartition,
    node: NodeId,
    epoch: LeaderEpoch,
) -> Result<Vec<Command>, Refusal> {
    let record = image.partition(at).ok_or(Refusal::UnknownPartition(at))?;
    if record.leader != Some(node) || record.leader_epoch != epoch {
        return Ok(Vec::new());
    }
    let mut others = record.isr.clone();
    others.retain(|member| *member != node);
    let next = match elect(image, at, record, &others, &[]) {
        Some(Elected::InSync(other) | Elected::Eligible(other)) => other,
        None => node,
    };
    Ok(vec![hand_over(at, record, next)])
}

#[cfg(test)]
mod tests;
