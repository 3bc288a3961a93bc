//! Moving a partition: grow, catch up, shrink.

use weir_base::image::{NodeRecord, PartitionRecord};
use weir_base::{NodeId, PartitionEpoch, TopicPartition};

use super::companion;
use super::draft::Draft;
use super::partition::{check_epoch, settle};
use super::topic::{check_assignment, replica};
use crate::command::{ItemResult, Outcome, Refusal};
use crate::topic_options::{capped_min_isr, min_isr};

/// Adds what `target` has and the partition has not; a move under way is replaced, as
/// in Kafka. Fresh replica ids keep a node that was removed before from being taken
/// for its former self (S-06).
pub(super) fn start(
    draft: &mut Draft<'_>,
    at: TopicPartition,
    partition_epoch: PartitionEpoch,
    target: &[NodeId],
) -> ItemResult {
    check_assignment(draft.image(), target)?;
    companion::refuse_own_change(draft, at.topic)?;
    check_factor(draft, at, target)?;
    let outcome = start_one(draft, at, partition_epoch, target)?;
    if let Some((at, epoch)) = follower(draft, at) {
        start_one(draft, at, epoch, target)?;
    }
    Ok(outcome)
}

/// Fewer replicas than the min ISR asked for would lower what an acknowledgement means, by
/// the cap on it and without a word (reliability 3.8). Who has fewer already may keep them.
fn check_factor(
    draft: &mut Draft<'_>,
    at: TopicPartition,
    target: &[NodeId],
) -> Result<(), Refusal> {
    let record = draft.partition(at)?.clone();
    let cluster = draft.image().configs.clone();
    let topic = draft.topic(at.topic)?;
    let asked = min_isr(&cluster, topic.internal, &topic.configs);
    let held = record.replicas.len() - record.adding.len().min(record.replicas.len());
    let enough = usize::try_from(asked).unwrap_or(usize::MAX);
    if target.len() < enough && target.len() < held {
        return Err(Refusal::InvalidAssignment(format!(
            "{} replicas are fewer than min.insync.replicas = {asked} of the topic: name {asked}, \
             or lower min.insync.replicas first",
            target.len()
        )));
    }
    Ok(())
}

/// The partition that moves along, and its present epoch.
fn follower(draft: &Draft<'_>, at: TopicPartition) -> Option<(TopicPartition, PartitionEpoch)> {
    let follower = companion::of(draft.image(), at)?;
    let record = draft.image().partition(follower)?;
    Some((follower, record.partition_epoch))
}

fn start_one(
    draft: &mut Draft<'_>,
    at: TopicPartition,
    partition_epoch: PartitionEpoch,
    target: &[NodeId],
) -> ItemResult {
    let mut record = draft.partition(at)?.clone();
    check_epoch(at, &record, partition_epoch)?;
    let original: Vec<NodeId> = record
        .replicas
        .iter()
        .map(|r| r.node)
        .filter(|node| !record.adding.contains(node))
        .collect();
    let gone: Vec<NodeId> = record
        .adding
        .iter()
        .copied()
        .filter(|node| !target.contains(node))
        .collect();
    record.adding = sorted(target.iter().filter(|n| !original.contains(n)));
    record.removing = sorted(original.iter().filter(|n| !target.contains(n)));
    let serial = draft.next_serial();
    let former = record.replicas.clone();
    record.replicas = target
        .iter()
        .chain(original.iter().filter(|node| !target.contains(node)))
        .map(|node| {
            let kept = former.iter().find(|r| r.node == *node).copied();
            kept.unwrap_or_else(|| replica(draft.index, serial, at.index.0, *node))
        })
        .collect();
    without(draft, &mut record, &gone)?;
    finish(draft, at, record)
}

/// Back to the replicas before the move.
pub(super) fn cancel(
    draft: &mut Draft<'_>,
    at: TopicPartition,
    partition_epoch: PartitionEpoch,
) -> ItemResult {
    companion::refuse_own_change(draft, at.topic)?;
    let outcome = cancel_one(draft, at, partition_epoch)?;
    if let Some((at, epoch)) = follower(draft, at) {
        cancel_one(draft, at, epoch)?;
    }
    Ok(outcome)
}

fn cancel_one(
    draft: &mut Draft<'_>,
    at: TopicPartition,
    partition_epoch: PartitionEpoch,
) -> ItemResult {
    let mut record = draft.partition(at)?.clone();
    if record.adding.is_empty() && record.removing.is_empty() {
        return Err(Refusal::NoReassignment);
    }
    check_epoch(at, &record, partition_epoch)?;
    let gone = std::mem::take(&mut record.adding);
    record.removing.clear();
    record.replicas.retain(|r| !gone.contains(&r.node));
    without(draft, &mut record, &gone)?;
    finish(draft, at, record)
}

/// Drops what was to be removed. Always begins a new leader epoch, so that removed
/// replicas are fenced by it.
pub(super) fn complete(
    draft: &mut Draft<'_>,
    at: TopicPartition,
    partition_epoch: PartitionEpoch,
) -> ItemResult {
    companion::refuse_own_change(draft, at.topic)?;
    let outcome = complete_one(draft, at, partition_epoch)?;
    if let Some((at, epoch)) = follower(draft, at) {
        complete_one(draft, at, epoch)?;
    }
    Ok(outcome)
}

fn complete_one(
    draft: &mut Draft<'_>,
    at: TopicPartition,
    partition_epoch: PartitionEpoch,
) -> ItemResult {
    let mut record = draft.partition(at)?.clone();
    if record.adding.is_empty() && record.removing.is_empty() {
        return Err(Refusal::NoReassignment);
    }
    check_epoch(at, &record, partition_epoch)?;
    is_ready(&record).map_err(Refusal::ReassignmentNotReady)?;
    let gone = std::mem::take(&mut record.removing);
    record.adding.clear();
    record.replicas.retain(|r| !gone.contains(&r.node));
    let led_by = record.leader;
    without(draft, &mut record, &gone)?;
    if record.leader == led_by {
        record.leader_epoch = record.leader_epoch.next();
    }
    finish(draft, at, record)
}

/// Whether a move may end: everything added is in sync, and what stays of the ISR is
/// enough (S-18).
pub(crate) fn is_ready(record: &PartitionRecord) -> Result<(), String> {
    if let Some(node) = record.adding.iter().find(|n| !record.isr.contains(n)) {
        return Err(format!("node {node} has not caught up"));
    }
    let stays = record
        .isr
        .iter()
        .filter(|node| !record.removing.contains(node))
        .count();
    let enough = usize::try_from(record.min_isr).unwrap_or(usize::MAX);
    if stays == 0 || (stays < enough && !weir_base::mutant!(M27)) {
        return Err(format!(
            "{stays} in-sync replicas would stay, {} are needed",
            record.min_isr
        ));
    }
    Ok(())
}

/// Takes nodes that are no replicas any more out of the ISR and out of leadership.
fn without(
    draft: &Draft<'_>,
    record: &mut PartitionRecord,
    gone: &[NodeId],
) -> Result<(), Refusal> {
    let was_full = record.isr.len() >= usize::try_from(record.min_isr).unwrap_or(usize::MAX);
    let drops = record.isr.iter().any(|node| gone.contains(node));
    record.isr.retain(|node| !gone.contains(node));
    record.elr.retain(|node| !gone.contains(node));
    record.last_known_elr.retain(|node| !gone.contains(node));
    record.suspects.retain(|node| !gone.contains(node));
    let needed = if was_full { record.min_isr } else { 1 };
    if drops && record.isr.len() < usize::try_from(needed).unwrap_or(usize::MAX) {
        return Err(Refusal::InvalidAssignment(format!(
            "only the nodes {:?} of the ISR would stay, {needed} are needed",
            record.isr
        )));
    }
    if record.leader.is_some_and(|leader| gone.contains(&leader)) {
        let is_active = |id: &NodeId| {
            draft
                .image()
                .nodes
                .get(id)
                .is_some_and(NodeRecord::is_active)
        };
        record.leader = record
            .replicas
            .iter()
            .map(|r| r.node)
            .find(|node| record.isr.contains(node) && is_active(node));
        record.leader_epoch = record.leader_epoch.next();
    }
    Ok(())
}

fn finish(draft: &mut Draft<'_>, at: TopicPartition, mut record: PartitionRecord) -> ItemResult {
    let cluster = draft.image().configs.clone();
    let topic = draft.topic(at.topic)?;
    let asked = min_isr(&cluster, topic.internal, &topic.configs);
    record.min_isr = capped_min_isr(asked, &record);
    settle(&mut record);
    record.partition_epoch = record.partition_epoch.next();
    *draft.partition(at)? = record.clone();
    Ok(Outcome::Partition(Box::new(record)))
}

fn sorted<'a>(nodes: impl Iterator<Item = &'a NodeId>) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = nodes.copied().collect();
    nodes.sort_unstable();
    nodes
}
