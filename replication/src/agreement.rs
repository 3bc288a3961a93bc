//! What replication asks of the rest of the node: agreement on the ISR, to be heard, and
//! who leads by now.

use bytes::Bytes;
use thiserror::Error;
use weir_base::image::{Durability, PartitionRecord};
use weir_base::{
    BoxFuture, LeaderEpoch, NodeEpoch, NodeId, Offset, PartitionEpoch, TopicPartition,
};
use weir_storage::LogError;

/// A leader's proposal to change its partition's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsrChange {
    /// The partition.
    pub at: TopicPartition,
    /// The proposing leader.
    pub leader: NodeId,
    /// The epoch it leads in; any other now means the proposal is stale.
    pub leader_epoch: LeaderEpoch,
    /// The record it changes; any other now means the proposal is stale.
    pub partition_epoch: PartitionEpoch,
    /// The whole new ISR, each member with the boot in which the leader saw it (S-05).
    /// May equal the current one: it must then still raise the partition epoch, which is
    /// what fences an earlier proposal that was lost on its way.
    pub isr: Vec<(NodeId, NodeEpoch)>,
    /// The pending durability, if its flush barrier has passed: to be put in force.
    pub durability: Option<Durability>,
}

/// Why a proposal brought no new record.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IsrRefusal {
    /// Evaluated against the current record and refused for good: a member is fenced or
    /// another boot, say. Never say this of a stale proposal.
    #[error("refused: {0}")]
    Ineligible(String),
    /// Its leader epoch or partition epoch is not the current one.
    #[error("the record has changed")]
    Stale,
    /// No answer: it may have been or may yet be carried out.
    #[error("no answer: {0}")]
    Unanswered(String),
}

/// Something the node must know of a replica.
#[derive(Debug, Clone)]
pub enum ReplicaEvent {
    /// The replica takes part in nothing any more: the controller must elect another
    /// leader, and take it out of the ISR. By the error's class it is to be repaired from
    /// a peer (`Quarantine`) or its disk is dead (`DiskLost`).
    Failed {
        /// The partition.
        at: TopicPartition,
        /// What happened.
        error: LogError,
    },
    /// This node was elected in an epoch in which a former run of it led: it refuses, and
    /// the controller must elect anew.
    LeadershipRefused {
        /// The partition.
        at: TopicPartition,
        /// The epoch.
        epoch: LeaderEpoch,
    },
    /// Asynchronous replication: a fail-over cut this many offsets that this replica held
    /// and may have acknowledged. Told before they are gone.
    AcknowledgedCut {
        /// The partition.
        at: TopicPartition,
        /// First offset cut.
        from: Offset,
        /// How many.
        offsets: u64,
        /// The batches, as stored, to be kept for whoever wants them back; empty if they
        /// could not be read. Bounded by what may be unreplicated.
        batches: Vec<Bytes>,
    },
}

/// Implemented by the broker, which carries proposals to the metadata group.
pub trait IsrAgreement: Send + Sync {
    /// Proposes a change. The record comes back with a higher partition epoch.
    fn propose(&self, change: IsrChange)
    -> BoxFuture<'static, Result<PartitionRecord, IsrRefusal>>;

    /// Takes note of an event. Must not block.
    fn on_event(&self, event: ReplicaEvent);

    /// A partition's leader epoch in the newest image on this node, `None` if it is not in
    /// there. The replica may be busy, and its record wait for it: a lease is for what this
    /// image says (I10). Must not block.
    fn leader_epoch(&self, at: TopicPartition) -> Option<LeaderEpoch>;
}
