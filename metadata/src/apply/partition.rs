//! Commands about one partition's leader, ISR and durability.

use std::collections::BTreeSet;

use weir_base::image::{NodeState, PartitionRecord};
use weir_base::invariant::Invariant;
use weir_base::{NodeId, PartitionEpoch, TopicPartition};

use super::draft::Draft;
use super::topic::replica;
use crate::command::{IsrProposal, ItemResult, Outcome, PartitionChange, Refusal};

/// Checks a fence.
pub(super) fn check_epoch(
    at: TopicPartition,
    record: &PartitionRecord,
    sent: PartitionEpoch,
) -> Result<(), Refusal> {
    if record.partition_epoch == sent {
        Ok(())
    } else {
        Err(Refusal::StalePartitionEpoch {
            at,
            sent,
            current: record.partition_epoch,
        })
    }
}

/// A leader's proposal. Every epoch in it must match, or a reply that was on its way
/// across a reboot could put an empty log into the ISR (S-05).
pub(super) fn alter(draft: &mut Draft<'_>, proposal: &IsrProposal) -> ItemResult {
    let at = proposal.at;
    let record = draft.partition(at)?.clone();
    let leader = draft
        .image()
        .nodes
        .get(&proposal.leader)
        .ok_or(Refusal::UnknownNode(proposal.leader))?;
    if leader.epoch != proposal.node_epoch {
        return Err(Refusal::StaleNodeEpoch {
            id: proposal.leader,
            sent: proposal.node_epoch,
            current: leader.epoch,
        });
    }
    if record.leader_epoch != proposal.leader_epoch {
        return Err(Refusal::StaleLeaderEpoch {
            at,
            sent: proposal.leader_epoch,
            current: record.leader_epoch,
        });
    }
    if record.leader != Some(proposal.leader) {
        return Err(Refusal::NotLeader {
            at,
            node: proposal.leader,
        });
    }
    let isr: BTreeSet<NodeId> = proposal.isr.iter().map(|(node, _)| *node).collect();
    let isr: Vec<NodeId> = isr.into_iter().collect();
    if record.isr == isr && record.partition_epoch == proposal.partition_epoch.next() {
        // The same proposal again, after its answer was lost.
        return Ok(Outcome::Partition(Box::new(record)));
    }
    check_epoch(at, &record, proposal.partition_epoch)?;
    if !isr.contains(&proposal.leader) {
        return Err(Refusal::IneligibleReplica {
            node: proposal.leader,
            why: "a leader cannot leave its ISR".to_owned(),
        });
    }
    for (node, epoch) in &proposal.isr {
        if !record.isr.contains(node) {
            let why = match draft.image().nodes.get(node) {
                _ if !record.has_replica(*node) => "it holds no replica".to_owned(),
                None => "it is not registered".to_owned(),
                Some(known) if known.epoch != *epoch => {
                    format!("it has epoch {}, not {epoch}", known.epoch)
                }
                Some(known) if known.state != NodeState::Active => {
                    format!("it is {:?}", known.state)
                }
                Some(_) => continue,
            };
            return Err(Refusal::IneligibleReplica { node: *node, why });
        }
    }
    let record = draft.partition(at)?;
    set_isr(record, isr);
    record.partition_epoch = record.partition_epoch.next();
    Ok(Outcome::Partition(Box::new(record.clone())))
}

/// Sets the ISR. Who leaves it while it is below min ISR stays eligible (KIP-966).
pub(super) fn set_isr(record: &mut PartitionRecord, isr: Vec<NodeId>) {
    let left = std::mem::replace(&mut record.isr, isr);
    record.elr.extend(left);
    settle(record);
}

/// Restores I6 after ISR, ELR, replicas or min ISR changed.
pub(crate) fn settle(record: &mut PartitionRecord) {
    if record.isr.len() >= usize::try_from(record.min_isr).unwrap_or(usize::MAX) {
        record.elr.clear();
        record.last_known_elr.clear();
        record.suspects.clear();
        return;
    }
    let isr = &record.isr;
    record.elr.sort_unstable();
    record.elr.dedup();
    record.elr.retain(|node| !isr.contains(node));
    let elr = &record.elr;
    record
        .last_known_elr
        .retain(|node| !isr.contains(node) && !elr.contains(node));
    record.suspects.retain(|node| elr.contains(node));
}

/// The controller's change; the invariants are checked when the item is whole.
pub(super) fn change(draft: &mut Draft<'_>, change: &PartitionChange) -> ItemResult {
    let record = draft.partition(change.at)?;
    check_epoch(change.at, record, change.partition_epoch)?;
    if change.elect || record.leader != change.leader {
        record.leader_epoch = record.leader_epoch.next();
    }
    record.leader = change.leader;
    record.isr.clone_from(&change.isr);
    record.elr.clone_from(&change.elr);
    record.last_known_elr.clone_from(&change.last_known_elr);
    record.suspects.retain(|node| change.elr.contains(node));
    record.partition_epoch = record.partition_epoch.next();
    Ok(Outcome::Partition(Box::new(record.clone())))
}

/// A copy that is in no set may be begun anew: its new id voids all that was claimed
/// under the old one, which its leader may still have in its books (S-06).
pub(super) fn renew_replica(
    draft: &mut Draft<'_>,
    at: TopicPartition,
    partition_epoch: PartitionEpoch,
    node: NodeId,
) -> ItemResult {
    let (index, serial) = (draft.index, draft.next_serial());
    let record = draft.partition(at)?;
    check_epoch(at, record, partition_epoch)?;
    if record.isr.contains(&node) || record.elr.contains(&node) {
        let detail = format!("partition {at}: the copy on node {node} is relied on");
        return Err(Refusal::breaks(Invariant::I4, detail));
    }
    let Some(kept) = record.replicas.iter_mut().find(|r| r.node == node) else {
        return Err(Refusal::NoReplica { at, node });
    };
    if !weir_base::mutant!(M22) {
        *kept = replica(index, serial, at.index.0, node);
    }
    record.partition_epoch = record.partition_epoch.next();
    Ok(Outcome::Partition(Box::new(record.clone())))
}

/// A member of the ELR that is to be looked at before it may lead.
pub(super) fn suspect_replica(
    draft: &mut Draft<'_>,
    at: TopicPartition,
    partition_epoch: PartitionEpoch,
    node: NodeId,
) -> ItemResult {
    let record = draft.partition(at)?;
    check_epoch(at, record, partition_epoch)?;
    if !record.elr.contains(&node) {
        let why = "it is no eligible leader that could be suspected".to_owned();
        return Err(Refusal::IneligibleReplica { node, why });
    }
    if !record.suspects.contains(&node) {
        record.suspects.push(node);
        record.suspects.sort_unstable();
        record.partition_epoch = record.partition_epoch.next();
    }
    Ok(Outcome::Partition(Box::new(record.clone())))
}

pub(super) fn set_durability(
    draft: &mut Draft<'_>,
    at: TopicPartition,
    partition_epoch: PartitionEpoch,
) -> ItemResult {
    let record = draft.partition(at)?;
    if record.pending_durability.is_none() {
        return Ok(Outcome::Partition(Box::new(record.clone())));
    }
    check_epoch(at, record, partition_epoch)?;
    if let Some(asked) = record.pending_durability.take() {
        record.durability = asked;
        record.partition_epoch = record.partition_epoch.next();
    }
    Ok(Outcome::Partition(Box::new(record.clone())))
}
