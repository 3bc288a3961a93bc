//! Where new partitions go: balanced replicas and leaders, racks apart.

use std::collections::BTreeMap;

use weir_base::image::{ClusterImage, NodeRecord, NodeState};
use weir_base::{NodeId, limits};

use crate::apply::check_assignment;
use crate::command::Refusal;
use crate::topic_options::cluster_number;

/// What one node carries already.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    replicas: u64,
    leaders: u64,
}

/// The replication factor of a topic that does not say: the cluster's default, capped
/// to the nodes there are, whether or not they are up just now.
#[must_use]
pub fn default_replication_factor(image: &ClusterImage) -> u16 {
    let asked = cluster_number(image, "default.replication.factor");
    let nodes = u32::try_from(image.nodes.len()).unwrap_or(u32::MAX);
    u16::try_from(asked.min(nodes).max(1)).unwrap_or(u16::MAX)
}

/// The partitions of a topic that does not say.
#[must_use]
pub fn default_partitions(image: &ClusterImage) -> u32 {
    cluster_number(image, "num.partitions").max(1)
}

/// Nodes for `partitions` new partitions, the first of each the preferred leader. Each
/// leader goes where there are fewest, each further replica to a rack that the
/// partition has not yet, then to where there are fewest; ties go to the lowest id.
/// Nodes that are fenced or draining are taken only where active ones run out: they
/// catch up when they are back, and the topic has the copies it was promised.
///
/// # Errors
/// If there are fewer nodes than replicas asked for, or none is active.
pub fn place(
    image: &ClusterImage,
    partitions: u32,
    replication_factor: u16,
) -> Result<Vec<Vec<NodeId>>, Refusal> {
    let wanted = usize::from(replication_factor);
    let nodes = image.nodes.len();
    if wanted == 0 || wanted > limits::REPLICAS_MAX || wanted > nodes {
        return Err(Refusal::InvalidReplicationFactor(format!(
            "{replication_factor}: must be 1 to {}, and there are {nodes} nodes",
            limits::REPLICAS_MAX,
        )));
    }
    if !image.nodes.values().any(NodeRecord::is_active) {
        return Err(Refusal::InvalidReplicationFactor(
            "no node is active".to_owned(),
        ));
    }
    let mut loads = loads(image);
    Ok((0..partitions)
        .map(|_| place_one(image, wanted, &mut loads))
        .collect())
}

fn loads(image: &ClusterImage) -> BTreeMap<NodeId, Load> {
    let mut loads: BTreeMap<NodeId, Load> = BTreeMap::new();
    for (_, record) in image.partitions() {
        for (position, replica) in record.replicas.iter().enumerate() {
            let load = loads.entry(replica.node).or_default();
            load.replicas += 1;
            // The preferred leader counts, not the present one: that may be passing.
            load.leaders += u64::from(position == 0);
        }
    }
    loads
}

fn place_one(
    image: &ClusterImage,
    wanted: usize,
    loads: &mut BTreeMap<NodeId, Load>,
) -> Vec<NodeId> {
    let rack = |node: &NodeId| image.nodes.get(node).and_then(|n| n.rack.as_ref());
    let mut chosen: Vec<NodeId> = Vec::with_capacity(wanted);
    while chosen.len() < wanted {
        let best = image
            .nodes
            .iter()
            .filter(|(id, _)| !chosen.contains(id))
            .min_by_key(|(node, record)| {
                let away = match record.state {
                    NodeState::Active => 0,
                    NodeState::Draining => 1,
                    NodeState::Fenced => 2,
                };
                let load = loads.get(node).copied().unwrap_or_default();
                let neighbours = chosen
                    .iter()
                    .filter(|other| rack(other).is_some() && rack(other) == rack(node))
                    .count();
                if chosen.is_empty() {
                    (away, 0, load.leaders, load.replicas, **node)
                } else {
                    (away, neighbours, load.replicas, load.leaders, **node)
                }
            });
        let Some((best, _)) = best else { break };
        let best = *best;
        let load = loads.entry(best).or_default();
        load.replicas += 1;
        load.leaders += u64::from(chosen.is_empty());
        chosen.push(best);
    }
    chosen
}

/// Checks an assignment that an admin gave: every partition the same number of
/// different, registered nodes.
///
/// # Errors
/// What is wrong with it.
pub fn check_given(image: &ClusterImage, assignment: &[Vec<NodeId>]) -> Result<(), Refusal> {
    let width = assignment.first().map_or(0, Vec::len);
    for nodes in assignment {
        check_assignment(image, nodes)?;
        if nodes.len() != width {
            return Err(Refusal::InvalidAssignment(
                "partitions have different numbers of replicas".to_owned(),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
