//! What the cluster decided, on record in the trace: who may lead a partition, and since
//! which boot of whom. Called whenever a newer image is seen; what came between two looks
//! is one step.

use weir_base::image::{ClusterImage, PartitionRecord};

use crate::trace::Trace;

/// Puts on record what `newest` says of nodes and partitions and `before` did not.
pub(super) fn note(trace: &Trace, before: &ClusterImage, newest: &ClusterImage) {
    if before.version == newest.version {
        return;
    }
    for (node, record) in &newest.nodes {
        let known = before.nodes.get(node);
        if known.is_none_or(|known| (known.epoch, known.state) != (record.epoch, record.state)) {
            let (epoch, state) = (record.epoch, record.state);
            trace.note(
                &"image",
                format_args!("node {node} is {state:?} in {epoch}"),
            );
        }
    }
    for (at, record) in newest.partitions() {
        if before.partition(at).map(standing) != Some(standing(record)) {
            let name = newest.topic_names.get(&at.topic);
            let name = name.map_or("?", |name| name);
            let index = at.index.0;
            let standing = standing(record);
            trace.note(&"image", format_args!("{name}-{index} {standing}"));
        }
    }
}

/// Who may lead, of a partition whose mode is this.
fn standing(record: &PartitionRecord) -> String {
    let set = |nodes: &[weir_base::NodeId]| {
        let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        nodes.join(" ")
    };
    format!(
        "leader {} in {} isr [{}] elr [{}] former [{}] suspects [{}] min {} {:?}",
        record
            .leader
            .map_or_else(|| "-".to_owned(), |node| node.to_string()),
        record.leader_epoch,
        set(&record.isr),
        set(&record.elr),
        set(&record.last_known_elr),
        set(&record.suspects),
        record.min_isr,
        record.durability
    )
}
