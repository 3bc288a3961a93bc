//! What nodes ask of the controller, and what it answers, over `Service::Controller`.
//!
//! Every ask is carried whole in one request; the controller plans it on the newest
//! image and answers when it is committed. Append-only: postcard numbers variants.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weir_base::{
    LeaderEpoch, NodeEpoch, NodeId, Offset, PartitionEpoch, TopicId, TopicPartition, Uuid,
};

use crate::command::{IsrProposal, Outcome, Refusal, Registration};

/// A topic to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Number of partitions; `None` for the cluster's default.
    pub partitions: Option<u32>,
    /// Replicas of each; `None` for the cluster's default, capped to the active nodes.
    pub replication_factor: Option<u16>,
    /// Instead of both: the nodes of each partition, preferred leader first.
    pub assignment: Option<Vec<Vec<NodeId>>>,
    /// What is set for it.
    pub configs: BTreeMap<String, String>,
    /// Made by Weir for itself.
    pub internal: bool,
}

/// Whose configs are changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigResource {
    /// A topic's, by name.
    Topic(String),
    /// The whole cluster's.
    Cluster,
}

/// One change of a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChange {
    /// Which key.
    pub key: String,
    /// What happens to it.
    pub op: ConfigOp,
}

/// What happens to a config's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigOp {
    /// It gets this value.
    Set(String),
    /// Back to the default.
    Delete,
    /// Adds an element to a list.
    Append(String),
    /// Removes an element from a list.
    Subtract(String),
}

/// What a node gives up of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resignation {
    /// Its copy, whose data is bad: it leaves ISR and ELR and is made anew.
    Replica {
        /// The copy meant; if it has another identity by now, this is done.
        id: Uuid,
        /// What is wrong, for people.
        why: String,
    },
    /// Leadership in this epoch alone: its copy is good and stays in the ISR.
    Leadership {
        /// The epoch; if it is over by now, this is done.
        epoch: LeaderEpoch,
    },
}

/// Where a node's copy of a partition ends, told while nobody leads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEnd {
    /// The partition.
    pub at: TopicPartition,
    /// The record under which the log was looked at.
    pub partition_epoch: PartitionEpoch,
    /// Epoch of its last batch.
    pub last_epoch: LeaderEpoch,
    /// Log end offset.
    pub end: Offset,
}

/// A sign of life. Not in the Raft log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heartbeat {
    pub(crate) node: NodeId,
    pub(crate) epoch: NodeEpoch,
    /// How far this node has applied the metadata log.
    pub(crate) applied: u64,
    /// How long the oldest fsync under way on this node lasts, in milliseconds.
    pub(crate) fsync_age_ms: u32,
    /// 99th percentile of the fsyncs that ended lately, in microseconds, if any did.
    pub(crate) fsync_p99_us: Option<u32>,
    /// What it would lead from now on would have to wait.
    pub(crate) reads_journals: bool,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ask {
    Heartbeat(Heartbeat),
    Register(Registration),
    CreateTopic {
        topic: NewTopic,
        validate_only: bool,
    },
    DeleteTopic(TopicId),
    CreatePartitions {
        topic: String,
        total: u32,
        assignment: Option<Vec<Vec<NodeId>>>,
        validate_only: bool,
    },
    AlterConfigs {
        resource: ConfigResource,
        changes: Vec<ConfigChange>,
        replace: bool,
        validate_only: bool,
    },
    ElectPreferred(TopicPartition),
    Reassign {
        at: TopicPartition,
        target: Option<Vec<NodeId>>,
    },
    AlterPartition(IsrProposal),
    DurabilityReady {
        at: TopicPartition,
        partition_epoch: PartitionEpoch,
    },
    ProducerIds(u32),
    PutDocument {
        key: String,
        expected: Option<u64>,
        value: Vec<u8>,
    },
    DeleteDocument {
        key: String,
        expected: u64,
    },
    Drain {
        node: NodeId,
        epoch: NodeEpoch,
    },
    Leave {
        node: NodeId,
        epoch: NodeEpoch,
    },
    /// The asker lost its link to a node. `refused`: and the node's control port
    /// refused the asker.
    Suspect {
        node: NodeId,
        epoch: NodeEpoch,
        refused: bool,
    },
    /// The controller asks for a second opinion: is this control port refused?
    Probe(NodeId),
    Resign {
        at: TopicPartition,
        node: NodeId,
        epoch: NodeEpoch,
        what: Resignation,
    },
    /// Where the asker's copies end of partitions that only suspects could lead.
    LogEnds {
        node: NodeId,
        epoch: NodeEpoch,
        ends: Vec<LogEnd>,
    },
}

impl Ask {
    /// Whether asking twice does no harm, so that a lost answer may be asked for again.
    pub(crate) fn is_repeatable(&self) -> bool {
        match self {
            Ask::Heartbeat(_)
            | Ask::Register(_)
            | Ask::DeleteTopic(_)
            | Ask::AlterPartition(_)
            | Ask::DurabilityReady { .. }
            | Ask::ProducerIds(_)
            | Ask::Drain { .. }
            | Ask::Leave { .. }
            | Ask::Suspect { .. }
            | Ask::Probe(_)
            | Ask::Resign { .. }
            | Ask::LogEnds { .. } => true,
            Ask::CreateTopic { validate_only, .. }
            | Ask::CreatePartitions { validate_only, .. } => *validate_only,
            Ask::AlterConfigs { validate_only, .. } => *validate_only || weir_base::mutant!(M33),
            Ask::ElectPreferred(_)
            | Ask::Reassign { .. }
            | Ask::PutDocument { .. }
            | Ask::DeleteDocument { .. } => false,
        }
    }

    /// Whether `from`, proven by its certificate, may ask this: what a node says of
    /// itself, only it may say.
    pub(crate) fn is_from(&self, from: NodeId) -> bool {
        match self {
            Ask::Heartbeat(heartbeat) => heartbeat.node == from,
            Ask::Register(registration) => registration.id == from,
            Ask::AlterPartition(proposal) => proposal.leader == from,
            Ask::Drain { node, .. }
            | Ask::Leave { node, .. }
            | Ask::Resign { node, .. }
            | Ask::LogEnds { node, .. } => *node == from,
            Ask::CreateTopic { .. }
            | Ask::DeleteTopic(_)
            | Ask::CreatePartitions { .. }
            | Ask::AlterConfigs { .. }
            | Ask::ElectPreferred(_)
            | Ask::Reassign { .. }
            | Ask::DurabilityReady { .. }
            | Ask::ProducerIds(_)
            | Ask::PutDocument { .. }
            | Ask::DeleteDocument { .. }
            | Ask::Suspect { .. }
            | Ask::Probe(_) => true,
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Committed and applied at this index of the metadata log.
    Done { index: u64, outcome: Outcome },
    /// Definitely not done, and asking again gives the same.
    Refused(Refusal),
    /// Definitely not done here; who may know better.
    NotController(Option<NodeId>),
    /// Definitely not done: the controller has too much to do.
    Overloaded,
    /// May have been done.
    Unknown(String),
    /// A probe's result: whether the control port refused.
    Probed(bool),
    /// Definitely not done, for a reason that passes: ask again.
    NotYet(String),
}

/// What follows a node's `Hello` on a stream: the log as it is applied.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FeedFrame {
    /// Who leads the group, as the voter sees it.
    pub(crate) controller: Option<NodeId>,
    pub(crate) news: News,
}

/// The body of a [`FeedFrame`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum News {
    /// Nothing new, but the voter is in touch with the group.
    Alive,
    /// A whole image (postcard).
    Image(Bytes),
    /// Entries of the log in order (postcard proposals).
    Entries(Vec<(u64, Bytes)>),
}

/// First frame of a stream: what the observer has.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) version: u64,
}
