//! Errors of the data path. Never matched with `_`: a new variant must break every
//! front's error map at compile time.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use weir_base::{BatchError, LeaderEpoch, NodeId, Offset, WriteOutcome};

/// The partition is led elsewhere, or by nobody just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotLeader {
    /// The leader this node knows of.
    pub leader: Option<NodeId>,
    /// The epoch this node knows of.
    pub epoch: LeaderEpoch,
}

/// Why an append was not acknowledged. Goes over links between nodes: append-only.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum AppendError {
    /// No such topic or partition.
    #[error("topic or partition does not exist")]
    UnknownPartition,
    /// Led elsewhere; nothing was appended.
    #[error("this node does not lead the partition")]
    NotLeader(NotLeader),
    /// Leadership was lost after the append: it may survive or not.
    #[error("leadership was lost before the append was committed")]
    LeadershipLost(NotLeader),
    /// The ISR is below min ISR; nothing was appended.
    #[error("{isr} in-sync replicas, {min_isr} needed")]
    NotEnoughReplicas {
        /// ISR size.
        isr: u32,
        /// The floor.
        min_isr: u32,
    },
    /// The ISR fell below min ISR after the append: it may still commit.
    #[error("{isr} in-sync replicas after the append, {min_isr} needed")]
    NotEnoughReplicasAfterAppend {
        /// ISR size.
        isr: u32,
        /// The floor.
        min_isr: u32,
    },
    /// Not committed in time: it may still commit.
    #[error("not committed within {0:?}")]
    TimedOut(Duration),
    /// The batch is malformed.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The batch is larger than the topic allows.
    #[error("record batch of {size} bytes, the topic's max.message.bytes is {max}")]
    TooLarge {
        /// Its bytes.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// A timestamp too far from the broker's clock.
    #[error("timestamp {timestamp} is out of the topic's range")]
    Timestamp {
        /// Milliseconds since the Unix epoch.
        timestamp: i64,
    },
    /// Clients may not write control records, and compacted topics need keys.
    #[error("record is not allowed here: {0}")]
    InvalidRecord(Cow<'static, str>),
    /// A sequence gap.
    #[error("producer sent sequence {sequence}, expected {expected}")]
    OutOfOrderSequence {
        /// The batch's first.
        sequence: i32,
        /// The next in line.
        expected: i32,
    },
    /// An older producer epoch.
    #[error("producer epoch is fenced")]
    ProducerFenced,
    /// Nothing is known of the producer and its sequence is not 0.
    #[error("producer id is unknown")]
    UnknownProducer,
    /// The disk is full; nothing was appended. Retry when space was freed.
    #[error("no space left on this node")]
    DiskFull,
    /// The replica failed; another will lead.
    #[error("storage of this replica failed")]
    Storage,
    /// The partition's mailbox is full: the node pushes back.
    #[error("too many appends in flight")]
    Overloaded,
    /// Carried to the leader, which did not answer: it may have been appended, or may be.
    #[error("node {0}, which leads the partition, did not answer")]
    Unanswered(NodeId),
    /// As many messages wait as a queue group of the partition may have; nothing was
    /// appended.
    #[error(
        "queue group '{group}' has {messages_max} messages waiting on this partition, its limit \
         (weir.queue.capacity): send again when some are consumed"
    )]
    QueueFull {
        /// The group.
        group: String,
        /// Its limit.
        messages_max: u64,
    },
}

impl AppendError {
    /// What became of the data.
    #[must_use]
    pub fn outcome(&self) -> WriteOutcome {
        match self {
            AppendError::LeadershipLost(_)
            | AppendError::NotEnoughReplicasAfterAppend { .. }
            | AppendError::TimedOut(_)
            | AppendError::Unanswered(_)
            | AppendError::Storage => WriteOutcome::Indeterminate,
            AppendError::UnknownPartition
            | AppendError::NotLeader(_)
            | AppendError::NotEnoughReplicas { .. }
            | AppendError::Batch(_)
            | AppendError::TooLarge { .. }
            | AppendError::Timestamp { .. }
            | AppendError::InvalidRecord(_)
            | AppendError::OutOfOrderSequence { .. }
            | AppendError::ProducerFenced
            | AppendError::UnknownProducer
            | AppendError::DiskFull
            | AppendError::Overloaded
            | AppendError::QueueFull { .. } => WriteOutcome::NotAppended,
        }
    }
}

/// Why a read or an offset query failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadError {
    /// No such topic or partition.
    #[error("topic or partition does not exist")]
    UnknownPartition,
    /// Led elsewhere.
    #[error("this node does not lead the partition")]
    NotLeader(NotLeader),
    /// The client's epoch is older than the leader's: refresh metadata.
    #[error("leader epoch is fenced")]
    FencedEpoch(NotLeader),
    /// The client's epoch is newer than this node's: retry.
    #[error("leader epoch is not known here yet")]
    UnknownEpoch,
    /// Outside log start to high watermark.
    #[error("offset {asked} is outside {start}..{end}")]
    OutOfRange {
        /// The offset asked for.
        asked: Offset,
        /// Log start.
        start: Offset,
        /// High watermark.
        end: Offset,
    },
    /// A new leader that does not know its high watermark yet: retry.
    #[error("the new leader is not ready to serve offsets")]
    NotReady,
    /// The replica failed; another will lead.
    #[error("storage of this replica failed")]
    Storage,
}
