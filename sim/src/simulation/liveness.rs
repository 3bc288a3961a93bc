//! What must be so when faults are over, beyond what clients notice.

use std::fmt::Write;

use weir_base::NodeId;
use weir_base::image::{FlushMode, PartitionRecord};

use crate::plan::VOTERS;
use crate::probe::Seen;
use crate::supervisor::Supervisor;

/// Whether every partition and the metadata group can do without a node.
pub(super) fn can_do_without(seen: &Seen, supervisor: &Supervisor, node: NodeId) -> bool {
    let enough = |record: &PartitionRecord| {
        let eligible = record.isr.iter().chain(&record.elr);
        let left = eligible.filter(|member| **member != node).count();
        left >= usize::try_from(record.min_isr).unwrap_or(usize::MAX)
    };
    let votes = VOTERS
        .iter()
        .filter(|voter| **voter != node && seen.nodes.contains_key(voter));
    votes.count() >= 2
        && seen
            .newest
            .partitions()
            .all(|(_, record)| enough(record) || is_stranded(record, supervisor))
}

/// Whether nobody may lead it any more: by design (reliability 3.6) it then waits for an
/// operator. Either it was flushed asynchronously, and every member lost its power: which
/// copy lost least, the controller cannot know. Or its mode promises to outlive no disk
/// (min ISR 1), and the one that held the last copy is the damaged one.
pub(super) fn is_stranded(record: &PartitionRecord, supervisor: &Supervisor) -> bool {
    let mut members = record.isr.iter().chain(&record.elr).peekable();
    if members.peek().is_none() {
        let is_async = record.durability.flush == FlushMode::Async;
        return is_async && !record.last_known_elr.is_empty();
    }
    record.min_isr == 1 && members.all(|member| supervisor.is_damaged(*member))
}

/// What is not in order yet: a leader that is not there, a move that is not done, a
/// replica that is there and not in the ISR. `None` if all is.
pub(super) fn what_is_missing(seen: &Seen, supervisor: &Supervisor) -> Option<String> {
    let present = supervisor.present();
    for (at, record) in seen.newest.partitions() {
        let name = seen.newest.topic_names.get(&at.topic)?;
        let name = format!("{name}-{}", at.index);
        if is_stranded(record, supervisor) {
            continue;
        }
        if record.leader.is_none() {
            return Some(format!("{name} has no leader: {record:?}"));
        }
        let all_are_there = record.replicas.iter().all(|r| present.contains(&r.node));
        let is_moving = !record.adding.is_empty() || !record.removing.is_empty();
        if is_moving && all_are_there {
            return Some(format!("{name} is still being moved: {record:?}"));
        }
        let missing = record
            .replicas
            .iter()
            .find(|replica| present.contains(&replica.node) && !record.isr.contains(&replica.node));
        if let Some(missing) = missing {
            return Some(format!(
                "node {} is not in the ISR of {name}: {record:?}",
                missing.node
            ));
        }
    }
    None
}

/// Where every partition stands, as each node sees it.
pub(super) fn describe(seen: &Seen) -> String {
    let mut text = String::new();
    for (at, record) in seen.newest.partitions() {
        write!(text, "\n  {at} {record:?}").unwrap_or_default();
        for (node, replica) in seen.replicas(at) {
            write!(
                text,
                "\n    node {node}: epoch {} leads {} ready {} failed {} watermark {} end {} durable {}",
                replica.leader_epoch,
                replica.is_leader,
                replica.is_ready,
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
