//! What the metadata group agrees on: commands, proposals and their outcomes.
//!
//! Owns the words of the metadata log. They are stored for ever, so every enum here
//! is append-only: postcard writes a variant as its number. Called by the planners,
//! which make commands, and by `apply`, which carries them out. A command is either
//! idempotent or fenced by an epoch or a version, because it may be proposed again
//! after an answer was lost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use weir_base::image::{Endpoint, PartitionRecord};
use weir_base::invariant::Invariant;
use weir_base::{LeaderEpoch, NodeEpoch, NodeId, PartitionEpoch, TopicId, TopicPartition, Uuid};

/// One entry of the metadata log: many items, so that one fsync and one round trip
/// carry all that arrived while the last entry was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Independent of each other; each is applied whole or not at all.
    pub items: Vec<Item>,
}

/// Commands that stand or fall together. The first one's outcome is the item's.
pub type Item = Vec<Command>;

/// What applying an item gave.
pub type ItemResult = Result<Outcome, Refusal>;

/// A change of the cluster image. Append-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Names the cluster, once.
    FormCluster {
        /// Its name for ever.
        cluster_id: Uuid,
    },
    /// A boot of a node: gives it a new epoch and leaves it fenced.
    RegisterNode(Registration),
    /// Takes a node's right to lead and to be in an ISR. Its partitions are changed by
    /// commands of the same item.
    FenceNode {
        /// The node.
        id: NodeId,
        /// The boot meant.
        epoch: NodeEpoch,
    },
    /// Gives it back.
    UnfenceNode {
        /// The node.
        id: NodeId,
        /// The boot meant.
        epoch: NodeEpoch,
    },
    /// Marks a node whose leaderships are to be moved away.
    DrainNode {
        /// The node.
        id: NodeId,
        /// The boot meant.
        epoch: NodeEpoch,
    },
    /// Makes a topic with the replicas that the controller placed.
    CreateTopic {
        /// Its new id.
        id: TopicId,
        /// Its name.
        name: String,
        /// Made by Weir for itself.
        internal: bool,
        /// What was set for it.
        configs: BTreeMap<String, String>,
        /// Nodes of each partition, preferred leader first.
        replicas: Vec<Vec<NodeId>>,
    },
    /// Deletes a topic. Done if it does not exist.
    DeleteTopic {
        /// The topic.
        id: TopicId,
    },
    /// Adds partitions.
    CreatePartitions {
        /// The topic.
        id: TopicId,
        /// Partitions it has now: the fence.
        from: u32,
        /// Nodes of each new partition, preferred leader first.
        replicas: Vec<Vec<NodeId>>,
    },
    /// Replaces what is set for a topic.
    SetTopicConfigs {
        /// The topic.
        id: TopicId,
        /// All that is set from now on.
        configs: BTreeMap<String, String>,
    },
    /// Replaces what is set for the whole cluster.
    SetClusterConfigs {
        /// All that is set from now on.
        configs: BTreeMap<String, String>,
    },
    /// A leader's proposal of an ISR.
    AlterPartition(IsrProposal),
    /// The controller's change of leader and ISR.
    ChangePartition(PartitionChange),
    /// Begins to move a partition to `target`, preferred leader first.
    StartReassignment {
        /// The partition.
        at: TopicPartition,
        /// The fence.
        partition_epoch: PartitionEpoch,
        /// Where it shall be.
        target: Vec<NodeId>,
    },
    /// Gives a move up: back to the replicas before it.
    CancelReassignment {
        /// The partition.
        at: TopicPartition,
        /// The fence.
        partition_epoch: PartitionEpoch,
    },
    /// Ends a move whose added replicas all are in the ISR.
    CompleteReassignment {
        /// The partition.
        at: TopicPartition,
        /// The fence.
        partition_epoch: PartitionEpoch,
    },
    /// The flush barrier passed: the pending durability comes into force.
    SetDurability {
        /// The partition.
        at: TopicPartition,
        /// The fence.
        partition_epoch: PartitionEpoch,
    },
    /// Gives out a block of producer ids.
    AllocateProducerIds {
        /// How many.
        count: u32,
    },
    /// Writes a document if its version is still the expected one.
    PutDocument {
        /// `namespace/key`.
        key: String,
        /// The version seen; `None` if it must not exist.
        expected: Option<u64>,
        /// The value.
        value: Vec<u8>,
    },
    /// Deletes a document if its version is still the expected one.
    DeleteDocument {
        /// `namespace/key`.
        key: String,
        /// The version seen.
        expected: u64,
    },
    /// Gives the copy on a node a new identity: what the former one claimed to hold is
    /// void, and the node begins it anew. Only of a copy in neither ISR nor ELR.
    RenewReplica {
        /// The partition.
        at: TopicPartition,
        /// The fence.
        partition_epoch: PartitionEpoch,
        /// Whose copy.
        node: NodeId,
    },
    /// Marks an eligible leader whose log may end too early.
    SuspectReplica {
        /// The partition.
        at: TopicPartition,
        /// The fence.
        partition_epoch: PartitionEpoch,
        /// Whose copy.
        node: NodeId,
    },
}

/// How a node started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartKind {
    /// Its last run ended with everything flushed.
    Clean,
    /// Its process died, but the machine did not: the page cache outlived it.
    SameBoot,
    /// Writes that were not flushed may be lost.
    Unclean,
    /// As `Unclean`, and what was flushed last may be, too: the end of its write-ahead log
    /// is torn or rotten, and it cannot tell which.
    TailSuspect,
}

/// What a node tells of itself when it boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Its configured id.
    pub id: NodeId,
    /// Its name, for people.
    pub name: String,
    /// Its data directory.
    pub storage: Uuid,
    /// Where other nodes reach it, `host:port`.
    pub peer_address: String,
    /// Where clients reach its fronts.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// Its rack, if told.
    pub rack: Option<String>,
    /// How it started.
    pub start: StartKind,
}

/// A leader's proposal of an ISR. Every epoch must be the current one (S-05).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsrProposal {
    /// The partition.
    pub at: TopicPartition,
    /// The leader.
    pub leader: NodeId,
    /// Its boot.
    pub node_epoch: NodeEpoch,
    /// The epoch it leads in.
    pub leader_epoch: LeaderEpoch,
    /// The record it proposes to change.
    pub partition_epoch: PartitionEpoch,
    /// The whole new ISR, each member with the boot that the leader saw caught up.
    pub isr: Vec<(NodeId, NodeEpoch)>,
}

/// The controller's change of who leads and who is in sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionChange {
    /// The partition.
    pub at: TopicPartition,
    /// The fence.
    pub partition_epoch: PartitionEpoch,
    /// Who leads from now on.
    pub leader: Option<NodeId>,
    /// Whether a new leader epoch begins, even if the leader stays.
    pub elect: bool,
    /// The new ISR.
    pub isr: Vec<NodeId>,
    /// The new eligible leaders outside it.
    pub elr: Vec<NodeId>,
    /// Former eligible leaders that restarted uncleanly.
    pub last_known_elr: Vec<NodeId>,
}

/// What a command gave. Append-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done, nothing to tell.
    Done,
    /// A node's epoch.
    Node(NodeEpoch),
    /// A topic's id.
    Topic(TopicId),
    /// A partition's new record.
    Partition(Box<PartitionRecord>),
    /// First and end of a block of producer ids.
    ProducerIds(i64, i64),
    /// A document's new version.
    Document(u64),
    /// Answer to a heartbeat: a lease. So long ago the controller knew last that nobody else
    /// was controller.
    Lease {
        /// In milliseconds.
        stale_ms: u32,
    },
}

/// Why a command was not carried out: definitely nothing was changed. Append-only.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Refusal {
    #[error("the cluster is formed already, its id is {0}")]
    AlreadyFormed(Uuid),
    #[error(
        "node id {id} belongs to data directory {registered}, but this node's data directory is \
         {offered}: bring the old directory back, or give this node an id that was never used"
    )]
    StorageMismatch {
        id: NodeId,
        registered: Uuid,
        offered: Uuid,
    },
    #[error("node {0} is not registered")]
    UnknownNode(NodeId),
    #[error("node {id} has epoch {current}, not {sent}")]
    StaleNodeEpoch {
        id: NodeId,
        sent: NodeEpoch,
        current: NodeEpoch,
    },
    #[error("topic '{0}' already exists")]
    TopicExists(String),
    #[error("topic '{0}' does not exist")]
    UnknownTopic(String),
    #[error("no topic has id {0}")]
    UnknownTopicId(TopicId),
    #[error("partition {0} does not exist")]
    UnknownPartition(TopicPartition),
    #[error("'{0}' is not a legal topic name: 1 to 249 of [a-zA-Z0-9._-]")]
    InvalidTopicName(String),
    #[error("invalid number of partitions: {0}")]
    InvalidPartitions(String),
    #[error("invalid replication factor: {0}")]
    InvalidReplicationFactor(String),
    #[error("invalid replica assignment: {0}")]
    InvalidAssignment(String),
    #[error("invalid config: {0}")]
    InvalidConfig(String),
    #[error("invalid request: {0}")]
    InvalidRequest(String),
    #[error("partition {at} is at partition epoch {current}, not {sent}")]
    StalePartitionEpoch {
        at: TopicPartition,
        sent: PartitionEpoch,
        current: PartitionEpoch,
    },
    #[error("partition {at} is at leader epoch {current}, not {sent}")]
    StaleLeaderEpoch {
        at: TopicPartition,
        sent: LeaderEpoch,
        current: LeaderEpoch,
    },
    #[error("node {node} does not lead partition {at}")]
    NotLeader { at: TopicPartition, node: NodeId },
    #[error("node {node} may not join the ISR: {why}")]
    IneligibleReplica { node: NodeId, why: String },
    #[error("no reassignment is in progress")]
    NoReassignment,
    #[error("the reassignment cannot end yet: {0}")]
    ReassignmentNotReady(String),
    #[error("the preferred leader is not available")]
    PreferredLeaderNotAvailable,
    #[error("the preferred leader leads already")]
    ElectionNotNeeded,
    #[error("document '{key}' has version {current:?}, not {expected:?}")]
    VersionConflict {
        key: String,
        expected: Option<u64>,
        current: Option<u64>,
    },
    #[error("the change would break {invariant}: {detail}")]
    Breaks { invariant: String, detail: String },
    #[error(
        "the copy of partition {at} on node {node} is the last that may hold everything \
         acknowledged: it stays in the record, and nobody else is elected"
    )]
    LastCopy { at: TopicPartition, node: NodeId },
    #[error("node {node} holds no replica of partition {at}")]
    NoReplica { at: TopicPartition, node: NodeId },
}

impl Refusal {
    /// A change that an invariant forbids.
    #[must_use]
    pub fn breaks(invariant: Invariant, detail: impl Into<String>) -> Self {
        Refusal::Breaks {
            invariant: format!("{invariant:?}"),
            detail: detail.into(),
        }
    }
}
