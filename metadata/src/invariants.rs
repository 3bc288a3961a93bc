//! What must hold of every image and of every step between two (I1, I5 to I7, I9, I10).
//!
//! Pure checks: `apply` runs them over what an item touched and refuses the item
//! rather than stopping, because an entry of the log that stops one node stops all of
//! them, for ever. Tests and the simulator run them over whole images.

use std::collections::BTreeSet;
use std::fmt;

use weir_base::image::{ClusterImage, NodeRecord, PartitionRecord};
use weir_base::invariant::Invariant;
use weir_base::{NodeId, TopicPartition};

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// Where and how.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is broken: {}", self.invariant, self.detail)
    }
}

fn ensure(
    holds: bool,
    invariant: Invariant,
    detail: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds {
        Ok(())
    } else {
        Err(Violation {
            invariant,
            detail: detail(),
        })
    }
}

fn is_sorted_set(nodes: &[NodeId]) -> bool {
    nodes.windows(2).all(|pair| pair[0] < pair[1])
}

/// Checks one partition of an image.
///
/// # Errors
/// The first violation.
pub fn check_partition(
    image: &ClusterImage,
    at: TopicPartition,
    record: &PartitionRecord,
) -> Result<(), Violation> {
    use Invariant::{I1, I5, I6, I10};
    let replicas: BTreeSet<NodeId> = record.replicas.iter().map(|r| r.node).collect();
    let describe = |what: &str| format!("partition {at}: {what}: {record:?}");
    ensure(
        !replicas.is_empty() && replicas.len() == record.replicas.len(),
        I6,
        || describe("replicas are not a set of nodes"),
    )?;
    for (name, set) in [
        ("isr", &record.isr),
        ("elr", &record.elr),
        ("last known elr", &record.last_known_elr),
        ("suspects", &record.suspects),
    ] {
        ensure(is_sorted_set(set), I6, || {
            describe(&format!("{name} is not sorted"))
        })?;
        ensure(set.iter().all(|n| replicas.contains(n)), I6, || {
            describe(&format!("{name} is not among the replicas"))
        })?;
    }
    ensure(
        record.isr.iter().all(|n| !record.elr.contains(n)),
        I6,
        || describe("isr and elr overlap"),
    )?;
    ensure(
        record.isr.len() < min_isr(record) || record.elr.is_empty(),
        I6,
        || describe("the isr is full and the elr is not empty"),
    )?;
    ensure(
        record.suspects.iter().all(|n| record.elr.contains(n)),
        I6,
        || describe("a suspect outside the elr"),
    )?;
    if let Some(leader) = record.leader {
        ensure(record.isr.contains(&leader), I5, || {
            describe("the leader is not in the isr")
        })?;
        ensure(record.leader_epoch.0 > 0, I1, || {
            describe("a leader without an epoch")
        })?;
        ensure(
            image.nodes.get(&leader).is_some_and(NodeRecord::is_active),
            I10,
            || describe("the leader is fenced"),
        )?;
    }
    for member in &record.isr {
        ensure(
            image.nodes.get(member).is_some_and(NodeRecord::is_active),
            I10,
            || describe("a fenced node is in the isr"),
        )?;
    }
    Ok(())
}

/// Checks a whole image.
///
/// # Errors
/// The first violation.
pub fn check_image(image: &ClusterImage) -> Result<(), Violation> {
    for (at, record) in image.partitions() {
        check_partition(image, at, record)?;
    }
    Ok(())
}

/// Checks a partition's step from one image to a later one.
///
/// # Errors
/// The first violation.
pub fn check_partition_step(
    at: TopicPartition,
    before: &PartitionRecord,
    after: &PartitionRecord,
) -> Result<(), Violation> {
    use Invariant::{I1, I7, I9};
    let describe = |what: &str| format!("partition {at}: {what}: {before:?} then {after:?}");
    ensure(after.leader_epoch >= before.leader_epoch, I9, || {
        describe("the leader epoch fell")
    })?;
    ensure(
        after == before || after.partition_epoch > before.partition_epoch,
        I9,
        || describe("changed without a new partition epoch"),
    )?;
    ensure(
        after.leader == before.leader || after.leader_epoch > before.leader_epoch,
        I1,
        || describe("a new leader in an old epoch"),
    )?;
    ensure(
        after.min_isr > before.min_isr
            || eligible(before) < min_isr(before)
            || eligible(after) >= min_isr(after),
        I7,
        || describe("isr, elr and last known elr fell below min isr"),
    )
}

/// Checks the step from one image to a later one.
///
/// # Errors
/// The first violation.
pub fn check_step(before: &ClusterImage, after: &ClusterImage) -> Result<(), Violation> {
    ensure(after.version >= before.version, Invariant::I9, || {
        format!("version {} then {}", before.version, after.version)
    })?;
    for (id, node) in &before.nodes {
        ensure(
            after.nodes.get(id).is_some_and(|n| n.epoch >= node.epoch),
            Invariant::I9,
            || format!("node {id}: the epoch fell or the node vanished"),
        )?;
    }
    for (at, record) in before.partitions() {
        if let Some(later) = after.partition(at) {
            check_partition_step(at, record, later)?;
        }
    }
    Ok(())
}

fn min_isr(record: &PartitionRecord) -> usize {
    usize::try_from(record.min_isr).unwrap_or(usize::MAX)
}

/// How many replicas could bring everything acknowledged back.
fn eligible(record: &PartitionRecord) -> usize {
    record
        .isr
        .iter()
        .chain(&record.elr)
        .chain(&record.last_known_elr)
        .collect::<BTreeSet<_>>()
        .len()
}

#[cfg(test)]
mod tests;
