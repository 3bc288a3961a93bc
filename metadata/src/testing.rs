//! Images for the unit tests of this crate.

use std::collections::BTreeMap;

use weir_base::image::{ClusterImage, PartitionRecord};
use weir_base::{NodeEpoch, NodeId, TopicPartition, Uuid};

use crate::apply::apply;
use crate::command::{Command, IsrProposal, ItemResult, Proposal, Registration, StartKind};

pub(crate) fn registration(id: u32, start: StartKind) -> Registration {
    Registration {
        id: NodeId(id),
        name: format!("n{id}"),
        storage: Uuid([u8::try_from(id).unwrap(); 16]),
        peer_address: format!("127.0.0.1:{}", 7000 + id),
        endpoints: BTreeMap::new(),
        rack: None,
        start,
    }
}

/// Applies one item as the next log entry.
pub(crate) fn run(image: &mut ClusterImage, item: Vec<Command>) -> ItemResult {
    let index = image.version + 1;
    apply(image, index, &Proposal { items: vec![item] }).remove(0)
}

/// A cluster of active nodes 1 to `nodes`.
pub(crate) fn cluster(nodes: u32) -> ClusterImage {
    let mut image = ClusterImage::default();
    for id in 1..=nodes {
        let boot = Command::RegisterNode(registration(id, StartKind::Clean));
        run(&mut image, vec![boot]).unwrap();
        let epoch = epoch(&image, id);
        run(
            &mut image,
            vec![Command::UnfenceNode {
                id: NodeId(id),
                epoch,
            }],
        )
        .unwrap();
    }
    image
}

pub(crate) fn epoch(image: &ClusterImage, id: u32) -> NodeEpoch {
    image.nodes[&NodeId(id)].epoch
}

pub(crate) fn nodes(ids: &[u32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

/// Makes a topic of one partition on `replicas` and gives the partition.
pub(crate) fn topic(
    image: &mut ClusterImage,
    name: &str,
    replicas: &[u32],
    configs: &[(&str, &str)],
) -> TopicPartition {
    let mut id = [0; 16];
    id[..name.len()].copy_from_slice(name.as_bytes());
    let create = Command::CreateTopic {
        id: Uuid(id),
        name: name.to_owned(),
        internal: false,
        configs: configs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        replicas: vec![nodes(replicas)],
    };
    run(image, vec![create]).unwrap();
    TopicPartition::new(Uuid(id), 0)
}

pub(crate) fn record(image: &ClusterImage, at: TopicPartition) -> PartitionRecord {
    image.partition(at).unwrap().clone()
}

/// The present leader's proposal of `isr`, with every epoch as it is now.
pub(crate) fn proposal(image: &ClusterImage, at: TopicPartition, isr: &[u32]) -> IsrProposal {
    let record = record(image, at);
    let leader = record.leader.unwrap();
    IsrProposal {
        at,
        leader,
        node_epoch: image.nodes[&leader].epoch,
        leader_epoch: record.leader_epoch,
        partition_epoch: record.partition_epoch,
        isr: isr
            .iter()
            .map(|id| (NodeId(*id), epoch(image, *id)))
            .collect(),
    }
}

pub(crate) mod disk;
pub(crate) mod net;
pub(crate) mod world;
