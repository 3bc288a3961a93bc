//! Hand-made looks at a cluster with one partition.

use std::sync::Arc;

use weir_base::image::{
    ClusterImage, Durability, NodeRecord, NodeState, PartitionRecord, Replica, TopicRecord,
};
use weir_base::{
    LeaderEpoch, NodeEpoch, NodeId, Offset, PartitionEpoch, PartitionIndex, TopicPartition, Uuid,
};

use crate::probe::{NodeSeen, ReplicaSeen, Seen};

pub(crate) const AT: TopicPartition = TopicPartition {
    topic: Uuid::ZERO,
    index: PartitionIndex(0),
};

#[derive(Clone, Default)]
pub(crate) struct Scene {
    seen: Seen,
    leader: Option<NodeId>,
    epoch: u64,
    isr: Vec<NodeId>,
    elr: Vec<NodeId>,
    suspects: Vec<NodeId>,
    fenced: Vec<NodeId>,
    version: u64,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn replica(&mut self, node: u32) -> &mut ReplicaSeen {
        let inside: &mut NodeSeen = self.seen.nodes.entry(NodeId(node)).or_default();
        Arc::make_mut(inside.replicas.entry(AT).or_default())
    }

    /// All at `end`: watermark, log end, durable end.
    pub(crate) fn follower(mut self, node: u32, epoch: u64, end: u64) -> Self {
        *self.replica(node) = ReplicaSeen {
            leader_epoch: LeaderEpoch(epoch.try_into().unwrap()),
            high_watermark: Offset(end),
            log_end: Offset(end),
            durable_end: Offset(end),
            ..ReplicaSeen::default()
        };
        self
    }

    pub(crate) fn leader(mut self, node: u32, epoch: u64, end: u64) -> Self {
        self = self.follower(node, epoch, end);
        let replica = self.replica(node);
        (replica.is_leader, replica.is_ready, replica.may_answer) = (true, true, true);
        (self.leader, self.epoch) = (Some(NodeId(node)), epoch);
        self.isr(&[node])
    }

    pub(crate) fn isr(mut self, nodes: &[u32]) -> Self {
        self.isr = nodes.iter().copied().map(NodeId).collect();
        self
    }

    pub(super) fn elr(mut self, nodes: &[u32]) -> Self {
        self.elr = nodes.iter().copied().map(NodeId).collect();
        self
    }

    pub(super) fn suspects(mut self, nodes: &[u32]) -> Self {
        self.suspects = nodes.iter().copied().map(NodeId).collect();
        self
    }

    pub(crate) fn fenced(mut self, node: u32) -> Self {
        self.fenced.push(NodeId(node));
        self
    }

    pub(crate) fn version(mut self, version: u64) -> Self {
        self.version = version;
        self
    }

    pub(crate) fn seen(mut self) -> Seen {
        let mut image = ClusterImage {
            version: self.version,
            ..ClusterImage::default()
        };
        for id in [1, 2, 3].map(NodeId) {
            let is_fenced = self.fenced.contains(&id);
            let record = NodeRecord {
                id,
                name: String::new(),
                storage: Uuid::ZERO,
                epoch: NodeEpoch(1),
                state: if is_fenced {
                    NodeState::Fenced
                } else {
                    NodeState::Active
                },
                peer_address: String::new(),
                endpoints: [].into(),
                rack: None,
            };
            image.nodes.insert(id, record);
        }
        let replica = |node| Replica {
            node,
            id: Uuid::ZERO,
        };
        let record = PartitionRecord {
            replicas: [1, 2, 3].map(NodeId).map(replica).to_vec(),
            leader: self.leader,
            leader_epoch: LeaderEpoch(self.epoch.try_into().unwrap()),
            partition_epoch: PartitionEpoch(self.version.try_into().unwrap()),
            isr: self.isr,
            elr: self.elr,
            suspects: self.suspects,
            last_known_elr: vec![],
            adding: vec![],
            removing: vec![],
            min_isr: 1,
            durability: Durability::default(),
            pending_durability: None,
        };
        let topic = TopicRecord {
            id: AT.topic,
            name: "topic".into(),
            internal: false,
            configs: [].into(),
            partitions: vec![record],
        };
        image.topic_names.insert(AT.topic, "topic".into());
        image.topics.insert("topic".into(), Arc::new(topic));
        let image = Arc::new(image);
        for inside in self.seen.nodes.values_mut() {
            inside.image = Arc::clone(&image);
        }
        self.seen.newest = image;
        self.seen
    }
}
