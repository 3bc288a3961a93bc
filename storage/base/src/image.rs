//! The cluster image: what the metadata group agreed on, as plain data.
//!
//! Changed only by applying the committed metadata log (`weir-metadata`), so every
//! node's copy is a prefix of the same history (I15). It stands among the nouns
//! because replication, the broker and every front read it, while only metadata
//! writes it. Names and shapes are Kafka's where Kafka has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::TopicName;
use crate::{LeaderEpoch, NodeEpoch, NodeId, PartitionEpoch, TopicId, TopicPartition, Uuid};

/// Everything agreed on about the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterImage {
    /// Metadata log index of the last change; grows with every applied entry.
    pub version: u64,
    /// Named once, when the cluster is formed; `None` before that.
    pub cluster_id: Option<Uuid>,
    /// Registered nodes.
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    /// Topics by name. Shared, so that a new image costs only what changed.
    pub topics: BTreeMap<TopicName, Arc<TopicRecord>>,
    /// Names by topic id.
    pub topic_names: BTreeMap<TopicId, TopicName>,
    /// Cluster-wide configuration set by an admin.
    pub configs: BTreeMap<String, String>,
    /// First producer id not yet given out in a block.
    pub next_producer_id: i64,
    /// Opaque, versioned values of other rooms, by namespace and key (`namespace/key`).
    pub documents: BTreeMap<String, Document>,
}

/// A namespaced value that metadata carries without understanding it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Metadata log index of its last change, for compare-and-set.
    pub version: u64,
    /// The value.
    pub value: Vec<u8>,
}

/// A node as registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its id.
    pub id: NodeId,
    /// Its configured name, for people.
    pub name: String,
    /// Its data directory; another one under the same id is refused.
    pub storage: Uuid,
    /// This boot.
    pub epoch: NodeEpoch,
    /// Where it stands.
    pub state: NodeState,
    /// Where other nodes reach it over QUIC, `host:port`.
    pub peer_address: String,
    /// Where clients reach its fronts, by front name (`kafka`, `admin`).
    pub endpoints: BTreeMap<String, Endpoint>,
    /// Its rack or zone, if told.
    pub rack: Option<String>,
}

/// An advertised address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Host name or address as clients see it.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Where a node stands with the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// Leads nothing and is in no ISR: not heard of, or just registered.
    Fenced,
    /// May lead and follow.
    Active,
    /// Follows, but leadership is being moved away.
    Draining,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRecord {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Made by Weir for itself.
    pub internal: bool,
    /// What was set for it; what is not here has the default of `metadata`'s topic options.
    pub configs: BTreeMap<String, String>,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionRecord>,
}

/// A partition as the controller knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRecord {
    /// All replicas, preferred leader first.
    pub replicas: Vec<Replica>,
    /// The leader, if one could be elected.
    pub leader: Option<NodeId>,
    /// Grows with every election (I9).
    pub leader_epoch: LeaderEpoch,
    /// Grows with every change of this record (I9).
    pub partition_epoch: PartitionEpoch,
    /// In-sync replicas, sorted. A subset of `replicas`, disjoint from `elr` (I6).
    pub isr: Vec<NodeId>,
    /// Eligible leaders outside the ISR (KIP-966), sorted. Empty while the ISR is full (I6).
    pub elr: Vec<NodeId>,
    /// Former ELR members that restarted uncleanly: asked in a recovery, never elected.
    pub last_known_elr: Vec<NodeId>,
    /// ELR members whose log may end too early after a power loss (TailSuspect), sorted.
    /// Elected only if the ends of all logs of ISR and ELR are known. Who catches up with
    /// a leader leaves the ELR, and with it these.
    pub suspects: Vec<NodeId>,
    /// Being added by a reassignment.
    pub adding: Vec<NodeId>,
    /// To be removed when the reassignment completes.
    pub removing: Vec<NodeId>,
    /// Least ISR size for which writes are acknowledged under sync replication.
    pub min_isr: u32,
    /// The durability in force.
    pub durability: Durability,
    /// A stronger durability asked for but not in force before the flush barrier passed.
    pub pending_durability: Option<Durability>,
}

/// One copy of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// Where it lies.
    pub node: NodeId,
    /// New at every assignment, so that a replica removed and added again is not
    /// taken for its former self (S-06).
    pub id: Uuid,
}

/// What an acknowledgement means, per topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durability {
    /// On one node.
    pub flush: FlushMode,
    /// Across nodes.
    pub replication: ReplicationMode,
}

impl Default for Durability {
    fn default() -> Self {
        Self {
            flush: FlushMode::Sync,
            replication: ReplicationMode::Sync,
        }
    }
}

/// When a replica counts a batch as its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FlushMode {
    /// After fsync.
    Sync,
    /// In the page cache; fsync follows within 100 ms or 256 KiB.
    Async,
}

/// Whom an acknowledgement waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplicationMode {
    /// Every in-sync replica.
    Sync,
    /// The leader alone.
    Async,
}

impl ClusterImage {
    /// A topic by id.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&Arc<TopicRecord>> {
        self.topics.get(self.topic_names.get(&id)?)
    }

    /// A partition's record.
    #[must_use]
    pub fn partition(&self, at: TopicPartition) -> Option<&PartitionRecord> {
        self.topic(at.topic)?
            .partitions
            .get(usize::try_from(at.index.0).ok()?)
    }

    /// Every partition with its record, in topic name order.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicPartition, &PartitionRecord)> {
        self.topics.values().flat_map(|topic| {
            (0..)
                .zip(&topic.partitions)
                .map(|(index, p)| (TopicPartition::new(topic.id, index), p))
        })
    }
}

impl PartitionRecord {
    /// Whether `node` holds a replica.
    #[must_use]
    pub fn has_replica(&self, node: NodeId) -> bool {
        self.replica(node).is_some()
    }

    /// The replica on `node`.
    #[must_use]
    pub fn replica(&self, node: NodeId) -> Option<&Replica> {
        self.replicas.iter().find(|r| r.node == node)
    }
}

impl NodeRecord {
    /// Whether it may lead and be in an ISR.
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self.state, NodeState::Active | NodeState::Draining)
    }
}
