//! Why an append or a read did not succeed. Fact structs; the broker maps them onto its own.

use std::time::Duration;

use thiserror::Error;
use weir_base::{FaultClass, LeaderEpoch, NodeId, Offset, WriteOutcome};
use weir_storage::{LogError, SequenceError};

/// Who leads, as far as this node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownLeader {
    /// The leader, if one was elected.
    pub leader: Option<NodeId>,
    /// In this epoch.
    pub epoch: LeaderEpoch,
}

/// Why an append was not acknowledged.
#[derive(Debug, Clone, Error)]
pub enum AppendError {
    /// Another node leads, or none.
    #[error("this node does not lead the partition in epoch {}", .0.epoch)]
    NotLeader(KnownLeader),
    /// Leadership was lost after the append.
    #[error("leadership was lost to epoch {} before the append was committed", .0.epoch)]
    LeadershipLost(KnownLeader),
    /// The ISR is below min ISR.
    #[error("{isr} in-sync replicas, {min_isr} needed")]
    NotEnoughReplicas {
        /// ISR size.
        isr: u32,
        /// The floor.
        min_isr: u32,
    },
    /// The ISR fell below min ISR after the append.
    #[error("{isr} in-sync replicas after the append, {min_isr} needed")]
    NotEnoughReplicasAfterAppend {
        /// ISR size.
        isr: u32,
        /// The floor.
        min_isr: u32,
    },
    /// Not acknowledged in time.
    #[error("not committed within {0:?}")]
    TimedOut(Duration),
    /// The producer's sequence does not fit.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// The partition's queue is full.
    #[error("too many appends in flight")]
    Overloaded,
    /// The disk is full.
    #[error("no space left on this node")]
    DiskFull,
    /// This replica's storage failed; another will lead.
    #[error("storage of this replica failed: {0}")]
    Storage(LogError),
    /// The replica was closed on this node.
    #[error("the partition was closed on this node")]
    Closed,
}

impl AppendError {
    /// What became of the data.
    #[must_use]
    pub fn outcome(&self) -> WriteOutcome {
        match self {
            AppendError::LeadershipLost(_)
            | AppendError::NotEnoughReplicasAfterAppend { .. }
            | AppendError::TimedOut(_)
            | AppendError::Storage(_)
            | AppendError::Closed => WriteOutcome::Indeterminate,
            AppendError::NotLeader(_)
            | AppendError::NotEnoughReplicas { .. }
            | AppendError::Sequence(_)
            | AppendError::Overloaded
            | AppendError::DiskFull => WriteOutcome::NotAppended,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> FaultClass {
        match self {
            AppendError::Sequence(_) => FaultClass::Rejected,
            AppendError::Storage(error) => error.class(),
            AppendError::NotLeader(_)
            | AppendError::LeadershipLost(_)
            | AppendError::NotEnoughReplicas { .. }
            | AppendError::NotEnoughReplicasAfterAppend { .. }
            | AppendError::TimedOut(_)
            | AppendError::Overloaded
            | AppendError::DiskFull
            | AppendError::Closed => FaultClass::Retry,
        }
    }
}

/// Why a read or a change of the log start failed.
#[derive(Debug, Clone, Error)]
pub enum ReadError {
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
    /// Another node leads.
    #[error("this node does not lead the partition in epoch {}", .0.epoch)]
    NotLeader(KnownLeader),
    /// This replica's storage failed.
    #[error("storage of this replica failed: {0}")]
    Storage(LogError),
    /// The replica was closed on this node.
    #[error("the partition was closed on this node")]
    Closed,
}
