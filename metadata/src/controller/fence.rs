//! Nodes that come, go, and come back.

use weir_base::image::{ClusterImage, FlushMode, NodeState, PartitionRecord};
use weir_base::{NodeId, TopicPartition};

use super::elect::{change_with, plan_hand_over};
use crate::command::{Command, PartitionChange, Registration, StartKind};

/// Partitions changed by one item: bounds the size of a log entry. A node with more is
/// fenced all the same in one item; only hand-overs are cut.
const HAND_OVERS_MAX: usize = 10_000;

/// Takes a node's rights: out of every ISR (into the ELR where that leaves the ISR
/// below min ISR, so that the last in-sync replica is never forgotten), and a new
/// leader for all it led.
#[must_use]
pub fn plan_fence(image: &ClusterImage, node: NodeId) -> Vec<Command> {
    let Some(known) = image.nodes.get(&node).filter(|n| n.is_active()) else {
        return Vec::new();
    };
    let mut commands = vec![Command::FenceNode {
        id: node,
        epoch: known.epoch,
    }];
    commands.extend(without_node(image, node, None));
    commands
}

/// Gives the rights back, and leadership of partitions that waited for this node.
#[must_use]
pub fn plan_unfence(image: &ClusterImage, node: NodeId) -> Vec<Command> {
    let Some(known) = image.nodes.get(&node).filter(|n| !n.is_active()) else {
        return Vec::new();
    };
    let mut after = image.clone();
    if let Some(known) = after.nodes.get_mut(&node) {
        known.state = NodeState::Active;
    }
    let mut commands = vec![Command::UnfenceNode {
        id: node,
        epoch: known.epoch,
    }];
    commands.extend(
        after
            .partitions()
            .filter(|(_, p)| p.leader.is_none())
            .filter(|(_, p)| p.isr.contains(&node) || p.elr.contains(&node))
            .filter_map(|(at, p)| {
                change_with(
                    &after,
                    at,
                    p,
                    p.isr.clone(),
                    p.elr.clone(),
                    p.last_known_elr.clone(),
                )
            })
            .map(Command::ChangePartition),
    );
    commands
}

/// A boot of a node, in one item: a new epoch, and out of every ISR. After an unclean
/// start its copy of an async-flush partition may lack acknowledged records, so it is
/// no eligible leader there either (S-04). With sync flush, or if the machine did not
/// reboot, nothing acknowledged can be missing; but for what a torn or rotten end of its
/// write-ahead log held, if it has one: then its copies stay eligible as suspects.
#[must_use]
pub fn plan_registration(image: &ClusterImage, registration: &Registration) -> Vec<Command> {
    let mut commands = vec![Command::RegisterNode(registration.clone())];
    let is_known = image
        .nodes
        .get(&registration.id)
        .is_some_and(|known| known.storage == registration.storage);
    if is_known {
        commands.extend(without_node(
            image,
            registration.id,
            Some(registration.start),
        ));
    }
    commands
}

/// Begins a controlled shutdown: marks the node and moves its leaderships to others.
/// Repeat until it leads nothing that another in-sync replica could take.
#[must_use]
pub fn plan_drain(image: &ClusterImage, node: NodeId) -> Vec<Command> {
    let Some(known) = image.nodes.get(&node).filter(|n| n.is_active()) else {
        return Vec::new();
    };
    let mut commands = Vec::new();
    let mut after = image.clone();
    if known.state == NodeState::Active {
        commands.push(Command::DrainNode {
            id: node,
            epoch: known.epoch,
        });
        if let Some(known) = after.nodes.get_mut(&node) {
            known.state = NodeState::Draining;
        }
    }
    commands.extend(plan_hand_over(&after, node, HAND_OVERS_MAX));
    commands
}

/// Changes every partition that counted on `node`; `start` tells how it came back.
fn without_node(
    image: &ClusterImage,
    node: NodeId,
    start: Option<StartKind>,
) -> impl Iterator<Item = Command> {
    let mut after = image.clone();
    if let Some(known) = after.nodes.get_mut(&node) {
        known.state = NodeState::Fenced;
    }
    let changes: Vec<Command> = after
        .partitions()
        .filter(|(_, p)| p.isr.contains(&node) || p.elr.contains(&node))
        .flat_map(|(at, p)| {
            let change = change_without(&after, at, p, node, start);
            let (elr, partition_epoch) = match &change {
                Some(change) => (&change.elr, p.partition_epoch.next()),
                None => (&p.elr, p.partition_epoch),
            };
            let is_suspect = start == Some(StartKind::TailSuspect) && elr.contains(&node);
            let suspect = is_suspect.then_some(Command::SuspectReplica {
                at,
                partition_epoch,
                node,
            });
            change
                .map(Command::ChangePartition)
                .into_iter()
                .chain(suspect)
        })
        .collect();
    changes.into_iter()
}

fn change_without(
    image: &ClusterImage,
    at: TopicPartition,
    record: &PartitionRecord,
    node: NodeId,
    start: Option<StartKind>,
) -> Option<PartitionChange> {
    let mut isr = record.isr.clone();
    let mut elr = record.elr.clone();
    let mut last_known_elr = record.last_known_elr.clone();
    isr.retain(|member| *member != node);
    elr.retain(|member| *member != node);
    if is_trusted(record, start) {
        elr.push(node);
        elr.sort_unstable();
    } else {
        last_known_elr.push(node);
        last_known_elr.sort_unstable();
        last_known_elr.dedup();
    }
    // With a full ISR both lists come out empty.
    change_with(image, at, record, isr, elr, last_known_elr)
}

/// Whether the copy on a node that was in sync still holds all that was acknowledged.
fn is_trusted(record: &PartitionRecord, start: Option<StartKind>) -> bool {
    match start {
        None | Some(StartKind::Clean | StartKind::SameBoot) => true,
        Some(StartKind::Unclean | StartKind::TailSuspect) => {
            record.durability.flush == FlushMode::Sync || weir_base::mutant!(M20)
        }
    }
}
