//! What replication needs of a partition's log; the modules below fulfil it on a disk.
//!
//! Reading order: `disk` (what a log is made of), `append`, `flush`, `read`, `truncate`,
//! `recover`, `retention`, `compact`, `scrub`.

mod append;
pub(crate) mod compact;
pub(crate) mod disk;
pub(crate) mod flush;
mod read;
pub(crate) mod recover;
mod retention;
pub(crate) mod scrub;
mod truncate;

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::watch;
use weir_base::image::FlushMode;
use weir_base::{
    BoxFuture, CacheHint, FaultClass, LeaderEpoch, Offset, ProducerEpoch, ProducerId, RecordBatch,
    Timestamp,
};

/// Where a log stands. Always `start <= durable_end <= end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogPosition {
    /// First retained offset.
    pub start: Offset,
    /// Durable end offset (DEO): end of what this replica has fsynced.
    pub durable_end: Offset,
    /// Log end offset (LEO): next to be assigned.
    pub end: Offset,
    /// Epoch of the last batch; 0 for an empty log that never had one.
    pub last_epoch: LeaderEpoch,
}

/// One partition's log. One task writes (append, truncate, set start); any number read.
///
/// Appends return once the bytes are readable and in the page cache; durability is
/// told by [`PartitionLog::positions`]. After `LogError::DiskLost` no call succeeds again.
pub trait PartitionLog: Send + Sync {
    /// Where the log stands now.
    fn position(&self) -> LogPosition;

    /// Follows the position; wakes when the log grows, becomes durable or is cut.
    fn positions(&self) -> watch::Receiver<LogPosition>;

    /// Leader's append: checks each idempotent batch's sequence, assigns offsets from
    /// the log's end, stamps `epoch`, writes. One outcome a batch, in order; a refused
    /// or duplicate batch writes nothing and does not stop the others.
    fn append_as_leader(
        &self,
        epoch: LeaderEpoch,
        now: Timestamp,
        batches: Vec<RecordBatch>,
        flush: FlushMode,
    ) -> BoxFuture<'_, Result<Vec<AppendOutcome>, LogError>>;

    /// Follower's append: batches as the leader stamped them, continuing exactly at the
    /// log's end with epochs that never fall; verified before anything is written. `hint`
    /// says whether memory is to hold them for readers.
    fn append_as_follower(
        &self,
        now: Timestamp,
        batches: Vec<RecordBatch>,
        flush: FlushMode,
        hint: CacheHint,
    ) -> BoxFuture<'_, Result<(), LogError>>;

    /// Whole batches from the one that holds `from`, ending at or below `below`, up to
    /// `bytes_max` but at least one batch if any is there. Payload is shared with the
    /// log's cache, or read from the disk once.
    fn read(
        &self,
        from: Offset,
        below: Offset,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<ReadChunk, LogError>>;

    /// Cuts everything at and above `to`, in memory and on the disk, so that the old
    /// bytes cannot come back after any crash (S-10). Done and durable on return.
    fn truncate_to(&self, to: Offset) -> BoxFuture<'_, Result<(), LogError>>;

    /// Forgets everything and continues empty at `at`: for a follower whose leader no
    /// longer holds what it misses.
    fn reset_to(&self, at: Offset) -> BoxFuture<'_, Result<(), LogError>>;

    /// Raises the log start (retention, DeleteRecords); never lowers it.
    fn set_start(&self, start: Offset) -> BoxFuture<'_, Result<(), LogError>>;

    /// Waits until all that is written now is durable (the flush barrier of a mode change).
    fn flush(&self) -> BoxFuture<'_, Result<(), LogError>>;

    /// The largest epoch at most `asked` and its end offset (exclusive); `None` if the
    /// log holds no epoch that old.
    fn end_of_epoch(&self, asked: LeaderEpoch) -> Option<EpochEnd>;

    /// Offset and timestamp of the first record at or after `timestamp`, below `below`.
    fn offset_at_time(
        &self,
        timestamp: Timestamp,
        below: Offset,
    ) -> BoxFuture<'_, Result<Option<(Offset, Timestamp)>, LogError>>;

    /// Offset and timestamp of the record with the largest timestamp, if any.
    fn newest_timestamp(&self) -> Option<(Offset, Timestamp)>;

    /// Producers with state in this log, by id.
    fn producers(&self) -> Vec<ProducerSummary>;

    /// Bytes on the disk.
    fn size_bytes(&self) -> u64;
}

/// What became of one batch of a leader's append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppendOutcome {
    /// Written at `base`.
    Appended {
        /// First offset.
        base: Offset,
        /// One past the last.
        end: Offset,
        /// The batch as stamped, for the followers.
        batch: RecordBatch,
    },
    /// The producer sent it before: where it lies already.
    Duplicate {
        /// First offset of the original.
        base: Offset,
        /// One past its last.
        end: Offset,
    },
    /// Refused; definitely not appended.
    Refused(SequenceError),
}

/// Why an idempotent batch was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SequenceError {
    /// A gap or an old duplicate outside the window.
    #[error("producer sent sequence {sequence}, expected {expected}")]
    OutOfOrder {
        /// The batch's first sequence.
        sequence: i32,
        /// The next in line.
        expected: i32,
    },
    /// An epoch older than one already seen.
    #[error("producer epoch {} is older than {}", epoch.0, current.0)]
    Fenced {
        /// The batch's epoch.
        epoch: ProducerEpoch,
        /// The newest seen.
        current: ProducerEpoch,
    },
    /// The log knows nothing of this producer and the sequence is not 0.
    #[error("producer id {} is unknown", producer.0)]
    UnknownProducer {
        /// The producer.
        producer: ProducerId,
    },
}

/// One producer's state in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerSummary {
    /// Its id.
    pub id: ProducerId,
    /// Its newest epoch.
    pub epoch: ProducerEpoch,
    /// Its last sequence.
    pub last_sequence: i32,
    /// Time of its last batch.
    pub last_timestamp: Timestamp,
}

/// What a read found.
#[derive(Debug, Clone, Default)]
pub struct ReadChunk {
    /// Batches back to back, in one or more pieces; a batch may span two.
    pub chunks: Vec<Bytes>,
    /// First offset of the first batch; may lie below the offset asked for.
    pub base: Offset,
    /// One past the last batch's last offset; `from` if nothing was found.
    pub end: Offset,
    /// Bytes in `chunks`.
    pub bytes: usize,
}

/// Where an epoch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The epoch found.
    pub epoch: LeaderEpoch,
    /// One past its last offset; the log end for the newest.
    pub end: Offset,
}

/// Why the log could not do it.
#[derive(Debug, Clone, Error)]
pub enum LogError {
    /// The offset is not in `start..=end`.
    #[error("offset {asked} is outside {start}..{end}")]
    OutOfRange {
        /// The offset asked for.
        asked: Offset,
        /// Log start.
        start: Offset,
        /// Log end.
        end: Offset,
    },
    /// A follower's batch does not continue the log; nothing was written.
    #[error(
        "batch at {base} epoch {epoch} does not continue a log that ends at {end} in epoch {last_epoch}"
    )]
    Discontinuous {
        /// The batch's first offset.
        base: Offset,
        /// Its epoch.
        epoch: LeaderEpoch,
        /// The log's end.
        end: Offset,
        /// The log's last epoch.
        last_epoch: LeaderEpoch,
    },
    /// A batch from the leader is malformed; nothing was written.
    #[error("batch from the leader: {0}")]
    Malformed(#[from] weir_base::BatchError),
    /// The disk is full: nothing of this append was kept; reads go on.
    #[error("no space left in the data directory")]
    DiskFull,
    /// Stored bytes fail their checksum: this replica must be repaired from a peer.
    #[error("stored batch at or after {near} is corrupt: {detail}")]
    Corrupt {
        /// The last good offset before it.
        near: Offset,
        /// What was wrong.
        detail: String,
    },
    /// A write or fsync failed: the data directory is dead for this process.
    #[error("data directory failed: {0}")]
    DiskLost(Arc<std::io::Error>),
    /// The partition was removed.
    #[error("the log was closed")]
    Closed,
}

impl LogError {
    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> FaultClass {
        match self {
            LogError::OutOfRange { .. } => FaultClass::Rejected,
            LogError::Discontinuous { .. }
            | LogError::Malformed(_)
            | LogError::DiskFull
            | LogError::Closed => FaultClass::Retry,
            LogError::Corrupt { .. } => FaultClass::Quarantine,
            LogError::DiskLost(_) => FaultClass::DiskLost,
        }
    }
}

/// Checks that a follower's `batch` goes on where a log ends, and is intact.
pub(crate) fn batch_continues(
    batch: &RecordBatch,
    end: Offset,
    last_epoch: LeaderEpoch,
) -> Result<(), LogError> {
    if batch.base_offset() != end || batch.leader_epoch() < last_epoch {
        return Err(LogError::Discontinuous {
            base: batch.base_offset(),
            epoch: batch.leader_epoch(),
            end,
            last_epoch,
        });
    }
    Ok(batch.verify_checksum()?)
}
